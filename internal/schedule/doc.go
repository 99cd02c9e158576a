// Package schedule decides which database gets the next step, and how often.
// It is pure: it has no clock, does no I/O and starts no goroutine; the caller
// passes the time in and runs what comes out. Nothing in it is safe for
// concurrent use: one lock of the caller guards a Schedule and all its Items.
//
// # Tiers
//
// A Cold item is not polled and is in no queue: it costs nothing but its own bytes. An
// active item is Hot (a step every SyncInterval) or, if MaxHot others were written more
// recently, Warm (a step every ColdSyncInterval). There are Warm items only while every
// Hot place is taken.
//
// # Events and runs
//
// A database may have a Pace of its own: other intervals, a Hot place before all others
// (Always), or none (Never). A Never item that is active is Warm whether Hot places are free
// or not, and what happens to it is looked at within ColdSyncInterval.
//
// Events (Seen, Accessed, Pin, Unpin, Request, Reset) make items due. Next returns the item
// that has waited longest, marks it running, and never returns it again before Done. The
// run may have been too early to see what an event is about that comes while it is in
// progress. So Done takes such events into account. Every operation is O(log n) in the
// number of active items.
//
// # Time
//
// Every now should carry Go's monotonic reading. The Schedule has a clock of its own, which
// only goes forwards. A now slightly before the last one comes from a caller that read the
// time before it took the lock; it does not move the Schedule's clock. A now that is more than
// SyncInterval before the last one becomes the new start from which time is counted. So if
// the caller's clock is set back, work is delayed by less than one SyncInterval. If it is
// set far ahead, everything becomes due once, and nothing has to wait when it is corrected.
package schedule
