package schedule

import (
	"testing"
	"time"
)

func TestARequestIsDueAtOnceWhateverTheTierOrTheBackOff(t *testing.T) {
	c := newClock(t, limits)
	cold, failing := c.Add("cold"), c.Add("failing")
	c.Seen(failing, c.now, c.now)
	c.wait(time.Second)
	c.run(failing, Step, Outcome{Err: errFail})
	c.Request(cold, c.now)
	c.Request(failing, c.now)
	c.run(cold, Step, Outcome{})
	c.run(failing, Step, Outcome{})
	c.tier(cold, Cold)
	c.due(cold, -1)
}

func TestARequestKeepsTheTimeAnItemHasWaitedAlready(t *testing.T) {
	c := newClock(t, limits)
	a, late := c.Add("a"), c.Add("late")
	c.Seen(late, c.now, c.now)
	c.wait(2 * time.Second)
	c.Request(a, c.now)
	c.Request(late, c.now)
	c.run(late, Step, Outcome{})
	c.run(a, Step, Outcome{})
	c.idle()
}

func TestARequestDuringARunGivesAnotherRunRightAfter(t *testing.T) {
	for _, o := range []Outcome{{}, {Err: errFail}, {Demoted: true}, {More: true}} {
		c := newClock(t, limits)
		it := c.Add("a")
		c.Request(it, c.now)
		c.begin(it, Step)
		c.Request(it, c.now)
		c.Request(it, c.now)
		c.idle()
		c.Done(it, c.now, o)
		c.run(it, Step, Outcome{})
		c.idle()
	}
}

func TestRequestsGoFirstButTakeTurnsWithWhatIsDue(t *testing.T) {
	c := newClock(t, limits)
	a, b := c.Add("a"), c.Add("b")
	c.Seen(a, c.now, c.now)
	c.wait(time.Millisecond)
	c.Seen(b, c.now, c.now)
	c.wait(time.Minute / 2)
	var r [4]*Item[string]
	for i := range r {
		r[i] = c.Add("requested")
		c.Request(r[i], c.now)
	}
	c.run(r[0], Step, Outcome{})
	c.run(a, Step, Outcome{})
	c.run(r[1], Step, Outcome{})
	c.run(b, Step, Outcome{})
	c.run(r[2], Step, Outcome{})
	c.run(r[3], Step, Outcome{})
}

func TestMoreQueuesBehindWhatIsDueAlready(t *testing.T) {
	c := newClock(t, limits)
	a, b := c.Add("a"), c.Add("b")
	c.Seen(a, c.now, c.now)
	c.Seen(b, c.now, c.now)
	c.wait(time.Second)
	c.run(a, Step, Outcome{More: true})
	c.run(b, Step, Outcome{More: true})
	c.run(a, Step, Outcome{})
	c.run(b, Step, Outcome{})
	c.idle()
}

func TestFailuresBackOffDoublingToTheMaximumWithJitter(t *testing.T) {
	var jitter float64
	f := New[string](limits, func() float64 { return jitter }, nil)
	c := &clock{f, t, time.Now()}
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.wait(time.Second)
	for i, want := range []time.Duration{1, 2, 4, 8, 8, 8} {
		want *= time.Second
		jitter = float64(i%2) * 0.5
		c.run(it, Step, Outcome{Err: errFail})
		if it.Failures() != i+1 {
			t.Errorf("Failures = %d, want %d", it.Failures(), i+1)
		}
		c.due(it, want/2+time.Duration(jitter*float64(want/2)))
		c.Seen(it, c.now, c.now) // does not hasten it
		c.Pin(it)
		c.Unpin(it, c.now)
		c.due(it, want/2+time.Duration(jitter*float64(want/2)))
		c.wait(want)
	}
	if _, _, _, _, backingOff, _ := c.Counts(); backingOff != 1 {
		t.Errorf("backingOff = %d, want 1", backingOff)
	}
	c.run(it, Step, Outcome{})
	if it.Failures() != 0 {
		t.Errorf("Failures = %d after a success", it.Failures())
	}
	c.due(it, time.Second)
}

func TestAColdItemThatFailsIsRetried(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Request(it, c.now)
	c.run(it, Step, Outcome{Err: errFail})
	c.wait(time.Second)
	c.run(it, Step, Outcome{})
	c.due(it, -1)
}

func TestAStoppedItemIsNeverDueUntilReset(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.wait(time.Second)
	c.begin(it, Step)
	c.Request(it, c.now)
	c.Done(it, c.now, Outcome{Stop: true, Err: errFail})
	c.tier(it, Cold)
	c.Seen(it, c.now, c.now)
	c.Seen(it, c.now, c.now)
	c.Pin(it)
	c.Unpin(it, c.now)
	c.Request(it, c.now)
	for range 5 {
		c.Accessed(it, c.now)
	}
	c.wait(30 * time.Second)
	c.idle()
	c.due(it, -1)
	if _, _, _, _, _, n := c.Counts(); n != 1 || !it.is(stopped) {
		t.Errorf("%d items are stopped, this one: %v", n, it.is(stopped))
	}
	c.Reset(it, c.now)
	c.tier(it, Hot) // written within HotDuration
	c.run(it, Step, Outcome{})
	c.due(it, time.Second)
}

func TestResetClearsTheBackOff(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Reset(it, c.now)
	c.due(it, -1)
	c.Request(it, c.now)
	c.run(it, Step, Outcome{Err: errFail})
	c.Reset(it, c.now)
	if it.Failures() != 0 {
		t.Errorf("Failures = %d", it.Failures())
	}
	c.run(it, Step, Outcome{})
	c.due(it, -1)
}

func TestARemovedItemIsForgottenEvenWhileItRuns(t *testing.T) {
	c := newClock(t, limits)
	waiting, running := c.Add("waiting"), c.Add("running")
	c.Seen(running, c.now, c.now)
	c.wait(time.Second)
	c.begin(running, Step)
	c.Seen(waiting, c.now, c.now)
	for _, it := range []*Item[string]{waiting, running} {
		c.Remove(it)
		c.Remove(it)
		c.Seen(it, c.now, c.now)
		c.Seen(it, c.now, c.now)
		c.Request(it, c.now)
		c.Pin(it)
		c.Unpin(it, c.now)
		c.Reset(it, c.now)
	}
	c.Done(running, c.now, Outcome{More: true})
	c.wait(time.Hour)
	c.idle()
	if _, ok := c.Wake(); ok {
		t.Error("something wakes an empty fleet")
	}
	cold, warm, hot, run, backingOff, stopped := c.Counts()
	if cold+warm+hot+run+backingOff+stopped != 0 {
		t.Errorf("Counts = %d %d %d %d %d %d", cold, warm, hot, run, backingOff, stopped)
	}
}

func TestAClockThatJumpsStarvesNothing(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for _, jump := range []time.Duration{-century, -time.Hour, -2 * time.Second, -time.Millisecond, time.Hour, century, 1<<63 - 1, -1 << 63} {
		t.Run(jump.String(), func(t *testing.T) {
			c := newClock(t, limits)
			it := c.Add("a")
			c.Pin(it)
			c.wait(time.Second)
			c.run(it, Step, Outcome{})
			for range 10 {
				c.now = c.now.Add(jump)
				if b, _, ok := c.Next(c.now); ok {
					c.Done(b, c.now, Outcome{})
				}
				at, ok := c.Wake()
				if !ok || at.Sub(c.now) > 2*time.Second {
					t.Fatalf("after a jump it wakes in %v, %v", at.Sub(c.now), ok)
				}
				c.wait(2 * time.Second)
				c.run(it, Step, Outcome{})
			}
		})
	}
}

func TestReadingsOutOfOrderDoNotSpeedTheClockUp(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	start := c.now
	for range 900 {
		c.now = c.now.Add(2 * time.Millisecond)
		c.idle()
		c.now = c.now.Add(-time.Millisecond)
		c.idle()
	}
	c.now = start.Add(time.Second)
	c.run(it, Step, Outcome{})
}

func TestOnTierTellsEveryChangeOnce(t *testing.T) {
	tiers := map[*Item[string]]Tier{}
	l := limits
	l.MaxHot = 1
	f := New(l, nil, func(it *Item[string], from, to Tier) {
		if tiers[it] != from || from == to {
			t.Errorf("%q goes from %s to %s, but was %s", it.Value, from, to, tiers[it])
		}
		tiers[it] = to
	})
	c := &clock{f, t, time.Now()}
	a, b := c.Add("a"), c.Add("b")
	c.Seen(a, c.now, c.now)
	c.Seen(b, c.now, c.now)
	c.Request(b, c.now)
	c.run(b, Step, Outcome{Demoted: true})
	for _, it := range []*Item[string]{a, b} {
		if tiers[it] != it.Tier() {
			t.Errorf("%q: told %s, is %s", it.Value, tiers[it], it.Tier())
		}
	}
}

func TestACallersBugPanics(t *testing.T) {
	for name, bug := range map[string]func(c *clock, it *Item[string]){
		"Done without Next": func(c *clock, it *Item[string]) { c.Done(it, c.now, Outcome{}) },
		"Unpin without Pin": func(c *clock, it *Item[string]) { c.Unpin(it, c.now) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			c := newClock(t, limits)
			bug(c, c.Add("a"))
		})
	}
}

func TestZeroLimitsTakeTheirDefaults(t *testing.T) {
	got := Limits{}.withDefaults()
	want := Limits{SyncInterval: time.Second, ColdSyncInterval: 30 * time.Second, HotDuration: 5 * time.Minute,
		AccessWindow: 5 * time.Minute, BackoffMin: time.Second, BackoffMax: 5 * time.Minute}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
