// Package rounds decides when everything is listed: at an interval, and sooner when
// somebody asks for it, but never so often that listing takes most of the time. What a
// watcher finds between two listings is handled by the same goroutine. The package does not
// know what is listed.
package rounds

import (
	"context"
	"time"
)

// A round that somebody asks for begins after a delay, in which others can ask for it too.
// It also begins no sooner after the last round than the time that one took, times the
// share. Otherwise a storm of events would become a storm of rounds.
const (
	soonDelay  = 100 * time.Millisecond
	soonShare  = 10
	laterDelay = time.Second // for whoever loses nothing by waiting
	laterShare = 50
	// restShare is for the regular rounds while a watcher reports changes in between: the
	// interval is at least what the last round took, times restShare.
	restShare = 200
)

// Rounds is one cycle of listings. Its methods are safe for concurrent use; Run is called
// once.
type Rounds[T any] struct {
	found       chan T
	soon, later chan struct{}
}

// New returns Rounds. Up to queue values of Found wait until they are handled.
func New[T any](queue int) *Rounds[T] {
	return &Rounds[T]{found: make(chan T, queue), soon: make(chan struct{}, 1), later: make(chan struct{}, 1)}
}

// Ask asks for a round that begins after this call: after soonDelay, or laterDelay if soon
// is false.
func (r *Rounds[T]) Ask(soon bool) {
	c := r.later
	if soon {
		c = r.soon
	}
	select {
	case c <- struct{}{}:
	default: // a round was asked for already, and begins after this call too
	}
}

// Found passes on what was found between two rounds. If too many values wait already, it
// asks for a round instead. It never blocks.
func (r *Rounds[T]) Found(v T) {
	select {
	case r.found <- v:
	default:
		r.Ask(true)
	}
}

// TakeOne calls take with a waiting value, if there is one. A long round calls it now and
// then, so that values do not wait for its end.
func (r *Rounds[T]) TakeOne(take func(T)) {
	select {
	case v := <-r.found:
		take(v)
	default:
	}
}

// Work is what Run calls, all of it on its own goroutine.
type Work[T any] struct {
	Interval time.Duration             // between two rounds
	Watched  func() bool               // whether a watcher reports changes in between
	Round    func(ctx context.Context) // lists everything
	Take     func(v T)                 // handles a value of Found
	After    func(ctx context.Context) // is called first of all, and after each Round and Take
	Every    time.Duration             // between two calls of Regular
	Regular  func()
}

// Run makes rounds until ctx ends. took is how long the last round took.
func (r *Rounds[T]) Run(ctx context.Context, w Work[T], took time.Duration) {
	next := func() time.Duration {
		if w.Watched() {
			return max(w.Interval, restShare*took)
		}
		return w.Interval
	}
	w.After(ctx)
	round := time.NewTimer(next())
	defer round.Stop()
	regular := time.NewTicker(w.Every)
	defer regular.Stop()
	asked := time.NewTimer(w.Interval)
	defer asked.Stop()
	asked.Stop()
	var due, ended time.Time // of the round that was asked for, zero if none; of the last one
	ask := func(delay, pause time.Duration) {
		at := time.Now().Add(delay)
		if free := ended.Add(pause); free.After(at) {
			at = free
		}
		if due.IsZero() || at.Before(due) {
			due = at
			asked.Reset(time.Until(at))
		}
	}
	all := func() {
		due = time.Time{}
		began := time.Now()
		w.Round(ctx)
		ended = time.Now()
		took = ended.Sub(began)
		w.After(ctx)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-round.C:
			all()
			round.Reset(next())
		case <-r.soon:
			ask(soonDelay, soonShare*took)
		case <-r.later:
			ask(laterDelay, laterShare*took)
		case <-asked.C:
			if !due.IsZero() {
				all()
			}
		case v := <-r.found:
			w.Take(v)
			w.After(ctx)
		case <-regular.C:
			w.Regular()
		}
	}
}
