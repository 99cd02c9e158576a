// Package pool is a bounded, reference-counted pool of keyed values. It does not know
// what it pools: two functions open and close the values.
//
// # What it promises
//
//   - At most Config.Max values exist at once, including those that are being opened
//     or closed.
//   - There is never more than one value of a key: a key is opened again only
//     after its former value has been closed.
//   - A value is closed exactly once, and never while a lease of it is out.
//   - Every waiter gets a lease or an error, and waits no longer than its context
//     lasts. When several keys wait for a place, the one that began to wait first
//     gets the next place.
//
// # How it works
//
// Each key in use has one entry, which is in one of four states:
//
//	queued ──► opening ──► open ──► closing
//
// A queued entry waits for a place, an opening one for Config.Open. The callers who wait
// belong to the entry, so that one call of Open serves all of them. An entry that is
// closing, or stale and still leased, keeps its key. Callers who want that key meanwhile
// wait in a successor entry. When the former entry is gone, the successor joins the queue,
// at the rank of its first caller.
//
// # Locking
//
// Pool.mu is the only lock and nothing is acquired under it. Open, Close and
// OnCloseError always run without it.
package pool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

var (
	// ErrClosed is returned by Acquire when the pool is closing or closed.
	ErrClosed = errors.New("pool closed")
	// ErrFull is returned by Acquire, together with the context's error, when
	// the context ended while every place was taken.
	ErrFull = errors.New("pool full")
	// ErrPanic is returned by Acquire when Open panicked; the message has the stack.
	ErrPanic = errors.New("panic while it was opened")

	errGoexit = fmt.Errorf("%w: runtime.Goexit was called", ErrPanic)
)

// Config says what a Pool holds.
type Config[K comparable, V any] struct {
	// Max is how many values may exist at once, including those that are being
	// opened or closed. Required, above zero. It also bounds how many calls of Open
	// and Close run at the same time.
	Max int
	// IdleTimeout is how long a value stays open after its last lease was
	// returned. 0: until its place is needed.
	IdleTimeout time.Duration
	// Open makes the value of a key. Required. Its context is the pool's own,
	// which ends when Close is called; a caller whose context ends does not end it.
	Open func(ctx context.Context, k K) (V, error)
	// Close disposes of a value. Required. It is called once per opened value.
	Close func(k K, v V) error
	// OnCloseError, if set, gets every error of Close as it occurs. Pool.Close
	// returns only the errors that occur after it has been called.
	OnCloseError func(k K, err error)
}

// Pool is a bounded set of open values, shared by reference count. Safe for
// concurrent use.
type Pool[K comparable, V any] struct {
	cfg     Config[K, V]
	ctx     context.Context // of every Open
	cancel  context.CancelFunc
	drained chan struct{}  // closed when the pool is closed and used is 0
	wg      sync.WaitGroup // goroutines and the armed timer; grows under mu only

	mu      sync.Mutex // guards all below, and every entry
	closed  bool
	entries map[K]*entry[K, V]
	queue   list.List // queued entries without predecessor, by seq
	// lru holds every idle entry, the most recently used in front. An entry that is
	// leased again stays in it until it is found at the end: to take it out and add
	// it again would allocate on every lease. Only open entries are in it, so there
	// are never more than Max.
	lru   *simplelru.LRU[K, *entry[K, V]]
	free  *slot[K, V] // slots of returned leases
	seq   uint64      // of the last entry made
	timer *time.Timer // the one timer; nil until first needed
	armed bool        // true whenever a value is idle and IdleTimeout is set
	// used is opening + open + closing. claimed is how many of the closing entries
	// have a successor, which will need the place itself.
	used, opening, closing, claimed int
	idle, leases, waiting           int
	counts                          Stats // counters only
	closeErrs                       []error
}

// New makes a Pool. It starts no goroutine: those run while a value is opened
// or closed, and when the idle timer fires. It panics if a required field of
// cfg is missing.
func New[K comparable, V any](cfg Config[K, V]) *Pool[K, V] {
	if cfg.Max <= 0 || cfg.Open == nil || cfg.Close == nil {
		panic("pool: New needs Max above zero, Open and Close")
	}
	lru, err := simplelru.NewLRU[K, *entry[K, V]](cfg.Max, nil)
	if err != nil {
		panic(err) // only for a size of zero or less
	}
	p := &Pool[K, V]{
		cfg:     cfg,
		drained: make(chan struct{}),
		entries: make(map[K]*entry[K, V]),
		lru:     lru,
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Acquire leases the value of k, opening it first if need be. The caller
// releases the lease.
//
// If every place is taken, the least recently used idle value is closed to make one; if
// none is idle, Acquire waits. ctx bounds that wait and the wait for Open, but not Open
// itself, which goes on for the other callers, and for later ones. A caller that already
// holds a lease should bound the wait: it may be waiting for a place that only its own
// lease can free, or, if k was evicted meanwhile, for that very lease to be released.
//
// The error is that of Open, which all who waited for it get and which is not kept;
// ErrClosed; or that of ctx, with ErrFull if there was no place.
func (p *Pool[K, V]) Acquire(ctx context.Context, k K) (Lease[K, V], error) {
	if ctx.Err() != nil {
		return Lease[K, V]{}, fmt.Errorf("pool: %w", contextError(ctx))
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return Lease[K, V]{}, ErrClosed
	}
	e := p.entries[k]
	if e != nil && e.state == stateOpen && !e.stale {
		p.counts.Hits++
		l := p.leaseLocked(e)
		p.mu.Unlock()
		return l, nil
	}
	w := p.waitLocked(k, e)
	p.mu.Unlock()
	return p.await(ctx, w)
}

// Evict declares the value of k stale, because what it stands for was replaced or
// deleted. The value is not leased again. It is closed when its last lease is released, or
// now if it is idle; Evict does not wait for that. A later Acquire opens the key anew once
// the value is closed. Nothing happens if k is not open.
func (p *Pool[K, V]) Evict(k K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[k]
	if e == nil || (e.state != stateOpening && e.state != stateOpen) {
		return // a queued entry has not been opened yet, so it cannot be stale
	}
	e.stale = true
	if e.state == stateOpen && e.refs == 0 {
		p.startCloseLocked(e)
	}
}

// EvictAndWait is Evict, and waits until the value of k that there was at the call
// is closed, or ctx ends. Whoever acquires k meanwhile waits for that too, and then
// opens it anew.
//
// The error is that of ctx, with the number of leases that are still out.
func (p *Pool[K, V]) EvictAndWait(ctx context.Context, k K) error {
	p.mu.Lock()
	e := p.entries[k]
	if e != nil && e.state == stateQueued {
		e = e.prev // the former one, if it is not closed yet
	}
	if e == nil {
		p.mu.Unlock()
		return nil
	}
	e.stale = true
	if e.gone == nil {
		e.gone = make(chan struct{})
	}
	gone := e.gone
	if e.state == stateOpen && e.refs == 0 {
		p.startCloseLocked(e)
	}
	p.mu.Unlock()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Errorf("pool: waiting for the value to be closed (%d leases): %w", e.refs, contextError(ctx))
}

// Peek returns the value of k if it is open, and how many leases of it are out. The caller
// has no lease, so the value may be closed at any time: the caller may only read what does
// not change.
func (p *Pool[K, V]) Peek(k K) (v V, leases int, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[k]
	if e != nil && e.state == stateQueued {
		e = e.prev
	}
	if e == nil || e.state != stateOpen {
		return v, 0, false
	}
	return e.val, e.refs, true
}

// Leased calls fn with each key of which leases are out, and how many. fn is called with
// the lock held: it only takes note.
func (p *Pool[K, V]) Leased(fn func(k K, leases int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, e := range p.entries {
		if e.state == stateQueued {
			e = e.prev
		}
		if e != nil && e.refs > 0 {
			fn(k, e.refs)
		}
	}
}

// CloseIdle closes the value of k if it is open and not leased, and reports
// whether it did; it returns when the value is closed. False means that k is
// leased, in the middle of being opened or closed, or not open at all.
func (p *Pool[K, V]) CloseIdle(k K) bool {
	p.mu.Lock()
	e := p.entries[k]
	if e == nil || e.state != stateOpen || e.refs > 0 {
		p.mu.Unlock()
		return false
	}
	p.toClosingLocked(e)
	p.mu.Unlock()
	p.finishClose(e)
	return true
}

// Close shuts the pool: Acquire is refused from now on, waiters get ErrClosed, and the
// context of every running Open ends. Idle values are closed at once, and leased ones when
// their last lease is released. Close waits for all of that until ctx ends. What is left
// then goes on by itself, and Close may be called again to wait for it. Concurrent calls
// are fine.
//
// The error joins the errors of closing values since the first call. If ctx ended first,
// it also wraps the error of ctx and says what is still leased or open.
func (p *Pool[K, V]) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.shutLocked()
	}
	p.mu.Unlock()
	p.cancel()

	select {
	case <-p.drained:
	default:
		select {
		case <-p.drained:
		case <-ctx.Done():
		}
	}

	p.mu.Lock()
	errs := append([]error(nil), p.closeErrs...)
	left := p.used
	if left > 0 {
		errs = append(errs, fmt.Errorf("pool: %d leases of %d values not returned, %d values being opened or closed: %w",
			p.leases, p.leasedLocked(), p.opening+p.closing, contextError(ctx)))
	}
	p.mu.Unlock()
	if left == 0 {
		p.wg.Wait() // the goroutines have nothing left to do but return
	}
	return errors.Join(errs...)
}

// shutLocked refuses all waiters and begins to close the idle values.
func (p *Pool[K, V]) shutLocked() {
	if p.armed && p.timer.Stop() {
		p.armed = false
		p.wg.Done()
	}
	for k, e := range p.entries {
		p.failLocked(e, ErrClosed)
		if e.state != stateQueued {
			continue
		}
		if e.prev == nil {
			delete(p.entries, k)
		} else {
			e.prev.next = nil
			p.entries[k] = e.prev
		}
	}
	p.queue.Init()
	p.claimed = 0
	for e := p.oldestIdleLocked(); e != nil; e = p.oldestIdleLocked() {
		p.startCloseLocked(e)
	}
	p.drainLocked()
}

// drainLocked lets Close return if nothing is left.
func (p *Pool[K, V]) drainLocked() {
	if !p.closed || p.used > 0 {
		return
	}
	select {
	case <-p.drained:
	default:
		close(p.drained)
	}
}

// contextError is why ctx ended: its error, and its cause where that differs.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
