package multidb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// status polls until the status is as wanted.
func (f *fleet) status(id multidb.ID, what string, want func(multidb.Status) bool) multidb.Status {
	f.t.Helper()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := f.m.Status(id)
		if err == nil && want(st) {
			return st
		}
		select {
		case <-tick.C:
		case <-late.C:
			f.t.Fatalf("%s is not %s: %+v, %v", id, what, st, err)
		}
	}
}

func cold(st multidb.Status) bool {
	return st.Tier == multidb.Cold && !st.SyncedAt.IsZero() && st.PendingSince.IsZero() && st.Lag == 0
}
func pending(st multidb.Status) bool { return !st.PendingSince.IsZero() }

// writeBeside writes as another process does: through no pool.
func (f *fleet) writeBeside(id multidb.ID, v string) {
	f.t.Helper()
	project, name, _ := strings.Cut(string(id), "/")
	db, err := sql.Open("sqlite", filepath.Join(f.root, project, "databases", name+".db"))
	if err != nil {
		f.t.Fatal(err)
	}
	_, err = db.Exec("INSERT INTO t(v) VALUES(?)", v)
	if err := errors.Join(err, db.Close()); err != nil {
		f.t.Fatal(err)
	}
}

// wrote counts the level 0 files of a database.
func wrote(rep *multidbtest.Replica, id multidb.ID) int {
	n := 0
	for _, op := range rep.Operations() {
		if op.Op == multidbtest.OpWrite && op.Level == 0 && op.Prefix == string(id) && op.Err == nil {
			n++
		}
	}
	return n
}

// startNone starts a fleet of one cold database, shipped, in which nothing but
// the pool promotes.
func startNone(t *testing.T, opts ...multidb.Option) (*fleet, *multidbtest.Replica, multidb.ID) {
	t.Helper()
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), append([]multidb.Option{multidb.WithReplica(rep), multidb.WithPromotion(0, 0),
		multidb.WithHotDuration(50 * time.Millisecond), multidb.WithColdSyncMode(multidb.ColdSyncNone)}, opts...)...)
	const id = "project0/db0"
	f.status(id, "shipped for the first time", cold)
	return f, rep, id
}

func TestWithColdSyncNoneAChangeOfAColdDatabaseStaysLocalAndIsTold(t *testing.T) {
	for _, watch := range []bool{true, false} {
		t.Run(fmt.Sprint("watch ", watch), func(t *testing.T) {
			f, rep, id := startNone(t, multidb.WithWatch(watch))
			before := wrote(rep, id)
			began := time.Now().Add(-time.Second)
			f.writeBeside(id, "left")
			st := f.status(id, "pending", func(st multidb.Status) bool { return pending(st) && st.LagBytes > 0 })
			if st.PendingSince.Before(began) || st.PendingSince.After(time.Now()) {
				t.Errorf("pending since %v, %d bytes", st.PendingSince, st.LagBytes)
			}
			since := st.PendingSince
			f.writeBeside(id, "left too")
			// What comes later is seen by a scan that began later, and shipped.
			for i := range 3 {
				later := multidb.ID(fmt.Sprint("project0/later", i))
				whole := filepath.Join(t.TempDir(), "later.db")
				makeDB(t, whole, 1)
				if err := os.Rename(whole, filepath.Join(f.root, "project0/databases", fmt.Sprint("later", i, ".db"))); err != nil {
					t.Fatal(err)
				}
				f.status(later, "shipped", func(st multidb.Status) bool { return st.TXID > 0 })
			}
			st = f.status(id, "still pending", pending)
			if !st.PendingSince.Equal(since) || st.Tier != multidb.Cold || st.Err != nil {
				t.Errorf("then %+v; it was pending since %v", st, since)
			}
			if n := wrote(rep, id); n != before {
				t.Errorf("%d files were shipped: %v", n-before, rep.Operations())
			}
			if n := f.m.Stats().Pending; n != 1 {
				t.Errorf("Stats says %d", n)
			}
			if ok, worst := f.m.Healthy(10 * time.Second); !ok {
				t.Errorf("not healthy: %+v", worst)
			}
			if got := f.restored(id, multidb.RestoreOptions{}); slices.Contains(got, "left") {
				t.Errorf("restored %v", got)
			}
		})
	}
}

func TestWithColdSyncNoneTheRetentionLeavesAChangeWhereItIs(t *testing.T) {
	var later atomic.Int64
	f, rep, id := startNone(t, multidb.WithRetentionInterval(20*time.Millisecond),
		multidb.WithClock(func() time.Time { return time.Now().Add(time.Duration(later.Load())) }))
	for i := range 3 {
		f.insert(id, fmt.Sprint("v", i))
		f.sync(id)
	}
	f.status(id, "cold", cold)
	before := wrote(rep, id)
	fault := rep.Inject(multidbtest.Fault{Op: multidbtest.OpDelete, Prefix: string(id), Err: multidbtest.ErrInjected})
	f.writeBeside(id, "left")
	f.status(id, "pending", pending)
	later.Store(int64(time.Hour)) // what is compacted is to be deleted
	// The next attempt lists what is there, and has nothing to delete for a while.
	f.events.wait(t, "failed", func(ev multidb.Event) bool { return ev.Type == multidb.EventFailed && ev.ID == id })
	fault.Clear()
	f.status(id, "pending and well", func(st multidb.Status) bool { // no run looks at it right now, which is a lag
		return st.Err == nil && pending(st) && st.Failures == 0 && st.Lag == 0
	})
	if ok, worst := f.m.Healthy(10 * time.Second); !ok { // an hour after the change
		t.Errorf("not healthy: %+v", worst)
	}
	if n := wrote(rep, id); n != before {
		t.Errorf("%d files were shipped", n-before)
	}
	f.events.wait(t, "recovered", func(ev multidb.Event) bool { return ev.Type == multidb.EventRecovered && ev.ID == id })
}

func TestWhatColdSyncNoneLeftIsShippedByPromotionSyncAndClose(t *testing.T) {
	f, rep, id := startNone(t)
	check := func(how, v string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out.db")
		if err := f.m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: out}); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, out); !slices.Contains(got, v) {
			t.Errorf("after %s: restored %v", how, got)
		}
		if n := f.m.Stats().Pending; n != 0 {
			t.Errorf("after %s: %d pending", how, n)
		}
	}
	f.writeBeside(id, "a")
	f.status(id, "pending", pending)
	f.sync(id)
	check("Sync", "a")
	if st := f.status(id, "cold", cold); st.LagBytes != 0 {
		t.Errorf("after Sync: %d bytes", st.LagBytes)
	}

	f.writeBeside(id, "b")
	f.status(id, "pending", pending)
	f.insert(id, "through the pool")
	f.status(id, "shipped", cold)
	check("a promotion", "b")

	f.writeBeside(id, "c")
	f.status(id, "pending", pending)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	g := start(t, t.TempDir(), multidb.WithReplica(rep))
	if got := g.restored(id, multidb.RestoreOptions{}); !slices.Contains(got, "c") {
		t.Errorf("after Close: restored %v", got)
	}
}

func TestWithColdSyncNoneASyncThatFailedIsTriedUntilItIsThere(t *testing.T) {
	f, rep, id := startNone(t)
	f.writeBeside(id, "x")
	f.status(id, "pending", pending)
	fault := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Times: 2, Err: multidbtest.ErrInjected})
	if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, multidbtest.ErrInjected) {
		t.Fatal(err)
	}
	f.status(id, "shipped", cold)
	if n := fault.Hits(); n != 2 {
		t.Errorf("%d attempts failed", n)
	}
	if got := f.restored(id, multidb.RestoreOptions{}); !slices.Contains(got, "x") {
		t.Errorf("restored %v", got)
	}
}

func TestWithColdSyncNoneADatabaseThatTheReplicaLacksIsShippedOnce(t *testing.T) {
	f, rep, id := startNone(t)
	if n := wrote(rep, id); n != 1 {
		t.Errorf("%d files", n)
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2]" {
		t.Errorf("restored %v", got)
	}
}

func TestWithColdSyncNoneWhatAnotherRunLeftIsPendingAfterAStart(t *testing.T) {
	f, rep, id := startNone(t)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f.writeBeside(id, "while down")
	g := start(t, f.root, multidb.WithReplica(rep), multidb.WithPromotion(0, 0), multidb.WithColdSyncMode(multidb.ColdSyncNone))
	g.status(id, "pending", pending)
	if got := g.restored(id, multidb.RestoreOptions{}); slices.Contains(got, "while down") {
		t.Errorf("restored %v", got)
	}
}

func TestWithColdSyncSnapshotAChangeOfAColdDatabaseIsShippedSoon(t *testing.T) {
	f, _, id := startNone(t, multidb.WithColdSyncMode(multidb.ColdSyncSnapshot), multidb.WithWatch(false))
	txid := f.status(id, "cold", cold).TXID
	f.writeBeside(id, "soon")
	f.status(id, "shipped", func(st multidb.Status) bool { return st.TXID > txid && cold(st) })
	if got := f.restored(id, multidb.RestoreOptions{}); !slices.Contains(got, "soon") {
		t.Errorf("restored %v", got)
	}
}

func TestAnUnknownColdSyncModeIsRefused(t *testing.T) {
	_, err := multidb.New(multidb.WithDiscoverer(multidb.Glob("/data/{{database}}.db")), multidb.WithColdSyncMode(7))
	if !errors.Is(err, multidb.ErrInvalidOption) {
		t.Error(err)
	}
	for mode, want := range map[multidb.ColdSyncMode]string{multidb.ColdSyncSnapshot: "snapshot", multidb.ColdSyncNone: "none", 7: "unknown"} {
		if mode.String() != want {
			t.Errorf("%d is %q", mode, mode)
		}
	}
}
