package fsid

import (
	"slices"
	"sync"
	"time"
)

// AgeClock returns the time from which the age of files at the replica is counted. They have
// time stamps of the wall clock, and if that is set forward they look old at once: retention
// would delete files that are minutes old. Safe for concurrent use.
type AgeClock struct {
	Keep time.Duration // the longest retention; after the first use only KeepFor changes it

	mu    sync.Mutex
	last  time.Time
	jumps []jump // forward ones, the oldest first
}

// jump is a step of the wall clock that the monotonic clock did not make.
type jump struct {
	seen time.Time
	by   time.Duration
}

// jumpTolerance is the largest step that counts as an adjustment of the clock, and not as a
// jump.
const jumpTolerance = time.Minute

// Trusted returns the time from which to count: now, less all jumps forward in the last Keep.
// Once Keep has passed since a jump, by the monotonic clock, files from before the jump are
// as old as they look. If the machine slept, that looks like a jump too, and delays
// deletions by the same time.
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

// KeepFor says that there is a retention of d.
func (c *AgeClock) KeepFor(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Keep = max(c.Keep, d)
}

// stepped notes a jump. One back cancels jumps forward before it. It does not cancel those
// that follow, because what was written in between has time stamps that are too early.
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
