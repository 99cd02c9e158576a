package fleet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
)

var common = policy.Policy{Levels: levels.Policy{Retention: 24 * time.Hour, L0Retention: time.Minute}}

func newAsking(t *testing.T) *rig {
	t.Helper()
	return newRig(t, func(c *Config) { c.Policy, c.Asks = common, true })
}

func asked(change func(*policy.Policy)) Asked {
	p := common
	change(&p)
	return Asked{Given: true, Policy: p}
}

func hot(h schedule.Heat) Asked { return asked(func(p *policy.Policy) { p.Pace.Heat = h }) }

// told are the errors of the events that say a policy is refused.
func (r *rig) told() (errs []error) {
	for _, ev := range r.events {
		if ev.Type == EventPolicy {
			errs = append(errs, ev.Err)
		}
	}
	return errs
}

func TestARunIsToldTheRetentionOfItsDatabase(t *testing.T) {
	r := newAsking(t)
	e, other := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7}), r.find(t, "b", fsid.ID{Dev: 1, Ino: 8})
	r.SetPolicy(e, asked(func(p *policy.Policy) { p.Levels.Retention, p.Pace.SyncInterval = time.Hour, time.Minute }))
	for e, want := range map[*Entry]replicate.Input{e: {Levels: levels.Policy{Retention: time.Hour, L0Retention: time.Minute}, SyncInterval: time.Minute}, other: {Levels: common.Levels}} {
		r.Request(e)
		due, action, _ := r.Next(r.now)
		run := &Run{Entry: due, Action: action}
		b := r.Begin(run)
		if b.Input.Levels != want.Levels || b.Input.SyncInterval != want.SyncInterval {
			t.Errorf("%s: %+v", e.ID(), b.Input)
		}
		r.Finish(run, &replicate.Report{Drained: true})
	}
}

func TestADatabaseThatBecomesActiveIsAskedAboutOnce(t *testing.T) {
	r := newAsking(t)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7}) // written just now, so that it is hot
	for i, want := range []bool{true, false} {
		r.Request(e)
		due, action, _ := r.Next(r.now)
		run := &Run{Entry: due, Action: action}
		if b := r.Begin(run); b.AskPolicy != want {
			t.Errorf("run %d: %v", i, b.AskPolicy)
		}
		r.Finish(run, &replicate.Report{Drained: true})
	}
}

func TestARefusedPolicyIsToldOnceAndTheCommonOneCounts(t *testing.T) {
	r := newAsking(t)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	short := asked(func(p *policy.Policy) { p.Levels.Retention = time.Hour })
	for range 3 {
		r.SetPolicy(e, short)
		for range 3 {
			if p := r.SetPolicy(e, Asked{Given: true, Err: errBroken}); p != common {
				t.Errorf("%+v counts", p)
			}
		}
	}
	if errs := r.told(); len(errs) != 3 || !errors.Is(errs[0], errBroken) {
		t.Errorf("told %v", errs)
	}
	if p := r.SetPolicy(e, Asked{}); p != common { // nobody was asked
		t.Errorf("%+v counts", p)
	}
}

func TestTooManyPoliciesAreToldOnceForAll(t *testing.T) {
	r := newAsking(t)
	var all []*Entry
	for i := range policy.MaxDistinct + 5 {
		e := r.find(t, fmt.Sprint("db", i), fsid.ID{Dev: 1, Ino: uint64(i + 1)})
		r.SetPolicy(e, asked(func(p *policy.Policy) { p.EvictPriority = i + 1 }))
		all = append(all, e)
	}
	if errs := r.told(); len(errs) != 1 || !errors.Is(errs[0], policy.ErrFull) {
		t.Errorf("told %v", errs)
	}
	last := all[len(all)-1]
	if p := r.SetPolicy(last, asked(func(p *policy.Policy) { p.EvictPriority = 1 })); p.EvictPriority != 1 { // which another one has
		t.Errorf("%+v counts", p)
	}
	if p := r.SetPolicy(last, asked(func(p *policy.Policy) { p.EvictPriority = -1 })); p != common {
		t.Errorf("%+v counts", p)
	}
	for _, e := range all[:10] { // make room
		r.Remove(e, r.NextScan(), false)
	}
	if p := r.SetPolicy(last, asked(func(p *policy.Policy) { p.EvictPriority = -1 })); p.EvictPriority != -1 {
		t.Errorf("%+v counts", p)
	}
}

func TestANewPaceCountsThoughAnotherPolicyHadItsNumber(t *testing.T) {
	r := newAsking(t)
	e, next := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7}), r.find(t, "b", fsid.ID{Dev: 1, Ino: 8})
	r.SetPolicy(e, hot(schedule.Never))
	if s := r.Status(e); s.Tier != schedule.Warm {
		t.Errorf("%v", s.Tier)
	}
	r.Remove(e, r.NextScan(), false)
	r.SetPolicy(next, asked(func(p *policy.Policy) { p.EvictPriority = 1 }))
	if s := r.Status(next); s.Tier != schedule.Hot {
		t.Errorf("%v", s.Tier)
	}
	r.SetPolicy(e, hot(schedule.Always)) // which is known no more
	if c, _ := r.Counts(); c.Hot != 1 || r.policies.table.Len() != 2 {
		t.Errorf("%+v, and %d policies", c, r.policies.table.Len())
	}
}

func TestAShorterRetentionIsLookedAtWhenTheReplicaIsSearchedNext(t *testing.T) {
	r := newAsking(t)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	r.run(t, e, replicate.Report{Drained: true, RetainKnown: true, RetainAt: r.now.Add(24 * time.Hour)})
	longer := asked(func(p *policy.Policy) { p.Levels.Retention *= 2 })
	shorter := asked(func(p *policy.Policy) { p.Levels.Retention /= 2 })
	due := func() bool {
		r.RequestRetention(r.now)
		run, action, ok := r.Next(r.now)
		if !ok {
			return false
		}
		begun := &Run{Entry: run, Action: action}
		b := r.Begin(begun)
		r.Finish(begun, &replicate.Report{Drained: true, RetainKnown: true, RetainAt: r.now.Add(time.Hour)})
		return b.Input.RetainAt == replicate.RetainUnknown
	}
	if r.SetPolicy(e, longer); due() {
		t.Error("a longer one is searched for")
	}
	if r.SetPolicy(e, shorter); !due() {
		t.Error("a shorter one is not")
	}
	if due() {
		t.Error("it is searched for again")
	}
	// It changes during a run, which finds out by the one from before.
	run := r.begin(t, e)
	r.SetPolicy(e, longer)
	r.Finish(run, &replicate.Report{Drained: true, RetainKnown: true, RetainAt: r.now.Add(time.Hour)})
	if !due() {
		t.Error("what a run found by the policy from before counts")
	}
}

func TestADatabaseWhoseFileIsInTheMakingDoesNotBecomeHotYet(t *testing.T) {
	r := newAsking(t)
	h, err := r.Hold("a", &Candidate{Database: registry.Database{ID: "a", Path: "/data/a"}, Prefix: Prefix{Path: "replica/a"}, Policy: hot(schedule.Always)})
	if err != nil {
		t.Fatal(err)
	}
	r.SetPolicy(h.Entry, hot(schedule.Always))
	if _, ok := r.Wake(); ok || r.Status(h.Entry).Tier != schedule.Cold {
		t.Error("it is due before it has a file")
	}
	r.Leased(h.Entry)
	r.LetGo(h.Entry)
	run := r.begin(t, h.Entry)
	r.SetPolicy(h.Entry, hot(schedule.Always))
	r.Finish(run, &replicate.Report{Drained: true})
	if r.Status(h.Entry).Tier != schedule.Hot {
		t.Error("it is not hot")
	}
}

func TestAWriteThatIsSeenOfADatabaseThatIsNeverHotWaitsForTheColdSync(t *testing.T) {
	r := newAsking(t)
	f := registry.Found{ID: "a", Path: "/data/a", Sight: registry.Sight{File: fsid.ID{Dev: 1, Ino: 7}}, Scan: r.NextScan()}
	q, _ := r.Ask(f)
	e := r.Decide(f, q, fsid.ID{}, fsid.ID{}, Candidate{Database: registry.Database{ID: "a", Path: "/data/a"}, Policy: hot(schedule.Never)}).Entry
	if s := r.Status(e); s.Tier != schedule.Cold {
		t.Fatalf("%v", s.Tier)
	}
	r.Look(e, fsid.Files{Main: fsid.Fingerprint{Ino: 7, Size: 4096, Mtime: r.now.UnixNano()}})
	if at, ok := r.Wake(); !ok || at.Before(r.now.Add(time.Minute)) {
		t.Errorf("due at %v, %v", at, ok)
	}
}

func TestWhetherAWriteIsNeedlessToKnowDependsOnThePace(t *testing.T) {
	r := newAsking(t)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	if !r.Needless("a", e.Path()) {
		t.Error("it is looked at every hour, for ten")
	}
	r.SetPolicy(e, asked(func(p *policy.Policy) { p.Pace.HotDuration = time.Hour }))
	if r.Needless("a", e.Path()) {
		t.Error("it is looked at once before it goes cold")
	}
}
