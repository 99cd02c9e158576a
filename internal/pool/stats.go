package pool

import "time"

// Stats is what a Pool holds now and has done since it was made.
type Stats struct {
	Open    int // values open: Idle + Leased
	Idle    int // open values that nobody leases
	Leased  int // open values with at least one lease
	Opening int // values being opened
	Closing int // values being closed
	Leases  int // leases not returned yet
	Waiting int // callers inside Acquire

	Hits        int64 // leases of a value that was open already
	Opens       int64 // values opened
	OpenErrors  int64 // calls of Config.Open that failed
	Closes      int64 // values closed, with or without an error
	CloseErrors int64 // calls of Config.Close that failed
	Evictions   int64 // values closed because another key needed the place
	IdleCloses  int64 // values closed because of Config.IdleTimeout

	// WaitTotal is the time that callers have spent waiting in Acquire, for a
	// place or for Open. Those who wait now are not in it.
	WaitTotal time.Duration
}

// Stats returns a consistent snapshot at constant cost.
func (p *Pool[K, V]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.counts
	s.Leased = p.leasedLocked()
	s.Idle = p.idle
	s.Open = s.Idle + s.Leased
	s.Opening = p.opening
	s.Closing = p.closing
	s.Leases = p.leases
	s.Waiting = p.waiting
	return s
}

// leasedLocked is the number of values with at least one lease.
func (p *Pool[K, V]) leasedLocked() int {
	return p.used - p.opening - p.closing - p.idle
}
