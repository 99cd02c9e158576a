package watch

import "time"

// coalescer lets a path through at once, and after that at most once per gap.
// A touch within the gap is never lost: it is let through when the gap ends. It
// remembers only paths let through within the last gap.
type coalescer struct {
	gap   time.Duration
	again map[string]bool // let through not long ago; true: touched since
	queue []passed        // in order of time, from head on
	head  int
}

type passed struct {
	path string
	at   time.Time // the end of its gap
}

// keptCapacity is how much memory an empty coalescer keeps, in paths.
const keptCapacity = 1024

func newCoalescer(gap time.Duration) *coalescer {
	return &coalescer{gap: gap, again: map[string]bool{}}
}

// touch reports whether the path is to be let through now.
func (c *coalescer) touch(path string, now time.Time) bool {
	if _, recent := c.again[path]; recent {
		c.again[path] = true
		return false
	}
	c.again[path] = false
	c.queue = append(c.queue, passed{path, now.Add(c.gap)})
	return true
}

// due returns when the next gap ends.
func (c *coalescer) due() (time.Time, bool) {
	if c.head == len(c.queue) {
		return time.Time{}, false
	}
	return c.queue[c.head].at, true
}

// next returns a path whose gap has ended and that was touched in it.
func (c *coalescer) next(now time.Time) (string, bool) {
	for c.head < len(c.queue) && !c.queue[c.head].at.After(now) {
		p := c.queue[c.head]
		c.queue[c.head] = passed{}
		c.head++
		if c.again[p.path] {
			c.again[p.path] = false
			c.queue = append(c.queue, passed{p.path, now.Add(c.gap)})
			c.compact()
			return p.path, true
		}
		delete(c.again, p.path)
	}
	c.compact()
	return "", false
}

// compact keeps the queue, and a map that was large, from staying so.
func (c *coalescer) compact() {
	switch {
	case c.head == len(c.queue):
		if cap(c.queue) > keptCapacity {
			c.queue, c.again = nil, map[string]bool{}
		}
		c.queue, c.head = c.queue[:0], 0
	case c.head > keptCapacity && c.head > len(c.queue)/2:
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
}
