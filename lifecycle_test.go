package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

const customer = multidb.ID("project0/db0")

// withTable makes the table of a new database.
func withTable() multidb.Option {
	return multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT)")
		return err
	})
}

func (f *fleet) wantRefused(id multidb.ID, want error) {
	f.t.Helper()
	if err := f.m.Do(f.t.Context(), id, func(*sql.DB) error { return nil }); !errors.Is(err, want) {
		f.t.Errorf("acquire %s: %v; want %v", id, err, want)
	}
}

func (f *fleet) wantAll(id multidb.ID, want ...string) {
	f.t.Helper()
	if got := fmt.Sprint(f.readAll(id)); got != fmt.Sprint(want) {
		f.t.Errorf("%s has %s, want %s", id, got, fmt.Sprint(want))
	}
}

func (f *fleet) wantNoFiles(id multidb.ID) {
	f.t.Helper()
	if left, _ := filepath.Glob(f.at(id) + "*"); len(left) > 0 {
		f.t.Errorf("files of %s: %v", id, left)
	}
}

func TestARemovedDatabaseIsOutOfServiceUntilItIsUndeleted(t *testing.T) {
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		rep := multidbtest.NewReplica()
		root := newTree(t, 1, 2)
		opts = append(opts, multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
		f := start(t, root, opts...)
		f.insert(customer, "last words")
		if err := f.m.Remove(t.Context(), customer); err != nil {
			t.Fatal(err)
		}
		f.wantNoFiles(customer)
		f.wantRefused(customer, multidb.ErrRemoved)
		if _, err := f.m.Status(customer); !errors.Is(err, multidb.ErrRemoved) {
			t.Errorf("its status: %v", err)
		}
		if err := f.m.Remove(t.Context(), customer); err != nil {
			t.Errorf("removed again: %v", err)
		}
		if got := fmt.Sprint(f.restored(customer, multidb.RestoreOptions{})); got != "[0 1 2 last words]" {
			t.Errorf("a copy of it has %s", got)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f = start(t, root, opts...)
		f.wantRefused(customer, multidb.ErrRemoved)
		n := 0
		for r := range f.m.Removed() {
			if n++; r.ID != customer || r.EraseAfter.Sub(r.RemovedAt) != 30*24*time.Hour {
				t.Errorf("removed: %+v", r)
			}
		}
		if n != 1 {
			t.Errorf("%d are removed", n)
		}
		if err := f.m.Undelete(t.Context(), customer); err != nil {
			t.Fatal(err)
		}
		f.wantResident(customer, false)
		f.wantAll(customer, "0", "1", "2", "last words")
		f.insert(customer, "back")
		f.sync(customer)
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f = start(t, root, opts...)
		f.wantAll(customer, "0", "1", "2", "last words", "back")
		if err := f.m.Undelete(t.Context(), customer); !errors.Is(err, multidb.ErrInUse) {
			t.Errorf("undeleted in service: %v", err)
		}
	})
}

func TestAnotherMachineKnowsARemovalByItsTombstone(t *testing.T) {
	for name, opts := range map[string][]multidb.Option{"with restores on open": {multidb.WithRestoreOnOpen()}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			rep := multidbtest.NewReplica()
			f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
			f.insert(customer, "x")
			if err := f.m.Remove(t.Context(), customer); err != nil {
				t.Fatal(err)
			}
			g := start(t, t.TempDir(), append(opts, multidb.WithReplica(rep), withTable())...)
			g.wantRefused(customer, multidb.ErrRemoved)
			g.wantNoFiles(customer)
			if err := g.m.Undelete(t.Context(), customer); err != nil {
				t.Fatal(err)
			}
			g.wantAll(customer, "0", "1", "2", "x")
			if err := g.m.Undelete(t.Context(), "project0/none"); !errors.Is(err, multidb.ErrNotFound) {
				t.Errorf("of one that nobody knows: %v", err)
			}
		})
	}
}

func TestBackupsOfARemovedDatabaseAreErasedWhenTheirTimeIsOver(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithRemovedRetention(50*time.Millisecond), withTable())
	f.insert(customer, "x")
	if err := f.m.Remove(t.Context(), customer); err != nil {
		t.Fatal(err)
	}
	f.events.wait(t, "erased", func(ev multidb.Event) bool { return ev.Type == multidb.EventErased && ev.ID == customer })
	if left := rep.Prefixes(); len(left) != 0 {
		t.Errorf("left at the replica: %v", left)
	}
	f.wantAll(customer) // made anew
}

func TestARemovalGoesOnWhenTheStoreIsBack(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	f.insert(customer, "x")
	f.sync(customer)
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: multidbtest.ErrInjected})
	f.insert(customer, "y")
	if err := f.m.Remove(t.Context(), customer); !errors.Is(err, multidbtest.ErrInjected) {
		t.Errorf("the store is down: %v", err)
	}
	f.wantRefused(customer, multidb.ErrRemoved)
	if _, err := os.Stat(f.at(customer)); err != nil {
		t.Errorf("its file, which has what the store lacks: %v", err)
	}
	rep.ClearFaults()
	if err := f.m.Remove(t.Context(), customer); err != nil {
		t.Fatal(err)
	}
	f.wantNoFiles(customer)
	if err := f.m.Undelete(t.Context(), customer); err != nil {
		t.Fatal(err)
	}
	f.wantAll(customer, "0", "1", "2", "x", "y")
}

func TestRemoveWaitsForALeaseAsLongAsItMay(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	h, err := f.m.Acquire(t.Context(), customer)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(context.Context) error{
		"remove": func(ctx context.Context) error { return f.m.Remove(ctx, customer) },
		"erase":  func(ctx context.Context) error { _, err := f.m.Erase(ctx, customer); return err },
		"rename": func(ctx context.Context) error { return f.m.Rename(ctx, customer, "project0/other") },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := do(ctx); !errors.Is(err, multidb.ErrInUse) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	h.Release()
	f.insert(customer, "goes on")
	f.wantAll(customer, "0", "1", "2", "goes on")
}

func TestAnErasedDatabaseLeavesNothingAndASecondCallProvesIt(t *testing.T) {
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		rep := multidbtest.NewReplica()
		root := newTree(t, 1, 2)
		f := start(t, root, append(opts, multidb.WithReplica(rep), withTable())...)
		f.insert(customer, "a secret of mine")
		f.sync(customer)
		f.sync("project0/db1")
		kept := filepath.Join(filepath.Dir(f.at(customer)), ".multidb-kept")
		if err := os.MkdirAll(kept, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{filepath.Join(kept, "db0.db-20260101T000000.000Z-adopted"), f.at(customer) + ".lost-20260101-wal", filepath.Join(kept, "db01.db-x")} {
			if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		done, err := f.m.Erase(t.Context(), customer)
		if err != nil {
			t.Fatal(err)
		}
		if done.ID != customer || !done.Complete() || len(done.Local) < 3 || len(opts) == 0 && done.Objects == 0 {
			t.Errorf("erased: %+v", done)
		}
		if _, err := os.Stat(filepath.Join(kept, "db01.db-x")); err != nil {
			t.Errorf("what is kept of another one: %v", err)
		}
		f.wantNoFiles(customer)
		if left := strings.Join(rep.Prefixes(), " "); strings.Contains(left, "db0") {
			t.Errorf("left at the replica: %v", left)
		}
		again, err := f.m.Erase(t.Context(), customer)
		if err != nil || again.Objects != 0 || again.Versions != 0 || len(again.Local) != 0 || !again.Complete() {
			t.Errorf("the second time: %+v, %v", again, err)
		}
		f.wantAll("project0/db1", "0", "1", "2")
		f.insert(customer, "another one")
		f.sync(customer)
		if err := f.m.Evict(t.Context(), customer); err != nil {
			t.Fatal(err)
		}
		f.wantAll(customer, "another one")
		if got := fmt.Sprint(f.restored(customer, multidb.RestoreOptions{})); got != "[another one]" {
			t.Errorf("restored %s", got)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheCatalogKeepsNoByteOfAnErasedDatabase(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 1)
	f := start(t, root, multidb.WithReplica(rep), withTable())
	const secret = "project0/margarethe-mustermann"
	f.insert(secret, "x")
	if err := f.m.Remove(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := f.m.Erase(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "mustermann") {
			t.Errorf("%s still names it", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestARenamedDatabaseTakesItsHistoryAlong(t *testing.T) {
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		rep := multidbtest.NewReplica()
		root := newTree(t, 1, 2)
		opts = append(opts, multidb.WithReplica(rep), withTable())
		f := start(t, root, opts...)
		f.insert(customer, "first")
		before := f.sync(customer)
		f.insert(customer, "second")
		const to = "project0/renamed"
		if err := f.m.Unpack(t.Context(), customer); err != nil {
			t.Fatal(err)
		}
		if err := f.m.Rename(t.Context(), customer, to); err != nil {
			t.Fatal(err)
		}
		f.wantNoFiles(customer)
		f.wantResident(to, true)
		f.wantAll(to, "0", "1", "2", "first", "second")
		f.insert(to, "third")
		f.sync(to)
		if got := fmt.Sprint(f.restored(to, multidb.RestoreOptions{TXID: before.TXID})); len(opts) == 2 && got != "[0 1 2 first]" {
			t.Errorf("its history has %s", got)
		}
		if left := strings.Join(rep.Prefixes(), " "); strings.Contains(left, "db0") {
			t.Errorf("left at the replica: %v", left)
		}
		f.wantAll(customer) // another one
		if err := f.m.Rename(t.Context(), to, "project0/db1"); !errors.Is(err, multidb.ErrExists) {
			t.Errorf("to one that exists: %v", err)
		}
		if err := f.m.Rename(t.Context(), to, "no/such/id"); !errors.Is(err, multidb.ErrNotFound) {
			t.Errorf("to what no pattern makes: %v", err)
		}
		if err := f.m.Rename(t.Context(), to, to); !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("to itself: %v", err)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f = start(t, root, opts...)
		f.wantAll(to, "0", "1", "2", "first", "second", "third")
		if n := f.m.Stats().Databases; n != 3 {
			t.Errorf("%d databases", n)
		}
	})
}

func TestAForkIsADatabaseOfItsOwn(t *testing.T) {
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		rep := multidbtest.NewReplica()
		root := newTree(t, 1, 1)
		opts = append(opts, multidb.WithReplica(rep))
		f := start(t, root, opts...)
		f.insert(customer, "first")
		before := f.sync(customer)
		f.insert(customer, "second")
		for dst, opt := range map[multidb.ID]multidb.ForkOptions{"project0/now": {}, "project0/then": {TXID: before.TXID}} {
			if err := f.m.Fork(t.Context(), customer, dst, opt); err != nil {
				t.Fatal(err)
			}
			f.wantResident(dst, false)
		}
		f.insert(customer, "of the original")
		f.insert("project0/now", "of the fork")
		f.insert("project0/then", "of the other fork")
		want := func() {
			f.wantAll(customer, "0", "1", "2", "first", "second", "of the original")
			f.wantAll("project0/now", "0", "1", "2", "first", "second", "of the fork")
			f.wantAll("project0/then", "0", "1", "2", "first", "of the other fork")
		}
		want()
		if err := f.m.Fork(t.Context(), customer, customer, multidb.ForkOptions{}); !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("to itself: %v", err)
		}
		if err := f.m.Fork(t.Context(), customer, "project0/now", multidb.ForkOptions{}); !errors.Is(err, multidb.ErrExists) {
			t.Errorf("to one that exists: %v", err)
		}
		if err := f.m.Fork(t.Context(), customer, "project0/early", multidb.ForkOptions{Timestamp: time.Unix(1, 0)}); !errors.Is(err, multidb.ErrNoBackup) {
			t.Errorf("before its history: %v", err)
		}
		if err := f.m.Fork(t.Context(), "project0/none", "project0/early", multidb.ForkOptions{}); !errors.Is(err, multidb.ErrNoBackup) {
			t.Errorf("of one that nobody has: %v", err)
		}
		if left := strings.Join(rep.Prefixes(), " "); strings.Contains(left, "early") {
			t.Errorf("what failed left %v", left)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f = start(t, root, opts...)
		want()
	})
}

func TestAListingOfTheReplicaLeavesOutWhatWasRemoved(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(rep))
	f.sync(customer)
	f.sync("project0/db1")
	if err := f.m.Remove(t.Context(), customer); err != nil {
		t.Fatal(err)
	}
	var all []multidb.ID
	for db, err := range multidb.ListTenants(t.Context(), rep) {
		if err != nil {
			t.Error(err)
		}
		all = append(all, db.ID)
	}
	if fmt.Sprint(all) != "[project0/db1]" {
		t.Errorf("listed %v", all)
	}
}

func TestAFleetOfWhichNothingIsOnThisDiskIsStillOne(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 3)
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithMaxDisk(1 << 40)}
	f := start(t, root, opts...)
	for i := range 3 {
		id := multidb.ID(fmt.Sprintf("project0/db%d", i))
		f.insert(id, "x")
		if err := f.m.Evict(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	// Also where nobody has kept the empty directories.
	if err := os.RemoveAll(filepath.Join(root, "project0")); err != nil {
		t.Fatal(err)
	}
	f = start(t, root, opts...)
	if s := f.m.Stats(); s.Databases != 3 || s.Evicted != 3 {
		t.Errorf("%d databases, %d of them evicted", s.Databases, s.Evicted)
	}
	if err := f.m.ScanErr(); err != nil {
		t.Error(err)
	}
	f.wantAll("project0/db2", "0", "1", "2", "x")
}

// TestNobodyRemovesWhatAnotherMachineGoesOnWith: this one has evicted the tenant, or has it at
// rest, and has not heard of the other.
func TestNobodyRemovesWhatAnotherMachineGoesOnWith(t *testing.T) {
	for name, evict := range map[string]bool{"evicted": true, "at rest": false} {
		for what, do := range map[string]func(ctx context.Context, m *multidb.Manager) error{
			"remove": func(ctx context.Context, m *multidb.Manager) error { return m.Remove(ctx, customer) },
			"erase":  func(ctx context.Context, m *multidb.Manager) error { _, err := m.Erase(ctx, customer); return err },
			"rename": func(ctx context.Context, m *multidb.Manager) error { return m.Rename(ctx, customer, "project0/other") },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				rep := multidbtest.NewReplica()
				opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithMaxDisk(1 << 40), multidb.WithRestoreOnOpen()}
				f := start(t, newTree(t, 1, 1), opts...)
				f.insert(customer, "here")
				f.sync(customer)
				if evict {
					if err := f.m.Evict(t.Context(), customer); err != nil {
						t.Fatal(err)
					}
				}
				g := start(t, t.TempDir(), opts...)
				g.insert(customer, "there")
				g.sync(customer)
				if err := do(t.Context(), f.m); !errors.Is(err, multidb.ErrFenced) {
					t.Errorf("%s: %v", what, err)
				}
				if got := fmt.Sprint(g.restored(customer, multidb.RestoreOptions{})); got != "[0 1 2 here there]" {
					t.Errorf("the other's has %s", got)
				}
				g.insert(customer, "there again")
				g.sync(customer)
				if evict {
					f.wantAll(customer, "0", "1", "2", "here", "there", "there again")
				}
			})
		}
	}
}
