package fleet

import (
	"fmt"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

// errReplaced is what a Sync gets whose commits are in a file that was set aside.
var errReplaced = fmt.Errorf("%w: the replica's state took the place of the local file, which was set aside", ship.ErrFenced)

// Synced is the answer to a Sync.
type Synced struct {
	TXID ltx.TXID // up to which the replica has everything
	Err  error
}

// waiter is a caller of Sync.
type waiter struct {
	done chan<- Synced
	next *waiter
}

// answer answers a waiter and all after it.
func (w *waiter) answer(s Synced) {
	for ; w != nil; w = w.next {
		w.done <- s
	}
}

// join puts all of another list behind w's.
func (w *waiter) join(other *waiter) *waiter {
	if w == nil {
		return other
	}
	last := w
	for last.next != nil {
		last = last.next
	}
	last.next = other
	return w
}

// Sync has a database shipped. The channel gets the answer, once.
func (f *Fleet) Sync(e *Entry) <-chan Synced {
	done := make(chan Synced, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case e.reg.Removed:
		done <- Synced{Err: registry.ErrNotFound}
	case f.fence != nil:
		done <- Synced{TXID: e.health.txid, Err: f.fence}
	case e.reg.Refused != nil:
		done <- Synced{TXID: e.health.txid, Err: e.reg.Refused}
	case e.evicted:
		done <- Synced{TXID: e.health.txid}
	case f.makingLocked(e): // EndNew goes on with it
		e.waiters = &waiter{done, e.waiters}
	default:
		e.waiters = &waiter{done, e.waiters}
		f.schedule.Request(e.item, f.cfg.Now())
		f.cfg.Due()
	}
	return done
}

func (f *Fleet) failWaitersLocked(e *Entry, err error) {
	e.waiters.answer(Synced{Err: err})
	e.waiters = nil
}

// Order is what one run of a database is to do besides shipping: an operator's command,
// or the pool's, which is about to open it.
type Order struct {
	kind replicate.Order
	kept string // where the local file is now, if it was replaced
	err  error
	done chan struct{} // closed when kept and err are set

	// Guarded by the lock: who gave it waits no longer, so that the file may be open; or
	// it is past the point at which that can be said.
	withdrawn, replacing bool
}

// NewOrder returns an order that was not given yet.
func NewOrder(kind replicate.Order) *Order { return &Order{kind: kind, done: make(chan struct{})} }

// Done is closed when a run has carried the order out, or could not.
func (o *Order) Done() <-chan struct{} { return o.done }

// Result says, after Done, why the order could not be carried out, and where the local
// file is if another took its place.
func (o *Order) Result() (kept string, err error) { return o.kept, o.err }

// Give has the next run of a database carry out an order. If another one is to be
// carried out first it is returned, and the order is not given.
func (f *Fleet) Give(e *Entry, o *Order) (before *Order, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch before = f.orders[e]; {
	case e.reg.Removed:
		return nil, registry.ErrNotFound
	case e.reg.PrefixTaken:
		return nil, e.reg.Refused
	case before != nil:
		return before, nil
	}
	f.orders[e] = o
	now := f.cfg.Now()
	f.schedule.Reset(e.item, now)
	f.schedule.Request(e.item, now)
	f.cfg.Due()
	return nil, nil
}

// endOrderLocked ends an order, and wakes up whoever waits for it.
func (f *Fleet) endOrderLocked(e *Entry, o *Order, err error) {
	if o != nil {
		o.err = err
		if err == nil {
			f.totals.carriedOut(o.kind)
		}
		delete(f.orders, e)
		close(o.done)
	}
}

// carriedOut counts an order of an operator.
func (t *Totals) carriedOut(kind replicate.Order) {
	switch kind {
	case replicate.OrderTakeOver:
		t.TakeOvers++
	case replicate.OrderAdopt:
		t.Adoptions++
	case replicate.OrderHandOver:
		t.HandOvers++
	}
}

// MayReplace reports whether a run may replace the local file now; from then on its
// order cannot be withdrawn.
func (f *Fleet) MayReplace(r *Run) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.order.withdrawn {
		return false
	}
	r.order.replacing = true
	return true
}

// Withdraw ends what an order may do to the local file, which is about to be opened.
// False: the file is being replaced, or was.
func (f *Fleet) Withdraw(o *Order) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.withdrawn = !o.replacing
	return o.withdrawn
}

// strayLocked notes a lease that was released when its file was no longer the one at the path
// of the database: what was committed to it last is at no replica.
func (f *Fleet) strayLocked(e *Entry, file fsid.ID) {
	if !e.reg.Removed && f.cfg.Replicated {
		f.strays[e] = file
	}
}

// TakeStray returns the file of such a lease, once.
func (f *Fleet) TakeStray(e *Entry) (file fsid.ID, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok = f.strays[e]
	delete(f.strays, e)
	return file, ok
}
