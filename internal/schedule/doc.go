// Package schedule decides which database gets the next step, and how often.
// It is pure: it has no clock, does no I/O and starts no goroutine; the caller
// passes the time in and runs what comes out. Nothing in it is safe for
// concurrent use: one lock of the caller guards a Fleet and all its Items.
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
// Events (Seen, Accessed, Pin, Unpin, Request, Reset) make items due.
// Next hands out the item that has waited longest, marks it running, and never
// hands it out again before Done. An event that comes while an item runs is
// kept and acted on by Done, because the run may have been too early to see it.
// Every operation is O(log n) in the number of active items.
//
// # Time
//
// Every now should carry Go's monotonic reading. The Fleet has a time of its own, which
// only goes forwards. A now slightly before the last one comes from a caller that read the
// clock before it took the lock, and does not move the Fleet's time. A now that is more
// than SyncInterval earlier is where counting goes on from. So a clock that is set back
// delays work by less than one SyncInterval, and one that is set far ahead makes everything
// due once; when it is corrected, nothing has to wait for it.
package schedule
