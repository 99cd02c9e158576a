package schedule

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// tenant is what the world knows of one database: facts only, none taken from
// the Schedule.
type tenant struct {
	name             string
	written, shipped int       // commits
	mod              time.Time // of the file
	pins             int

	running, removed, stopped, requested bool
	began                                int  // commits when the run began
	requestedDuring                      bool // a request that the run does not serve
	failures                             int
	news                                 bool // something happened that a run has not seen
	newsDuring                           bool

	lastBegan, lastDone, newsAt, failedAt, tierAt, activeAt, reasonAt, pacedAt time.Time
	end                                                                        time.Time // of the run
	action                                                                     Action
	badUntil                                                                   time.Time // its runs fail
}

// world drives a Schedule through random histories and holds it to what the
// package promises.
type world struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	l       Limits
	f       *Schedule[*tenant]
	now     time.Time
	items   []*Item[*tenant]
	busy    []*Item[*tenant]
	workers int
	jumping bool // as the history began
	jumps   bool // the clock jumps: only what does not depend on time is checked
	lastReq bool
	runs    int
	tracing bool
	trace   []string
}

func newWorld(t *testing.T, seed uint64, jumps bool) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(rng.Int64N(int64(hi-lo))) }
	w := &world{t: t, seed: seed, rng: rng, jumping: jumps, jumps: jumps, now: time.Now(), workers: 1 + rng.IntN(4)}
	w.l = Limits{
		MaxHot: rng.IntN(5), SyncInterval: time.Second, ColdSyncInterval: between(2*time.Second, time.Minute),
		HotDuration: between(time.Second, time.Minute), RecentModify: between(1, 20*time.Second),
		AccessCount: rng.IntN(4), BackoffMin: time.Second, BackoffMax: between(time.Second, time.Minute),
	}.withDefaults()
	w.f = New(w.l, rng.Float64, func(it *Item[*tenant], from, to Tier) {
		it.Value.tierAt = w.now
		if from == Cold {
			it.Value.activeAt = w.now
		}
		if from == to {
			w.fail("%s goes from %s to %s", it.Value.name, from, to)
		}
		if to == Cold {
			// Only news that the run has not seen may still be there.
			it.Value.news = false
		}
	})
	w.f.Next(w.now)
	for n := range uint16(rng.IntN(4)) {
		w.f.DefinePace(1+n, Pace{between(100*time.Millisecond, 5*time.Second), between(time.Second, time.Minute), between(time.Second, time.Minute), Heat(rng.IntN(3))})
	}
	for range 1 + rng.IntN(10) {
		w.add()
	}
	return w
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	if !w.tracing {
		again := newWorld(w.t, w.seed, w.jumping)
		again.tracing = true
		again.history()
	}
	n := max(0, len(w.trace)-40)
	w.t.Fatalf("seed %d, jumps %v, limits %+v\n%s\n%s", w.seed, w.jumping, w.l,
		strings.Join(w.trace[n:], "\n"), fmt.Sprintf(format, args...))
}

func (w *world) log(format string, args ...any) {
	if !w.tracing {
		return
	}
	w.trace = append(w.trace, w.now.Format("04:05.000000 ")+fmt.Sprintf(format, args...))
}

func (w *world) add() {
	v := &tenant{name: fmt.Sprintf("db%d", len(w.items)), mod: w.now.Add(-time.Duration(w.rng.Int64N(int64(time.Minute)))), tierAt: w.now}
	if w.rng.IntN(2) == 0 {
		v.written = 1 // from before we knew it
	}
	w.items = append(w.items, w.f.Add(v))
}

// told notes that the Schedule has heard of something that needs a run which
// begins from now on.
func (w *world) told(v *tenant) {
	if v.stopped || v.removed {
		return
	}
	if !v.news {
		v.newsAt = w.now
	}
	v.news = true
	v.newsDuring = v.newsDuring || v.running
}

func (w *world) event() {
	it := w.items[w.rng.IntN(len(w.items))]
	v := it.Value
	switch k := w.rng.IntN(100); {
	case k < 25: // a write through the pool
		v.written++
		v.mod, v.reasonAt = w.now, w.now
		w.log("%s written", v.name)
		w.told(v)
		w.f.Seen(it, w.now, w.now)
	case k < 40: // a write by somebody else
		v.written++
		v.mod = w.now
		w.log("%s written by another process", v.name)
	case k < 55:
		w.scan(it)
	case k < 65:
		w.log("%s accessed", v.name)
		was := it.Tier()
		w.f.Accessed(it, w.now)
		if it.Tier() != was {
			v.reasonAt = w.now
			w.told(v)
		}
	case k < 72:
		v.pins++
		w.log("%s pinned", v.name)
		w.told(v)
		w.f.Pin(it)
	case k < 80:
		if v.pins > 0 {
			if w.rng.IntN(2) == 0 {
				v.written++
				v.mod = w.now
			}
			w.unpin(it)
		}
	case k < 88:
		w.request(it)
	case k < 92:
		v.badUntil = w.now.Add(time.Duration(w.rng.Int64N(int64(20 * time.Second))))
		w.log("%s begins to fail", v.name)
	case k < 95:
		w.reset(it)
	case k < 96:
		w.pace(it, uint16(w.rng.IntN(len(w.f.paces))))
	case k < 98:
		w.log("%s removed", v.name)
		v.removed, v.requested, v.news = true, false, false
		w.f.Remove(it)
	default:
		w.add()
	}
}

// pace gives a database another pace.
func (w *world) pace(it *Item[*tenant], number uint16) {
	v := it.Value
	w.log("%s gets pace %d: %+v", v.name, number, w.f.paces[number])
	was := it.Tier()
	w.f.SetPace(it, number, w.now)
	v.pacedAt = w.now
	if was == Cold && it.Tier() != Cold {
		v.reasonAt = w.now
		w.told(v)
	}
}

func (w *world) scan(it *Item[*tenant]) {
	w.log("%s scanned, changed %v ago", it.Value.name, w.now.Sub(it.Value.mod))
	v := it.Value
	if w.now.Sub(v.mod) < w.l.RecentModify && v.mod.UnixNano() > it.modTime {
		if it.Tier() == Cold && !v.stopped || v.mod.After(w.now) {
			v.reasonAt = w.now
		} else if v.mod.After(v.reasonAt) {
			v.reasonAt = v.mod
		}
	}
	if v.mod.UnixNano() != it.modTime {
		w.told(v)
	}
	w.f.Seen(it, v.mod, w.now)
}

func (w *world) unpin(it *Item[*tenant]) {
	w.log("%s unpinned", it.Value.name)
	it.Value.pins--
	w.told(it.Value)
	w.f.Unpin(it, w.now)
}

func (w *world) request(it *Item[*tenant]) {
	v := it.Value
	w.log("%s requested", v.name)
	if !v.stopped && !v.removed {
		v.requested = v.requested || !v.running
		v.requestedDuring = v.running
		w.told(v)
	}
	w.f.Request(it, w.now)
}

func (w *world) reset(it *Item[*tenant]) {
	v := it.Value
	w.log("%s reset", v.name)
	if v.failures > 0 || v.stopped {
		v.failures, v.stopped = 0, false
		if !v.running {
			w.told(v)
		}
	}
	w.f.Reset(it, w.now)
}

// dispatch gives work to free workers, and finds nothing wrongly left.
func (w *world) dispatch() {
	for len(w.busy) < w.workers {
		best, bestReq := w.longestWaiting()
		it, a, ok := w.f.Next(w.now)
		if !ok {
			if best != nil || bestReq != nil {
				w.fail("Next has nothing, but something is due")
			}
			w.lastReq = false
			w.checkNothingLate()
			return
		}
		v := it.Value
		w.log("%s begins to %s", v.name, a)
		want := best
		if bestReq != nil && (best == nil || !w.lastReq) {
			want = bestReq
		}
		if it != want {
			w.fail("Next = %s, want %s, which waits longer", v.name, want.Value.name)
		}
		w.lastReq = v.requested
		w.checkBegin(it, a)
		v.running, v.requested, v.news = true, false, false
		v.lastBegan, v.began, v.action = w.now, v.written, a
		if a == Demote && w.rng.IntN(2) == 0 {
			v.mod = w.now // the checkpoint
		}
		v.end = w.now.Add(time.Duration(w.rng.Int64N(int64(400 * time.Millisecond))))
		w.busy = append(w.busy, it)
		w.runs++
	}
}

// longestWaiting is Next by looking at everything.
func (w *world) longestWaiting() (due, requested *Item[*tenant]) {
	var dueAt, reqAt time.Time
	w.f.advance(w.now)
	for _, it := range w.items {
		at, ok := it.NextDue()
		if !ok || at.After(w.f.prev) { // which is now, unless now went back a little
			if it.Value.requested {
				w.fail("%s was requested and is not due", it.Value.name)
			}
			continue
		}
		b, t := &due, &dueAt
		if it.Value.requested {
			b, t = &requested, &reqAt
		}
		// First in, first out: the model does not know the order among equals.
		if *b == nil || at.Before(*t) || at.Equal(*t) && w.seqOf(it) < w.seqOf(*b) {
			*b, *t = it, at
		}
	}
	return due, requested
}

func (w *world) seqOf(it *Item[*tenant]) int64 {
	h := &w.f.due
	if it.is(requested) {
		h = &w.f.requests
	}
	return h.e[it.place[inQueue]-1].seq
}

func (w *world) checkBegin(it *Item[*tenant], a Action) {
	v := it.Value
	switch {
	case v.running:
		w.fail("%s runs twice at once", v.name)
	case v.removed || v.stopped:
		w.fail("%s is removed or stopped, and runs", v.name)
	case it.Tier() == Cold && !v.news && v.failures == 0:
		w.fail("%s is cold and nothing happened, and runs", v.name)
	case a == Demote && (v.pins > 0 || v.requested || it.Tier() == Cold):
		w.fail("%s is demoted, but has %d pins, requested %v, tier %s", v.name, v.pins, v.requested, it.Tier())
	}
	if w.jumps {
		return
	}
	if p := w.f.PaceOf(it); a == Demote && (w.now.Sub(v.reasonAt) < p.HotDuration || p.Heat == Always) {
		w.fail("%s is demoted %v after a reason to stay", v.name, w.now.Sub(v.reasonAt))
	}
	if v.failures > 0 && !v.requested {
		d := min(w.l.BackoffMin<<min(v.failures-1, 20), w.l.BackoffMax)
		if got := w.now.Sub(v.failedAt); got < d/2 {
			w.fail("%s runs %v after failure %d, want %v at least", v.name, got, v.failures, d/2)
		}
	}
}

// checkNothingLate holds when a worker is free and Next has nothing.
func (w *world) checkNothingLate() {
	var wake time.Time
	for _, it := range w.items {
		v := it.Value
		if at, ok := it.NextDue(); ok && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
		if v.running || v.removed || v.stopped || w.jumps {
			continue
		}
		if v.failures > 0 {
			if w.now.Sub(v.failedAt) > w.l.BackoffMax {
				w.fail("%s failed %v ago and was not retried", v.name, w.now.Sub(v.failedAt))
			}
			continue
		}
		late := func(since time.Time, bound time.Duration, what string) {
			for _, at := range []time.Time{v.lastDone, v.pacedAt} {
				if at.After(since) {
					since = at
				}
			}
			if d := w.now.Sub(since); d > bound {
				w.fail("%s, %s, has waited %v, more than %v: %s", v.name, it.Tier(), d, bound, what)
			}
		}
		p := w.f.PaceOf(it)
		if v.news {
			late(v.newsAt, p.ColdSyncInterval, "news")
		}
		if it.Tier() == Hot {
			late(v.tierAt, p.SyncInterval, "hot")
		}
		if it.Tier() == Warm {
			// However often it changed places with a hot one.
			since := v.activeAt
			if v.lastBegan.After(since) {
				since = v.lastBegan
			}
			late(since, p.ColdSyncInterval, "warm")
		}
	}
	if at, ok := w.f.Wake(); ok == wake.IsZero() || !at.Equal(wake) {
		w.fail("Wake = %v, %v, want %v", at, ok, wake)
	}
}

// checkRanks: a hot item was written after every warm one, or a SyncInterval
// before at most.
func (w *world) checkRanks() {
	if err := w.f.check(); err != nil {
		w.fail("%v", err)
	}
	var oldest, newest [2]time.Time // by whether they are Always
	var counts, always [3]int
	var run, failing, halted int
	for _, it := range w.items {
		v := it.Value
		if v.running {
			run++
		}
		if v.removed {
			continue
		}
		counts[it.Tier()]++
		if v.stopped {
			halted++
		}
		if v.failures > 0 {
			failing++
		}
		if v.pins > 0 && it.Tier() == Cold && !v.stopped {
			w.fail("%s is pinned and cold", v.name)
		}
		heat, class := w.f.PaceOf(it).Heat, 0
		switch {
		case heat == Always:
			class = 1
			if it.Tier() == Cold && !v.stopped {
				w.fail("%s is always hot and is cold", v.name)
			}
			always[it.Tier()]++
		case heat == Never && it.Tier() == Hot:
			w.fail("%s is never hot and is hot", v.name)
		case heat == Never:
			continue
		}
		if lw := it.LastWrite(); it.Tier() == Hot && (oldest[class].IsZero() || lw.Before(oldest[class])) {
			oldest[class] = lw
		} else if it.Tier() == Warm && lw.After(newest[class]) {
			newest[class] = lw
		}
	}
	for class := range oldest {
		if d := newest[class].Sub(oldest[class]); d >= w.l.SyncInterval && !oldest[class].IsZero() {
			w.fail("a warm item was written %v after a hot one", d)
		}
	}
	if always[Warm] > 0 && always[Hot] < counts[Hot] {
		w.fail("%d that are always hot are warm, and %d others are hot", always[Warm], counts[Hot]-always[Hot])
	}
	cold, warm, hot, r, b, s := w.f.Counts()
	if got, want := [6]int{cold, warm, hot, r, b, s}, [6]int{counts[Cold], counts[Warm], counts[Hot], run, failing, halted}; got != want {
		w.fail("Counts = %v, want %v", got, want)
	}
}

// finish ends the runs whose time has come.
func (w *world) finish() {
	for i := 0; i < len(w.busy); i++ {
		it := w.busy[i]
		v := it.Value
		if v.end.After(w.now) && !w.jumps {
			continue
		}
		w.busy = append(w.busy[:i], w.busy[i+1:]...)
		i--
		o := Outcome{Moved: v.began > v.shipped}
		stop := w.rng.IntN(100) == 0 && v.badUntil.After(w.now)
		switch {
		case stop:
			o = Outcome{Stop: true, Err: errFail}
		case v.badUntil.After(w.now):
			o = Outcome{Err: errFail, Demoted: w.rng.IntN(2) == 0}
		default:
			v.shipped = v.began
			o.Demoted = v.action == Demote
			if v.written == v.began {
				o.ModTime = v.mod
			} else {
				o.More = w.rng.IntN(3) == 0
			}
		}
		w.log("%s done: %+v", v.name, o)
		news := v.newsDuring
		v.running, v.requested = false, v.requestedDuring && !stop && !v.removed
		v.requestedDuring, v.newsDuring = false, false
		v.lastDone = w.now
		switch {
		case v.removed:
		case stop:
			v.stopped, v.failures, news = true, 0, false
		case o.Err != nil:
			v.failures++
			v.failedAt = w.now
		default:
			v.failures = 0
		}
		if o.Moved && !o.Demoted && it.Tier() != Cold {
			v.reasonAt = w.now
		}
		w.f.Done(it, w.now, o)
		v.news = false
		if (news || o.More) && !v.removed && !v.stopped {
			v.news, v.newsAt = true, w.now
		}
	}
}

// pass lets some time pass, now and then exactly until something happens.
func (w *world) pass() {
	d := time.Duration(1 + w.rng.Int64N(int64(10*time.Millisecond)))
	switch w.rng.IntN(10) {
	case 0:
		d = time.Duration(1 + w.rng.Int64N(int64(3*time.Second)))
	case 1, 2:
		if at, ok := w.nextMoment(); ok {
			d = max(d/1000+1, at.Sub(w.now))
		}
	}
	if w.jumps && w.rng.IntN(20) == 0 {
		d = time.Duration(w.rng.Int64N(int64(2*maxDuration))) >> w.rng.IntN(30)
		if w.rng.IntN(2) == 0 {
			d = -d
		}
	}
	// No single step over what is due: then the bounds are exact.
	if at, ok := w.nextMoment(); ok && !w.jumps && at.Before(w.now.Add(d)) {
		d = max(at.Sub(w.now), 1)
	}
	w.now = w.now.Add(d)
}

// nextMoment is when a run ends or, if a worker is free, one becomes due.
func (w *world) nextMoment() (at time.Time, ok bool) {
	if len(w.busy) < w.workers {
		at, ok = w.f.Wake()
	}
	for _, it := range w.busy {
		if end := it.Value.end; !ok || end.Before(at) {
			at, ok = end, true
		}
	}
	return at, ok
}

func (w *world) run(events int) {
	for range events {
		w.pass()
		w.finish()
		w.checkRanks()
		if w.rng.IntN(3) == 0 {
			w.event()
			w.checkRanks()
		}
		w.dispatch()
	}
}

// settle ends all troubles and waits until nothing happens any more. Then
// everything must be shipped and cold.
func (w *world) settle() {
	w.now = w.now.Add(w.l.SyncInterval + 1) // past the last now
	for _, it := range w.items {
		it.Value.badUntil = time.Time{}
		v := it.Value
		if w.jumps {
			v.reasonAt = time.Time{}
		}
		v.failedAt, v.tierAt, v.activeAt, v.newsAt, v.lastBegan, v.lastDone, v.end = w.now, w.now, w.now, w.now, w.now, w.now, w.now
	}
	w.jumps = false
	w.finish()
	for _, it := range w.items {
		w.pace(it, 0)
		for it.Value.pins > 0 {
			w.unpin(it)
		}
		w.reset(it)
		w.scan(it)
	}
	start := w.now
	for n := 0; ; n++ {
		if n > 100_000 {
			w.fail("no end of settling")
		}
		w.finish()
		w.checkRanks()
		w.dispatch()
		at, ok := w.nextMoment()
		if !ok {
			break
		}
		w.now = w.now.Add(max(at.Sub(w.now), 1))
		if d := w.now.Sub(start); d > 10*time.Minute {
			w.fail("still busy after %v", d)
		}
	}
	for _, it := range w.items {
		if v := it.Value; !v.removed && (v.shipped != v.written || it.Tier() != Cold) {
			w.fail("%s has shipped %d of %d and is %s", v.name, v.shipped, v.written, it.Tier())
		}
	}
}

func (w *world) history() {
	w.run(400)
	w.settle()
}

func simulate(t *testing.T, jumps bool) {
	seeds := uint64(2000)
	if testing.Short() {
		seeds = 200
	}
	runs := 0
	for seed := range seeds {
		w := newWorld(t, seed, jumps)
		w.history()
		runs += w.runs
	}
	t.Logf("%d histories, %d runs", seeds, runs)
}

func TestRandomHistoriesKeepEveryPromise(t *testing.T) { simulate(t, false) }

func TestRandomHistoriesWithAJumpingClockLoseNothing(t *testing.T) { simulate(t, true) }
