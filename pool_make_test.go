package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// failing is an application whose open hook, or hook for connections, fails as told.
type failing struct {
	how   atomic.Value // of type string
	calls atomic.Int32
	only  string // the end of the IDs that are meant
	// during is called in the open hook of those, after its statements; nil: nothing.
	during func(context.Context)
}

var errSad = errors.New("sad")

func (f *failing) options() []multidb.Option {
	return []multidb.Option{multidb.WithOpenHook(f.open), multidb.WithConnHook(f.conn)}
}

func (f *failing) open(ctx context.Context, of multidb.Database, db *sql.DB) error {
	f.calls.Add(1)
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT); INSERT INTO t(v) VALUES('by the hook')"); err != nil {
		return err
	}
	if !strings.HasSuffix(string(of.ID), f.only) {
		return nil
	}
	if f.during != nil {
		f.during(ctx)
	}
	switch f.how.Load() {
	case "an error":
		return errSad
	case "a panic":
		panic("sad")
	case "the end of its goroutine":
		runtime.Goexit()
	}
	return nil
}

func (f *failing) conn(context.Context, multidb.Database, *sql.Conn) error {
	if f.how.Load() == "an error of a connection" {
		return errSad
	}
	return nil
}

// TestADatabaseThatCouldNotBeMadeLeavesNothing: no file, no directory, no row, no backup,
// though it is looked at, listed and synced while its open hook is at work.
func TestADatabaseThatCouldNotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	const id = "project9/new"
	policy := multidb.WithPolicy(func(multidb.Database) multidb.Policy { return multidb.Policy{Hot: multidb.HotAlways} })
	for name, opts := range map[string][]multidb.Option{
		"":                {},
		"always hot":      {policy},
		"restore on open": {multidb.WithRestoreOnOpen(), policy},
	} {
		for _, how := range []string{"an error", "a panic", "the end of its goroutine", "an error of a connection"} {
			t.Run(how+" "+name, func(t *testing.T) {
				rep := multidbtest.NewReplica()
				root := newTree(t, 1, 1)
				app := &failing{only: "/new"}
				f := start(t, root, append(append(app.options(), multidb.WithReplica(rep)), opts...)...)
				f.sync("project0/db0")
				rep.ResetOperations()
				var synced error // once all have ended
				var all sync.WaitGroup
				app.during = func(ctx context.Context) {
					all.Go(func() {
						_, synced = f.m.Sync(t.Context(), id)
					})
					// Meanwhile it is run, another is shipped, and all is listed.
					multidb.RunOnce(ctx, f.m, id)
					f.insert("project0/db0", "x")
					f.sync("project0/db0")
					makeDB(t, filepath.Join(root, "project0/databases/seen.db"), 1)
					becomes(t, "listed", func() bool { _, err := f.m.Status("project0/seen"); return err == nil })
					f.sync("project0/seen")
					multidb.RunOnce(ctx, f.m, id)
				}
				app.how.Store("")
				f.insert("project0/db0", "x") // which is open from here on
				app.how.Store(how)
				app.calls.Store(0)
				err := f.m.Do(t.Context(), id, nothing)
				if err == nil || strings.HasPrefix(how, "an error") && !errors.Is(err, errSad) {
					t.Fatalf("error is %v", err)
				}
				all.Wait()
				if how != "an error of a connection" && !errors.Is(synced, multidb.ErrNotFound) {
					t.Errorf("a Sync meanwhile: %v", synced)
				}
				for _, name := range filesIn(t, root) {
					if strings.Contains(name, "project9") {
						t.Errorf("there is %s", name)
					}
				}
				if n := countWrites(rep, "new"); n != 0 {
					t.Errorf("%d writes", n)
				}
				for _, op := range rep.Operations() {
					if strings.HasSuffix(op.Prefix, "new") && op.Op != multidbtest.OpList {
						t.Errorf("%s of %s", op.Op, op.Prefix)
					}
				}
				for s := range f.m.All() {
					if s.ID == id {
						t.Errorf("it is known: %+v", s)
					}
				}
				if is, err := f.m.Exists(t.Context(), id); is || err != nil {
					t.Errorf("exists: %v, %v", is, err)
				}
				// The next one makes it, with all that the hook does.
				app.how.Store("")
				app.during = nil
				calls := app.calls.Load()
				if err := f.m.Do(t.Context(), id, nothing); err != nil || app.calls.Load() != calls+1 {
					t.Errorf("%d more calls, %v", app.calls.Load()-calls, err)
				}
				f.sync(id)
				if got := strings.Join(f.restored(id, multidb.RestoreOptions{}), ","); got != "by the hook" {
					t.Errorf("restored %s", got)
				}
			})
		}
	}
}

// TestADatabaseThatCouldNotBeMadeIsForgottenThoughNobodyWaitsForIt any more, as whoever asked for it has left, or
// the Manager is being closed.
func TestADatabaseThatCouldNotBeMadeIsForgottenThoughNobodyWaitsForIt(t *testing.T) {
	t.Parallel()
	const id = "project9/new"
	for _, closing := range []bool{false, true} {
		t.Run(fmt.Sprintf("closing %v", closing), func(t *testing.T) {
			begun, left := make(chan struct{}), make(chan struct{})
			app := &failing{only: "/new", during: func(context.Context) { close(begun); <-left }}
			app.how.Store("an error")
			f := start(t, newTree(t, 1, 1), append(app.options(), multidb.WithReplica(multidbtest.NewReplica()))...)
			ctx, leave := context.WithCancel(t.Context())
			asked := make(chan error, 1)
			go func() { asked <- f.m.Do(ctx, id, nothing) }()
			<-begun
			closed := make(chan error, 1)
			if closing {
				go func() { closed <- f.close() }()
				if err := <-asked; !errors.Is(err, multidb.ErrClosed) {
					t.Error(err)
				}
			} else {
				leave()
				if err := <-asked; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			close(left)
			if closing {
				if err := <-closed; err != nil {
					t.Error(err)
				}
			}
			f.events.wait(t, "removed", func(e multidb.Event) bool { return e.Type == multidb.EventRemoved && e.ID == id })
			if _, err := f.m.Status(id); !closing && !errors.Is(err, multidb.ErrNotFound) {
				t.Errorf("its status: %v", err)
			}
			leave()
		})
	}
}

// patient is the path of a database that a run may have locked for a moment.
func patient(path string) string { return "file:" + path + "?_pragma=busy_timeout(5000)" }

// TestWhatWasThereBeforeStaysWhereAnOpeningFails: an empty file, a database, what others have
// put into a new directory, and a new database that another program has open by now.
func TestWhatWasThereBeforeStaysWhereAnOpeningFails(t *testing.T) {
	root := newTree(t, 1, 1)
	app := &failing{}
	rep := multidbtest.NewReplica()
	f := start(t, root, append(app.options(), multidb.WithReplica(rep))...)
	app.how.Store("an error")
	fails := func(id multidb.ID) (err error) {
		t.Helper()
		if err = f.m.Do(t.Context(), id, nothing); !errors.Is(err, errSad) {
			t.Errorf("%s: %v", id, err)
		}
		return err
	}
	path := func(name string) string { return filepath.Join(root, name) }
	fails("project0/db0")
	if got := rows(t, patient(path("project0/databases/db0.db"))); len(got) != 4 {
		t.Errorf("a database has %v", got)
	}
	if err := os.WriteFile(path("project0/databases/empty.db"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fails("project0/empty")
	if got := rows(t, patient(path("project0/databases/empty.db"))); len(got) != 1 {
		t.Errorf("an empty file has %v", got)
	}
	// It is put there after it was looked for, while the replica is asked.
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Times: 1, Match: func(op multidbtest.Operation) bool {
		if strings.HasSuffix(op.Prefix, "late") {
			makeDB(t, path("project0/databases/late.db"), 2)
		}
		return strings.HasSuffix(op.Prefix, "late")
	}})
	fails("project0/late")
	if got := rows(t, patient(path("project0/databases/late.db"))); len(got) != 3 {
		t.Errorf("a file that was put there meanwhile has %v", got)
	}
	app.during = func(context.Context) {
		if err := os.WriteFile(path("project7/note"), nil, 0o644); err != nil {
			t.Error(err)
		}
	}
	fails("project7/new")
	if all := filesIn(t, path("project7")); !slices.Equal(all, []string{"", "/note"}) {
		t.Errorf("there is %q", all)
	}
	// A connection that the pool does not know stands for another program.
	var other *sql.DB
	app.during = func(context.Context) {
		var err error
		if other, err = sql.Open("sqlite", path("project8/databases/new.db")); err != nil {
			t.Error(err)
		}
		if _, err := other.Exec("INSERT INTO t(v) VALUES('by another')"); err != nil {
			t.Error(err)
		}
	}
	if err := fails("project8/new"); !strings.Contains(err.Error(), "the new file stays") {
		t.Errorf("error is %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if got := rows(t, patient(path("project8/databases/new.db"))); strings.Join(got, ",") != "by the hook,by another" {
		t.Errorf("it has %v", got)
	}
	app.how.Store("")
	app.during = nil
	f.sync("project8/new") // it is a tenant, and shipped
}

// TestManyWhoMakeDatabasesOfOneNewDirectoryDoNotDisturbEachOther: the last that fails removes it.
func TestManyWhoMakeDatabasesOfOneNewDirectoryDoNotDisturbEachOther(t *testing.T) {
	root := t.TempDir()
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithOpenHook(func(_ context.Context, db multidb.Database, _ *sql.DB) error {
			if strings.HasPrefix(string(db.ID), "p/bad") {
				return errSad
			}
			return nil
		}))
	for range 20 {
		var all sync.WaitGroup
		for _, id := range []multidb.ID{"p/bad0", "p/bad1", "p/bad2", "p/bad0"} {
			all.Go(func() {
				if err := f.m.Do(t.Context(), id, nothing); !errors.Is(err, errSad) {
					t.Errorf("%s: %v", id, err)
				}
			})
		}
		all.Wait()
	}
	if all := filesIn(t, root); len(all) != 1 {
		t.Errorf("there is %q", all)
	}
	for i := range 20 {
		good := multidb.ID("p/good" + string(rune('a'+i)))
		var all sync.WaitGroup
		all.Go(func() {
			if err := f.m.Do(t.Context(), "p/bad0", nothing); !errors.Is(err, errSad) {
				t.Error(err)
			}
		})
		all.Go(func() {
			if err := f.m.Do(t.Context(), good, nothing); err != nil {
				t.Errorf("%s: %v", good, err)
			}
		})
		all.Wait()
		if err := f.m.Remove(t.Context(), good); err != nil && !errors.Is(err, multidb.ErrNoBackup) {
			t.Error(err)
		}
		_ = os.RemoveAll(filepath.Join(root, "p"))
	}
}
