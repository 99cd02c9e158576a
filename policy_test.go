package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

const payer, guest = multidb.ID("project0/db0"), multidb.ID("project1/db0")

// inTime runs a fleet of two tenants by a clock that runs ahead.
func inTime(t *testing.T, fn func(t *testing.T, f *fleet, rep *multidbtest.Replica), opts ...multidb.Option) {
	t.Helper()
	root := newTree(t, 2, 1)
	base := time.Now().Add(time.Second)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rep := multidbtest.NewReplica()
		f := &fleet{t: t, root: root, events: newEventLog()}
		var err error
		f.m, err = multidb.New(append([]multidb.Option{
			multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithReplica(rep), multidb.WithObserver(f.events.observe),
			multidb.WithWatch(false), // waiting for the kernel keeps the clock from running ahead
			multidb.WithClock(func() time.Time { return base.Add(time.Since(began)) }),
		}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		fn(t, f, rep)
		if err := f.m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// commit commits in both tenants, n times with a pause after each.
func (f *fleet) commit(n int, pause time.Duration) {
	f.t.Helper()
	for i := range n {
		for _, id := range []multidb.ID{payer, guest} {
			f.insert(id, fmt.Sprint(i))
		}
		<-time.After(pause)
	}
}

// tiers are those that a tenant came into.
func (f *fleet) tiers(id multidb.ID) map[multidb.Tier]bool {
	f.events.mu.Lock()
	defer f.events.mu.Unlock()
	tiers := map[multidb.Tier]bool{}
	for _, ev := range f.events.all {
		if ev.Type == multidb.EventTier && ev.ID == id {
			tiers[ev.To] = true
		}
	}
	return tiers
}

// refused are the errors that EventPolicy told of a tenant.
func (f *fleet) refused(id multidb.ID) (errs []error) {
	f.events.mu.Lock()
	defer f.events.mu.Unlock()
	for _, ev := range f.events.all {
		if ev.Type == multidb.EventPolicy && ev.ID == id {
			errs = append(errs, ev.Err)
		}
	}
	return errs
}

// byProject gives the tenants of project1 a policy.
func byProject(p multidb.Policy) multidb.Option {
	return multidb.WithPolicy(func(db multidb.Database) multidb.Policy {
		if project, _ := db.Var("project"); project == "project1" {
			return p
		}
		return multidb.Policy{}
	})
}

func TestTwoTenantsAreShippedAsOftenAsTheirPoliciesSay(t *testing.T) {
	for name, c := range map[string]struct {
		policy multidb.Policy
		every  int // seconds
		tier   multidb.Tier
	}{
		"a longer sync interval": {multidb.Policy{SyncInterval: 20 * time.Second}, 20, multidb.Hot},
		"never hot":              {multidb.Policy{Hot: multidb.HotNever}, 30, multidb.Warm},
		"never hot, and slower":  {multidb.Policy{Hot: multidb.HotNever, ColdSyncInterval: time.Minute}, 60, multidb.Warm},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, f *fleet, rep *multidbtest.Replica) {
				<-time.After(10 * time.Minute) // both are cold
				payers, guests := wrote(rep, payer), wrote(rep, guest)
				f.events.mu.Lock()
				f.events.all = nil
				f.events.mu.Unlock()
				const seconds = 300
				f.commit(seconds, time.Second)
				payers, guests = wrote(rep, payer)-payers, wrote(rep, guest)-guests
				if payers < seconds/2 { // two commits in one tick look like one
					t.Errorf("%d of %d commits were shipped each for itself", payers, seconds)
				}
				if least, most := seconds/c.every-1, seconds/c.every+2; guests < least || guests > most {
					t.Errorf("the slower one was shipped %d times, want %d to %d", guests, least, most)
				}
				if got := f.tiers(guest); len(got) != 1 || !got[c.tier] {
					t.Errorf("the slower one came to be %v", got)
				}
				if st, err := f.m.Status(payer); st.Tier != multidb.Hot || err != nil {
					t.Errorf("the other one is %v, %v", st.Tier, err)
				}
				if _, err := f.m.Sync(t.Context(), guest); err != nil { // which waits for nothing
					t.Error(err)
				}
			}, byProject(c.policy))
		})
	}
}

func TestTwoTenantsKeepTheirHistoryForAsLongAsTheirPoliciesSay(t *testing.T) {
	inTime(t, func(t *testing.T, f *fleet, rep *multidbtest.Replica) {
		f.commit(1, 10*time.Minute)
		early := f.now()
		f.commit(60, time.Minute)
		<-time.After(30 * time.Minute) // the retention is looked at every 10 minutes
		for id, kept := range map[multidb.ID]bool{payer: true, guest: false} {
			err := f.m.Restore(t.Context(), id, multidb.RestoreOptions{Timestamp: early, OutputPath: filepath.Join(t.TempDir(), "out.db")})
			if kept != (err == nil) {
				t.Errorf("%s as it was an hour and a half ago: %v", id, err)
			}
			if got := f.restored(id, multidb.RestoreOptions{}); len(got) < 61 {
				t.Errorf("%s has %d rows", id, len(got))
			}
		}
		snapshots := map[string]int{}
		for _, op := range rep.Operations() {
			if op.Op == multidbtest.OpWrite && op.Level == 9 {
				snapshots[op.Prefix]++
			}
		}
		if snapshots[string(guest)] < 5 || snapshots[string(payer)] > 1 {
			t.Errorf("snapshots: %v", snapshots)
		}
	}, multidb.WithRetentionInterval(10*time.Minute),
		byProject(multidb.Policy{Retention: 20 * time.Minute, SnapshotInterval: 10 * time.Minute, L0Retention: time.Minute}))
}

// now is the time by the Manager's clock.
func (f *fleet) now() time.Time {
	f.t.Helper()
	pos := f.sync(payer)
	st, err := f.m.Status(payer)
	if err != nil || st.TXID != pos.TXID {
		f.t.Fatalf("%+v, %v", st, err)
	}
	return st.SyncedAt
}

func TestAPolicyThatChangesCountsFromTheNextListingOn(t *testing.T) {
	var now atomic.Pointer[multidb.Policy]
	now.Store(&multidb.Policy{Hot: multidb.HotNever})
	tier := func(t *testing.T, f *fleet, when string, want multidb.Tier) {
		t.Helper()
		if st, err := f.m.Status(guest); st.Tier != want || err != nil {
			t.Errorf("%s: %v, %v", when, st.Tier, err)
		}
	}
	inTime(t, func(t *testing.T, f *fleet, rep *multidbtest.Replica) {
		<-time.After(10 * time.Minute)
		tier(t, f, "at rest", multidb.Cold)
		now.Store(&multidb.Policy{Hot: multidb.HotAlways})
		<-time.After(31 * time.Second)
		tier(t, f, "always hot, and not written", multidb.Hot)
		<-time.After(time.Hour)
		tier(t, f, "an hour later", multidb.Hot)
		now.Store(&multidb.Policy{HotDuration: time.Hour})
		<-time.After(40 * time.Second)
		tier(t, f, "not written for an hour", multidb.Cold)
		f.commit(1, 50*time.Minute)
		tier(t, f, "written 50 minutes ago", multidb.Hot)
		now.Store(&multidb.Policy{})
		<-time.After(40 * time.Second)
		tier(t, f, "as the others", multidb.Cold)
		// It is asked when it becomes active too, and not only by the next listing.
		now.Store(&multidb.Policy{Hot: multidb.HotNever})
		f.insert(guest, "x")
		<-time.After(2 * time.Second)
		tier(t, f, "never hot", multidb.Warm)
	}, multidb.WithPolicy(func(db multidb.Database) multidb.Policy {
		if db.ID == guest {
			return *now.Load()
		}
		return multidb.Policy{}
	}))
}

func TestAPolicyThatCannotBeIsToldOnceAndTheOptionsCount(t *testing.T) {
	var say atomic.Value
	for name, c := range map[string]struct {
		say  func() multidb.Policy
		want string
	}{
		"a panic":                        {func() multidb.Policy { panic("no such plan") }, "the function panicked: no such plan"},
		"a negative interval":            {func() multidb.Policy { return multidb.Policy{SyncInterval: -time.Second} }, "SyncInterval is -1s; want 0, or a duration above zero"},
		"a heat that is none":            {func() multidb.Policy { return multidb.Policy{Hot: 9} }, "Hot is 9; want HotAuto, HotAlways or HotNever"},
		"a cold sync that is too often":  {func() multidb.Policy { return multidb.Policy{ColdSyncInterval: time.Millisecond} }, "a ColdSyncInterval of 1ms is shorter than the SyncInterval of 1s"},
		"a retention that ends before 0": {func() multidb.Policy { return multidb.Policy{Retention: -1, Hot: multidb.HotNever} }, "Retention is -1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			say.Store(c.say)
			inTime(t, func(t *testing.T, f *fleet, rep *multidbtest.Replica) {
				<-time.After(5 * time.Minute)
				f.commit(1, 2*time.Second)
				for _, id := range []multidb.ID{payer, guest} {
					if st, err := f.m.Status(id); st.Tier != multidb.Hot || st.Err != nil || err != nil {
						t.Errorf("%+v, %v", st, err)
					}
				}
				errs := f.refused(guest)
				if len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want) || !errors.Is(errs[0], multidb.ErrInvalidOption) {
					t.Fatalf("told %v", errs)
				}
				if of, ok := errors.AsType[*multidb.Error](errs[0]); !ok || of.ID != guest {
					t.Errorf("told of %v", errs[0])
				}
				say.Store(func() multidb.Policy { return multidb.Policy{Hot: multidb.HotNever} })
				<-time.After(31 * time.Second)
				if st, _ := f.m.Status(guest); st.Tier != multidb.Warm {
					t.Errorf("then %v", st.Tier)
				}
				say.Store(c.say)
				<-time.After(31 * time.Second)
				if errs := f.refused(guest); len(errs) != 2 {
					t.Errorf("told %d times", len(errs))
				}
			}, multidb.WithPolicy(func(multidb.Database) multidb.Policy { return say.Load().(func() multidb.Policy)() }))
		})
	}
}

func TestAPolicyCountsFromWhenADatabaseIsFoundFirst(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithPolicy(func(multidb.Database) multidb.Policy { return multidb.Policy{Hot: multidb.HotNever} }))
	f.status(payer, "shipped", func(st multidb.Status) bool { return st.Lag == 0 && !st.SyncedAt.IsZero() })
	if got := f.tiers(payer); got[multidb.Hot] {
		t.Errorf("it came to be %v", got)
	}
}

func TestAPolicyCountsForWhatTheCatalogRemembers(t *testing.T) {
	root, rep := newTree(t, 1, 1), multidbtest.NewReplica()
	never := multidb.WithPolicy(func(multidb.Database) multidb.Policy { return multidb.Policy{Hot: multidb.HotNever} })
	f := start(t, root, multidb.WithReplica(rep))
	f.sync(payer)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f.writeBeside(payer, "while down")
	g := start(t, root, multidb.WithReplica(rep), never)
	g.status(payer, "shipped", func(st multidb.Status) bool { return st.Lag == 0 && !st.SyncedAt.IsZero() })
	if got := g.tiers(payer); got[multidb.Hot] {
		t.Errorf("it came to be %v", got)
	}
}

func TestAPolicyThatTakesLongHoldsUpNoOtherTenant(t *testing.T) {
	var block atomic.Bool
	began, end := make(chan struct{}, 1), make(chan struct{})
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithScanInterval(10*time.Millisecond),
		multidb.WithPolicy(func(db multidb.Database) multidb.Policy {
			if db.ID == "project0/db1" && block.CompareAndSwap(true, false) {
				began <- struct{}{}
				<-end
			}
			return multidb.Policy{}
		}))
	block.Store(true)
	<-began
	f.insert(payer, "x")
	f.sync(payer)
	if s := f.m.Stats(); s.Databases != 2 {
		t.Errorf("%+v", s)
	}
	close(end)
}

func TestLookingAtAnIdleDatabaseWithAPolicyAllocatesNothing(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithScanInterval(time.Hour), multidb.WithWatch(false),
		multidb.WithPolicy(func(multidb.Database) multidb.Policy {
			return multidb.Policy{SyncInterval: time.Hour, Retention: time.Hour, Hot: multidb.HotAlways}
		}))
	f.insert(payer, "x")
	f.sync(payer)
	ctx := context.Background()
	eventually(t, "stamps that are old enough to be trusted", func() bool { return multidb.RunOnce(ctx, f.m, payer) })
	if n := testing.AllocsPerRun(200, func() { _ = multidb.RunOnce(ctx, f.m, payer) }); n != 0 {
		t.Errorf("%v allocations to find that nothing was written", n)
	}
}

func TestAPolicyWithoutAFunctionIsRefused(t *testing.T) {
	_, err := multidb.New(multidb.WithDiscoverer(multidb.Glob("/data/{{database}}.db")), multidb.WithPolicy(nil))
	if !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), "WithPolicy: ") {
		t.Error(err)
	}
	for hot, want := range map[multidb.HotPolicy]string{multidb.HotAuto: "auto", multidb.HotAlways: "always", multidb.HotNever: "never", 9: "unknown"} {
		if hot.String() != want {
			t.Errorf("%d is %q", hot, hot)
		}
	}
}
