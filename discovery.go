package multidb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/discover"
	"github.com/multidb-go/multidb/internal/pattern"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/survey"
)

// Discoverer lists the databases of a Manager. It is called at Start and then
// every scan interval. Safe for concurrent use.
//
// Every pair is a database or an error about a part of the listing. After an
// error the listing goes on as far as it can, but it is partial: the Manager
// adds the databases it names and removes none, unless the error is an UnlistedError,
// which says what is missing from it. So a Discoverer that cannot distinguish "empty"
// from "not there" must yield an error. ctx ends the listing, and its error is the last
// pair. No two databases of a listing have the same ID.
//
// A Discoverer must not open database files: when a process closes a
// descriptor of a file, it loses its POSIX locks on it, SQLite's included.
type Discoverer interface {
	Discover(ctx context.Context) iter.Seq2[Database, error]
}

// DiscovererVars is an optional interface of a Discoverer: CheckVars refuses, with
// an error that wraps ErrInvalidOption, the template variables that some of its
// databases would not have. New calls it, so it does no I/O.
type DiscovererVars interface {
	CheckVars(names []string) error
}

// DiscovererRoot is an optional interface of a Discoverer: the directory that its
// databases are under, for the default state directory. Empty if there is none.
// Start fails if it does not exist (see WithMissingRoots), and nothing is made in it
// while another directory is at its path.
type DiscovererRoot interface {
	Root() string
}

// DiscovererLocator is an optional interface of a Discoverer: the Database that an
// ID has, or would have if its file were created. ok is false if this
// Discoverer could never list that ID. Locate does no I/O.
type DiscovererLocator interface {
	Locate(id ID) (db Database, ok bool)
}

// DiscovererWatcher is an optional interface of a Discoverer: it notifies of changes
// when they happen, between two listings. See WithWatch.
type DiscovererWatcher interface {
	// Watch begins to watch. From its return on, every change of a database that
	// a later Discover may not have listed is notified: as WatchChanged, or, where
	// the watcher cannot say which, as WatchRescan. That is all it promises, so
	// it may begin to watch a directory when Discover comes to it, before reading.
	//
	// The caller calls run once, in a goroutine of its own, even after an error
	// elsewhere: it works until ctx ends and frees what Watch took. Without an
	// error Watch returns a run that is not nil.
	//
	// notify is called from run and from Discover; it is quick, never blocks for
	// long and does not call the Discoverer. A database that is written without
	// end is notified a few times a second at most. A watcher opens no database file,
	// as Discover does not.
	Watch(ctx context.Context, notify func(WatchEvent)) (run func(), err error)
}

// WatchEvent is what a DiscovererWatcher notifies of.
type WatchEvent struct {
	Type WatchEventType
	// Database was changed (WatchChanged): as Discover would yield it, or only
	// its Path if it is listed under another one. A zero ModTime is looked up.
	Database Database
	// Err is why, of WatchRescan and WatchPolls; it may be nil.
	Err error
}

// WatchEventType says what a WatchEvent is about.
type WatchEventType uint8

// The events of a watcher.
const (
	WatchChanged WatchEventType = iota + 1 // a database was written, or appeared
	WatchGone                              // something was removed or moved: a listing shows what
	WatchRescan                            // changes were missed: everything has to be listed again
	WatchPolls                             // from now on directories are looked at, since the system's watches ran out
)

// UnlistedError is an optional error of a Discoverer: one that says which parts
// it could not list, so that the rest of the listing counts as complete. After it
// the Manager keeps every database whose Path, or the path that the Discoverer's
// Locate gives its ID, is one of Paths or below one, and removes what else is
// missing. It also keeps one that a DiscovererLocator does not locate, and without
// a DiscovererLocator one whose file is still there.
//
// It counts only if it is the error itself or wrapped by errors that wrap one
// other, as with fmt.Errorf and one %w; not in an errors.Join. One without Paths,
// or with a path that is not absolute, is an error like any other: nothing is
// removed.
type UnlistedError struct {
	Paths []string // absolute and clean, of files or directories: all names of what may hold databases
	Err   error    // why
}

func (e *UnlistedError) Error() string {
	if e.Err == nil {
		return "cannot list " + strings.Join(e.Paths, ", ")
	}
	return e.Err.Error()
}

// Unwrap returns the reason.
func (e *UnlistedError) Unwrap() error { return e.Err }

// unlisted is what an error of a listing says of its extent; ok is false if it
// may be anything.
func unlisted(err error) (paths []string, ok bool) {
	for err != nil {
		if u, is := err.(*UnlistedError); is {
			relative := func(p string) bool { return !filepath.IsAbs(p) || filepath.Clean(p) != p }
			return u.Paths, len(u.Paths) > 0 && !slices.ContainsFunc(u.Paths, relative)
		}
		next, wraps := err.(interface{ Unwrap() error })
		if !wraps {
			return nil, false
		}
		err = next.Unwrap()
	}
	return nil, false
}

// pathLister is an optional interface of a Discoverer: all paths that a database with
// an ID may be listed by. DiscovererLocator knows one of them.
type pathLister interface {
	pathsOf(id string) []string
}

// globbing is what else is asked of a GlobDiscoverer, or of a type that embeds one.
type globbing interface {
	roots() []string
	excluding(dir string) *GlobDiscoverer // a copy that never enters a directory
	list(context.Context) iter.Seq2[survey.Listed, error]
	watch(ctx context.Context, notify func(survey.Change), needless func(id, path string) bool) (run func(), err error)
}

// validator is what New asks of a Discoverer whose constructor returns no error.
type validator interface {
	validate() error
}

var (
	_ DiscovererVars    = (*GlobDiscoverer)(nil)
	_ DiscovererRoot    = (*GlobDiscoverer)(nil)
	_ DiscovererLocator = (*GlobDiscoverer)(nil)
	_ DiscovererWatcher = (*GlobDiscoverer)(nil)
	_ validator         = (*GlobDiscoverer)(nil)
	_ globbing          = (*GlobDiscoverer)(nil)
	_ pathLister        = (*GlobDiscoverer)(nil)
	_ DiscovererVars    = (*static)(nil)
	_ DiscovererRoot    = (*static)(nil)
	_ DiscovererLocator = (*static)(nil)
	_ validator         = (*static)(nil)
	_ pathLister        = (*static)(nil)
)

// The types of changes are the same inside and outside.
var _ = [1]struct{}{WatchPolls - WatchEventType(discover.Polls): {}}

// GlobDiscoverer lists the files that match patterns, and watches them; see Glob.
// Its patterns do not change. Safe for concurrent use.
type GlobDiscoverer struct {
	patterns []*pattern.Pattern
	err      error
	glob     discover.Glob
}

// Glob returns a Discoverer of the files that match any of the patterns; see
// Pattern for how they are written. A wrong pattern, or none, is reported by New.
//
// A listing reads only directories that can match. It opens no file: it knows
// them by lstat. Directories are read in pieces, and databases come in no
// particular order; ModTime is that of the file or of its WAL, the later one.
//
// Each file is listed once, also where symlinks, hard links or several patterns
// lead to it: by its real path if a pattern matches that, and by the first
// pattern that does; otherwise by a name that is the same in every listing. A
// database that is a symlink to a file has the file's Path, because SQLite keeps
// the WAL there, and the ID that the symlink gives it.
//
// These are errors, each an UnlistedError of the part that was not listed: a root directory that does
// not exist (a volume that is not mounted must not look like databases
// removed), or that is another one when the listing ends; a directory that
// cannot be read; a symlink that leads nowhere; and two files that have one ID
// by two patterns (ErrConflict). What merely vanished meanwhile is no error. The
// mount point of an unmounted volume below the root is just an empty directory;
// give such a volume a pattern of its own, with a root that is inside it.
func Glob(patterns ...string) *GlobDiscoverer {
	g := &GlobDiscoverer{}
	if len(patterns) == 0 {
		g.err = fmt.Errorf(`%w: Glob has no pattern; write for example Glob("/data/{{project}}/{{database}}.db")`, ErrInvalidOption)
	}
	for _, s := range patterns {
		p, err := ParsePattern(s)
		g.err = errors.Join(g.err, err)
		if err == nil {
			g.patterns = append(g.patterns, &p.p)
		}
	}
	g.glob = discover.NewGlob(g.patterns)
	return g
}

// Discover lists the databases there are now.
func (g *GlobDiscoverer) Discover(ctx context.Context) iter.Seq2[Database, error] {
	return func(yield func(Database, error) bool) {
		for l, err := range g.list(ctx) {
			if !yield(databaseOf(l.Database), err) {
				return
			}
		}
	}
}

// list is Discover with what it saw of the files.
func (g *GlobDiscoverer) list(ctx context.Context) iter.Seq2[survey.Listed, error] {
	return func(yield func(survey.Listed, error) bool) {
		if g.err != nil {
			yield(survey.Listed{}, g.err)
			return
		}
		for f, err := range g.glob.List(ctx) {
			if err != nil {
				if !yield(survey.Listed{}, listingError(err)) {
					return
				}
				continue
			}
			l := survey.Listed{Database: g.database(f), Sight: registry.Sight{File: f.File, Size: f.Size, Main: f.Main}}
			if !yield(l, nil) {
				return
			}
		}
	}
}

// database is a file of the listing as a database.
func (g *GlobDiscoverer) database(f discover.File) registry.Database {
	db := registry.Database{ID: f.ID, Path: f.Path, RelPath: f.Rel, ModTime: f.ModTime}
	if f.ID != "" {
		db.Vars = varsOf[registry.Var](g.patterns[f.Index], f.ID)
	}
	return db
}

// listingError is the public form of an error of a listing.
func listingError(err error) error {
	part, ok := err.(*discover.UnlistedError)
	if !ok {
		return err
	}
	why := part.Err
	var same *discover.SameIDError
	if errors.As(why, &same) {
		why = fmt.Errorf("%w: %w", why, ErrConflict)
	}
	return &UnlistedError{Paths: part.Paths, Err: why}
}

// CheckVars refuses a variable that one of the patterns does not capture.
func (g *GlobDiscoverer) CheckVars(names []string) error {
	var errs []error
	for _, p := range g.patterns {
		if missing := pattern.Missing(names, p.Names()); len(missing) > 0 {
			errs = append(errs, fmt.Errorf("%w: pattern %q does not capture %s; there are %s",
				ErrInvalidOption, p, strings.Join(missing, ", "), pattern.List(p.Names())))
		}
	}
	return errors.Join(errs...)
}

// Root returns the root of the first pattern: the longest directory without
// captures.
func (g *GlobDiscoverer) Root() string {
	if len(g.patterns) == 0 {
		return ""
	}
	return g.patterns[0].Root()
}

// Locate returns the Database that the ID would have under the first pattern
// that allows it.
func (g *GlobDiscoverer) Locate(id ID) (Database, bool) {
	for _, p := range g.patterns {
		if path, rel, ok := p.Locate(string(id)); ok {
			return Database{ID: id, Path: path, Vars: varsOf[Var](p, string(id)), RelPath: rel}, true
		}
	}
	return Database{}, false
}

func (g *GlobDiscoverer) validate() error { return g.err }

func (g *GlobDiscoverer) roots() (all []string) {
	for _, p := range g.patterns {
		all = append(all, p.Root())
	}
	return all
}

func (g *GlobDiscoverer) excluding(dir string) *GlobDiscoverer {
	c := *g
	c.glob = g.glob.Excluding(dir)
	return &c
}

// pathsOf returns where each of the patterns has the ID.
func (g *GlobDiscoverer) pathsOf(id string) []string { return g.glob.Paths(id) }

// Watch watches the directories that Discover reads, one watch each and none per
// file. A write to a database is one to its -wal, or in rollback mode to its
// -journal and itself. Where the system has no watches left, directories are
// looked at instead: those that changed recently often, the others rarely.
func (g *GlobDiscoverer) Watch(ctx context.Context, notify func(WatchEvent)) (run func(), err error) {
	return g.watch(ctx, func(c survey.Change) {
		notify(WatchEvent{Type: WatchEventType(c.Type), Database: databaseOf(c.Database), Err: c.Err})
	}, func(_, _ string) bool { return false })
}

// watch does what Watch does, but asks before it looks at what was written: it does not
// notify of what is needless.
func (g *GlobDiscoverer) watch(ctx context.Context, notify func(survey.Change), needless func(id, path string) bool) (run func(), err error) {
	if g.err != nil {
		return nil, g.err
	}
	return g.glob.Watch(ctx, func(ev discover.Event) {
		c := survey.Change{Type: ev.Type}
		if ev.Err != nil {
			c.Err = listingError(ev.Err)
		}
		if ev.Type == discover.Changed {
			c.Database = g.database(ev.File)
		}
		notify(c)
	}, needless), nil
}

// Static returns a Discoverer of a fixed list. IDs must be unique and not
// empty, paths absolute; New reports what is wrong. As with Glob, a database
// whose file does not exist is not listed but can be created, a missing
// directory is an error, and two paths of one file are listed once, by the
// first. A zero ModTime is filled in from the file and its WAL.
func Static(dbs ...Database) Discoverer {
	s := &static{}
	byID := make(map[ID]bool, len(dbs))
	for _, db := range dbs {
		var err error
		switch {
		case db.ID.IsZero():
			err = fmt.Errorf("%w: Static: the database at %q has no ID", ErrInvalidOption, db.Path)
		case byID[db.ID]:
			err = fmt.Errorf("%w: Static: two databases have the ID %q", ErrInvalidOption, db.ID)
		case !filepath.IsAbs(db.Path) || strings.IndexByte(db.Path, 0) >= 0:
			err = fmt.Errorf("%w: Static: database %q: the path %q is not absolute; write it from the root", ErrInvalidOption, db.ID, db.Path)
		case pattern.IsSidecar(filepath.Base(db.Path)):
			err = fmt.Errorf("%w: Static: database %q: the path %q is a file that belongs to a database; write the path of the database itself", ErrInvalidOption, db.ID, db.Path)
		}
		s.err = errors.Join(s.err, err)
		byID[db.ID] = true
		db.Path = filepath.Clean(db.Path)
		db.Vars = slices.Clone(db.Vars)
		s.dbs = append(s.dbs, db)
		s.entries = append(s.entries, discover.Entry{Path: db.Path, ModTime: db.ModTime})
	}
	return s
}

type static struct {
	dbs     []Database
	entries []discover.Entry // one for each of dbs
	err     error
}

func (s *static) validate() error { return s.err }

func (s *static) Discover(ctx context.Context) iter.Seq2[Database, error] {
	return func(yield func(Database, error) bool) {
		if s.err != nil {
			yield(Database{}, s.err)
			return
		}
		for f, err := range discover.Listed(ctx, s.entries) {
			if err != nil {
				if !yield(Database{}, listingError(err)) {
					return
				}
				continue
			}
			db := s.dbs[f.Index]
			if db.RelPath == "" {
				// {{path}} stays what the caller wrote, symlink or not.
				db.RelPath = strings.TrimPrefix(db.Path, "/")
			}
			db.Path, db.ModTime = f.Path, f.ModTime
			db.Vars = slices.Clone(db.Vars)
			if !yield(db, nil) {
				return
			}
		}
	}
}

func (s *static) CheckVars(names []string) error {
	for _, db := range s.dbs {
		have := varNames(db.Vars)
		if missing := pattern.Missing(names, have); len(missing) > 0 {
			return fmt.Errorf("%w: Static: database %q has no %s; there are %s",
				ErrInvalidOption, db.ID, strings.Join(missing, ", "), pattern.List(have))
		}
	}
	return nil
}

func (s *static) Root() string {
	if len(s.dbs) == 0 {
		return ""
	}
	return filepath.Dir(s.dbs[0].Path)
}

func (s *static) Locate(id ID) (Database, bool) {
	for _, db := range s.dbs {
		if db.ID == id {
			db.Vars = slices.Clone(db.Vars)
			return db, true
		}
	}
	return Database{}, false
}

// pathsOf returns the path as the caller wrote it.
func (s *static) pathsOf(id string) []string {
	if db, ok := s.Locate(ID(id)); ok {
		return []string{db.Path}
	}
	return nil
}

// rootOf is the root of a discoverer; "" if it has none.
func rootOf(d Discoverer) string {
	if r, ok := d.(DiscovererRoot); ok {
		return r.Root()
	}
	return ""
}

// rootsOf are the roots of all discoverers.
func rootsOf(all []Discoverer) (roots []string) {
	for _, d := range all {
		if g, ok := d.(globbing); ok {
			roots = append(roots, g.roots()...)
		} else {
			roots = append(roots, rootOf(d))
		}
	}
	return roots
}

// surveyed are the discoverers as the survey asks them, which never enters the state
// directory: it holds SQLite files that are no tenant's.
func surveyed(all []Discoverer, stateDir string) (out []survey.Discoverer) {
	for _, d := range all {
		if g, ok := d.(globbing); ok {
			d = g.excluding(stateDir)
		}
		out = append(out, surveyedOf(d))
	}
	return out
}

func surveyedOf(d Discoverer) survey.Discoverer {
	s := survey.Discoverer{Unlisted: unlisted, Root: rootOf(d)}
	if l, ok := d.(DiscovererLocator); ok {
		s.Locate = func(id string) (registry.Database, bool) {
			db, ok := l.Locate(ID(id))
			return db.inner(), ok
		}
	}
	if l, ok := d.(pathLister); ok {
		s.Paths = l.pathsOf
	}
	if g, ok := d.(globbing); ok {
		// The walk goes on while what it found is taken in, so that a first listing of
		// 100,000 has two cores.
		s.List = func(ctx context.Context) iter.Seq2[survey.Listed, error] { return discover.Ahead(g.list(ctx)) }
		s.Watch = g.watch
		return s
	}
	s.List = func(ctx context.Context) iter.Seq2[survey.Listed, error] {
		return func(yield func(survey.Listed, error) bool) {
			for db, err := range d.Discover(ctx) {
				if !yield(survey.Listed{Database: db.inner()}, err) {
					return
				}
			}
		}
	}
	if w, ok := d.(DiscovererWatcher); ok {
		s.Watch = func(ctx context.Context, notify func(survey.Change), _ func(id, path string) bool) (func(), error) {
			return w.Watch(ctx, func(ev WatchEvent) {
				notify(survey.Change{Type: discover.EventType(ev.Type), Database: ev.Database.inner(), Err: ev.Err})
			})
		}
	}
	return s
}
