package schedule

// interval is the time between two steps of an active item.
func (f *Schedule[T]) interval(it *Item[T]) int64 {
	if it.tier == Hot {
		return int64(f.limits.SyncInterval)
	}
	return int64(f.limits.ColdSyncInterval)
}

// idle reports whether nothing has kept the item active for HotDuration.
func (f *Schedule[T]) idle(it *Item[T]) bool {
	return f.clock-it.activeAt >= int64(f.limits.HotDuration)
}

func (f *Schedule[T]) tierHeap(t Tier) *heap[T] {
	if t == Hot {
		return &f.hot
	}
	return &f.warm
}

// tierEntry returns the entry of an active item in the heap of its tier. The first Hot item
// is the least recently written one, and the first Warm item the most recently written one:
// these two change places.
func (f *Schedule[T]) tierEntry(it *Item[T]) entry[T] {
	if it.tier == Hot {
		return entry[T]{it.lastWrite, f.nextSeq(), it}
	}
	return entry[T]{-it.lastWrite, -f.nextSeq(), it}
}

// setTier moves the item and its next step to another tier, and nothing else.
func (f *Schedule[T]) setTier(it *Item[T], to Tier) {
	from := it.tier
	if from != Cold {
		f.tierHeap(from).remove(it)
	}
	it.tier = to
	if to != Cold {
		f.tierHeap(to).push(f.tierEntry(it))
	}
	// If an event or a back-off has set the time, it does not depend on the tier.
	if it.place[inQueue] != 0 && !it.is(dueByEvent) && it.failures == 0 {
		switch t := f.due.key(it); {
		case to == Hot:
			f.dueBy(it, f.clock+int64(f.limits.SyncInterval))
		case from == Hot && to == Warm:
			// The interval is counted from the last step and not from now, so that items
			// which change places all the time still get their steps.
			if late := it.lastDue + int64(f.limits.ColdSyncInterval); late > t {
				f.due.rekey(it, late, f.nextSeq())
			}
		}
	}
	if f.onTier != nil {
		f.onTier(it, from, to)
	}
}

// activate makes a Cold item Hot or Warm, with its first step within SyncInterval. It leaves
// alone when a running item is due, which Done decides, and a failing one, which is due
// after its back-off.
func (f *Schedule[T]) activate(it *Item[T]) {
	it.accesses = 0
	switch {
	case f.hot.len() < f.limits.MaxHot:
		f.setTier(it, Hot)
	case f.hot.len() > 0 && it.lastWrite != never && f.hot.e[0].key <= it.lastWrite:
		f.setTier(f.hot.e[0].it, Warm)
		f.setTier(it, Hot)
	default:
		f.setTier(it, Warm)
	}
	if !it.is(running) && it.failures == 0 {
		f.dueBy(it, f.clock+int64(f.limits.SyncInterval))
	}
}

// reorder moves an item whose lastWrite has changed to its new index in its heap. A Warm
// item takes a Hot place only from an item that was not written for a SyncInterval: among
// many equally busy items an exchange at every write would gain nothing.
func (f *Schedule[T]) reorder(it *Item[T]) {
	switch it.tier {
	case Hot:
		f.hot.rekey(it, it.lastWrite, f.nextSeq())
	case Warm:
		f.warm.rekey(it, -it.lastWrite, -f.nextSeq())
		if f.hot.len() > 0 && f.hot.e[0].key+int64(f.limits.SyncInterval) <= it.lastWrite {
			f.setTier(f.hot.e[0].it, Warm)
			f.setTier(it, Hot)
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
