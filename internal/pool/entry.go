package pool

import (
	"container/list"
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// state is the state of an entry; see the package comment.
type state uint8

const (
	stateQueued state = iota
	stateOpening
	stateOpen
	stateClosing
)

// entry is one key on its way from queued to closed. Guarded by Pool.mu, except for key
// and val, which do not change once the entry is open.
type entry[K comparable, V any] struct {
	key   K
	val   V
	state state
	stale bool // not to be leased again
	refs  int  // leases
	since time.Time
	seq   uint64        // rank in the queue
	elem  *list.Element // in the queue, else nil
	// prev of a queued entry is the former entry of the key, whose value is not closed
	// yet; until it is, the queued entry is not in the queue. next is the reverse.
	prev, next *entry[K, V]
	waiters    map[*waiter[K, V]]struct{}
	gone       chan struct{} // if not nil, closed when the value is
}

// waiter is one caller inside Acquire.
type waiter[K comparable, V any] struct {
	done  chan struct{} // closed when lease or err is set
	entry *entry[K, V]  // nil once served; guarded by Pool.mu
	lease Lease[K, V]
	err   error
}

// waitLocked makes the caller wait for k, whose entry is e or nil.
func (p *Pool[K, V]) waitLocked(k K, e *entry[K, V]) *waiter[K, V] {
	switch {
	case e == nil:
		e = p.newEntryLocked(k)
		e.elem = p.queue.PushBack(e)
	case e.state == stateClosing || e.stale:
		e = p.succeedLocked(e)
	}
	w := &waiter[K, V]{done: make(chan struct{}), entry: e}
	e.waiters[w] = struct{}{}
	p.waiting++
	p.pumpLocked()
	return w
}

// newEntryLocked makes the queued entry of k, not in the queue yet.
func (p *Pool[K, V]) newEntryLocked(k K) *entry[K, V] {
	p.seq++
	e := &entry[K, V]{key: k, seq: p.seq, waiters: make(map[*waiter[K, V]]struct{})}
	p.entries[k] = e
	return e
}

// succeedLocked makes the successor of e, which is closing or stale.
func (p *Pool[K, V]) succeedLocked(e *entry[K, V]) *entry[K, V] {
	n := p.newEntryLocked(e.key)
	n.prev, e.next = e, n
	if e.state == stateClosing {
		p.claimed++
	}
	return n
}

// await waits until w is served or ctx ends.
func (p *Pool[K, V]) await(ctx context.Context, w *waiter[K, V]) (Lease[K, V], error) {
	start := time.Now()
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	waited := time.Since(start)

	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.WaitTotal += waited
	e := w.entry
	if e == nil { // served, perhaps at the last moment
		return w.lease, w.err
	}
	w.entry = nil
	p.waiting--
	delete(e.waiters, w)
	err := fmt.Errorf("pool: waiting for the value to be opened: %w", contextError(ctx))
	if e.state == stateQueued {
		if e.prev != nil {
			err = fmt.Errorf("pool: waiting for the former value to be closed (%d leases): %w", e.prev.refs, contextError(ctx))
		} else {
			err = fmt.Errorf("%w: %d of %d values leased: %w", ErrFull, p.leasedLocked(), p.cfg.Max, contextError(ctx))
		}
		if len(e.waiters) == 0 {
			p.forgetLocked(e)
		}
	}
	return Lease[K, V]{}, err
}

// forgetLocked drops a queued entry that nobody waits for any more.
func (p *Pool[K, V]) forgetLocked(e *entry[K, V]) {
	if e.prev == nil {
		p.queue.Remove(e.elem)
		delete(p.entries, e.key)
		return
	}
	e.prev.next = nil
	p.entries[e.key] = e.prev
	if e.prev.state == stateClosing {
		p.claimed--
	}
}

// pumpLocked gives free places to the first entries of the queue. For the entries that
// still wait then, it begins to close idle values: one for each entry for which no place
// is already becoming free.
func (p *Pool[K, V]) pumpLocked() {
	for p.used < p.cfg.Max && p.queue.Len() > 0 {
		e := p.queue.Remove(p.queue.Front()).(*entry[K, V])
		e.elem = nil
		e.state = stateOpening
		p.used++
		p.opening++
		p.wg.Go(func() { p.open(e) })
	}
	for need := p.queue.Len() - (p.closing - p.claimed); need > 0; need-- {
		e := p.oldestIdleLocked()
		if e == nil {
			return
		}
		p.counts.Evictions++
		p.startCloseLocked(e)
	}
}

// open runs Config.Open for e and serves the waiters. Open may be the application's code,
// but this goroutine is not the application's: a panic of Open, or a runtime.Goexit,
// becomes an error of this key, so that nobody waits forever.
func (p *Pool[K, V]) open(e *entry[K, V]) {
	var v V
	err := errGoexit
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
		p.opened(e, v, err)
	}()
	v, err = p.cfg.Open(p.ctx, e.key)
}

// opened serves the waiters of e, whose Open has returned.
func (p *Pool[K, V]) opened(e *entry[K, V], v V, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	if err != nil {
		p.counts.OpenErrors++
		p.failLocked(e, err)
		p.goneLocked(e)
		return
	}
	p.counts.Opens++
	e.val = v
	e.state = stateOpen
	p.idle++
	if e.stale {
		// Evicted while it was opened: the waiters get a fresh value instead.
		p.bequeathLocked(e)
	}
	for w := range e.waiters {
		w.lease = p.leaseLocked(e)
		p.serveLocked(w)
	}
	if e.refs == 0 {
		p.idleLocked(e)
	}
}

// bequeathLocked moves the waiters of e to its successor, which gets the rank of e.
func (p *Pool[K, V]) bequeathLocked(e *entry[K, V]) {
	if len(e.waiters) == 0 {
		return
	}
	n := e.next
	if n == nil {
		n = p.succeedLocked(e)
	}
	n.seq = e.seq
	for w := range e.waiters {
		w.entry = n
		n.waiters[w] = struct{}{}
	}
	clear(e.waiters)
}

// serveLocked wakes w, whose lease or err is set.
func (p *Pool[K, V]) serveLocked(w *waiter[K, V]) {
	delete(w.entry.waiters, w)
	w.entry = nil
	p.waiting--
	close(w.done)
}

// failLocked gives all waiters of e an error.
func (p *Pool[K, V]) failLocked(e *entry[K, V], err error) {
	for w := range e.waiters {
		w.err = err
		p.serveLocked(w)
	}
}

// idleLocked keeps or closes an open entry that has no lease any more.
func (p *Pool[K, V]) idleLocked(e *entry[K, V]) {
	if e.stale || p.closed {
		p.startCloseLocked(e)
		return
	}
	p.lru.Add(e.key, e)
	if p.cfg.IdleTimeout > 0 {
		e.since = time.Now()
		p.armLocked(p.cfg.IdleTimeout)
	}
	p.pumpLocked()
}

// oldestIdleLocked is the least recently used idle entry, or nil.
func (p *Pool[K, V]) oldestIdleLocked() *entry[K, V] {
	for {
		k, e, ok := p.lru.GetOldest()
		if !ok || e.refs == 0 {
			return e
		}
		p.lru.Remove(k) // leased again; it is added again when it is idle
	}
}

// toClosingLocked makes an idle entry a closing one. finishClose must follow.
func (p *Pool[K, V]) toClosingLocked(e *entry[K, V]) {
	p.lru.Remove(e.key)
	e.state = stateClosing
	p.idle--
	p.closing++
	if e.next != nil {
		p.claimed++
	}
}

// startCloseLocked closes an idle entry in a goroutine.
func (p *Pool[K, V]) startCloseLocked(e *entry[K, V]) {
	p.toClosingLocked(e)
	p.wg.Go(func() { p.finishClose(e) })
}

// finishClose runs Config.Close for e and frees its place.
func (p *Pool[K, V]) finishClose(e *entry[K, V]) {
	err := p.cfg.Close(e.key, e.val)
	if err != nil && p.cfg.OnCloseError != nil {
		p.cfg.OnCloseError(e.key, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Closes++
	if err != nil {
		p.counts.CloseErrors++
		if p.closed {
			p.closeErrs = append(p.closeErrs, err)
		}
	}
	p.closing--
	if e.next != nil {
		p.claimed--
	}
	p.goneLocked(e)
}

// goneLocked frees the place of e, which was closed or could not be opened, and puts its
// successor into the queue.
func (p *Pool[K, V]) goneLocked(e *entry[K, V]) {
	p.used--
	if e.gone != nil {
		close(e.gone)
	}
	if n := e.next; n != nil {
		e.next, n.prev = nil, nil
		p.enqueueLocked(n)
	} else {
		delete(p.entries, e.key)
	}
	p.pumpLocked()
	p.drainLocked()
}

// enqueueLocked puts e at its rank in the queue.
func (p *Pool[K, V]) enqueueLocked(e *entry[K, V]) {
	for at := p.queue.Back(); at != nil; at = at.Prev() {
		if at.Value.(*entry[K, V]).seq < e.seq {
			e.elem = p.queue.InsertAfter(e, at)
			return
		}
	}
	e.elem = p.queue.PushFront(e)
}

// armLocked sets the timer, if it is not set already, to close idle values
// after d.
func (p *Pool[K, V]) armLocked(d time.Duration) {
	if p.armed {
		return // it fires for the oldest value, and is set again then
	}
	p.armed = true
	p.wg.Add(1)
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.sweep)
	} else {
		p.timer.Reset(d)
	}
}

// sweep closes what has been idle for too long. It is the timer's function.
func (p *Pool[K, V]) sweep() {
	defer p.wg.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
	if p.closed {
		return
	}
	now := time.Now()
	for e := p.oldestIdleLocked(); e != nil; e = p.oldestIdleLocked() {
		if left := p.cfg.IdleTimeout - now.Sub(e.since); left > 0 {
			p.armLocked(left)
			return
		}
		p.counts.IdleCloses++
		p.startCloseLocked(e)
	}
}
