package pool

import "sync/atomic"

// Lease is the right to use a value until Release. It is a small value; copies
// are the same lease. Safe for concurrent use. The zero Lease is a released one.
type Lease[K comparable, V any] struct {
	slot  *slot[K, V]
	entry *entry[K, V]
	gen   uint64
}

// slot tells the copies of one lease whether it was released. It is used again for later
// leases, so that leasing an open value allocates nothing. gen grows at every release, so
// that a copy of an old lease cannot release a later one.
type slot[K comparable, V any] struct {
	pool *Pool[K, V]
	gen  atomic.Uint64 // changes under Pool.mu only
	next *slot[K, V]   // in Pool.free
}

// Value returns the value. It panics after Release: by then the value may be closed, or
// closed and opened again for somebody else.
func (l Lease[K, V]) Value() V {
	if l.slot == nil || l.slot.gen.Load() != l.gen {
		panic("pool: Value of a released lease")
	}
	return l.entry.val
}

// Release gives the lease back. Only the first call for all copies of the lease does
// something; Release reports whether this was the first.
func (l Lease[K, V]) Release() bool {
	if l.slot == nil || l.slot.gen.Load() != l.gen {
		return false
	}
	p := l.slot.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.slot.gen.Load() != l.gen {
		return false // another copy was quicker
	}
	l.slot.gen.Add(1)
	l.slot.next, p.free = p.free, l.slot
	p.leases--
	l.entry.refs--
	if l.entry.refs == 0 {
		p.idle++
		p.idleLocked(l.entry)
	}
	return true
}

// leaseLocked leases e, which is open.
func (p *Pool[K, V]) leaseLocked(e *entry[K, V]) Lease[K, V] {
	s := p.free
	if s == nil {
		s = &slot[K, V]{pool: p}
	} else {
		p.free, s.next = s.next, nil
	}
	if e.refs == 0 {
		p.idle--
	}
	e.refs++
	p.leases++
	return Lease[K, V]{slot: s, entry: e, gen: s.gen.Load()}
}
