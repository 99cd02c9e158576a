package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestADatabaseThatWentBetweenTwoRunsIsLetGoAtStart(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 2)
	f := start(t, root, multidb.WithReplica(rep))
	f.sync("project0/db0")
	f.sync("project0/db1")
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "project0/databases/db0.db")); err != nil {
		t.Fatal(err)
	}
	g := start(t, root, multidb.WithReplica(rep))
	if _, err := g.m.Status("project0/db0"); !errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("status: %v", err)
	}
	if st, err := g.m.Status("project0/db1"); err != nil || st.TXID == 0 {
		t.Errorf("status of the other: %+v, %v", st, err)
	}
	if got := fmt.Sprint(g.restored("project0/db0", multidb.RestoreOptions{})); got != "[0 1 2]" {
		t.Errorf("restored %v", got)
	}
}

// Whoever needs a new file first reads its first bytes, and who comes meanwhile
// waits for that: it is refused once.
func TestAFileThatIsNoDatabaseIsRefusedByWhoeverNeedsItFirst(t *testing.T) {
	root := newTree(t, 1, 1)
	if err := os.WriteFile(filepath.Join(root, "project0/databases/junk.db"), []byte("not SQLite at all, but long enough"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := f.m.Acquire(t.Context(), "project0/junk"); !errors.Is(err, multidb.ErrNotDatabase) {
				t.Errorf("acquire: %v", err)
			}
			if _, err := f.m.Status("project0/junk"); !errors.Is(err, multidb.ErrNotDatabase) {
				t.Errorf("status: %v", err)
			}
		})
	}
	wg.Wait()
	if n := f.events.count(func(ev multidb.Event) bool { return ev.Type == multidb.EventIgnored }); n != 1 {
		t.Errorf("it was refused %d times", n)
	}
	f.sync("project0/db0")
}

func TestARenamedDatabaseIsANewOneAndTheOldReplicaStays(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	f.sync("project0/db0")
	dir := filepath.Join(f.root, "project0/databases")
	if err := os.Rename(filepath.Join(dir, "db0.db"), filepath.Join(dir, "other.db")); err != nil {
		t.Fatal(err)
	}
	f.events.wait(t, "removed", func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved && ev.ID == "project0/db0" })
	f.events.wait(t, "added", func(ev multidb.Event) bool { return ev.Type == multidb.EventAdded && ev.ID == "project0/other" })
	f.insert("project0/other", "x")
	f.sync("project0/other")
	if got := fmt.Sprint(f.restored("project0/other", multidb.RestoreOptions{})); got != "[0 1 2 x]" {
		t.Errorf("restored %v", got)
	}
	if got := fmt.Sprint(f.restored("project0/db0", multidb.RestoreOptions{})); got != "[0 1 2]" {
		t.Errorf("restored %v", got)
	}
}

// flaky lists what another discoverer does, or fails in the middle.
type flaky struct {
	multidb.Discoverer
	mu   sync.Mutex
	fail error
}

func (d *flaky) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *flaky) Discover(ctx context.Context) iter.Seq2[multidb.Database, error] {
	return func(yield func(multidb.Database, error) bool) {
		d.mu.Lock()
		fail := d.fail
		d.mu.Unlock()
		if fail != nil {
			yield(multidb.Database{}, fail)
			return
		}
		for db, err := range d.Discoverer.Discover(ctx) {
			if !yield(db, err) {
				return
			}
		}
	}
}

func TestAFailedListingRemovesNothing(t *testing.T) {
	root := newTree(t, 1, 3)
	d := &flaky{Discoverer: multidb.Glob(pattern(root))}
	f := start(t, root, multidb.WithDiscoverer(d), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(t.TempDir()))
	f.sync("project0/db2")
	gone := errors.New("volume not mounted")
	d.set(gone)
	f.events.wait(t, "failed scan", func(ev multidb.Event) bool { return ev.Type == multidb.EventScanFailed && errors.Is(ev.Err, gone) })
	if s := f.m.Stats(); s.Databases != 3 {
		t.Errorf("%d databases", s.Databases)
	}
	f.insert("project0/db2", "x")
	f.sync("project0/db2")
}

// TestARemovedDatabaseIsLetGoOfWhateverElseCannotBeListed and what may be there is
// kept.
func TestARemovedDatabaseIsLetGoOfWhateverElseCannotBeListed(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			root, volume := newTree(t, 1, 2), filepath.Join(t.TempDir(), "volume")
			makeDB(t, filepath.Join(volume, "databases/db0.db"), 3)
			makeDB(t, filepath.Join(volume, "far.db"), 3)
			for name, to := range map[string]string{"linked": volume, "project0/databases/far.db": filepath.Join(volume, "far.db")} {
				if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
			}
			state, rep := t.TempDir(), multidbtest.NewReplica()
			opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(state)}
			f := start(t, root, opts...)
			for _, id := range []multidb.ID{"project0/db0", "project0/db1", "project0/far", "linked/db0"} {
				f.sync(id)
			}
			if restarted {
				if err := f.close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Rename(volume, volume+".unmounted"); err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{"", "-wal", "-shm"} {
				if err := os.Remove(filepath.Join(root, "project0/databases/db1.db"+s)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if restarted {
				f = start(t, root, opts...)
			}
			removed := func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved }
			if ev := f.events.wait(t, "db1 is let go of", removed); ev.ID != "project0/db1" {
				t.Errorf("removed: %s", ev.ID)
			}
			if !restarted { // a cold one is not looked at before it is asked for
				f.failed("linked/db0", multidb.ErrMissing)
				f.failed("project0/far", multidb.ErrMissing)
			}
			for _, id := range []multidb.ID{"linked/db0", "project0/far"} {
				if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrMissing) {
					t.Errorf("%s: %v, want ErrMissing", id, err)
				}
			}
			if err := os.Rename(volume+".unmounted", volume); err != nil {
				t.Fatal(err)
			}
			f.sync("linked/db0")
			f.sync("project0/far")
			if n := f.m.Stats().Databases; n != 3 || f.events.count(removed) != 1 {
				t.Errorf("%d databases, %d removed", n, f.events.count(removed))
			}
			if err := f.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheOriginalPatternsAndPathsWorkAsTheyStand(t *testing.T) {
	for _, c := range []struct{ pattern, path, file, id, prefix string }{
		{"*/databases/*.db", "litestream/{{project}}/{{database}}/", "p/databases/d.db", "p/d", "litestream/p/d"},
		{"*/databases/*/branches/*/tenants/*.db", "{{project}}/{{database}}/{{branch}}/{{tenant}}",
			"p/databases/d/branches/b/tenants/t.db", "p/d/b/t", "p/d/b/t"},
	} {
		root := t.TempDir()
		makeDB(t, filepath.Join(root, c.file), 1)
		rep := multidbtest.NewReplica(multidbtest.WithPathTemplate(c.path))
		f := &fleet{t: t, root: root, events: newEventLog()}
		var err error
		f.m, err = multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, c.pattern))), multidb.WithReplica(rep))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.sync(multidb.ID(c.id))
		if got := rep.Prefixes(); len(got) != 1 || got[0] != c.prefix {
			t.Errorf("%s: prefixes %v", c.pattern, got)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := multidb.New(multidb.WithDiscoverer(multidb.Glob("/data/*/databases/*.db")),
		multidb.WithReplica(multidbtest.NewReplica(multidbtest.WithPathTemplate("{{project}}/{{tenant}}"))))
	if !errors.Is(err, multidb.ErrInvalidOption) {
		t.Errorf("a template that uses what the pattern does not capture: %v", err)
	}
}

func TestASecondManagerOnTheStateDirectoryIsKeptOut(t *testing.T) {
	root := newTree(t, 1, 1)
	start(t, root)
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); !errors.Is(err, multidb.ErrInUse) {
		t.Errorf("start: %v", err)
	}
}
