package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

const exchangedID = "project0/db0"

// unwatched keeps scans, watchers and paced runs from finding out what a lease must.
func unwatched(rep multidb.ReplicaFactory, more ...multidb.Option) []multidb.Option {
	return append([]multidb.Option{multidb.WithReplica(rep), multidb.WithWatch(false),
		multidb.WithScanInterval(time.Hour), multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour)}, more...)
}

func (f *fleet) path() string { return filepath.Join(f.root, "project0/databases/db0.db") }

// moveAway moves a database away, with what stands beside it if withLog.
func moveAway(t *testing.T, path string, withLog bool) {
	t.Helper()
	away := filepath.Join(t.TempDir(), "away.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if suffix != "" && !withLog {
			continue
		}
		if err := os.Rename(path+suffix, away+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func (f *fleet) wantRows(what string, got []string, want ...string) {
	f.t.Helper()
	if !slices.Equal(got, want) {
		f.t.Errorf("%s has %v, want %v", what, got, want)
	}
}

func eachLog(t *testing.T, do func(t *testing.T, withLog bool)) {
	for name, withLog := range map[string]bool{"with its log": true, "without its log": false} {
		t.Run(name, func(t *testing.T) { do(t, withLog) })
	}
}

func TestALeaseGetsTheFileThatWasPutInThePlaceOfAnOpenIdleOne(t *testing.T) {
	eachLog(t, func(t *testing.T, withLog bool) {
		f := start(t, newTree(t, 1, 1), unwatched(multidbtest.NewReplica())...)
		f.insert(exchangedID, "good")
		f.sync(exchangedID)
		before := filepath.Join(t.TempDir(), "before.db")
		if err := f.m.Restore(t.Context(), exchangedID, multidb.RestoreOptions{OutputPath: before}); err != nil {
			t.Fatal(err)
		}
		f.insert(exchangedID, "damage")
		f.sync(exchangedID)
		moveAway(t, f.path(), withLog)
		if err := os.Rename(before, f.path()); err != nil {
			t.Fatal(err)
		}
		f.insert(exchangedID, "paid")
		f.sync(exchangedID)
		want := []string{"0", "1", "2", "good", "paid"}
		f.wantRows("the newest restore", f.restored(exchangedID, multidb.RestoreOptions{}), want...)
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f.wantRows("the file", rows(t, f.path()), want...)
		if aside := f.events.has(multidb.EventLogSetAside); aside == withLog {
			t.Errorf("a log was set aside: %v", aside)
		}
	})
}

func TestALeaseRestoresTheFileOfAnOpenIdleDatabaseThatWasRemoved(t *testing.T) {
	eachLog(t, func(t *testing.T, withLog bool) {
		f := start(t, newTree(t, 1, 1), unwatched(multidbtest.NewReplica(), multidb.WithRestoreOnOpen())...)
		f.insert(exchangedID, "good")
		f.sync(exchangedID)
		moveAway(t, f.path(), withLog)
		f.insert(exchangedID, "paid")
		f.sync(exchangedID)
		want := []string{"0", "1", "2", "good", "paid"}
		f.wantRows("the newest restore", f.restored(exchangedID, multidb.RestoreOptions{}), want...)
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f.wantRows("the file", rows(t, f.path()), want...)
	})
}

// exchangeLeased leases the database, and puts another file in its place.
func exchangeLeased(t *testing.T, f *fleet) multidb.Handle {
	t.Helper()
	h, err := f.m.Acquire(t.Context(), exchangedID)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	makeDB(t, other, 2)
	moveAway(t, f.path(), true)
	if err := os.Rename(other, f.path()); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSyncTellsWhoseLeaseIsOfAFileThatWasExchanged(t *testing.T) {
	f := start(t, newTree(t, 1, 1), unwatched(multidbtest.NewReplica())...)
	h := exchangeLeased(t, f)
	if _, err := h.DB().Exec("INSERT INTO t(v) VALUES('lost')"); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"while it is leased", "once it is given back"} {
		if _, err := f.m.Sync(t.Context(), exchangedID); !errors.Is(err, multidb.ErrInUse) {
			t.Errorf("Sync %s: %v, want ErrInUse", when, err)
		}
		h.Release()
	}
	f.insert(exchangedID, "paid")
	f.sync(exchangedID) // it has been told
	f.wantRows("the newest restore", f.restored(exchangedID, multidb.RestoreOptions{}), "0", "1", "paid")
}

func TestCloseTellsOfALeaseOfAFileThatWasExchanged(t *testing.T) {
	f := start(t, newTree(t, 1, 1), unwatched(multidbtest.NewReplica())...)
	h := exchangeLeased(t, f)
	h.Release()
	if err := f.close(); !errors.Is(err, multidb.ErrNotDurable) || !errors.Is(err, multidb.ErrInUse) {
		t.Errorf("Close: %v", err)
	}
}

func TestCloseAndAnIdleCloseLeaveNoLogThatWouldBeAppliedToAnotherFile(t *testing.T) {
	noLog := func(f *fleet) bool {
		fi, err := os.Stat(f.path() + "-wal")
		return errors.Is(err, os.ErrNotExist) || err == nil && fi.Size() == 0
	}
	exchange := func(f *fleet) {
		other := filepath.Join(t.TempDir(), "other.db")
		makeDB(t, other, 2)
		if err := os.Rename(other, f.path()); err != nil {
			t.Fatal(err)
		}
		f.wantRows("the other file", rows(t, f.path()), "0", "1")
	}
	t.Run("Close", func(t *testing.T) {
		f := start(t, newTree(t, 1, 1), unwatched(multidbtest.NewReplica())...)
		f.insert(exchangedID, "x")
		f.sync(exchangedID)
		if noLog(f) {
			t.Fatal("an open database has no log: the test shows nothing")
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		if !noLog(f) {
			t.Error("a log was left behind")
		}
		exchange(f)
	})
	t.Run("idle", func(t *testing.T) {
		f := start(t, newTree(t, 1, 1), unwatched(multidbtest.NewReplica(), multidb.WithIdleTimeout(50*time.Millisecond))...)
		f.insert(exchangedID, "x")
		eventually(t, "no log", func() bool { return noLog(f) })
		exchange(f)
	})
	t.Run("Evict", func(t *testing.T) {
		f := start(t, newTree(t, 1, 1), unwatched(multidbtest.NewReplica())...)
		h, err := f.m.Acquire(t.Context(), exchangedID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.DB().Exec("INSERT INTO t(v) VALUES('x')"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.m.Evict(ctx, exchangedID); !errors.Is(err, context.Canceled) {
			t.Errorf("Evict while it is leased: %v", err)
		}
		h.Release()
		if err := f.m.Evict(t.Context(), exchangedID); err != nil {
			t.Fatal(err)
		}
		if !noLog(f) {
			t.Error("a log was left behind")
		}
		if got := fmt.Sprint(f.restored(exchangedID, multidb.RestoreOptions{})); got != "[0 1 2 x]" {
			t.Errorf("the newest restore has %s", got)
		}
		exchange(f)
		f.insert(exchangedID, "paid")
		f.sync(exchangedID)
		f.wantRows("the newest restore", f.restored(exchangedID, multidb.RestoreOptions{}), "0", "1", "paid")
	})
}

func TestADatabaseThatIsRemovedAfterCloseIsRestoredThoughItsLogStayed(t *testing.T) {
	rep := multidbtest.NewReplica()
	opts := unwatched(rep, multidb.WithRestoreOnOpen())
	f := start(t, newTree(t, 1, 1), opts...)
	f.insert(exchangedID, "x")
	f.sync(exchangedID)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	// As a crash would leave it, or an earlier version.
	leaveWAL(t, f.path())
	if err := os.Remove(f.path()); err != nil {
		t.Fatal(err)
	}
	f = start(t, f.root, opts...)
	f.insert(exchangedID, "y")
	f.sync(exchangedID)
	f.wantRows("the newest restore", f.restored(exchangedID, multidb.RestoreOptions{}), "0", "1", "2", "x", "y")
	ev := f.events.wait(t, "log set aside", func(ev multidb.Event) bool { return ev.Type == multidb.EventLogSetAside })
	if fi, err := os.Stat(ev.Path); err != nil || fi.Size() == 0 {
		t.Errorf("the log that was set aside: %v", err)
	}
}

const dierEnv = "MULTIDB_TEST_DIE_OPEN"

// TestDierProcess is the process that is killed; it does nothing in a normal run.
func TestDierProcess(t *testing.T) {
	root := os.Getenv(dierEnv)
	if root == "" {
		t.Skip("run by other tests")
	}
	f := start(t, root, unwatched(fileReplica(t, filepath.Join(root, "..", "bucket"), "{{project}}/{{database}}"))...)
	for i := range 20 {
		f.insert(exchangedID, fmt.Sprint("old ", i))
	}
	f.sync(exchangedID)
	f.sync(exchangedID) // the run before has ended
	if err := multidb.FlushCatalog(t.Context(), f.m); err != nil {
		t.Fatal(err)
	}
	os.Exit(0) // nothing is closed
}

func TestTheLogOfAKilledProcessIsNotAppliedToTheFileThatWasPutInPlace(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Rename(newTree(t, 1, 1), root); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDierProcess$")
	cmd.Env = append(os.Environ(), dierEnv+"="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	path := filepath.Join(root, "project0/databases/db0.db")
	if fi, err := os.Stat(path + "-wal"); err != nil || fi.Size() == 0 {
		t.Fatalf("no log was left, the test shows nothing: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	makeDB(t, other, 2)
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, unwatched(fileReplica(t, filepath.Join(root, "..", "bucket"), "{{project}}/{{database}}"))...)
	f.insert(exchangedID, "paid")
	f.sync(exchangedID)
	f.wantRows("the newest restore", f.restored(exchangedID, multidb.RestoreOptions{}), "0", "1", "paid")
	if !f.events.has(multidb.EventLogSetAside) {
		t.Error("no event tells of the log")
	}
}
