package schedule

import (
	"testing"
	"time"
)

// The paces of these tests.
const (
	slow uint16 = iota + 1
	always
	neverHot
)

func newPaced(t *testing.T) *clock {
	t.Helper()
	c := newClock(t, limits)
	c.DefinePace(slow, Pace{SyncInterval: 10 * time.Second, HotDuration: 3 * time.Minute})
	c.DefinePace(always, Pace{Heat: Always})
	c.DefinePace(neverHot, Pace{Heat: Never})
	return c
}

func (c *clock) paced(name string, number uint16) *Item[string] {
	it := c.Add(name)
	c.SetPace(it, number, c.now)
	return it
}

func TestAnItemHasTheIntervalsOfItsPace(t *testing.T) {
	c := newPaced(t)
	it := c.paced("a", slow)
	c.Seen(it, c.now, c.now)
	c.tier(it, Hot)
	c.due(it, 10*time.Second)
	c.wait(10 * time.Second)
	c.run(it, Step, Outcome{})
	c.due(it, 10*time.Second)
	for range 16 { // the HotDuration of the Limits has passed long before
		c.wait(10 * time.Second)
		c.run(it, Step, Outcome{})
	}
	c.wait(10 * time.Second)
	c.run(it, Demote, Outcome{Demoted: true})
	c.tier(it, Cold)
}

func TestAShorterIntervalCountsAtOnceAndALongerOneFromTheNextStep(t *testing.T) {
	c := newPaced(t)
	it := c.paced("a", slow)
	c.Seen(it, c.now, c.now)
	c.SetPace(it, 0, c.now)
	c.due(it, time.Second)
	c.SetPace(it, slow, c.now)
	c.due(it, time.Second)
	c.wait(time.Second)
	c.run(it, Step, Outcome{})
	c.due(it, 10*time.Second)
}

func TestAFailingItemKeepsItsBackOffWhenThePaceChanges(t *testing.T) {
	c := newPaced(t)
	it := c.paced("a", slow)
	c.Seen(it, c.now, c.now)
	for _, wait := range []time.Duration{10 * time.Second, time.Second, 2 * time.Second, 4 * time.Second} {
		c.wait(wait)
		c.run(it, Step, Outcome{Err: errFail})
	}
	at, _ := it.NextDue()
	c.SetPace(it, 0, c.now)
	if after, _ := it.NextDue(); !after.Equal(at) {
		t.Errorf("due at %v, was %v", after, at)
	}
}

func TestAnItemThatIsAlwaysHotIsNeverDemotedAndTakesItsPlaceFromOthers(t *testing.T) {
	c := newPaced(t)
	a, b := c.Add("a"), c.Add("b")
	c.Seen(a, c.now, c.now)
	c.wait(time.Millisecond)
	c.Seen(b, c.now, c.now)
	it := c.paced("always", always)
	c.tier(it, Hot)
	c.tier(a, Warm) // MaxHot is 2, and it was written before b
	c.check()
	c.wait(time.Second)
	c.Seen(a, c.now, c.now)
	c.tier(it, Hot)
	for range 100 {
		for {
			due, act, ok := c.Next(c.now)
			if !ok {
				break
			}
			if due == it && act == Demote {
				t.Fatal("it is to be demoted")
			}
			c.Done(due, c.now, Outcome{Demoted: act == Demote})
			c.check()
		}
		c.wait(time.Second)
	}
	c.tier(it, Hot)
	c.tier(a, Cold)
	c.SetPace(it, 0, c.now)
	c.run(it, Demote, Outcome{Demoted: true})
	c.tier(it, Cold)
}

func TestMoreItemsThatAreAlwaysHotThanMaxHotAreWarm(t *testing.T) {
	c := newPaced(t)
	for range 3 {
		c.paced("always", always)
	}
	if _, warm, hot, _, _, _ := c.Counts(); warm != 1 || hot != 2 {
		t.Errorf("%d warm, %d hot", warm, hot)
	}
	c.check()
}

func TestAStoppedItemBecomesAlwaysHotWhenItIsReset(t *testing.T) {
	c := newPaced(t)
	it := c.Add("a")
	c.Request(it, c.now)
	c.run(it, Step, Outcome{Stop: true})
	c.SetPace(it, always, c.now)
	c.tier(it, Cold)
	c.idle()
	c.Reset(it, c.now)
	c.tier(it, Hot)
}

func TestAnItemThatBecomesAlwaysHotWhileItIsDemotedStaysHot(t *testing.T) {
	c := newPaced(t)
	it := c.Add("a")
	c.Seen(it, c.now, c.now)
	c.wait(2 * time.Minute)
	c.begin(it, Demote)
	c.SetPace(it, always, c.now)
	c.Done(it, c.now, Outcome{Demoted: true})
	c.tier(it, Hot)
	c.due(it, time.Second)
}

func TestAnItemThatIsNeverHotIsWarmThoughPlacesAreFree(t *testing.T) {
	c := newPaced(t)
	it := c.paced("never", neverHot)
	c.tier(it, Cold)
	c.Pin(it)
	c.tier(it, Warm)
	c.due(it, 30*time.Second)
	c.wait(5 * time.Second)
	c.Unpin(it, c.now) // for other items the step is due now
	c.due(it, 25*time.Second)
	c.Seen(it, c.now, c.now)
	c.tier(it, Warm)
	c.wait(25 * time.Second)
	c.run(it, Step, Outcome{Moved: true})
	c.due(it, 30*time.Second)
	c.wait(30 * time.Second)
	c.run(it, Step, Outcome{})
	c.wait(30 * time.Second)
	c.run(it, Demote, Outcome{Demoted: true})
	c.tier(it, Cold)
	if _, warm, _, _, _, _ := c.Counts(); warm != 0 {
		t.Errorf("%d warm", warm)
	}
}

func TestAHotItemThatBecomesNeverHotGivesItsPlaceAway(t *testing.T) {
	c := newPaced(t)
	var all []*Item[string]
	for range 3 {
		it := c.Add("a")
		c.Seen(it, c.now, c.now)
		c.wait(time.Millisecond)
		all = append(all, it)
	}
	c.tier(all[0], Warm)
	c.SetPace(all[2], neverHot, c.now)
	c.tier(all[2], Warm)
	c.tier(all[0], Hot)
	c.check()
	c.SetPace(all[2], 0, c.now) // and takes one back by its writes alone
	c.tier(all[2], Warm)
	c.wait(2 * time.Second)
	c.Seen(all[2], c.now, c.now)
	c.tier(all[2], Hot)
	c.Remove(all[1])
	c.SetPace(all[0], neverHot, c.now)
	c.Remove(all[0])
	if cold, warm, hot, _, _, _ := c.Counts(); cold != 0 || warm != 0 || hot != 1 {
		t.Errorf("%d cold, %d warm, %d hot", cold, warm, hot)
	}
	c.check()
}

func TestAccessesAreCountedWithinTheHotDurationOfThePace(t *testing.T) {
	c := newPaced(t)
	it, other := c.paced("a", slow), c.Add("other")
	for range 3 {
		c.Accessed(it, c.now)
		c.Accessed(other, c.now)
		c.wait(50 * time.Second)
	}
	c.tier(it, Hot)
	c.tier(other, Cold)
}
