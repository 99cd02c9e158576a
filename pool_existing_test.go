package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// filesIn lists all that is below a directory, but the state directory.
func filesIn(t *testing.T, root string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".multidb" {
			return fs.SkipDir
		}
		all = append(all, strings.TrimPrefix(path, root))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// existing acquires a database that exists, and releases it.
func existing(ctx context.Context, m *multidb.Manager, id multidb.ID) error {
	h, err := m.AcquireExisting(ctx, id)
	h.Release()
	return err
}

func TestAMistypedNameMakesNoTenant(t *testing.T) {
	rep := multidbtest.NewReplica()
	for name, opts := range map[string][]multidb.Option{
		"no replica":      nil,
		"a replica":       {multidb.WithReplica(rep)},
		"restore on open": {multidb.WithReplica(rep), multidb.WithRestoreOnOpen()},
		"take over":       {multidb.WithReplica(rep), multidb.WithTakeover(multidb.TakeoverUnknown)},
		"a fleet log":     {multidb.WithReplica(rep), multidb.WithFleetLog(multidb.FleetLogConfig{})},
	} {
		t.Run(name, func(t *testing.T) {
			root := newTree(t, 1, 1)
			f := start(t, root, append(opts, multidb.WithWatch(false), multidb.WithScanInterval(time.Hour))...)
			if name != "no replica" {
				f.sync("project0/db0")
			}
			rep.ResetOperations()
			before := filesIn(t, root)
			for _, id := range []multidb.ID{"project0/bd0", "projct0/db0", "db0", "", "project0/a\x00b", "project0/../db0",
				multidb.ID("project0/" + strings.Repeat("x", 300)), "project0/a\nb"} {
				for range 2 {
					err := existing(t.Context(), f.m, id)
					var e *multidb.Error
					if !errors.Is(err, multidb.ErrNotFound) || !errors.As(err, &e) || e.ID != id {
						t.Errorf("%q: error is %v", id, err)
					}
					if is, err := f.m.Exists(t.Context(), id); is || err != nil {
						t.Errorf("%q exists: %v, %v", id, is, err)
					}
				}
			}
			if after := filesIn(t, root); !slices.Equal(after, before) {
				t.Errorf("there are now %q", after)
			}
			if n := f.m.Stats().Databases; n != 1 {
				t.Errorf("%d databases", n)
			}
			if n := f.events.count(func(ev multidb.Event) bool { return ev.ID != "" && ev.ID != "project0/db0" }); n != 0 {
				t.Errorf("%d events", n)
			}
			for _, op := range rep.Operations() {
				if op.Op != multidbtest.OpList && op.Op != multidbtest.OpListObjects {
					t.Errorf("%s of %s", op.Op, op.Prefix)
				}
			}
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
			f = start(t, root, multidb.WithWatch(false)) // as the catalog has it
			if n := f.m.Stats().Databases; n != 1 {
				t.Errorf("%d databases after a restart", n)
			}
		})
	}
}

func TestWhetherAnUnknownDatabaseExistsCostsOneListingAndIsRemembered(t *testing.T) {
	rep, root := backedUp(t)
	var boot atomic.Int64
	f := start(t, root, multidb.WithReplica(rep), multidb.WithWatch(false), multidb.WithScanInterval(time.Hour),
		multidb.WithBoot(func() time.Duration { return time.Duration(boot.Load()) }, 5*time.Minute))
	base := rep.RequestStats()
	expect := func(when string, id multidb.ID, want bool, list, get int64) {
		t.Helper()
		if is, err := f.m.Exists(t.Context(), id); is != want || err != nil {
			t.Errorf("%s: %v, %v", when, is, err)
		}
		s := rep.RequestStats()
		if s.List-base.List != list || s.Get-base.Get != get || s.Put != base.Put {
			t.Errorf("%s: %d LISTs, %d GETs, %d PUTs; want %d and %d", when, s.List-base.List, s.Get-base.Get, s.Put-base.Put, list, get)
		}
		base = s
	}
	expect("nowhere", "project0/none", false, 1, 0)
	expect("again", "project0/none", false, 0, 0)
	expect("no pattern", "none", false, 0, 0)
	expect("at the replica", "project0/db0", true, 1, 1)
	expect("at the replica, again", "project0/db0", true, 0, 0)
	boot.Add(int64(30*time.Second - 1))
	expect("just before it is too old", "project0/none", false, 0, 0)
	boot.Add(1)
	expect("too old", "project0/none", false, 1, 0)

	if err := f.m.Do(t.Context(), "project0/none", nothing); err != nil {
		t.Fatal(err)
	}
	f.sync("project0/none")
	base = rep.RequestStats()
	if is, err := f.m.Exists(t.Context(), "project0/none"); !is || err != nil {
		t.Errorf("made here: %v, %v", is, err)
	}
	if err := existing(t.Context(), f.m, "project0/none"); err != nil {
		t.Error(err)
	}
	if s := rep.RequestStats(); s.List != base.List {
		t.Errorf("%d LISTs for a database that is known", s.List-base.List)
	}
	makeDB(t, filepath.Join(root, "project0/databases/put.db"), 1)
	expect("a file that no scan has listed", "project0/put", true, 0, 0)
	if err := existing(t.Context(), f.m, "project0/put"); err != nil {
		t.Error(err)
	}
}

func TestThoseWhoAskForOneDatabaseShareOneRequest(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithWatch(false), multidb.WithScanInterval(time.Hour))
	f.sync("project0/db0")
	before := rep.RequestStats().List
	asked := make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	hang := rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Hang: true, Match: func(multidbtest.Operation) bool { once(); return true }})
	ctx, cancel := context.WithCancel(t.Context())
	impatient := make(chan error, 1)
	go func() { impatient <- existing(ctx, f.m, "project0/none") }()
	<-asked
	cancel()
	if err := <-impatient; !errors.Is(err, context.Canceled) || errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("who does not wait: %v", err)
	}
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			if is, err := f.m.Exists(t.Context(), "project0/none"); is || err != nil {
				t.Errorf("%v, %v", is, err)
			}
		})
	}
	hang.Clear()
	all.Wait()
	if n := rep.RequestStats().List - before; n > 2 {
		t.Errorf("%d LISTs", n)
	}
}

func TestAReplicaThatDoesNotAnswerIsNotTakenForNoDatabase(t *testing.T) {
	for _, opts := range [][]multidb.Option{nil, {multidb.WithRestoreOnOpen()}} {
		rep, root := backedUp(t)
		f := start(t, root, append(opts, multidb.WithReplica(rep))...)
		away := errors.New("away")
		fault := rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Err: away})
		for _, id := range []multidb.ID{"project0/db0", "project0/none"} {
			if err := existing(t.Context(), f.m, id); !errors.Is(err, away) || errors.Is(err, multidb.ErrNotFound) {
				t.Errorf("%s: %v", id, err)
			}
			if is, err := f.m.Exists(t.Context(), id); is || !errors.Is(err, away) {
				t.Errorf("%s exists: %v, %v", id, is, err)
			}
		}
		if n := f.m.Stats().Databases; n != 0 {
			t.Errorf("%d databases", n)
		}
		fault.Clear() // and an error is not remembered
		if is, err := f.m.Exists(t.Context(), "project0/db0"); !is || err != nil {
			t.Errorf("afterwards: %v, %v", is, err)
		}
	}
}

func TestAcquireExistingBringsBackWhatTheReplicaHas(t *testing.T) {
	const id = "project0/db0"
	t.Run("on an empty machine that restores on open", func(t *testing.T) {
		rep, root := backedUp(t)
		f := start(t, root, multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
		h, err := f.m.AcquireExisting(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Release()
		if got := atOnce(t, h.DB(), 1, "SELECT count(*) FROM t"); got[0] != "3" {
			t.Errorf("%s rows", got)
		}
	})
	t.Run("not where nothing is restored", func(t *testing.T) {
		rep, root := backedUp(t)
		f := start(t, root, multidb.WithReplica(rep))
		err := existing(t.Context(), f.m, id)
		if !errors.Is(err, multidb.ErrBackupExists) || multidb.ReasonOf(err) != multidb.ReasonConflict || !strings.Contains(err.Error(), "WithRestoreOnOpen") {
			t.Errorf("error is %v", err)
		}
		if is, err := f.m.Exists(t.Context(), id); !is || err != nil {
			t.Errorf("exists: %v, %v", is, err)
		}
		if all := filesIn(t, root); len(all) != 1 || f.m.Stats().Databases != 0 {
			t.Errorf("there is %q", all)
		}
	})
	t.Run("of an evicted one", func(t *testing.T) {
		f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxDisk(1<<30), multidb.WithHotDuration(50*time.Millisecond))
		f.sync(id)
		becomes(t, "evicted", func() bool { return f.m.Evict(t.Context(), id) == nil && f.m.Stats().Evicted == 1 })
		if is, err := f.m.Exists(t.Context(), id); !is || err != nil {
			t.Errorf("exists: %v, %v", is, err)
		}
		if err := existing(t.Context(), f.m, id); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatWasRemovedOrRenamedDoesNotExistByThatName(t *testing.T) {
	const id, other = "project0/db0", "project0/moved"
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
	f.sync(id)
	f.sync("project0/db1")
	g := start(t, t.TempDir(), multidb.WithReplica(rep), multidb.WithRestoreOnOpen()) // another machine
	exists := func(m *multidb.Manager, id multidb.ID, want bool) {
		t.Helper()
		is, err := m.Exists(t.Context(), id)
		for errors.Is(err, multidb.ErrInUse) { // what goes on by itself
			is, err = m.Exists(t.Context(), id)
		}
		if is != want || err != nil {
			t.Errorf("%s exists: %v, %v", id, is, err)
		}
	}
	exists(f.m, other, false)
	if err := f.m.Rename(t.Context(), id, other); err != nil {
		t.Fatal(err)
	}
	if err := f.m.Remove(t.Context(), "project0/db1"); err != nil {
		t.Fatal(err)
	}
	exists(f.m, other, true)
	exists(f.m, id, false)
	exists(f.m, "project0/db1", false)
	exists(g.m, other, true)
	exists(g.m, id, false)
	exists(g.m, "project0/db1", false)
	if err := existing(t.Context(), g.m, "project0/db1"); !errors.Is(err, multidb.ErrRemoved) {
		t.Errorf("a removed one on another machine: %v", err)
	}
	if err := f.m.Undelete(t.Context(), "project0/db1"); err != nil {
		t.Fatal(err)
	}
	exists(f.m, "project0/db1", true)
	if _, err := f.m.Erase(t.Context(), "project0/db1"); err != nil {
		t.Fatal(err)
	}
	exists(f.m, "project0/db1", false)
}

// TestWhatGoesHereIsNotRememberedAsThere: an answer of the replica from before counts no more,
// and where another machine has made it wrong, nothing is made of it.
func TestWhatGoesHereIsNotRememberedAsThere(t *testing.T) {
	const id = "project0/db0"
	rep, root := backedUp(t)
	f := start(t, root, multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
	g := start(t, t.TempDir(), multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
	for _, m := range []*multidb.Manager{f.m, g.m} {
		if is, err := m.Exists(t.Context(), id); !is || err != nil {
			t.Errorf("exists: %v, %v", is, err)
		}
	}
	if _, err := f.m.Erase(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if is, err := f.m.Exists(t.Context(), id); is || err != nil {
		t.Errorf("erased here: %v, %v", is, err)
	}
	if is, err := g.m.Exists(t.Context(), id); !is || err != nil {
		t.Errorf("as it is remembered: %v, %v", is, err)
	}
	if err := existing(t.Context(), g.m, id); !errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("error is %v", err)
	}
	if all := filesIn(t, g.root); len(all) != 1 || g.m.Stats().Databases != 0 {
		t.Errorf("there is %q", all)
	}
}

// TestAnAcquireThatMakesADatabaseIsNotRefusedByOneThatDoesNot: the pool opens it once for
// both.
func TestAnAcquireThatMakesADatabaseIsNotRefusedByOneThatDoesNot(t *testing.T) {
	f := start(t, t.TempDir(), multidb.WithReplica(multidbtest.NewReplica()))
	for i := range 30 {
		id := multidb.ID(fmt.Sprint("p/db", i))
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				if n%2 == 0 {
					if err := f.m.Do(t.Context(), id, nothing); err != nil {
						t.Error(err)
					}
				} else if err := existing(t.Context(), f.m, id); err != nil && !errors.Is(err, multidb.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := existing(t.Context(), f.m, id); err != nil {
			t.Error(err)
		}
	}
}

func TestWhetherADatabaseExistsIsOneRequestOfS3(t *testing.T) {
	var requests atomic.Value
	requests.Store("")
	replica := oddS3(t, func(*multidb.S3Config) {}, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		requests.Store(requests.Load().(string) + " " + r.Method)
		next.ServeHTTP(w, r)
	})
	f := start(t, t.TempDir(), multidb.WithReplica(replica), multidb.WithWatch(false), multidb.WithScanInterval(time.Hour))
	for range 3 {
		if is, err := f.m.Exists(t.Context(), "project0/none"); is || err != nil {
			t.Errorf("%v, %v", is, err)
		}
		if err := existing(t.Context(), f.m, "project0/none"); !errors.Is(err, multidb.ErrNotFound) {
			t.Error(err)
		}
	}
	if got := requests.Load(); got != " GET" || replica.RequestStats().List != 1 {
		t.Errorf("requests:%s, %+v", got, replica.RequestStats())
	}
}

func ExampleManager_AcquireExisting() {
	ctx := context.Background()
	m, stop := exampleManager(multidb.WithReplica(multidbtest.NewReplica()))
	defer stop()
	if err := m.Do(ctx, "acme/orders", func(*sql.DB) error { return nil }); err != nil { // acme signs up
		fmt.Println(err)
	}
	for _, id := range []multidb.ID{"acme/orders", "amce/orders"} {
		h, err := m.AcquireExisting(ctx, id)
		if errors.Is(err, multidb.ErrNotFound) {
			fmt.Println(id, "404")
			continue
		}
		fmt.Println(h.ID(), err)
		h.Release()
	}
	fmt.Println(m.Exists(ctx, "amce/orders"))
	fmt.Println(m.Stats().Databases)
	// Output:
	// acme/orders <nil>
	// amce/orders 404
	// false <nil>
	// 1
}

// Whoever signs up with an ID that has a backup, as one whose file was lost, is told so: an
// empty database in its place would become the newest state of that backup.
func ExampleManager_Acquire_signUp() {
	ctx := context.Background()
	replica := multidbtest.NewReplica()
	signUp := func(m *multidb.Manager, id multidb.ID) {
		err := m.Do(ctx, id, func(*sql.DB) error { return nil })
		switch {
		case err == nil:
			_, err = m.Sync(ctx, id)
			fmt.Println("welcome", err)
		case errors.Is(err, multidb.ErrBackupExists):
			fmt.Println("taken:", multidb.ReasonOf(err))
		default:
			fmt.Println(err)
		}
	}
	m, stop := exampleManager(multidb.WithReplica(replica))
	signUp(m, "acme/orders")
	stop()
	m, stop = exampleManager(multidb.WithReplica(replica)) // a new machine
	defer stop()
	signUp(m, "acme/orders")
	// Output:
	// welcome <nil>
	// taken: conflict
}
