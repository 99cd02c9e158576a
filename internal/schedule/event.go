package schedule

import "time"

// maxAge bounds how far in the past a write can be, so that the constant never is always
// earlier.
const maxAge = 50 * 365 * 24 * time.Hour

// noteWrite records a write at t, which makes a Cold item active from now on: its first
// step is due within SyncInterval. A write to a Warm item does not make its next step due
// earlier, unless it gets a Hot place. For a stopped item only the time is recorded.
func (f *Schedule[T]) noteWrite(it *Item[T], t int64) {
	it.activeAt = max(it.activeAt, t)
	if it.is(running) {
		it.flags |= stayActive
	}
	if t > it.lastWrite {
		it.lastWrite = t
		f.reorder(it)
	}
	if it.tier == Cold && !it.is(stopped) {
		it.activeAt = f.clock
		f.activate(it)
	}
}

// Seen says that the database was found to be last modified at modTime, the time stamp of
// the file or of its WAL. A zero modTime, or the one that Seen, Known or a run reported
// last, changes nothing. A newer one that is less than RecentModify ago counts as a write
// at that time. Any other one, even an older one (a file that was put back from a copy),
// makes a Cold item due for one step, but not active. That step comes at a random time
// within ColdSyncInterval, so that the first scan of a whole fleet causes no burst.
func (f *Schedule[T]) Seen(it *Item[T], modTime, now time.Time) {
	f.advance(now)
	if it.is(removed) || modTime.IsZero() || modTime.UnixNano() == it.modTime {
		return
	}
	newer := modTime.UnixNano() > it.modTime
	it.modTime = modTime.UnixNano()
	age := min(max(now.Sub(modTime), 0), maxAge)
	if newer && age < f.limits.RecentModify {
		f.noteWrite(it, f.clock-int64(age))
		return
	}
	if newer && f.clock-int64(age) > it.lastWrite {
		it.lastWrite = f.clock - int64(age)
		f.reorder(it)
	}
	switch {
	case it.is(running):
		it.flags |= changedSince
	case it.tier == Cold && !it.is(stopped) && it.failures == 0:
		f.dueBy(it, f.spread(it))
	}
}

// spread returns a random time within the next ColdSyncInterval.
func (f *Schedule[T]) spread(it *Item[T]) int64 {
	return f.clock + int64(f.rand()*float64(f.pace(it).ColdSyncInterval))
}

// MarkShipped says that everything written up to modTime is shipped, as the catalog knows of an
// item that was just added. It is no event: it makes nothing due. A zero modTime is ignored.
func (f *Schedule[T]) MarkShipped(it *Item[T], modTime time.Time) {
	if !modTime.IsZero() {
		it.modTime = modTime.UnixNano()
	}
}

// Accessed counts an access of a Cold item; AccessCount of them within
// AccessWindow make it active. Accesses do not keep an item active: the count begins
// anew when it is Cold again.
func (f *Schedule[T]) Accessed(it *Item[T], now time.Time) {
	f.advance(now)
	if it.flags&(removed|stopped) != 0 || it.tier != Cold || f.limits.AccessCount == 0 {
		return
	}
	window := f.limits.AccessWindow
	if it.pace != 0 {
		window = f.pace(it).HotDuration
	}
	if it.accesses == 0 || f.clock-it.firstAccess > int64(window) {
		it.firstAccess, it.accesses = f.clock, 0
	}
	if it.accesses++; int(it.accesses) >= f.limits.AccessCount {
		it.activeAt = f.clock
		f.activate(it)
	}
}

// Pin says that the application has the database open. The item is active, and is not
// demoted, until the last Unpin. A pin by itself is no write: a Cold item that is pinned,
// not written and unpinned is demoted again after one step. Pin happens at the last now
// that the Schedule was given.
func (f *Schedule[T]) Pin(it *Item[T]) {
	it.pins++
	if it.tier == Cold && it.flags&(removed|stopped) == 0 {
		f.activate(it)
	}
}

// Unpin ends one Pin and makes the item due for a step, so that what was written meanwhile
// is seen. The step comes at once, but not within SyncInterval of the last one: otherwise
// many short leases would cause as many uploads. An item that is backing off is not due
// earlier. Unpin panics without a Pin.
func (f *Schedule[T]) Unpin(it *Item[T], now time.Time) {
	f.advance(now)
	if it.pins == 0 {
		panic("schedule: Unpin without Pin")
	}
	it.pins--
	switch {
	case it.flags&(removed|stopped) != 0:
	case it.is(running):
		it.flags |= changedSince | stayActive | mustStep
	default:
		it.flags |= mustStep
		f.dueSoon(it)
	}
}

// dueSoon makes an item that is not running due as the comment of Unpin says, or within
// ColdSyncInterval where it is Never.
func (f *Schedule[T]) dueSoon(it *Item[T]) {
	switch {
	case it.failures > 0:
	case f.pace(it).Heat == Never:
		f.dueBy(it, f.clock+f.soon(it))
	default:
		it.flags |= dueByEvent
		f.dueBy(it, max(f.clock, it.lastDue+f.soon(it)))
	}
}

// Request makes the item due for a step at once, whatever its tier and even if it is
// backing off, before items that are due by themselves. If it is running, another step is
// due right after, since the run may have begun too early. Requests share one run if they
// come before it begins. A stopped item is not run.
func (f *Schedule[T]) Request(it *Item[T], now time.Time) {
	f.advance(now)
	switch {
	case it.flags&(removed|stopped) != 0:
	case it.is(running):
		it.flags |= requested
	default:
		f.request(it)
	}
}

// Reset ends a Stop or a back-off, and makes an item that had either due at once. A stopped
// item that is pinned, or was written within HotDuration, becomes active again. For a
// running item, Reset only forgets its failures. On other items it does nothing.
func (f *Schedule[T]) Reset(it *Item[T], now time.Time) {
	f.advance(now)
	if it.is(removed) || it.failures == 0 && !it.is(stopped) {
		return
	}
	f.setFailures(it, 0)
	if it.is(stopped) {
		it.flags &^= stopped
		f.stopped--
		if it.pins > 0 || !f.idle(it) {
			f.activate(it)
		}
	}
	if !it.is(running) {
		it.flags |= mustStep | dueByEvent
		f.dueBy(it, f.clock)
	}
}
