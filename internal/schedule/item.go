package schedule

import "time"

// never is the time of something that has not happened. It is before every real time, and
// so far from the ends of int64 that differences do not overflow.
const never = -1 << 61

// The two kinds of heap an item can be in, at most one of each kind.
const (
	inQueue = iota // Schedule.due or Schedule.requests
	inTier         // Schedule.hot or Schedule.warm
	heapKinds
)

type flags uint16

const (
	running flags = 1 << iota
	removed
	stopped
	requested    // it is in Schedule.requests or, if it is running, will be after the run
	mustStep     // an event needs a step before a demotion is considered
	dueByEvent   // an event has set the time when it is due: a change of tier does not change it
	changedSince // an event came while it was running, which the run may not have seen
	stayActive   // a reason to stay active came while it was running: a demotion does not count
)

// Item is one database in a Schedule. It takes 80 bytes if Value is a pointer. Schedule.Add makes
// it. Its methods read the state of the Schedule, so that they need the caller's lock too.
type Item[T any] struct {
	// Value belongs to the caller; the Schedule never reads it.
	Value T

	f *Schedule[T]
	// Times are in nanoseconds of the Schedule's clock; see Schedule.advance.
	lastDue     int64            // when the last step was due
	lastWrite   int64            // orders Hot and Warm items
	activeAt    int64            // when it last had a reason to be active; HotDuration counts from here
	firstAccess int64            // when the first of accesses was; AccessWindow counts from here
	modTime     int64            // of the last known change, in Unix nanoseconds; never if there is none
	place       [heapKinds]int32 // its index in each kind of heap plus one; 0: it is in none
	pins        int32
	failures    uint16
	accesses    uint16
	pace        uint16 // its number; see Schedule.DefinePace
	flags       flags
	tier        Tier
}

func (it *Item[T]) is(fl flags) bool { return it.flags&fl != 0 }

// Tier returns the item's tier. A stopped item is Cold.
func (it *Item[T]) Tier() Tier { return it.tier }

// LastWrite returns when the item was last written, as far as is known. It is the zero time
// if nothing is known.
func (it *Item[T]) LastWrite() time.Time {
	if it.lastWrite == never {
		return time.Time{}
	}
	return it.f.when(it.lastWrite)
}

// Failures returns how many runs in a row have failed. It stops counting at
// 65535, and is zero for a stopped item.
func (it *Item[T]) Failures() int { return int(it.failures) }

// NextDue returns when the item is next due, and false if it is running or if
// nothing but an event will make it due.
func (it *Item[T]) NextDue() (time.Time, bool) {
	switch {
	case it.place[inQueue] == 0:
		return time.Time{}, false
	case it.is(requested):
		return it.f.when(it.f.requests.key(it)), true
	default:
		return it.f.when(it.f.due.key(it)), true
	}
}

// Running reports whether Next has returned the item and Done was not called yet.
func (it *Item[T]) Running() bool { return it.is(running) }

// Pinned reports whether the item has more Pins than Unpins.
func (it *Item[T]) Pinned() bool { return it.pins > 0 }
