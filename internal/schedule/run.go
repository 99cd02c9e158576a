package schedule

import "time"

// Outcome is the result of a run. The zero value means that it succeeded and found nothing
// new.
type Outcome struct {
	// Moved: the run saw commits that no earlier run had seen. An active item stays
	// active. A Cold one stays Cold, so that one old change causes one step only.
	Moved bool
	// More: there is more to do at once. The item queues behind those that
	// are due already.
	More bool
	// Demoted: all is shipped and sealed. The item becomes Cold, unless it
	// was written, pinned or unpinned while it ran.
	Demoted bool
	// Stop: the item is not due again before Reset (it is fenced, or no database). It
	// becomes Cold, and requests that came while it ran are dropped.
	Stop bool
	// Err: the run failed; the item is due again after its back-off. More
	// and Demoted are ignored then.
	Err error
	// Young: the time stamps of the files are so young that a later write might not
	// change them. A Cold item, which is not polled, is due for one more step.
	Young bool
	// ModTime is the modification time that the run has taken into account: a Seen
	// with the same time changes nothing. A demotion that has written to the file must
	// set it, or the next scan takes that write for one by the application. Zero: not
	// known.
	ModTime time.Time
}

// Next returns the item to run and what to do, and marks it running. It is the request that
// has waited longest, or the item that has been due longest; if there are both they take
// turns, so that many requests do not starve the rest. It returns false if nothing is due.
func (f *Schedule[T]) Next(now time.Time) (it *Item[T], a Action, ok bool) {
	f.advance(now)
	ready := f.due.len() > 0 && f.due.e[0].key <= f.clock
	f.requestLast = f.requests.len() > 0 && (!ready || !f.requestLast)
	var h *heap[T]
	switch {
	case f.requestLast:
		h = &f.requests
	case ready:
		h = &f.due
	default:
		return nil, Step, false
	}
	it = h.e[0].it
	it.lastDue = h.e[0].key
	h.remove(it)
	if it.tier != Cold && it.pins == 0 && !it.is(mustStep) && f.idle(it) {
		a = Demote
	}
	it.flags = running
	f.running++
	return it, a, true
}

// Wake returns when the next item that is not running becomes due, which is in the past if
// one is due already. It returns false if none becomes due without an event, as in a fleet
// that is all Cold. The answer changes with every event and every Done.
func (f *Schedule[T]) Wake() (at time.Time, ok bool) {
	switch {
	case f.requests.len() > 0:
		return f.when(f.requests.e[0].key), true
	case f.due.len() > 0:
		return f.when(f.due.e[0].key), true
	}
	return time.Time{}, false
}

// Done ends the run that Next began. It panics if the item is not running.
func (f *Schedule[T]) Done(it *Item[T], now time.Time, o Outcome) {
	f.advance(now)
	if !it.is(running) {
		panic("schedule: Done without Next")
	}
	f.running--
	during := it.flags // the events that came while it ran
	it.flags &= removed
	if it.is(removed) {
		return
	}
	if !o.ModTime.IsZero() && during&(changedSince|stayActive) == 0 {
		it.modTime = o.ModTime.UnixNano()
	}
	if o.Stop {
		f.setFailures(it, 0)
		it.flags |= stopped
		f.stopped++
		f.deactivate(it)
		return
	}
	if o.Moved && it.tier != Cold && (!o.Demoted || o.Err != nil) {
		f.noteWrite(it, f.clock)
	}
	if o.Err != nil {
		f.setFailures(it, min(it.failures, 1<<16-2)+1)
	} else {
		f.setFailures(it, 0)
		if o.Demoted && it.pins == 0 && during&stayActive == 0 && f.pace(it).Heat != Always {
			f.deactivate(it)
		}
	}
	f.afterRun(it, o, during)
}

// afterRun makes the item due again. The most urgent reason is looked at first.
func (f *Schedule[T]) afterRun(it *Item[T], o Outcome, during flags) {
	it.flags |= during & mustStep
	switch {
	case during&requested != 0:
		f.request(it)
	case it.failures > 0:
		f.enqueue(it, f.clock+f.backoff(it))
	case o.More:
		it.flags |= dueByEvent
		f.enqueue(it, f.clock)
	case it.is(mustStep):
		f.dueSoon(it)
	case it.tier != Cold:
		// One interval after the last step was due. If that is past already, one interval
		// from now: an item does not make up for the steps that it missed.
		next := it.lastDue + f.interval(it)
		if next <= f.clock {
			next = f.clock + f.interval(it)
		}
		f.enqueue(it, next)
	case during&changedSince != 0 || o.Young:
		f.enqueue(it, f.spread(it))
	}
}

// backoff doubles from BackoffMin to BackoffMax. Half of it is jitter, so that items that
// failed together are not all tried again at the same time.
func (f *Schedule[T]) backoff(it *Item[T]) int64 {
	d := f.limits.BackoffMin
	for i := uint16(1); i < it.failures && d < f.limits.BackoffMax; i++ {
		d *= 2
	}
	d = min(d, f.limits.BackoffMax)
	return int64(d/2) + int64(f.rand()*float64(d-d/2))
}
