package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// withAndWithoutLog runs a test with a fleet log and without one.
func withAndWithoutLog(t *testing.T, do func(t *testing.T, opts ...multidb.Option)) {
	t.Run("without a log", func(t *testing.T) { do(t) })
	t.Run("with a log", func(t *testing.T) { do(t, multidb.WithFleetLog(multidb.FleetLogConfig{})) })
}

func (f *fleet) at(id multidb.ID) string {
	return filepath.Join(f.root, filepath.Dir(string(id)), "databases", filepath.Base(string(id))+".db")
}

func (f *fleet) wantResident(id multidb.ID, want bool) multidb.Status {
	f.t.Helper()
	st, err := f.m.Status(id)
	if err != nil {
		f.t.Fatal(err)
	}
	_, err = os.Stat(f.at(id))
	if there := err == nil; there != want || st.Resident != want {
		f.t.Errorf("%s: resident %v, its file is there: %v; want %v", id, st.Resident, there, want)
	}
	return st
}

func (f *fleet) readAll(id multidb.ID) []string {
	f.t.Helper()
	out, err := f.tryReadAll(id)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func (f *fleet) tryReadAll(id multidb.ID) (out []string, err error) {
	err = f.m.Do(f.t.Context(), id, func(db *sql.DB) error {
		out, err = insertedInto(db)
		return err
	})
	return out, err
}

// insertedInto returns what was inserted into a database.
func insertedInto(db *sql.DB) (out []string, err error) {
	rs, err := db.Query("SELECT v FROM t ORDER BY k")
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	for rs.Next() {
		var s string
		if err := rs.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rs.Err()
}

func TestAnEvictedDatabaseComesBackWithAllThatWasCommittedAndIsNotForgotten(t *testing.T) {
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		rep := multidbtest.NewReplica()
		root := newTree(t, 1, 2)
		opts = append(opts, multidb.WithReplica(rep), multidb.WithMaxDisk(math.MaxInt64))
		f := start(t, root, opts...)
		const id = "project0/db0"
		f.insert(id, "here")
		if err := f.m.Evict(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		was := f.wantResident(id, false)
		if left, _ := filepath.Glob(f.at(id) + "*"); len(left) > 0 {
			t.Errorf("left on disk: %v", left)
		}
		if pos, err := f.m.Sync(t.Context(), id); err != nil || pos.TXID != was.TXID || pos.TXID == 0 {
			t.Errorf("a Sync of it: %v, %v; want transaction %v", pos, err, was.TXID)
		}
		if err := f.m.Evict(t.Context(), id); err != nil {
			t.Errorf("evicted again: %v", err)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f = start(t, root, opts...)
		f.wantResident(id, false)
		if s := f.m.Stats(); s.Evicted != 1 || s.Databases != 2 {
			t.Errorf("after a restart %d of %d databases are evicted", s.Evicted, s.Databases)
		}
		if got := fmt.Sprint(f.readAll(id)); got != "[0 1 2 here]" {
			t.Errorf("it came back with %s", got)
		}
		f.wantResident(id, true)
		f.insert(id, "again")
		f.sync(id)
		if s := f.m.Stats(); s.Evicted != 0 || s.Resyncs != 0 {
			t.Errorf("%d evicted, %d resyncs", s.Evicted, s.Resyncs)
		}
		if err := f.m.Evict(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(f.readAll(id)); got != "[0 1 2 here again]" {
			t.Errorf("the second time it came back with %s", got)
		}
	})
}

func TestEvictWaitsForALeaseAndAcquireForAnEviction(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxDisk(math.MaxInt64))
	const id = "project0/db0"
	h, err := f.m.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.m.Evict(ctx, id); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, multidb.ErrInUse) {
		t.Errorf("of a leased one: %v", err)
	}
	f.wantResident(id, true)
	h.Release()
	// The replica hangs, and Acquire comes meanwhile.
	hang := make(chan struct{})
	fault := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Until: hang})
	f.insert(id, "x")
	evicted := make(chan error, 1)
	go func() { evicted <- f.m.Evict(t.Context(), id) }()
	<-fault.Hit()
	got := make(chan error, 1)
	go func() { got <- f.m.Do(t.Context(), id, func(*sql.DB) error { return nil }) }()
	select {
	case err := <-got:
		t.Errorf("acquired while it is being evicted: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	close(hang)
	if err := <-evicted; err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	f.wantResident(id, true)
}

func TestAFileStaysWhereTheReplicaRefusesOrAnotherProgramHasIt(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxDisk(math.MaxInt64))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: multidbtest.ErrInjected})
	f.insert(id, "y")
	if err := f.m.Evict(t.Context(), id); !errors.Is(err, multidbtest.ErrInjected) {
		t.Errorf("a replica that refuses: %v", err)
	}
	f.wantResident(id, true)
	rep.ClearFaults()
	other, err := sql.Open("sqlite", f.at(id))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	var n int
	if err := other.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := f.m.Evict(t.Context(), id); !errors.Is(err, multidb.ErrInUse) {
		t.Errorf("another program has it open: %v", err)
	}
	f.wantResident(id, true)
	if st, _ := f.m.Status(id); st.Err != nil {
		t.Errorf("an eviction that was refused makes it unwell: %v", st.Err)
	}
	if _, err := other.Exec("INSERT INTO t(v) VALUES('other')"); err != nil {
		t.Error(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.m.Evict(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.readAll(id)); got != "[0 1 2 x y other]" {
		t.Errorf("it came back with %s", got)
	}
}

func TestADatabaseWhoseFileSomebodyPutBackIsReplicatedAgain(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxDisk(math.MaxInt64))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	kept := filepath.Join(t.TempDir(), "kept.db")
	if err := f.m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: kept}); err != nil {
		t.Fatal(err)
	}
	if err := f.m.Evict(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(kept, f.at(id)); err != nil {
		t.Fatal(err)
	}
	f.insert(id, "y")
	f.wantResident(id, true)
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 x y]" {
		t.Errorf("restored %s", got)
	}
}

func TestALostBackupIsAnErrorAndNeverAnEmptyDatabase(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxDisk(math.MaxInt64), multidb.WithRestoreOnOpen())
	const id = "project0/db0"
	f.sync(id)
	if err := f.m.Evict(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range rep.Prefixes() {
		for _, file := range rep.Files(prefix) {
			if err := rep.Delete(prefix, file.Level, file.MinTXID, file.MaxTXID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := f.m.Acquire(t.Context(), id); !errors.Is(err, multidb.ErrNoBackup) {
		t.Errorf("acquired: %v", err)
	}
	f.wantResident(id, false)
}

// TestALimitedDiskIsKeptWithinItsLimit uses more databases at random than fit.
func TestALimitedDiskIsKeptWithinItsLimit(t *testing.T) {
	t.Parallel()
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		const n, callers, rounds = 30, 6, 20
		seed := rand.Uint64()
		rep := multidbtest.NewReplica()
		root := newTree(t, 1, n)
		fi, err := os.Stat(filepath.Join(root, "project0/databases/db0.db"))
		if err != nil {
			t.Fatal(err)
		}
		limit := 10 * fi.Size()
		f := start(t, root, append(opts, multidb.WithReplica(rep), multidb.WithMaxDisk(limit), multidb.WithMaxOpen(6), multidb.WithScanInterval(time.Hour))...)
		for k := range n {
			f.sync(multidb.ID(fmt.Sprintf("project0/db%d", k)))
		}
		fits := func(multidb.Event) bool { return f.m.Stats().Disk.Used <= limit }
		f.events.wait(t, "as many evictions as there must be", fits)
		wrote := make([][]string, n)
		var mu [n]sync.Mutex
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(c)))
				for i := range rounds {
					k := r.IntN(n)
					id := multidb.ID(fmt.Sprintf("project0/db%d", k))
					v := fmt.Sprintf("%d.%d", c, i)
					mu[k].Lock()
					if err := f.m.Do(t.Context(), id, func(db *sql.DB) error {
						_, err := db.Exec("INSERT INTO t(v) VALUES(?)", v)
						return err
					}); err != nil {
						t.Errorf("seed %d: %s: %v", seed, id, err)
					}
					wrote[k] = append(wrote[k], v)
					mu[k].Unlock()
				}
			})
		}
		wg.Wait()
		f.events.wait(t, "as many evictions as there must be, again", fits)
		s := f.m.Stats().Disk
		if s.Evictions < n-10 || s.Limit != limit {
			t.Errorf("seed %d: %+v", seed, s)
		}
		for k := range n {
			id := multidb.ID(fmt.Sprintf("project0/db%d", k))
			if got, want := fmt.Sprint(f.readAll(id)), fmt.Sprint(append([]string{"0", "1", "2"}, wrote[k]...)); got != want {
				t.Errorf("seed %d: %s has %s, want %s", seed, id, got, want)
			}
		}
	})
}

func TestAnEvictedDatabaseComesBackBelowARootThatHasMoved(t *testing.T) {
	rep := multidbtest.NewReplica()
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithMaxDisk(math.MaxInt64), multidb.WithStateDir(t.TempDir())}
	f := start(t, newTree(t, 1, 1), opts...)
	const id = "project0/db0"
	f.insert(id, "x")
	if err := f.m.Evict(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f = start(t, t.TempDir(), opts...)
	f.wantResident(id, false)
	if got := fmt.Sprint(f.readAll(id)); got != "[0 1 2 x]" {
		t.Errorf("it came back with %s", got)
	}
	f.wantResident(id, true)
}
