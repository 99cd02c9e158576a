// Package tree finds the databases in a store: from the segments of a template of
// paths and the listings of directories to the prefixes where databases are kept. It
// touches nothing but the functions it is given, which a few goroutines call at
// once; their shared state is guarded by walk.mu, never held during a call.
package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// walkers bounds the requests of one listing in flight.
const walkers = 32

// Tree is what the walk needs of a store. Directories are relative, with slashes,
// and without one at the end.
type Tree struct {
	Segments []Segment
	// Names yields the names in a directory as ls -F does: those of directories
	// end in a slash. An error is the last pair.
	Names func(ctx context.Context, dir string) iter.Seq2[string, error]
	// Metadata returns metadata.json of a directory; fs.ErrNotExist if there is none.
	Metadata func(ctx context.Context, dir string) ([]byte, error)
	// Levels is the directory of the level directories in a prefix; "" is the prefix.
	Levels string
}

// Segment is what stands between two slashes of a template.
type Segment struct {
	Literal string                 // the only name that it matches; "" if it has a variable
	Path    bool                   // {{path}} is in it, which stands for any number of directories
	Matches func(name string) bool // reports whether a name can stand for a segment that has another variable
}

// Prefix is a directory where a database is kept.
type Prefix struct {
	Dir  string
	Data []byte // its metadata.json; nil: there is none, but LTX files
	Err  error  // why it could not be read
}

// task is a directory to look into: one that the first depth segments of
// the template lead to or, if free, any one below {{path}}.
type task struct {
	dir   string
	depth int
	free  bool
}

type found struct {
	prefix Prefix
	err    error // about a part of the listing
}

// walk goes through the tree with a few workers. The tasks still to be done are a
// stack, so that a wide tree costs no more memory than its names.
type walk struct {
	Tree
	found chan found

	mu    sync.Mutex
	more  sync.Cond // of mu: tasks, busy or ended has changed
	tasks []task
	busy  int
	ended bool
}

// Walk yields every prefix of the store, in any order, or an error about a part of
// the listing, after which it goes on as far as it can. ctx ends it, and its error
// is the last pair.
func (t Tree) Walk(ctx context.Context) iter.Seq2[Prefix, error] {
	return func(yield func(Prefix, error) bool) {
		walkCtx, cancel := context.WithCancel(ctx)
		w := &walk{Tree: t, found: make(chan found)}
		w.more.L = &w.mu
		w.tasks = []task{{}}
		var workers sync.WaitGroup
		for range walkers {
			workers.Go(func() { w.work(walkCtx) })
		}
		stop := context.AfterFunc(walkCtx, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ended = true
			w.more.Broadcast()
		})
		go func() { // joined by the receiving below, which ends when found is closed
			workers.Wait()
			close(w.found)
		}()
		defer func() {
			cancel()
			for range w.found { // a worker may be at sending
			}
			stop()
		}()
		for f := range w.found {
			if !yield(f.prefix, f.err) {
				return
			}
		}
		if err := context.Cause(ctx); err != nil {
			yield(Prefix{}, err)
		}
	}
}

func (w *walk) work(ctx context.Context) {
	for {
		w.mu.Lock()
		for len(w.tasks) == 0 && w.busy > 0 && !w.ended {
			w.more.Wait()
		}
		if len(w.tasks) == 0 || w.ended {
			w.mu.Unlock()
			return
		}
		t := w.tasks[len(w.tasks)-1]
		w.tasks = w.tasks[:len(w.tasks)-1]
		w.busy++
		w.mu.Unlock()

		w.do(ctx, t)

		w.mu.Lock()
		w.busy--
		if w.busy == 0 {
			w.more.Broadcast()
		}
		w.mu.Unlock()
	}
}

func (w *walk) push(t task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tasks = append(w.tasks, t)
	w.more.Signal()
}

func (w *walk) tell(ctx context.Context, p Prefix, err error) {
	if (err != nil || p.Err != nil) && ctx.Err() != nil {
		return // the listing's own error says it
	}
	select {
	case w.found <- found{p, err}:
	case <-ctx.Done():
	}
}

func (w *walk) do(ctx context.Context, t task) {
	for !t.free && t.depth < len(w.Segments) && w.Segments[t.depth].Literal != "" {
		t.dir = joinDir(t.dir, w.Segments[t.depth].Literal)
		t.depth++
	}
	switch {
	case t.free || t.depth < len(w.Segments) && w.Segments[t.depth].Path:
		w.free(ctx, t.dir)
	case t.depth == len(w.Segments):
		w.candidate(ctx, t.dir)
	default:
		var parts logParts
		next := func(sub string) {
			if w.Segments[t.depth].Matches(sub) {
				w.push(task{dir: joinDir(t.dir, sub), depth: t.depth + 1})
			}
		}
		for name, err := range w.Names(ctx, t.dir) {
			if err != nil {
				w.tell(ctx, Prefix{}, fmt.Errorf("list the databases of the replica: %w", err))
				break
			}
			if sub, ok := strings.CutSuffix(name, "/"); ok && !parts.hold(sub) {
				next(sub)
			}
		}
		for _, sub := range w.tenantsOf(ctx, t.dir, parts) {
			next(sub)
		}
	}
}

// logParts are the directories of one directory that are those of a fleet log, if it is
// one. They are not tenants then, and may have a million objects.
type logParts struct {
	logs, others []string
	maps         bool
}

// hold reports whether a directory may be one of a fleet log, and keeps its name.
func (p *logParts) hold(sub string) bool {
	_, _, log := format.ParseObjectName(sub + format.ObjectName(1, 1)[len(format.LogDir(1))-1:])
	switch {
	case log:
		p.logs = append(p.logs, sub)
	case sub+"/" == format.MapDir, sub+"/" == format.LargeDir, sub+"/" == format.MemberDir:
		p.others = append(p.others, sub)
		p.maps = p.maps || sub+"/" == format.MapDir
	default:
		return false
	}
	return true
}

// tenantsOf are the directories that were held although dir is no fleet log: that is known
// by its maps, which no prefix of a tenant has.
func (w *walk) tenantsOf(ctx context.Context, dir string, p logParts) []string {
	if p.maps && len(p.logs) > 0 {
		for name, err := range w.Names(ctx, joinDir(dir, strings.TrimSuffix(format.MapDir, "/"))) {
			if _, ok := format.ParseMapName(format.MapDir + name); err == nil && ok {
				return nil
			}
			break
		}
	}
	return slices.Concat(p.logs, p.others)
}

// candidate is a directory where the template puts a database.
func (w *walk) candidate(ctx context.Context, dir string) {
	data, err := w.Metadata(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		names, err := w.all(ctx, dir)
		if err == nil && !w.hasHistory(names) {
			return
		}
		w.tell(ctx, Prefix{Dir: dir, Err: err}, nil)
		return
	}
	w.tell(ctx, Prefix{dir, data, err}, nil)
}

// free looks for databases at any depth: a prefix is known by its metadata.json
// or by the LTX files in its level directories.
func (w *walk) free(ctx context.Context, dir string) {
	names, err := w.all(ctx, dir)
	if err != nil {
		w.tell(ctx, Prefix{}, fmt.Errorf("list the databases of the replica: %w", err))
		return
	}
	is := names[metadata.Name]
	if is {
		data, err := w.Metadata(ctx, dir)
		w.tell(ctx, Prefix{dir, data, err}, nil)
	} else if is, err = w.hasFiles(ctx, dir, names); err != nil || is {
		w.tell(ctx, Prefix{Dir: dir, Err: err}, nil)
	}
	var parts logParts
	for name := range names {
		sub, ok := strings.CutSuffix(name, "/")
		if !ok || is && (sub == w.Levels || w.Levels == "" && w.isLevel(sub)) || parts.hold(sub) {
			continue
		}
		w.push(task{dir: joinDir(dir, sub), free: true})
	}
	for _, sub := range w.tenantsOf(ctx, dir, parts) {
		w.push(task{dir: joinDir(dir, sub), free: true})
	}
}

// hasHistory reports whether a prefix that lists names was written by
// litestream: in its format of today, or in that of v0.3.
func (w *walk) hasHistory(names map[string]bool) bool {
	if w.Levels != "" {
		return names[w.Levels+"/"]
	}
	for name := range names {
		if w.isLevel(strings.TrimSuffix(name, "/")) {
			return true
		}
	}
	return names["generations/"]
}

// hasFiles looks for an LTX file: a directory called 0000 may be a tenant.
func (w *walk) hasFiles(ctx context.Context, dir string, names map[string]bool) (bool, error) {
	if w.Levels != "" {
		if !names[w.Levels+"/"] {
			return false, nil
		}
		dir = joinDir(dir, w.Levels)
		var err error
		if names, err = w.all(ctx, dir); err != nil {
			return false, err
		}
	}
	for name := range names {
		level, ok := strings.CutSuffix(name, "/")
		if !ok || !w.isLevel(level) {
			continue
		}
		for name, err := range w.Names(ctx, joinDir(dir, level)) {
			if err != nil {
				return false, err
			}
			if _, _, err := ltx.ParseFilename(name); err == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

func (w *walk) all(ctx context.Context, dir string) (map[string]bool, error) {
	names := map[string]bool{}
	for name, err := range w.Names(ctx, dir) {
		if err != nil {
			return nil, err
		}
		names[name] = true
		if err := untrusted.CheckFiles(len(names), untrusted.MaxFiles); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func joinDir(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// isLevel reports whether a directory is that of a level, 0 to 9: 0003 in a
// bucket, ltx/3 in a directory.
func (w *walk) isLevel(name string) bool {
	if w.Levels == "" {
		var ok bool
		if name, ok = strings.CutPrefix(name, "000"); !ok {
			return false
		}
	}
	return len(name) == 1 && name[0] >= '0' && name[0] <= '0'+litestream.SnapshotLevel
}
