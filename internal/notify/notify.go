// Package notify keeps the events for an observer in their order. Order does so for the
// events of each database; it is pure, and locked by its caller. Errors collects errors
// that occur where no event can be sent; it has a lock of its own, under which it calls
// nothing.
package notify

import (
	"sync"
	"sync/atomic"
)

// Order keeps the events of each key in their order, while several goroutines deliver
// events and none waits for another: the goroutine that delivers an event of a key also
// delivers the events of that key that come up meanwhile. Not safe for concurrent use.
type Order[K comparable, E any] struct {
	key func(E) K
	// waiting has the keys of which a goroutine is delivering events, with the events of
	// that key that have occurred since.
	waiting map[K][]E
}

// NewOrder returns an Order in which nothing is being delivered. key returns the key of an
// event.
func NewOrder[K comparable, E any](key func(E) K) *Order[K, E] {
	return &Order[K, E]{key: key, waiting: map[K][]E{}}
}

// Take returns the events that the caller must deliver, in this order, and then pass
// to Done. The others are left to the goroutines that are delivering events of their keys.
func (o *Order[K, E]) Take(events []E) (mine []E) {
	claimed := map[K]bool{}
	for _, ev := range events {
		k := o.key(ev)
		if waiting, busy := o.waiting[k]; busy && !claimed[k] {
			o.waiting[k] = append(waiting, ev)
			continue
		}
		o.waiting[k], claimed[k] = nil, true
		mine = append(mine, ev)
	}
	return mine
}

// Done ends the delivery of events that Take or Done returned. It returns those that
// came up for their keys meanwhile, which the caller must deliver in the same way.
func (o *Order[K, E]) Done(delivered []E) (more []E) {
	for _, ev := range delivered {
		k := o.key(ev)
		more = append(more, o.waiting[k]...)
		delete(o.waiting, k)
	}
	return o.Take(more)
}

// Busy returns how many keys have events that are being delivered.
func (o *Order[K, E]) Busy() int { return len(o.waiting) }

// Errors keeps errors until somebody can report them. Add may be called under any lock.
// Safe for concurrent use.
type Errors struct {
	any  atomic.Bool // so that Take needs the lock only if there is an error
	mu   sync.Mutex
	errs []error
}

// Add keeps err.
func (e *Errors) Add(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs = append(e.errs, err)
	e.any.Store(true)
}

// Take returns what was added since the last Take.
func (e *Errors) Take() []error {
	if !e.any.Load() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	errs := e.errs
	e.errs = nil
	e.any.Store(false)
	return errs
}
