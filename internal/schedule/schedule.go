package schedule

import "time"

// Schedule is the schedule of many items. Not safe for concurrent use.
type Schedule[T any] struct {
	limits Limits
	paces  []Pace // by their numbers; 0: what the limits say
	rand   func() float64
	onTier func(it *Item[T], from, to Tier)

	prev  time.Time // the last now
	clock int64     // the Schedule's own clock at prev, in nanoseconds
	seq   int64     // numbers the entries of heaps

	due      heap[T] // by the time at which they are due; without those in requests
	requests heap[T] // by the time of the Request
	hot      heap[T] // least recently written first
	warm     heap[T] // most recently written first
	apart    int     // Warm items that are Never, and so wait for no Hot place

	requestLast                      bool // the last item that Next returned was a request
	items, running, failing, stopped int
}

// New returns an empty Schedule. rand returns jitter in [0,1); nil means always
// one half. onTier, if not nil, is called at every change of tier, in the middle of
// the change: it must not call the Schedule. It is not called for an item that is
// removed.
func New[T any](l Limits, rand func() float64, onTier func(it *Item[T], from, to Tier)) *Schedule[T] {
	if rand == nil {
		rand = func() float64 { return 0.5 }
	}
	f := &Schedule[T]{limits: l.withDefaults(), rand: rand, onTier: onTier}
	f.paces = []Pace{f.limits.pace()}
	f.due.slot, f.requests.slot = inQueue, inQueue
	f.hot.slot, f.warm.slot = inTier, inTier
	return f
}

// Add returns a new Cold item. It is in no queue until an event comes: the Schedule counts it
// but holds no reference to it.
func (f *Schedule[T]) Add(v T) *Item[T] {
	f.items++
	return &Item[T]{Value: v, f: f, lastDue: never, lastWrite: never, activeAt: never, firstAccess: never, modTime: never}
}

// Remove forgets the item. If it is running, the run goes on, and Done must still be
// called for it. Events for a removed item do nothing, nor does a second Remove.
func (f *Schedule[T]) Remove(it *Item[T]) {
	if it.is(removed) {
		return
	}
	f.dequeue(it)
	f.setFailures(it, 0)
	if it.is(stopped) {
		f.stopped--
	}
	f.items--
	if it.tier != Cold {
		f.leave(it)
		it.tier = Cold
		f.fillHot()
	}
	it.flags = it.flags&running | removed
}

// Counts returns how many items are in each tier (every item is in one), and how many are
// running, waiting after a failure, and stopped. A removed item counts as running until
// its Done.
func (f *Schedule[T]) Counts() (cold, warm, hot, running, backingOff, stopped int) {
	warm, hot = f.warm.len()+f.apart, f.hot.len()
	return f.items - warm - hot, warm, hot, f.running, f.failing, f.stopped
}

// advance moves the Schedule's clock on by the time since the last call. It never moves it
// back, so that whatever the caller's clock does, no item waits for a time that never comes.
func (f *Schedule[T]) advance(now time.Time) {
	if f.prev.IsZero() {
		f.prev = now
		return
	}
	d := now.Sub(f.prev)
	switch {
	case d >= 0:
		f.clock = min(f.clock+int64(min(d, maxDuration)), -never)
	case d >= -f.limits.SyncInterval:
		// The caller has waited for the lock that long. If now became the new start, that
		// time would be counted twice.
		return
	}
	f.prev = now
}

// when converts a time of the Schedule's clock to the caller's.
func (f *Schedule[T]) when(t int64) time.Time { return f.prev.Add(time.Duration(t - f.clock)) }

func (f *Schedule[T]) nextSeq() int64 {
	f.seq++
	return f.seq
}

// enqueue makes an item that is in no queue due at t.
func (f *Schedule[T]) enqueue(it *Item[T], t int64) {
	f.due.push(entry[T]{t, f.nextSeq(), it})
}

func (f *Schedule[T]) dequeue(it *Item[T]) {
	switch {
	case it.place[inQueue] == 0:
	case it.is(requested):
		f.requests.remove(it)
	default:
		f.due.remove(it)
	}
}

// dueBy makes the item due at t if it is not due earlier.
func (f *Schedule[T]) dueBy(it *Item[T], t int64) {
	switch {
	case it.place[inQueue] == 0:
		f.enqueue(it, t)
	case !it.is(requested) && f.due.key(it) > t:
		f.due.rekey(it, t, f.nextSeq())
	}
}

// request puts an item that is not running into the queue of requests, due now. An item
// that was due already keeps the earlier time.
func (f *Schedule[T]) request(it *Item[T]) {
	t := f.clock
	if it.place[inQueue] != 0 {
		if it.is(requested) {
			return
		}
		t = min(t, f.due.key(it))
		f.due.remove(it)
	}
	it.flags |= requested | mustStep | dueByEvent
	f.requests.push(entry[T]{t, f.nextSeq(), it})
}

func (f *Schedule[T]) setFailures(it *Item[T], n uint16) {
	if it.failures == 0 && n > 0 {
		f.failing++
	} else if it.failures > 0 && n == 0 {
		f.failing--
	}
	it.failures = n
}
