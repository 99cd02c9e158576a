package schedule

import (
	"errors"
	"testing"
	"time"
	"unsafe"
)

var errFail = errors.New("failed")

// clock is a Schedule under test with a time that the test moves.
type clock struct {
	*Schedule[string]
	t   *testing.T
	now time.Time
}

var limits = Limits{
	MaxHot: 2, SyncInterval: time.Second, ColdSyncInterval: 30 * time.Second,
	HotDuration: time.Minute, RecentModify: 5 * time.Minute, AccessCount: 3,
	BackoffMin: time.Second, BackoffMax: 8 * time.Second,
}

func newClock(t *testing.T, l Limits) *clock {
	t.Helper()
	c := &clock{New[string](l, nil, nil), t, time.Now()}
	c.idle() // tells it the time
	return c
}

func (c *clock) wait(d time.Duration) { c.now = c.now.Add(d) }

// run takes the next due item, which must be want, and ends its run.
func (c *clock) run(want *Item[string], a Action, o Outcome) {
	c.t.Helper()
	c.begin(want, a)
	c.Done(want, c.now, o)
	c.check()
}

func (c *clock) begin(want *Item[string], a Action) {
	c.t.Helper()
	it, got, ok := c.Next(c.now)
	if !ok {
		c.t.Fatalf("nothing is due, want %q", want.Value)
	}
	if it != want || got != a {
		c.t.Fatalf("Next = %s %q, want %s %q", got, it.Value, a, want.Value)
	}
	c.check()
}

func (c *clock) idle() {
	c.t.Helper()
	if it, a, ok := c.Next(c.now); ok {
		c.t.Fatalf("Next = %s %q, want nothing", a, it.Value)
	}
	c.check()
}

// due says in how much time the item must be due; negative means not at all.
func (c *clock) due(it *Item[string], in time.Duration) {
	c.t.Helper()
	at, ok := it.NextDue()
	if ok != (in >= 0) {
		c.t.Fatalf("%q: NextDue ok = %v, want %v", it.Value, ok, in >= 0)
	}
	if got := at.Sub(c.now); ok && got != in {
		c.t.Fatalf("%q is due in %v, want %v", it.Value, got, in)
	}
}

func (c *clock) tier(it *Item[string], want Tier) {
	c.t.Helper()
	if it.Tier() != want {
		c.t.Fatalf("%q is %s, want %s", it.Value, it.Tier(), want)
	}
}

func (c *clock) check() {
	c.t.Helper()
	if err := c.Schedule.check(); err != nil {
		c.t.Fatal(err)
	}
}

func TestAColdItemIsInNoQueueAndNothingWakes(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.idle()
	if at, ok := c.Wake(); ok {
		t.Errorf("Wake = %v, want none", at)
	}
	c.due(it, -1)
	if cold, _, _, _, _, _ := c.Counts(); cold != 1 {
		t.Errorf("cold = %d, want 1", cold)
	}
	if n := unsafe.Sizeof(Item[*int]{}); n > 80 {
		t.Errorf("an item takes %d bytes, want at most 80", n)
	}
}

func TestAWrittenItemIsHotAndDueEverySyncInterval(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.tier(it, Hot)
	if !it.LastWrite().Equal(c.now) {
		t.Errorf("LastWrite = %v, want %v", it.LastWrite(), c.now)
	}
	c.due(it, time.Second)
	c.wait(time.Second - 1)
	c.idle()
	c.wait(1)
	c.begin(it, Step)
	c.wait(300 * time.Millisecond)
	c.Done(it, c.now, Outcome{})
	c.due(it, 700*time.Millisecond)
}

func TestALateItemDoesNotCatchUpWithABurst(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.wait(20 * time.Second)
	c.run(it, Step, Outcome{})
	c.due(it, time.Second)
	c.idle()
}

func TestAWarmItemIsDueEveryColdSyncIntervalAfterItsFirstStep(t *testing.T) {
	l := limits
	l.MaxHot = 0
	c := newClock(t, l)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.tier(it, Warm)
	c.due(it, time.Second)
	c.wait(time.Second)
	c.run(it, Step, Outcome{Moved: true})
	c.due(it, 30*time.Second)
	c.wait(time.Second)
	c.Seen(it, c.now, c.now)
	c.due(it, 29*time.Second)
}

func TestTheLeastRecentlyWrittenHotItemMakesRoom(t *testing.T) {
	c := newClock(t, limits)
	a, b, d := c.Add("a"), c.Add("b"), c.Add("d")
	for _, it := range []*Item[string]{a, b} {
		c.Seen(it, c.now, c.now)
		c.wait(time.Millisecond)
	}
	c.Seen(a, c.now, c.now) // now b is the older one
	c.wait(time.Millisecond)
	c.Seen(d, c.now, c.now)
	c.tier(a, Hot)
	c.tier(b, Warm)
	c.tier(d, Hot)
	c.check()
}

func TestAWarmItemThatIsWrittenTakesThePlaceOfAQuieterHotOne(t *testing.T) {
	l := limits
	l.MaxHot = 1
	c := newClock(t, l)
	a, b := c.Add("a"), c.Add("b")
	c.Seen(a, c.now, c.now)
	c.wait(10 * time.Millisecond)
	c.Seen(b, c.now, c.now)
	c.wait(995 * time.Millisecond)
	c.run(a, Step, Outcome{})
	c.tier(a, Warm)
	c.Seen(a, c.now, c.now)
	c.tier(a, Warm) // b was written less than a SyncInterval ago
	c.wait(10 * time.Millisecond)
	c.run(b, Step, Outcome{})
	c.Seen(a, c.now, c.now)
	c.tier(a, Hot)
	c.tier(b, Warm)
	c.due(a, time.Second)
	c.due(b, 30*time.Second-5*time.Millisecond) // from when its last step was due
	c.check()
}

func TestTheMostRecentlyWrittenWarmItemTakesAFreePlace(t *testing.T) {
	for name, leave := range map[string]func(c *clock, it *Item[string]){
		"when a hot item is removed": func(c *clock, it *Item[string]) { c.Remove(it) },
		"when a hot item stops": func(c *clock, it *Item[string]) {
			c.Request(it, c.now)
			c.run(it, Step, Outcome{Stop: true})
		},
		"when a hot item is demoted": func(c *clock, it *Item[string]) {
			c.Request(it, c.now)
			c.run(it, Step, Outcome{Demoted: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := limits
			l.MaxHot = 1
			c := newClock(t, l)
			a, b, d := c.Add("a"), c.Add("b"), c.Add("d")
			for _, it := range []*Item[string]{a, b, d} {
				c.Seen(it, c.now, c.now)
				c.wait(time.Millisecond)
			}
			leave(c, d)
			c.tier(a, Warm)
			c.tier(b, Hot)
			c.check()
		})
	}
}

func TestAnItemNotWrittenForHotDurationIsDemotedAtItsNextTurn(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	for range 59 {
		c.wait(time.Second)
		c.run(it, Step, Outcome{})
	}
	c.wait(time.Second)
	c.run(it, Demote, Outcome{Demoted: true})
	c.tier(it, Cold)
	c.due(it, -1)
}

func TestAStepThatMovedKeepsAnItemActive(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.wait(59 * time.Second)
	c.run(it, Step, Outcome{Moved: true})
	c.wait(59 * time.Second)
	c.run(it, Step, Outcome{})
	c.wait(time.Second)
	c.run(it, Demote, Outcome{})
	c.tier(it, Hot) // it did not say Demoted
}

func TestADemotionThatFailsBacksOffAndIsRetried(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.wait(time.Minute)
	c.run(it, Demote, Outcome{Demoted: true, Err: errFail})
	c.tier(it, Hot)
	c.due(it, 750*time.Millisecond)
	c.wait(750 * time.Millisecond)
	c.run(it, Demote, Outcome{Demoted: true})
	c.tier(it, Cold)
}

func TestAReasonToStayDuringADemotionVoidsIt(t *testing.T) {
	for name, reason := range map[string]func(c *clock, it *Item[string]){
		"a write":       func(c *clock, it *Item[string]) { c.Seen(it, c.now, c.now) },
		"a change seen": func(c *clock, it *Item[string]) { c.Seen(it, c.now, c.now) },
		"a pin":         func(c *clock, it *Item[string]) { c.Pin(it) },
		"a lease":       func(c *clock, it *Item[string]) { c.Pin(it); c.Unpin(it, c.now) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock(t, limits)
			it := c.Add("a")
			c.Seen(it, c.now, c.now)
			c.wait(time.Minute)
			c.begin(it, Demote)
			c.wait(time.Millisecond)
			reason(c, it)
			c.Done(it, c.now, Outcome{Demoted: true})
			c.tier(it, Hot)
			if at, ok := it.NextDue(); !ok || at.After(c.now.Add(time.Second)) {
				t.Errorf("NextDue = %v, %v", at, ok)
			}
			c.wait(time.Second)
			c.begin(it, Step)
		})
	}
}

func TestARecentChangePromotes(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Seen(it, c.now.Add(-4*time.Minute), c.now)
	c.tier(it, Hot)
	if want := c.now.Add(-4 * time.Minute); !it.LastWrite().Equal(want) {
		t.Errorf("LastWrite = %v, want %v", it.LastWrite(), want)
	}
	c.wait(time.Second)
	c.run(it, Step, Outcome{Moved: true}) // and not Demote: HotDuration counts from the promotion
}

func TestAnOlderChangeGivesAColdItemOneStep(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	mod := c.now.Add(-time.Hour)
	c.Seen(it, mod, c.now)
	c.tier(it, Cold)
	c.due(it, 15*time.Second) // jitter is one half
	c.wait(15 * time.Second)
	c.run(it, Step, Outcome{Moved: true})
	c.tier(it, Cold)
	c.due(it, -1)
	c.Seen(it, mod, c.now)
	c.due(it, -1)
}

func TestAChangeSeenDuringARunGivesAnotherStep(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Request(it, c.now)
	c.begin(it, Step)
	mod := c.now.Add(-time.Hour)
	c.Seen(it, mod, c.now)
	c.Done(it, c.now, Outcome{ModTime: mod.Add(-time.Hour)})
	c.due(it, 15*time.Second)
	c.wait(15 * time.Second)
	c.run(it, Step, Outcome{})
	c.Seen(it, mod, c.now) // known since then: what the run saw was older
	c.due(it, -1)
}

func TestAModTimeThatGoesBackGivesOneStepWithoutPromoting(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.MarkShipped(it, c.now)
	c.Seen(it, c.now, c.now)
	c.due(it, -1)
	c.Seen(it, c.now.Add(-time.Minute), c.now)
	c.tier(it, Cold)
	c.due(it, 15*time.Second)
}

func TestTheModTimeARunHasSeenIsNoNews(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Request(it, c.now)
	c.run(it, Step, Outcome{Demoted: true, ModTime: c.now})
	c.Seen(it, c.now, c.now)
	c.Seen(it, time.Time{}, c.now)
	c.due(it, -1)
	c.tier(it, Cold)
}

func TestAccessCountAccessesWithinTheWindowPromote(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Accessed(it, c.now)
	c.Accessed(it, c.now)
	c.wait(time.Minute + 1) // the window is HotDuration
	c.Accessed(it, c.now)
	c.Accessed(it, c.now)
	c.tier(it, Cold)
	c.Accessed(it, c.now)
	c.tier(it, Hot)
	c.wait(time.Second)
	c.run(it, Step, Outcome{})
}

func TestAPinnedItemIsPolledAndNeverDemoted(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Pin(it)
	c.tier(it, Hot)
	c.wait(time.Hour)
	c.run(it, Step, Outcome{Demoted: true})
	c.tier(it, Hot)
	c.Pin(it)
	c.Unpin(it, c.now)
	c.wait(time.Hour)
	c.run(it, Step, Outcome{})
	c.wait(time.Hour)
	c.Unpin(it, c.now)
	c.run(it, Step, Outcome{}) // what the lease wrote is looked for first
	c.wait(time.Second)
	c.run(it, Demote, Outcome{Demoted: true})
}

func TestUnpinMakesAnItemDueAtOnceButNotWithinSyncIntervalOfItsLastStep(t *testing.T) {
	l := limits
	l.MaxHot = 0
	c := newClock(t, l)
	it := c.Add("a")
	c.Pin(it)
	c.Unpin(it, c.now)
	c.due(it, 0)
	c.run(it, Step, Outcome{})
	c.Pin(it)
	c.wait(100 * time.Millisecond)
	c.Unpin(it, c.now)
	c.due(it, 900*time.Millisecond)
}

func TestALeaseThatWroteKeepsItsItemActive(t *testing.T) {
	c := newClock(t, limits)
	it := c.Add("a")
	c.Pin(it)
	c.wait(time.Hour)
	c.Unpin(it, c.now)
	c.run(it, Step, Outcome{Moved: true})
	c.wait(59 * time.Second)
	c.run(it, Step, Outcome{})
}
