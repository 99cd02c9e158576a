package discover

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/pattern"
	"github.com/multidb-go/multidb/internal/watch"
)

// EventType says what an Event is about.
type EventType uint8

// What a watch reports.
const (
	Changed EventType = iota + 1 // a file was written, or appeared
	Gone                         // something was removed or moved: a listing shows what
	Rescan                       // changes were missed: everything has to be listed again
	Polls                        // from now on some directories are polled, since the system's watches ran out
)

// Event is what a watch reports.
type Event struct {
	Type EventType
	// File was changed (Changed only). Its ID is empty if only a symlink with another
	// name makes it a database. Nothing but its names and ModTime is set.
	File File
	// Err is the reason for Rescan and Polls; it may be nil.
	Err error
}

// Watch watches the directories that List reads, one watch each and none per
// file, from its return on. A write to a database is one to its -wal, or in
// rollback mode to its -journal and itself. When the system has no watches left,
// directories are polled instead: those that changed recently often, the others
// rarely.
//
// The caller calls run once: it works until ctx ends. notify is called from run
// and from List. needless is called with the ID and path of a written file before
// the file is looked at: if it reports true, nothing is reported.
func (g *Glob) Watch(ctx context.Context, notify func(Event), needless func(id, path string) bool) (run func()) {
	gw := &globWatch{ctx: ctx, g: g, notify: notify, needless: needless, named: map[string]struct{}{}}
	gw.w = watch.New(g.Notifications, gw)
	g.watches.add(gw)
	return func() {
		defer g.watches.remove(gw)
		gw.w.Run(ctx)
	}
}

// globWatches are the watches that follow which directories List reads.
type globWatches struct {
	mu  sync.RWMutex
	all []*globWatch
}

func (s *globWatches) add(gw *globWatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all[:len(s.all):len(s.all)], gw)
}

func (s *globWatches) remove(gw *globWatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []*globWatch
	for _, x := range s.all {
		if x != gw {
			left = append(left, x)
		}
	}
	s.all = left
}

func (s *globWatches) get() []*globWatch {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all // never changed in place
}

// directory is called before a directory is read, so that whatever appears in it
// later is reported.
func (s *globWatches) directory(path string, fresh bool) {
	for _, gw := range s.get() {
		gw.w.Add(path, fresh)
	}
}

// linked is called for a file that a symlink leads to.
func (s *globWatches) linked(path string) {
	for _, gw := range s.get() {
		gw.linked.Store(path, struct{}{})
		gw.w.Add(filepath.Dir(path), false)
	}
}

// globWatch gives the names in watched directories their meaning.
type globWatch struct {
	ctx      context.Context
	g        *Glob
	notify   func(Event)
	needless func(id, path string) bool
	w        *watch.Watcher
	named    map[string]struct{} // databases whose own name is new, until they are reported
	linked   sync.Map            // string: files that are databases by a symlink
}

// touch handles a name that may now stand for another file.
func (gw *globWatch) touch(db string) {
	gw.named[db] = struct{}{}
	gw.w.Touch(db)
}

// Name handles one notification.
func (gw *globWatch) Name(path string, op watch.Op) {
	gone := op == watch.Moved || op == watch.Removed
	if db, ok := gw.database(path); ok {
		if gone && db == path {
			gw.notify(Event{Type: Gone})
		} else if op == watch.Created && db == path {
			gw.touch(db)
		} else {
			gw.w.Touch(db)
		}
	}
	if op == watch.Written || len(gw.g.places(path)) == 0 {
		return
	}
	if gone {
		if op == watch.Moved {
			gw.w.Forget(path)
		}
		gw.notify(Event{Type: Gone})
		return
	}
	gw.enter(path)
}

// enter watches a name that may be a directory, and reports what is below it.
func (gw *globWatch) enter(path string) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return // it is reported as gone
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		gw.notify(Event{Type: Rescan}) // a listing knows which of its names counts
		return
	}
	for f, err := range gw.g.below(gw.ctx, path) {
		if err != nil {
			if gw.ctx.Err() == nil {
				gw.notify(Event{Type: Rescan, Err: err}) // a listing reports what is wrong, and continues
			}
			continue
		}
		gw.touch(f.Path)
	}
}

// database returns the database that a file is, or belongs to.
func (gw *globWatch) database(path string) (string, bool) {
	path = withoutSidecar(path)
	base := path[strings.LastIndexByte(path, '/')+1:]
	if pattern.IsSidecar(base) {
		return "", false
	}
	for _, p := range gw.g.patterns {
		if p.Segment(p.Depth()-1).Matches(base, true) {
			return path, true
		}
	}
	_, ok := gw.linked.Load(path)
	return path, ok
}

// withoutSidecar returns the path of the database that a write to path belongs to.
// The shared memory (-shm) does not count: readers change it too.
func withoutSidecar(path string) string {
	if db, ok := strings.CutSuffix(path, "-wal"); ok {
		return db
	}
	return strings.TrimSuffix(path, "-journal")
}

// Tell reports a database; it is called at most once per watch.Gap for each.
func (gw *globWatch) Tell(path string) {
	_, named := gw.named[path]
	delete(gw.named, path)
	f := File{Path: path}
	for i, p := range gw.g.patterns {
		if id, rel, ok := p.Match(path); ok {
			f.ID, f.Rel, f.Index = id, rel, i
			break
		}
	}
	if !named && f.ID != "" && gw.needless(f.ID, path) {
		return
	}
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			gw.notify(Event{Type: Rescan})
		}
		return // gone, which is reported as such; a listing reports any other error
	}
	if f.ID == "" {
		if _, ok := gw.linked.Load(path); !ok {
			return
		}
	}
	if f.ModTime, err = laterModTime(info, path+"-wal"); err != nil {
		return // as above
	}
	gw.notify(Event{Type: Changed, File: f})
}

// Lost asks for a listing, which adds all watches again.
func (gw *globWatch) Lost(err error) {
	gw.notify(Event{Type: Rescan, Err: err})
}

// Limited passes on that there are no watches left.
func (gw *globWatch) Limited(err error) {
	gw.notify(Event{Type: Polls, Err: err})
}

// Look finds what changed in a directory by its files' change times. The files with
// the newest one are reported once more at the next look: another write within the
// same tick of the clock would not show otherwise.
func (gw *globWatch) Look(dir string, since watch.Since) (watch.Since, bool) {
	d, err := gw.g.open(dir)
	if err != nil {
		return since, !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
	}
	defer func() { _ = d.Close() }() // nothing was written
	next := watch.Since{Stamp: since.Stamp}
	for {
		names, err := d.Readdirnames(readChunk)
		for _, name := range names {
			path := join(dir, name)
			db, file := gw.database(path)
			entered := len(gw.g.places(path)) > 0
			if !file && !entered {
				continue
			}
			info, err := os.Lstat(path)
			if err != nil {
				continue
			}
			stamp := fsid.FingerprintOf(info).Ctime
			if stamp < since.Stamp || stamp == since.Stamp && !since.Moved {
				continue
			}
			next.Stamp = max(next.Stamp, stamp)
			if file && !info.IsDir() {
				gw.touch(db)
			}
			if entered && !info.Mode().IsRegular() && !gw.w.Looks(path) {
				gw.enter(path)
			}
		}
		if err != nil || gw.ctx.Err() != nil {
			break
		}
	}
	next.Moved = next.Stamp > since.Stamp && since.Stamp != 0
	return next, true
}

// places returns where a directory stands in each of the patterns: nothing if no
// database can be below it.
func (g *Glob) places(dir string) []place {
	var out []place
	for i, p := range g.patterns {
		if k, ok := p.Directory(dir); ok {
			out = append(out, place{i, k, dir})
		}
	}
	return out
}

// below lists the databases in a directory that was made or moved, as List
// would.
func (g *Glob) below(ctx context.Context, dir string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		w := newWalk(ctx, g, yield)
		w.fresh = true
		if err := w.exclude(); err != nil {
			w.fail(err)
			return
		}
		for _, at := range g.places(dir) {
			info, err := os.Lstat(dir)
			if err != nil {
				w.failUnlessGone(err, dir)
				return
			}
			if info.IsDir() {
				w.directory(at, info)
			}
		}
		w.settle()
	}
}
