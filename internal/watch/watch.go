// Package watch reports what changes in many directories. It uses the system's
// notifications, and looks at the directories itself when the system has no watch left
// for them. It watches directories only and opens no file. What the names in them mean
// is left to the Handler.
//
// Whoever lists directories calls Add before reading each one. Then every later change
// is reported, and every earlier one is in the listing. When notifications were lost,
// all watches are removed, and Lost asks for a new listing: otherwise a watch could
// remain under a path that another directory has by now.
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
	Moved   // to elsewhere; if the new name is in a watched directory, it is Created
	Removed // a directory is empty by then
)

// Handler gives the names a meaning. Run calls its methods one at a time. They may call
// the methods of the Watcher.
type Handler interface {
	// Name reports what happened to a name in a watched directory.
	Name(path string, op Op)
	// Look compares a directory that cannot be watched with how it was at the last
	// look. ok is false if it does not exist any more.
	Look(dir string, since Since) (next Since, ok bool)
	// Tell reports a path that was touched, at once, but at most once per Gap.
	Tell(path string)
	// Lost reports that changes were missed. Nothing is watched any more until all
	// directories are listed again.
	Lost(err error)
	// Limited reports, once in the life of a Watcher, why directories are looked at
	// instead of being watched.
	Limited(err error)
}

// Gap is the shortest time between two calls of Tell for one path.
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
	limit  error         // for Limited; Run reports it
	wake   chan struct{} // tells Run that there is something new to wait for
}

// New returns a Watcher that watches nothing yet. It holds one of the system's sources
// until Run has returned, so Run must be called. open is Open, except in tests.
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

// Add watches a directory, or looks at it from time to time. fresh says that it was just
// made, so that it is looked at soon. Add is called before the directory is read. It
// ignores a directory that cannot be watched for any other reason than the system's
// limits: such a one cannot be read either.
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

// outOfWatches reports whether an error means that a limit of the system is reached.
func outOfWatches(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// Looks reports whether a directory is looked at because it cannot be watched.
func (w *Watcher) Looks(dir string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.polls.byDir[dir] != nil
}

// Forget stops watching a directory that moved away, and all below it: their watches
// would go on reporting changes under the old path. A Handler calls it when Name reports
// that the directory moved, before it returns.
func (w *Watcher) Forget(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polls.removeUnder(dir)
	if w.source == nil {
		return
	}
	for _, path := range w.source.WatchList() {
		if within(path, dir) {
			_ = w.source.Remove(path) // an error only means that it is not watched any more
		}
	}
}

// Touch makes Tell report a path, now or when its Gap has passed.
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

// event passes one notification to the Handler.
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

// How a burst of notifications is read. During the pause the kernel merges repeated
// writes into one notification; without it a busy database would wake the process at
// every write. While notifications come faster than burstCount in burstRate, they are
// read before anything else is done, since the kernel's queue has a limit.
const (
	burstPause = 10 * time.Millisecond
	burstIdle  = 500 * time.Microsecond // the queue is empty if nothing comes for so long
	burstCount = 64
	burstRate  = 2 * time.Millisecond
)

// burst reads, after a pause, what is in the queue behind a first notification.
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

// lost removes all watches and asks the Handler to list the directories again.
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

// never is how long Run waits if there is nothing to do.
const never = time.Hour

// wait returns the time until the next path is to be reported or directory looked at.
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

// work reports the paths and looks at the directories that are due.
func (w *Watcher) work(ctx context.Context) {
	w.settle(time.Now())
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < burstPause; {
		if !w.look() {
			return
		}
	}
}

// settle reports the paths that were touched again during their Gap, once it has ended.
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
