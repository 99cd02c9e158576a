package multidb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/pattern"
	"github.com/multidb-go/multidb/internal/watch"
)

// Discoverer lists the databases of a Manager. It is called at Start and then
// every scan interval. Safe for concurrent use.
//
// Every pair is a database or an error about a part of the listing. After an
// error the listing goes on as far as it can, but it is partial: the Manager
// adds the databases it names and removes none, but for an UnlistedError, which
// says what is missing from it. So a Discoverer that cannot tell "empty" from
// "not there" must yield an error. ctx ends the listing, and
// its error is the last pair. No two databases of a listing have the same ID.
//
// A Discoverer must not open database files: when a process closes a
// descriptor of a file, it loses its POSIX locks on it, SQLite's included.
type Discoverer interface {
	Discover(ctx context.Context) iter.Seq2[Database, error]
}

// DiscovererVars is an optional power of a Discoverer: CheckVars refuses, with
// an error that wraps ErrInvalidOption, the template variables that some of its
// databases would not have. New calls it, so it does no I/O.
type DiscovererVars interface {
	CheckVars(names []string) error
}

// DiscovererRoot is an optional power of a Discoverer: the directory that its
// databases are under, for the default state directory. Empty if there is none.
// Start fails if it does not exist (see WithMissingRoots), and nothing is made in it
// while another directory stands in its place.
type DiscovererRoot interface {
	Root() string
}

// DiscovererLocator is an optional power of a Discoverer: the Database that an
// ID has, or would have if its file were created. ok is false if this
// Discoverer could never list that ID. Locate does no I/O.
type DiscovererLocator interface {
	Locate(id ID) (db Database, ok bool)
}

// validator is what New asks of a Discoverer whose constructor returns no error.
type validator interface {
	validate() error
}

// excluder gives a copy of a Discoverer that never enters a directory: the
// Manager's state directory holds SQLite files that are no tenant's.
type excluder interface {
	excluding(dir string) Discoverer
}

var (
	_ Discoverer        = (*GlobDiscoverer)(nil)
	_ DiscovererVars    = (*GlobDiscoverer)(nil)
	_ DiscovererRoot    = (*GlobDiscoverer)(nil)
	_ DiscovererLocator = (*GlobDiscoverer)(nil)
	_ validator         = (*GlobDiscoverer)(nil)
	_ excluder          = (*GlobDiscoverer)(nil)
	_ lister            = (*GlobDiscoverer)(nil)
)

// GlobDiscoverer lists the files that match patterns, and watches them; see Glob.
// Its patterns do not change. Safe for concurrent use.
type GlobDiscoverer struct {
	patterns []*pattern.Pattern
	err      error
	excluded string
	open     func(path string) (directory, error)

	watches       *globWatches // changes; has its own lock
	notifications func() (watch.Source, error)
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
	g := &GlobDiscoverer{open: openDirectory, watches: &globWatches{}, notifications: watch.Open}
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
	return g
}

// Discover lists the databases there are now.
func (g *GlobDiscoverer) Discover(ctx context.Context) iter.Seq2[Database, error] {
	return func(yield func(Database, error) bool) {
		for l, err := range g.list(ctx) {
			if !yield(l.Database, err) {
				return
			}
		}
	}
}

// list is Discover with what it saw of the files.
func (g *GlobDiscoverer) list(ctx context.Context) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		if g.err != nil {
			yield(listed{}, g.err)
			return
		}
		newWalk(ctx, g, yield).run()
	}
}

// listed is a database of a listing. Where the listing looked at the file, what
// it saw saves another look.
type listed struct {
	Database
	file fsid.ID   // zero: not looked at
	size int64     // of the database file
	main time.Time // its ModTime, without that of its WAL
}

// lister is an optional power of a Discoverer.
type lister interface {
	list(ctx context.Context) iter.Seq2[listed, error]
}

// list lists a discoverer's databases. A walk goes on while what it found is taken
// in, so that a first listing of 100,000 has two cores.
func list(ctx context.Context, d Discoverer) iter.Seq2[listed, error] {
	if l, ok := d.(lister); ok {
		return ahead(l.list(ctx))
	}
	return func(yield func(listed, error) bool) {
		for db, err := range d.Discover(ctx) {
			if !yield(listed{Database: db}, err) {
				return
			}
		}
	}
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
			return Database{ID: id, Path: path, Vars: varsOf(p, string(id)), RelPath: rel}, true
		}
	}
	return Database{}, false
}

func (g *GlobDiscoverer) validate() error { return g.err }

func (g *GlobDiscoverer) excluding(dir string) Discoverer {
	c := *g
	c.excluded, c.watches = dir, &globWatches{}
	return &c
}
