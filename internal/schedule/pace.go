package schedule

import "time"

// Heat says whether an item may be Hot.
type Heat uint8

// The heats.
const (
	Auto   Heat = iota // by its writes and accesses
	Always             // it is active, and has a Hot place before every item that is not Always
	Never              // when it is active it is Warm, and takes no place from anybody
)

// Pace is what may differ between the items of a Schedule. Every item begins with number 0,
// which is that of the Limits. A duration that is zero or negative means that of the Limits.
type Pace struct {
	SyncInterval     time.Duration
	ColdSyncInterval time.Duration // at least SyncInterval
	HotDuration      time.Duration // also the window in which accesses are counted
	Heat             Heat
}

// pace is number 0.
func (l Limits) pace() Pace {
	return Pace{SyncInterval: l.SyncInterval, ColdSyncInterval: l.ColdSyncInterval, HotDuration: l.HotDuration}
}

// alwaysFirst is what an Always item's lastWrite is ahead of every other one's.
const alwaysFirst = 1 << 62

// DefinePace says what a number above 0 means, which no item has now.
func (f *Schedule[T]) DefinePace(number uint16, p Pace) {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
		*d = min(*d, maxDuration)
	}
	set(&p.SyncInterval, f.limits.SyncInterval)
	set(&p.ColdSyncInterval, f.limits.ColdSyncInterval)
	set(&p.HotDuration, f.limits.HotDuration)
	p.ColdSyncInterval = max(p.ColdSyncInterval, p.SyncInterval)
	for len(f.paces) <= int(number) {
		f.paces = append(f.paces, f.paces[0])
	}
	f.paces[number] = p
}

// SetPace gives an item the pace of a number, from its next step on: that comes sooner if it
// would be due later than the new interval allows. A Cold item that is Always now becomes
// active, and one that is Never is not Hot any more.
func (f *Schedule[T]) SetPace(it *Item[T], number uint16, now time.Time) {
	f.advance(now)
	if it.pace == number {
		return
	}
	if it.is(removed) {
		it.pace = number
		return
	}
	if it.tier != Cold {
		f.leave(it)
	}
	it.pace = number
	if it.tier != Cold {
		f.enter(it)
	}
	switch heat := f.pace(it).Heat; {
	case it.tier == Cold && heat == Always && !it.is(stopped):
		it.activeAt = f.clock
		f.activate(it)
	case it.tier == Hot && heat == Never:
		f.setTier(it, Warm)
		f.fillHot()
	case it.tier == Warm && heat != Never:
		f.fillHot()
		f.exchange()
	case it.tier == Hot:
		f.exchange()
	}
	if it.place[inQueue] != 0 && it.failures == 0 {
		within := f.interval(it)
		if it.is(dueByEvent) {
			within = min(within, f.soon(it)) // as if the event came now
		}
		f.dueBy(it, f.clock+within)
	}
}

// Pace is the number of the item's pace.
func (it *Item[T]) Pace() uint16 { return it.pace }

// PaceOf is the pace of an item.
func (f *Schedule[T]) PaceOf(it *Item[T]) Pace { return f.paces[it.pace] }

func (f *Schedule[T]) pace(it *Item[T]) *Pace { return &f.paces[it.pace] }

// rank orders items by who gets a Hot place first: the greatest does.
func (f *Schedule[T]) rank(it *Item[T]) int64 {
	if f.pace(it).Heat == Always {
		return it.lastWrite + alwaysFirst
	}
	return it.lastWrite
}

// soon is how long after an event the step is due that looks at it. That of a Never item
// waits, so that writes which come together are shipped together.
func (f *Schedule[T]) soon(it *Item[T]) int64 {
	if p := f.pace(it); p.Heat != Never {
		return int64(p.SyncInterval)
	}
	return int64(f.pace(it).ColdSyncInterval)
}

// exchange gives the Hot place of the last in rank to the first of the Warm items, if that is
// ahead by a SyncInterval: among many equally busy items an exchange at every write would
// gain nothing.
func (f *Schedule[T]) exchange() {
	if f.hot.len() == 0 || f.warm.len() == 0 || f.hot.e[0].key+int64(f.limits.SyncInterval) > -f.warm.e[0].key {
		return
	}
	it := f.warm.e[0].it
	f.setTier(f.hot.e[0].it, Warm)
	f.setTier(it, Hot)
}
