// Package fleetlog is the protocol of the fleet log: what a process may write, when a
// write is durable, what a reader takes of a log, how one process takes over from
// another, and how the map changes. The bytes are those of package format.
//
// It is pure: no I/O, no clock, no goroutine, no randomness. Its machines (Writer, Tail,
// Takeover, Change) say by an Ask what is to be requested of the store; the caller does it
// and comes back with the answer. None of them has a lock: each has one user at a time. A
// machine may be dropped at any moment, and a request that it asked for may still happen
// at any later time, after a week too: the rules hold for that.
//
// # The rules
//
//	F1  In order. Several objects may be under way, but one is acknowledged only after
//	    all before it (Writer).
//	F2  The first gap is the end. A reader takes objects up to the first that is missing
//	    or is a seal; what stands behind was never acknowledged (Tail).
//	F3  A seal ends a log. It is created at the first gap, before the tail counts and
//	    before the map changes; if something is there by now, the sealer reads on. It
//	    counts, for a reader too, when a listing that was made after it was seen shows it
//	    at or above the newest trim. It is never deleted, nor is an epoch used again
//	    (Takeover, Tail).
//	F4  Trim. Objects below the trim of an acknowledged object may be deleted. A reader
//	    begins at the trim of the newest object that is there (Writer.Deletable, Tail).
//	F5  Only what the log has acknowledged is unpacked, compacted or deleted, so that a
//	    sleeper who wakes up does it to the same history (the caller; Writer.Acknowledged).
//	F6  A release is a record: the map changes only after it is acknowledged, and only if
//	    it still names the giver (Give).
//	F7  Force takes a whole log. One shard of an owner whose log is not sealed is never
//	    taken (TakeOver).
//	F8  A log that is sealed, owns no shard and has nothing that a prefix lacks leaves the
//	    live list; then its objects go, and its seal stays (Finish).
//	F9  Forgotten. Before the objects of a prefix are deleted, an acknowledged object of its
//	    owner's log says that all records of it are void: those before it in this log, and
//	    those of every other live log. No reader takes these. That object counts as not
//	    unpacked, and its log is not finished, until the logs that it names are finished. Who
//	    has read several logs reads the map again, and leaves out what a log had that is
//	    finished by then: what made its records void may be gone too. A new history begins
//	    when the objects are deleted (Remembered, Needed).
//
// Three more follow from how maps are numbered, and from requests that come late:
//
//	M1  A map is never deleted. Else one that was under way since before would be created
//	    in its place, and its author would think that it had changed the newest.
//	M2  Whoever reads logs and prefixes together reads the map first, then the logs, then
//	    the prefixes. In another order, what is unpacked and trimmed in between is in neither.
//	    Where a tenant moves meanwhile, one log may be read before and another after: what
//	    is found behind a gap in the TXIDs came after the reading began, and is left out.
//	M3  Who has released a shard does not begin again on it before it has read the map that
//	    its own Give ended with: the one before still names it.
//
// The model in model_test.go drives these machines over a store that delays, repeats and
// forgets, and breaks each rule once to see it found.
package fleetlog
