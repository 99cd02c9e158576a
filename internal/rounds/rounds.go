// Package rounds says when everything is listed: every so often, and sooner when
// somebody asks, but never so often that it is most of what is done. What was found
// between two listings is taken in by the same goroutine. It knows nothing of what is
// listed.
package rounds

import (
	"context"
	"time"
)

// A round that somebody asks for waits for others to join it, and for so many times
// what the last round took, so that no storm of events becomes one of rounds.
const (
	soonDelay  = 100 * time.Millisecond
	soonShare  = 10
	laterDelay = time.Second // nothing is lost by waiting
	laterShare = 50
	// restShare bounds what rounds take where changes are told of in between: one every
	// so many times what the last one took.
	restShare = 200
)

// Rounds is one cycle of listings. Its methods are safe for concurrent use.
type Rounds[T any] struct {
	found       chan T
	soon, later chan struct{}
}

// New returns Rounds that hold as many found values as queue until they are taken in.
func New[T any](queue int) *Rounds[T] {
	return &Rounds[T]{found: make(chan T, queue), soon: make(chan struct{}, 1), later: make(chan struct{}, 1)}
}

// Ask asks for a round that begins later than this call.
func (r *Rounds[T]) Ask(soon bool) {
	c := r.later
	if soon {
		c = r.soon
	}
	select {
	case c <- struct{}{}:
	default: // the one that is asked for begins later than this call, too
	}
}

// Found hands over what was found between two rounds. If too many wait it becomes a
// round.
func (r *Rounds[T]) Found(v T) {
	select {
	case r.found <- v:
	default:
		r.Ask(true)
	}
}

// TakeOne calls take with one that waits, if there is any: a long round is no reason to
// wait for its end.
func (r *Rounds[T]) TakeOne(take func(T)) {
	select {
	case v := <-r.found:
		take(v)
	default:
	}
}

// Work is what a round is made of. All is called by Run's goroutine.
type Work[T any] struct {
	Interval time.Duration             // between two rounds
	Told     func() bool               // changes are told of in between
	Round    func(ctx context.Context) // lists everything
	Take     func(v T)                 // takes in what was found
	After    func(ctx context.Context) // comes after each of them, and first of all
	Every    time.Duration             // how often Regular is called
	Regular  func()
}

// Run goes round until ctx ends. took is what the last round took.
func (r *Rounds[T]) Run(ctx context.Context, w Work[T], took time.Duration) {
	next := func() time.Duration {
		if w.Told() {
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
