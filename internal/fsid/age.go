package fsid

import (
	"slices"
	"sync"
	"time"
)

// AgeClock says how old what the replica holds may be taken to be. Its files
// bear the wall clock's time, and a clock that is set forward makes them old at
// a stroke: a retention that believed it would delete what is minutes old. Safe
// for concurrent use.
type AgeClock struct {
	Keep time.Duration // the longest retention; must not change

	mu    sync.Mutex
	last  time.Time
	jumps []jump // forward ones, the oldest first
}

// jump is a step of the wall clock that the monotonic one did not make.
type jump struct {
	seen time.Time
	by   time.Duration
}

// jumpTolerance is what is taken for the clock being adjusted, not set.
const jumpTolerance = time.Minute

// Trusted returns the time by which files are old: now, less every step forward of
// the last Keep. After that time, by the monotonic clock, a file of before the
// step is as old as it looks. That a machine slept looks the same, and delays
// what is deleted by as much.
func (c *AgeClock) Trusted(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() {
		c.stepped(now, now.Round(0).Sub(c.last.Round(0))-now.Sub(c.last))
	}
	c.last = now
	c.jumps = slices.DeleteFunc(c.jumps, func(j jump) bool { return now.Sub(j.seen) > c.Keep })
	total := time.Duration(0)
	for _, j := range c.jumps {
		total += j.by
	}
	return now.Add(-total)
}

// stepped notes a step. One back takes back those forward before it, never one
// that follows: what was written in between bears a time too early.
func (c *AgeClock) stepped(now time.Time, by time.Duration) {
	switch {
	case by > jumpTolerance:
		c.jumps = append(c.jumps, jump{now, by})
	case by < -jumpTolerance:
		for i := len(c.jumps) - 1; i >= 0 && by < 0; i-- {
			back := min(c.jumps[i].by, -by)
			c.jumps[i].by -= back
			by += back
		}
	}
}
