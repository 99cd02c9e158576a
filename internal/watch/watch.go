// Package watch tells what changes in many directories: by the system's
// notifications where it has watches left, and by looking where it has not. It
// watches directories only, opens no file, and knows nothing of what the names
// in them mean: that is the Handler's.
//
// Whoever lists directories calls Add before it reads each one. Then whatever
// changes afterwards is told, and whatever changed before is in the listing. Where
// notifications were lost every watch is given up, and Lost asks for such a
// listing; so no watch is left that has another directory's path.
package watch

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Op is what happened to a name.
type Op uint8

// The operations.
const (
	Created Op = iota + 1 // made, or moved to here
	Written
	Moved   // to elsewhere; its new name, if it is watched, is Created
	Removed // a directory is empty by then
)

// Handler gives the names a meaning. Its methods are called by Run, one at a
// time, and may call the Watcher's.
type Handler interface {
	// Name tells what happened to a name in a watched directory.
	Name(path string, op Op)
	// Look compares a directory that cannot be watched with the last time. ok is
	// false if it is not there any more.
	Look(dir string, since Since) (next Since, ok bool)
	// Tell gets the paths that were touched: at once, but each at most once a gap.
	Tell(path string)
	// Lost says that changes were missed and that nothing is watched any more,
	// until all directories are listed again.
	Lost(err error)
	// Limited says, once in the life of a Watcher, why directories are looked at
	// instead of being watched.
	Limited(err error)
}

// Gap is the shortest time between two Tells of one path.
const Gap = 50 * time.Millisecond

// Watcher watches directories. Add is safe for concurrent use; the other methods
// are for the Handler, while Run calls it.
type Watcher struct {
	open    func() (Source, error)
	h       Handler
	touched *coalescer
	limited bool
	timer   *time.Timer

	// mu guards what follows. Sources are called with it held, the Handler never.
	mu     sync.Mutex
	source Source // nil: none could be opened, or it is closed
	closed bool
	polls  polls
	limit  error         // told when Run comes to it
	wake   chan struct{} // there is something new to wait for
}

// New returns a Watcher that watches nothing yet. It holds one of the system's
// sources until Run has returned, so Run must be called. open is Open but in tests.
func New(open func() (Source, error), h Handler) *Watcher {
	w := &Watcher{open: open, h: h, touched: newCoalescer(Gap), polls: newPolls(), wake: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.openLocked()
	return w
}

func (w *Watcher) openLocked() {
	var err error
	if w.source, err = w.open(); err != nil {
		w.source, w.limit = nil, err
	}
}

// Add watches a directory, or looks at it from time to time; fresh says that it
// was just made, and so is looked at soon. It is called before the directory is
// read. One that cannot be watched for another reason than the system's limits
// cannot be read either.
func (w *Watcher) Add(dir string, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if w.source != nil {
		err := w.source.Add(dir)
		if err == nil {
			w.polls.remove(dir)
			return
		}
		if !outOfWatches(err) {
			return
		}
		w.limit = err
	}
	w.polls.add(dir, fresh, time.Now())
	w.wakeLocked()
}

func (w *Watcher) wakeLocked() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// outOfWatches reports whether an error is the system's limit.
func outOfWatches(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// Looks reports whether a directory is looked at, since it cannot be watched.
func (w *Watcher) Looks(dir string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.polls.byDir[dir] != nil
}

// Forget stops watching a directory that moved away, and all below it: their
// watches would go on to tell of it under its old path. A Handler calls it when
// it is told that the directory moved, before it returns.
func (w *Watcher) Forget(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polls.removeUnder(dir)
	if w.source == nil {
		return
	}
	for _, path := range w.source.WatchList() {
		if within(path, dir) {
			_ = w.source.Remove(path) // an error says that it is not watched any more
		}
	}
}

// Touch makes the Handler be told of a path.
func (w *Watcher) Touch(path string) {
	if w.touched.touch(path, time.Now()) {
		w.h.Tell(path)
	}
}

// Run works until ctx ends, and then frees everything.
func (w *Watcher) Run(ctx context.Context) {
	defer w.close()
	w.timer = time.NewTimer(0)
	defer w.timer.Stop()
	for ctx.Err() == nil {
		w.tellLimit()
		w.timer.Reset(w.wait())
		events, errs := w.channels()
		select {
		case <-ctx.Done():
		case <-w.wake:
		case ev, ok := <-events:
			if !ok {
				w.lost(errors.New("the source of notifications has ended"))
				continue
			}
			w.event(ev)
			w.burst(ctx, events)
		case err, ok := <-errs:
			if ok { // otherwise the events end too
				w.lost(err)
			}
		case <-w.timer.C:
		}
		w.work(ctx)
	}
}

func (w *Watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.source != nil {
		_ = w.source.Close() // nothing was written
		w.source = nil
	}
}

func (w *Watcher) channels() (<-chan fsnotify.Event, <-chan error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.source == nil {
		return nil, nil
	}
	return w.source.Events(), w.source.Errors()
}

// event passes one notification on.
func (w *Watcher) event(ev fsnotify.Event) {
	switch {
	case ev.Has(fsnotify.Create):
		w.h.Name(ev.Name, Created)
	case ev.Has(fsnotify.Rename):
		w.h.Name(ev.Name, Moved)
	case ev.Has(fsnotify.Remove):
		w.h.Name(ev.Name, Removed)
	case ev.Has(fsnotify.Write):
		w.h.Name(ev.Name, Written)
	}
}

// How a burst is read. A pause makes the kernel fold repeated writes into one
// notification; without it a busy database would wake the process at every
// write. Where notifications come faster than burstRate the queue, which has a
// limit, is emptied first.
const (
	burstPause = 10 * time.Millisecond
	burstIdle  = 500 * time.Microsecond // nothing for so long: the queue is empty
	burstCount = 64
	burstRate  = 2 * time.Millisecond // for burstCount
)

// burst reads what is in the queue behind a first notification, after a pause.
func (w *Watcher) burst(ctx context.Context, events <-chan fsnotify.Event) {
	w.timer.Reset(burstPause)
	select {
	case <-w.timer.C:
	case <-ctx.Done():
		return
	}
	for began, n := time.Now(), 1; ; n++ {
		w.timer.Reset(burstIdle)
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
			w.event(ev)
		case <-w.timer.C:
			return
		case <-ctx.Done():
			return
		}
		if n%burstCount == 0 {
			now := time.Now()
			if now.Sub(began) > burstRate {
				return
			}
			began = now
			w.settle(now)
		}
	}
}

// lost starts again with nothing watched.
func (w *Watcher) lost(err error) {
	w.mu.Lock()
	if w.source != nil {
		_ = w.source.Close()
	}
	w.polls = newPolls()
	w.openLocked()
	w.mu.Unlock()
	w.h.Lost(err)
}

func (w *Watcher) tellLimit() {
	w.mu.Lock()
	limit := w.limit
	w.limit = nil
	w.mu.Unlock()
	if limit != nil && !w.limited {
		w.limited = true
		w.h.Limited(limit)
	}
}

// never is how long Run waits where nothing is to be done.
const never = time.Hour

// wait is how long there is nothing to do by itself.
func (w *Watcher) wait() time.Duration {
	wait := never
	if at, ok := w.touched.due(); ok {
		wait = min(wait, time.Until(at))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, at, ok := w.polls.due(); ok {
		wait = min(wait, time.Until(at))
	}
	return max(wait, 0)
}

// work does what is due.
func (w *Watcher) work(ctx context.Context) {
	w.settle(time.Now())
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < burstPause; {
		if !w.look() {
			return
		}
	}
}

// settle tells what was touched again, where the gap has ended.
func (w *Watcher) settle(now time.Time) {
	for {
		path, ok := w.touched.next(now)
		if !ok {
			return
		}
		w.h.Tell(path)
	}
}

// look looks at one directory, if one is due.
func (w *Watcher) look() bool {
	w.mu.Lock()
	it, at, ok := w.polls.due()
	began := time.Now()
	w.mu.Unlock()
	if !ok || at.After(began) {
		return false
	}
	since, ok := w.h.Look(it.dir, it.since)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.polls.byDir[it.dir] != it {
		return true // forgotten, or watched by now
	}
	if !ok {
		w.polls.remove(it.dir)
		return true
	}
	w.polls.looked(it, since, now, now.Sub(began))
	return true
}
