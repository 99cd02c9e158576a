package schedule

// interval is the time between two steps of an active item, and the longest delay of the one
// step of a Cold one.
func (f *Schedule[T]) interval(it *Item[T]) int64 {
	if it.tier == Hot {
		return int64(f.pace(it).SyncInterval)
	}
	return int64(f.pace(it).ColdSyncInterval)
}

// idle reports whether nothing has kept the item active for HotDuration.
func (f *Schedule[T]) idle(it *Item[T]) bool {
	p := f.pace(it)
	return p.Heat != Always && f.clock-it.activeAt >= int64(p.HotDuration)
}

// enter puts an active item into the heap of its tier. The first Hot item is the least
// recently written one, and the first Warm item the most recently written one: these two
// change places. A Warm one that is Never has no part in that.
func (f *Schedule[T]) enter(it *Item[T]) {
	switch {
	case it.tier == Hot:
		f.hot.push(entry[T]{f.rank(it), f.nextSeq(), it})
	case f.pace(it).Heat == Never:
		f.apart++
	default:
		f.warm.push(entry[T]{-f.rank(it), -f.nextSeq(), it})
	}
}

// leave undoes enter.
func (f *Schedule[T]) leave(it *Item[T]) {
	switch {
	case it.tier == Hot:
		f.hot.remove(it)
	case f.pace(it).Heat == Never:
		f.apart--
	default:
		f.warm.remove(it)
	}
}

// setTier moves the item and its next step to another tier, and nothing else.
func (f *Schedule[T]) setTier(it *Item[T], to Tier) {
	from := it.tier
	if from != Cold {
		f.leave(it)
	}
	it.tier = to
	if to != Cold {
		f.enter(it)
	}
	// If an event or a back-off has set the time, it does not depend on the tier.
	if it.place[inQueue] != 0 && !it.is(dueByEvent) && it.failures == 0 {
		switch t := f.due.key(it); {
		case to == Hot:
			f.dueBy(it, f.clock+f.interval(it))
		case from == Hot && to == Warm:
			// The interval is counted from the last step and not from now, so that items
			// which change places all the time still get their steps.
			if late := it.lastDue + f.interval(it); late > t {
				f.due.rekey(it, late, f.nextSeq())
			}
		}
	}
	if f.onTier != nil {
		f.onTier(it, from, to)
	}
}

// activate makes a Cold item Hot or Warm, with its first step within SyncInterval, or
// ColdSyncInterval where it is Never. It leaves
// alone when a running item is due, which Done decides, and a failing one, which is due
// after its back-off.
func (f *Schedule[T]) activate(it *Item[T]) {
	it.accesses = 0
	switch heat := f.pace(it).Heat; {
	case heat == Never:
		f.setTier(it, Warm)
	case f.hot.len() < f.limits.MaxHot:
		f.setTier(it, Hot)
	case f.hot.len() > 0 && (it.lastWrite != never || heat == Always) && f.hot.e[0].key <= f.rank(it):
		f.setTier(f.hot.e[0].it, Warm)
		f.setTier(it, Hot)
	default:
		f.setTier(it, Warm)
	}
	if !it.is(running) && it.failures == 0 {
		f.dueBy(it, f.clock+f.soon(it))
	}
}

// reorder moves an item whose lastWrite has changed to its new index in its heap. A Warm
// item takes a Hot place only from an item that was not written for a SyncInterval.
func (f *Schedule[T]) reorder(it *Item[T]) {
	switch it.tier {
	case Hot:
		f.hot.rekey(it, f.rank(it), f.nextSeq())
	case Warm:
		if f.pace(it).Heat != Never {
			f.warm.rekey(it, -f.rank(it), -f.nextSeq())
			f.exchange()
		}
	}
}

// deactivate makes the item Cold and gives its place to another. The item stays in the
// queue that it is in.
func (f *Schedule[T]) deactivate(it *Item[T]) {
	it.accesses = 0
	if it.tier != Cold {
		f.setTier(it, Cold)
		f.fillHot()
	}
}

// fillHot gives free Hot places to the most recently written Warm items.
func (f *Schedule[T]) fillHot() {
	for f.hot.len() < f.limits.MaxHot && f.warm.len() > 0 {
		f.setTier(f.warm.e[0].it, Hot)
	}
}
