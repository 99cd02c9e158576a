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
	"strings"
	"sync"

	"github.com/benbjohnson/litestream"
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
		for name, err := range w.Names(ctx, t.dir) {
			if err != nil {
				w.tell(ctx, Prefix{}, fmt.Errorf("list the databases of the replica: %w", err))
				return
			}
			if sub, ok := strings.CutSuffix(name, "/"); ok && w.Segments[t.depth].Matches(sub) {
				w.push(task{dir: joinDir(t.dir, sub), depth: t.depth + 1})
			}
		}
	}
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
	for name := range names {
		sub, ok := strings.CutSuffix(name, "/")
		if !ok || is && (sub == w.Levels || w.Levels == "" && w.isLevel(sub)) {
			continue
		}
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
