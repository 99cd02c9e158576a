package multidb_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// migrations are those of the tests, in plain SQL.
var migrations = []string{
	"ALTER TABLE t ADD COLUMN w TEXT",
	"CREATE INDEX t_w ON t(w)",
}

// migrate brings a database up to the newest schema, however old it is.
func migrate(ctx context.Context, _ multidb.ID, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // of what is not committed
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	for i := version; i < len(migrations); i++ {
		if _, err := tx.ExecContext(ctx, migrations[i]); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", i+1)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (f *fleet) ids() (ids []multidb.ID) {
	for st := range f.m.All() {
		ids = append(ids, st.ID)
	}
	slices.Sort(ids)
	return ids
}

// wantMigrated looks at every database.
func (f *fleet) wantMigrated() {
	f.t.Helper()
	for _, id := range f.ids() {
		var version int
		err := f.m.Do(f.t.Context(), id, func(db *sql.DB) error { return db.QueryRow("PRAGMA user_version").Scan(&version) })
		if err != nil || version != len(migrations) {
			f.t.Errorf("%s has version %d, %v", id, version, err)
		}
	}
}

// counted counts the calls of fn.
func counted(n *atomic.Int64, fn func(context.Context, multidb.ID, *sql.DB) error) func(context.Context, multidb.ID, *sql.DB) error {
	return func(ctx context.Context, id multidb.ID, db *sql.DB) error {
		n.Add(1)
		return fn(ctx, id, db)
	}
}

func asEachError(t *testing.T, err error) *multidb.EachError {
	t.Helper()
	var e *multidb.EachError
	if !errors.As(err, &e) {
		t.Fatalf("%v; want an EachError", err)
	}
	return e
}

func TestAMigrationOfAThousandGoesOnWhereItWasCancelled(t *testing.T) {
	t.Parallel()
	f := start(t, newTreeIn(t, memoryDir(t), 10, 100))
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var calls atomic.Int64
	err := f.m.Each(ctx, multidb.EachOptions{Name: "1", Parallel: 8, OnProgress: func(p multidb.EachProgress) {
		if p.Done == 300 {
			cancel(enough)
		}
	}}, counted(&calls, migrate))
	e := asEachError(t, err)
	if !errors.Is(err, enough) || len(e.Failed) != 0 || e.Done < 300 || e.Done > 308 || e.Done+e.Left != 1000 {
		t.Fatalf("%+v", e)
	}
	before := calls.Swap(0)
	if before < int64(e.Done) || before > int64(e.Done)+8 {
		t.Errorf("%d calls for %d done", before, e.Done)
	}
	var last multidb.EachProgress
	if err := f.m.Each(t.Context(), multidb.EachOptions{Name: "1", OnProgress: func(p multidb.EachProgress) { last = p }}, counted(&calls, migrate)); err != nil {
		t.Fatal(err)
	}
	if calls.Load() != int64(1000-e.Done) || last.Skipped != e.Done || last.Done != 1000-e.Done || last.Left != 0 {
		t.Errorf("then %d calls, at the end %+v", calls.Load(), last)
	}
	f.wantMigrated()

	t.Run("it is remembered by the next Manager, until it is forgotten", func(t *testing.T) {
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		g := start(t, f.root)
		for _, tc := range []struct {
			opt  multidb.EachOptions
			want int64
		}{
			{multidb.EachOptions{Name: "1"}, 0},
			{multidb.EachOptions{Name: "2", Pattern: "project3/db?"}, 10},
			{multidb.EachOptions{Name: "1", Pattern: "project3/*", Again: true}, 100},
			{multidb.EachOptions{Pattern: "project3/db7"}, 1},
			{multidb.EachOptions{Pattern: "project3/db7"}, 1},
		} {
			calls.Store(0)
			if err := g.m.Each(t.Context(), tc.opt, counted(&calls, migrate)); err != nil || calls.Load() != tc.want {
				t.Errorf("%+v: %d calls, %v", tc.opt, calls.Load(), err)
			}
		}
		if err := g.m.ForgetEach(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]int64{"1": 100, "2": 90} {
			calls.Store(0)
			err := g.m.Each(t.Context(), multidb.EachOptions{Name: name, Pattern: "project3/*"}, counted(&calls, migrate))
			if err != nil || calls.Load() != want {
				t.Errorf("after it was forgotten, %q: %d calls, %v", name, calls.Load(), err)
			}
		}
	})
}

func TestEachNamesTheDatabasesThatFailedAndTriesThemAgain(t *testing.T) {
	f := start(t, newTree(t, 1, 10))
	bad := errors.New("bad")
	broken := true
	fn := func(_ context.Context, id multidb.ID, _ *sql.DB) error {
		switch {
		case broken && id == "project0/db3":
			return bad
		case broken && id == "project0/db7":
			panic("so bad")
		}
		return nil
	}
	e := asEachError(t, f.m.Each(t.Context(), multidb.EachOptions{Name: "x"}, fn))
	if len(e.Failed) != 2 || e.Failed[0].ID != "project0/db3" || e.Failed[1].ID != "project0/db7" || e.Done != 8 || e.Stopped != nil {
		t.Fatalf("%+v", e)
	}
	if !errors.Is(e, bad) || !strings.Contains(e.Failed[1].Error(), "each_test.go") {
		t.Errorf("%v", e)
	}
	broken = false
	var calls atomic.Int64
	if err := f.m.Each(t.Context(), multidb.EachOptions{Name: "x"}, counted(&calls, fn)); err != nil || calls.Load() != 2 {
		t.Errorf("then: %d calls, %v", calls.Load(), err)
	}
}

func TestACanaryThatFailsKeepsTheOthersAsTheyAre(t *testing.T) {
	f := start(t, newTree(t, 1, 10))
	bad := errors.New("bad")
	e := asEachError(t, f.m.Each(t.Context(), multidb.EachOptions{}, func(context.Context, multidb.ID, *sql.DB) error { return bad }))
	if len(e.Failed) != 1 || e.Failed[0].ID != "project0/db0" || e.Left != 9 || e.Stopped == nil {
		t.Errorf("%+v", e)
	}
	e = asEachError(t, f.m.Each(t.Context(), multidb.EachOptions{Canary: -1, MaxErrors: -1}, func(context.Context, multidb.ID, *sql.DB) error { return bad }))
	if len(e.Failed) != 10 || e.Left != 0 {
		t.Errorf("without one: %+v", e)
	}
}

func TestTwoOfOneNameAreNotDoneAtOnce(t *testing.T) {
	f := start(t, newTree(t, 1, 2))
	err := f.m.Each(t.Context(), multidb.EachOptions{Name: "x"}, func(ctx context.Context, id multidb.ID, _ *sql.DB) error {
		none := func(context.Context, multidb.ID, *sql.DB) error { return nil }
		if err := f.m.Each(ctx, multidb.EachOptions{Name: "x"}, none); !errors.Is(err, multidb.ErrInUse) {
			t.Errorf("the same name: %v", err)
		}
		if err := f.m.ForgetEach(ctx, "x"); !errors.Is(err, multidb.ErrInUse) {
			t.Errorf("forget it: %v", err)
		}
		return f.m.Each(ctx, multidb.EachOptions{Name: "y"}, none)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEachCallMayAcquireAnotherDatabaseHoweverManyThereAre(t *testing.T) {
	f := start(t, newTree(t, 1, 20), multidb.WithMaxOpen(8))
	ids := f.ids()
	var mu sync.Mutex
	at, most := 0, 0
	all := make(chan struct{})
	err := f.m.Each(t.Context(), multidb.EachOptions{Parallel: 8, Canary: -1, Timeout: time.Minute}, func(ctx context.Context, id multidb.ID, _ *sql.DB) error {
		mu.Lock()
		if at++; at > most {
			most = at
			if most == 4 { // as many as can be
				close(all)
			}
		}
		mu.Unlock()
		select {
		case <-all: // each of them has one, and wants another
		case <-ctx.Done():
			return ctx.Err()
		}
		h, err := f.m.Acquire(ctx, ids[(slices.Index(ids, id)+10)%len(ids)])
		if err == nil {
			h.Release()
		}
		mu.Lock()
		at--
		mu.Unlock()
		return err
	})
	if err != nil || most != 4 {
		t.Errorf("%d at once, %v", most, err)
	}
}

func TestADatabaseThatIsRemovedMeanwhileIsSkippedAndNotMadeAnew(t *testing.T) {
	f := start(t, newTree(t, 1, 4), multidb.WithReplica(multidbtest.NewReplica()))
	var seen []multidb.ID
	var last multidb.EachProgress
	err := f.m.Each(t.Context(), multidb.EachOptions{Parallel: 1, OnProgress: func(p multidb.EachProgress) { last = p }},
		func(ctx context.Context, id multidb.ID, _ *sql.DB) error {
			seen = append(seen, id)
			if id == "project0/db0" {
				return f.m.Remove(ctx, "project0/db2")
			}
			return nil
		})
	if err != nil || len(seen) != 3 || last.Done != 3 || last.Skipped != 1 {
		t.Errorf("%v, %q, %+v", err, seen, last)
	}
	f.wantNoFiles("project0/db2")
}

func TestADatabaseWhoseRemovalGoesOnIsSkipped(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 3), multidb.WithReplica(rep))
	for _, id := range f.ids() {
		f.sync(id)
	}
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: multidbtest.ErrInjected})
	f.insert("project0/db1", "the replica lacks it")
	if err := f.m.Remove(t.Context(), "project0/db1"); !errors.Is(err, multidbtest.ErrInjected) {
		t.Fatal(err)
	}
	var last multidb.EachProgress
	err := f.m.Each(t.Context(), multidb.EachOptions{OnProgress: func(p multidb.EachProgress) { last = p }},
		func(context.Context, multidb.ID, *sql.DB) error { return nil })
	if err != nil || last.Done != 2 || last.Skipped != 1 {
		t.Errorf("%v, %+v", err, last)
	}
}

func TestAnEvictedDatabaseIsBroughtInAndLetGoOfAgain(t *testing.T) {
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		f := start(t, newTree(t, 1, 4), append(opts, multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxDisk(math.MaxInt64))...)
		for _, id := range f.ids()[:3] {
			if err := f.m.Evict(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.m.Each(t.Context(), multidb.EachOptions{Name: "1"}, migrate); err != nil {
			t.Fatal(err)
		}
		for i, id := range f.ids() {
			f.wantResident(id, i == 3)
		}
		f.wantMigrated()
	})
}

func TestEachEndsWithTheManagerAndGoesOnWithTheNext(t *testing.T) {
	f := start(t, newTree(t, 1, 20), multidb.WithReplica(multidbtest.NewReplica()))
	closed := make(chan error, 1)
	var calls atomic.Int64
	err := f.m.Each(t.Context(), multidb.EachOptions{Name: "1", Parallel: 1}, counted(&calls, func(ctx context.Context, id multidb.ID, db *sql.DB) error {
		if id != "project0/db12" {
			return migrate(ctx, id, db)
		}
		go func() { closed <- f.close() }()
		for ; !errors.Is(f.m.Do(ctx, id, func(*sql.DB) error { return nil }), multidb.ErrClosed); <-time.After(time.Millisecond) {
		}
		return migrate(ctx, id, db) // Close waits for it
	}))
	e := asEachError(t, err)
	if err := <-closed; err != nil || !errors.Is(e, multidb.ErrClosed) || e.Done+e.Left != 20 || e.Done < 4 || len(e.Failed) != 0 {
		t.Fatalf("%v, %+v", err, e)
	}
	if err := f.m.Each(t.Context(), multidb.EachOptions{}, migrate); !errors.Is(err, multidb.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	calls.Store(0)
	g := start(t, f.root, multidb.WithReplica(multidbtest.NewReplica()))
	if err := g.m.Each(t.Context(), multidb.EachOptions{Name: "1"}, counted(&calls, migrate)); err != nil || calls.Load() != int64(e.Left) {
		t.Errorf("then: %d calls for %d that were left, %v", calls.Load(), e.Left, err)
	}
	g.wantMigrated()
}

func TestWrongOptionsOfEachAreNamed(t *testing.T) {
	f := start(t, newTree(t, 1, 1))
	none := func(context.Context, multidb.ID, *sql.DB) error { return nil }
	for want, opt := range map[string]multidb.EachOptions{"Pattern": {Pattern: "["}, "Parallel": {Parallel: -1}, "Timeout": {Timeout: -1}} {
		if err := f.m.Each(t.Context(), opt, none); !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := f.m.Each(t.Context(), multidb.EachOptions{}, nil); !errors.Is(err, multidb.ErrInvalidOption) {
		t.Error(err)
	}
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(t.TempDir()))))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Each(t.Context(), multidb.EachOptions{}, none), m.ForgetEach(t.Context(), "x")); !errors.Is(err, multidb.ErrNotStarted) {
		t.Error(err)
	}
}

func TestADryRunOfEachSaysInWhichOrderAndDoesNothing(t *testing.T) {
	f := start(t, newTree(t, 2, 5))
	if err := f.m.Each(t.Context(), multidb.EachOptions{Name: "1", Pattern: "project0/*"}, migrate); err != nil {
		t.Fatal(err)
	}
	opened := f.m.Stats().Pool
	plan := func(opt multidb.EachOptions) (ids []multidb.ID, last multidb.EachProgress) {
		t.Helper()
		opt.DryRun = true
		opt.OnProgress = func(p multidb.EachProgress) {
			if last = p; p.ID != "" {
				ids = append(ids, p.ID)
			}
		}
		if err := f.m.Each(t.Context(), opt, nil); err != nil {
			t.Fatal(err)
		}
		return ids, last
	}
	all := f.ids()
	for range 2 { // nothing is remembered
		if ids, last := plan(multidb.EachOptions{Name: "1"}); !slices.Equal(ids, all[5:]) || last.Skipped != 5 || last.Left != 5 || last.Done != 0 {
			t.Errorf("the other half: %q, %+v", ids, last)
		}
	}
	if ids, _ := plan(multidb.EachOptions{Name: "1", Again: true}); !slices.Equal(ids, all) {
		t.Errorf("again: %q", ids)
	}
	if ids, last := plan(multidb.EachOptions{Pattern: "none/*"}); len(ids) != 0 || last.Left != 0 {
		t.Errorf("of none: %q, %+v", ids, last)
	}
	if now := f.m.Stats().Pool; now != opened {
		t.Errorf("the pool was %+v and is %+v", opened, now)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := f.m.Each(ended, multidb.EachOptions{DryRun: true}, nil); !errors.Is(err, enough) {
		t.Errorf("where ctx has ended: %v", err)
	}
	err := f.m.Each(t.Context(), multidb.EachOptions{Name: "x", Pattern: string(all[0])}, func(ctx context.Context, _ multidb.ID, _ *sql.DB) error {
		return f.m.Each(ctx, multidb.EachOptions{Name: "x", DryRun: true}, nil)
	})
	if !errors.Is(err, multidb.ErrInUse) {
		t.Errorf("beside one of the same name: %v", err)
	}
}

// migrateChild makes the test binary be an application that migrates the fleet in the
// directory it names, and stalls after two thirds of it.
const migrateChild = "MULTIDB_TEST_MIGRATE_CHILD"

func migrateAndStall(root string) {
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))))
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	log.Fatal(m.Each(context.Background(), multidb.EachOptions{Name: "1", OnProgress: func(p multidb.EachProgress) {
		if p.Done == 20 {
			<-time.After(2500 * time.Millisecond) // the notes are written within about a second
		}
		if p.Done == 40 {
			fmt.Println("stalled")
			select {}
		}
	}}, migrate))
}

func TestAMigrationThatWasKilledGoesOn(t *testing.T) {
	t.Parallel()
	root := newTree(t, 1, 60)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), migrateChild+"="+root)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "stalled\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	f := start(t, root)
	var calls atomic.Int64
	if err := f.m.Each(t.Context(), multidb.EachOptions{Name: "1"}, counted(&calls, migrate)); err != nil {
		t.Fatal(err)
	}
	if n := calls.Load(); n < 16 || n > 40 {
		t.Errorf("%d calls; 20 of 60 were remembered, and up to 44 done", n)
	}
	f.wantMigrated()
}
