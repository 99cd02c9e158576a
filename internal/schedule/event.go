package schedule

import "time"

// maxAge bounds how far back a write is dated, so that never stays earlier.
const maxAge = 50 * 365 * 24 * time.Hour

// wrote takes a write at t as a reason to be active from now on: the first step is due
// within SyncInterval. A write to a Warm item does not hasten its next step unless it
// gets a Hot place by it. A stopped item only remembers the write.
func (f *Fleet[T]) wrote(it *Item[T], t int64) {
	it.active = max(it.active, t)
	if it.is(running) {
		it.flags |= keep
	}
	if t > it.lastWrite {
		it.lastWrite = t
		f.written(it)
	}
	if it.tier == Cold && !it.is(stopped) {
		it.active = f.v
		f.activate(it)
	}
}

// Seen says that a scan found the database last modified at modTime (the wall
// clock's time of the file, or of its WAL). The time that Seen, Known or a run
// reported last is no news, and a zero modTime is none. A newer one less than RecentModify old
// counts as a write at that time. Any other makes a Cold item due for one step,
// somewhere within ColdSyncInterval so that a first scan of a whole fleet
// is no burst; it does not become active. That includes an older time: a file
// put back from a copy.
func (f *Fleet[T]) Seen(it *Item[T], modTime, now time.Time) {
	f.advance(now)
	if it.is(removed) || modTime.IsZero() || modTime.UnixNano() == it.modTime {
		return
	}
	newer := modTime.UnixNano() > it.modTime
	it.modTime = modTime.UnixNano()
	age := min(max(now.Sub(modTime), 0), maxAge)
	if newer && age < f.limits.RecentModify {
		f.wrote(it, f.v-int64(age))
		return
	}
	if newer && f.v-int64(age) > it.lastWrite {
		it.lastWrite = f.v - int64(age)
		f.written(it)
	}
	switch {
	case it.is(running):
		it.flags |= again
	case it.tier == Cold && !it.is(stopped) && it.failures == 0:
		f.dueBy(it, f.spread())
	}
}

// spread is a time within the next ColdSyncInterval.
func (f *Fleet[T]) spread() int64 {
	return f.v + int64(f.rand()*float64(f.limits.ColdSyncInterval))
}

// Known says, without being an event, that what was written up to modTime is
// shipped: what a catalog remembers of an item just added. A zero modTime is
// ignored.
func (f *Fleet[T]) Known(it *Item[T], modTime time.Time) {
	if !modTime.IsZero() {
		it.modTime = modTime.UnixNano()
	}
}

// Accessed counts an access of a Cold item; AccessCount of them within
// AccessWindow make it active. Accesses do not keep an item active: the count begins
// anew when it is Cold again.
func (f *Fleet[T]) Accessed(it *Item[T], now time.Time) {
	f.advance(now)
	if it.flags&(removed|stopped) != 0 || it.tier != Cold || f.limits.AccessCount == 0 {
		return
	}
	if it.accesses == 0 || f.v-it.accessed > int64(f.limits.AccessWindow) {
		it.accessed, it.accesses = f.v, 0
	}
	if it.accesses++; int(it.accesses) >= f.limits.AccessCount {
		it.active = f.v
		f.activate(it)
	}
}

// Pin says that the application holds the database. Until the last Unpin the
// item is active and is not demoted. A pin by itself is no write: a Cold item
// that is pinned, not written and unpinned is demoted again after one step. It
// happens at the last time the Fleet was told.
func (f *Fleet[T]) Pin(it *Item[T]) {
	it.pins++
	if it.tier == Cold && it.flags&(removed|stopped) == 0 {
		f.activate(it)
	}
}

// Unpin takes one Pin back and makes the item due for a step, so that what was
// written meanwhile is seen: at once, but not within SyncInterval of its last
// step, or many short leases would mean as many uploads, and not before its
// time if it is backing off. It panics without a Pin.
func (f *Fleet[T]) Unpin(it *Item[T], now time.Time) {
	f.advance(now)
	if it.pins == 0 {
		panic("schedule: Unpin without Pin")
	}
	it.pins--
	switch {
	case it.flags&(removed|stopped) != 0:
	case it.is(running):
		it.flags |= again | keep | mustStep
	default:
		it.flags |= mustStep
		f.dueSoon(it)
	}
}

// dueSoon makes an item that is not running due as early as Unpin says.
func (f *Fleet[T]) dueSoon(it *Item[T]) {
	if it.failures == 0 {
		it.flags |= soon
		f.dueBy(it, max(f.v, it.last+int64(f.limits.SyncInterval)))
	}
}

// Request makes the item due for a step at once, whatever its tier and even if
// it is backing off, ahead of those that are due by themselves. If it is
// running, another step is due right after: the run may have begun too early.
// Requests of an item that has not begun to run share one run. A stopped item
// is not run.
func (f *Fleet[T]) Request(it *Item[T], now time.Time) {
	f.advance(now)
	switch {
	case it.flags&(removed|stopped) != 0:
	case it.is(running):
		it.flags |= asked
	default:
		f.ask(it)
	}
}

// Reset clears Stop and back-off, and makes an item that had either due at
// once. A stopped one that is pinned, or was written within HotDuration,
// becomes active again. A running one only has its failures forgotten. On other
// items it does nothing.
func (f *Fleet[T]) Reset(it *Item[T], now time.Time) {
	f.advance(now)
	if it.is(removed) || it.failures == 0 && !it.is(stopped) {
		return
	}
	f.setFailures(it, 0)
	if it.is(stopped) {
		it.flags &^= stopped
		f.stopped--
		if it.pins > 0 || !f.quiet(it) {
			f.activate(it)
		}
	}
	if !it.is(running) {
		it.flags |= mustStep | soon
		f.dueBy(it, f.v)
	}
}
