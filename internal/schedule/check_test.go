package schedule

import "fmt"

// check proves the structure of the Schedule: heaps in order, every item where it
// says it is, tiers full before they overflow, and counts that add up.
func (f *Schedule[T]) check() error {
	if f.hot.len() > f.limits.MaxHot {
		return fmt.Errorf("%d hot items, more than %d", f.hot.len(), f.limits.MaxHot)
	}
	if f.warm.len() > 0 && f.hot.len() < f.limits.MaxHot {
		return fmt.Errorf("%d warm items while only %d of %d are hot", f.warm.len(), f.hot.len(), f.limits.MaxHot)
	}
	failing := map[*Item[T]]bool{}
	for name, h := range map[string]*heap[T]{"due": &f.due, "asked": &f.requests, "hot": &f.hot, "warm": &f.warm} {
		for i, e := range h.e {
			if i > 0 && e.before(h.e[(i-1)/2]) {
				return fmt.Errorf("%s: entry %d is before its parent", name, i)
			}
			if int(e.it.place[h.slot]) != i+1 {
				return fmt.Errorf("%s: entry %d thinks it is at %d", name, i, e.it.place[h.slot]-1)
			}
			if e.it.is(removed) || e.it.is(stopped) {
				return fmt.Errorf("%s: entry %d is removed or stopped", name, i)
			}
			if (name == "due" || name == "asked") && (e.it.is(running) || e.it.is(requested) != (name == "asked")) {
				return fmt.Errorf("%s: entry %d is running or in the wrong queue", name, i)
			}
			if name == "hot" && (e.it.tier != Hot || e.key != f.rank(e.it)) || name == "warm" && (e.it.tier != Warm || e.key != -f.rank(e.it) || f.pace(e.it).Heat == Never) {
				return fmt.Errorf("%s: entry %d is %s, key %d, written %d", name, i, e.it.tier, e.key, e.it.lastWrite)
			}
			if h.slot == inTier && e.it.place[inQueue] == 0 && !e.it.is(running) {
				return fmt.Errorf("%s: entry %d is active, not running, and due never", name, i)
			}
			if e.it.failures > 0 {
				failing[e.it] = true
			}
		}
	}
	if f.running == 0 && f.failing != len(failing) {
		return fmt.Errorf("%d failing items counted, %d found", f.failing, len(failing))
	}
	return nil
}
