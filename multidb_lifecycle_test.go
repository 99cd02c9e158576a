package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// calls is every public method of a Manager but Start and Close, as an application
// calls it. A method that is missing here fails the test.
var calls = map[string]func(ctx context.Context, m *multidb.Manager) error{
	"Acquire": func(ctx context.Context, m *multidb.Manager) error {
		h, err := m.Acquire(ctx, "project0/db0")
		if err == nil && h.DB() == nil {
			err = errors.New("no DB")
		}
		h.Release()
		return err
	},
	"AcquireExisting": func(ctx context.Context, m *multidb.Manager) error {
		h, err := m.AcquireExisting(ctx, "project0/db0")
		h.Release()
		return err
	},
	"Exists": func(ctx context.Context, m *multidb.Manager) error {
		_, err := m.Exists(ctx, "project0/none")
		return err
	},
	"Do": func(ctx context.Context, m *multidb.Manager) error {
		return m.Do(ctx, "project0/db0", func(*sql.DB) error { return nil })
	},
	"Sync":    func(ctx context.Context, m *multidb.Manager) error { _, err := m.Sync(ctx, "project0/db0"); return err },
	"SyncAll": func(ctx context.Context, m *multidb.Manager) error { return m.SyncAll(ctx) },
	"RestoreAll": func(ctx context.Context, m *multidb.Manager) error {
		_, err := m.RestoreAll(ctx, multidb.RestoreAllOptions{Dir: filepath.Join(os.TempDir(), "none"), DryRun: true, Pattern: "none/none"})
		return noneSuch(err)
	},
	"Restore": func(ctx context.Context, m *multidb.Manager) error {
		err := m.Restore(ctx, "project0/db0", multidb.RestoreOptions{OutputPath: filepath.Join(os.TempDir(), "no", "such", "\x00")})
		if errors.Is(err, multidb.ErrClosed) || errors.Is(err, multidb.ErrNotStarted) {
			return err
		}
		return nil
	},
	"ReplicaFiles": func(ctx context.Context, m *multidb.Manager) error {
		_, err := m.ReplicaFiles(ctx, "project0/db0", false)
		return err
	},
	"Serving":  func(_ context.Context, m *multidb.Manager) error { return m.Serving() },
	"Status":   func(_ context.Context, m *multidb.Manager) error { _, err := m.Status("project0/db0"); return err },
	"Evict":    func(ctx context.Context, m *multidb.Manager) error { return m.Evict(ctx, "project0/db0") },
	"TakeOver": func(ctx context.Context, m *multidb.Manager) error { return m.TakeOver(ctx, "project0/db0") },
	"Adopt": func(ctx context.Context, m *multidb.Manager) error {
		_, err := m.Adopt(ctx, "project0/db0")
		return err
	},
	"HandOver": func(ctx context.Context, m *multidb.Manager) error { return m.HandOver(ctx, "project0/db0") },
	"Unpack":   func(ctx context.Context, m *multidb.Manager) error { return m.Unpack(ctx, "project0/db0") },
	"Remove":   func(ctx context.Context, m *multidb.Manager) error { return noneSuch(m.Remove(ctx, "project0/none")) },
	"Undelete": func(ctx context.Context, m *multidb.Manager) error { return noneSuch(m.Undelete(ctx, "project0/none")) },
	"Erase": func(ctx context.Context, m *multidb.Manager) error {
		_, err := m.Erase(ctx, "project0/none")
		return err
	},
	"Rename": func(ctx context.Context, m *multidb.Manager) error {
		return noneSuch(m.Rename(ctx, "project0/none", "project0/other"))
	},
	"Fork": func(ctx context.Context, m *multidb.Manager) error {
		return noneSuch(m.Fork(ctx, "project0/none", "project0/other", multidb.ForkOptions{}))
	},
	"Each": func(ctx context.Context, m *multidb.Manager) error {
		return m.Each(ctx, multidb.EachOptions{Pattern: "none/none"}, func(context.Context, multidb.ID, *sql.DB) error { return nil })
	},
	"ForgetEach": func(ctx context.Context, m *multidb.Manager) error { return m.ForgetEach(ctx, "none") },
	"Owner": func(ctx context.Context, m *multidb.Manager) error {
		_, err := m.Owner(ctx, "project0/db0")
		return err
	},
	"Drain": func(ctx context.Context, m *multidb.Manager) error { return m.Drain(ctx) },
	"Everywhere": func(ctx context.Context, m *multidb.Manager) error {
		for _, err := range m.Everywhere(ctx) {
			return err
		}
		return nil
	},
	"NodesNow": func(ctx context.Context, m *multidb.Manager) error { _, err := m.NodesNow(ctx); return err },
	// These say what they know at any time.
	"Stats":   func(_ context.Context, m *multidb.Manager) error { m.Stats(); return nil },
	"Nodes":   func(_ context.Context, m *multidb.Manager) error { m.Nodes(); return nil },
	"Healthy": func(_ context.Context, m *multidb.Manager) error { m.Healthy(time.Hour); return nil },
	"Largest": func(_ context.Context, m *multidb.Manager) error { m.Largest(1, 0); return nil },
	"Removed": func(_ context.Context, m *multidb.Manager) error {
		for range m.Removed() {
			break
		}
		return nil
	},
	"ScanErr": func(_ context.Context, m *multidb.Manager) error { _ = m.ScanErr(); return nil },
	"All": func(_ context.Context, m *multidb.Manager) error {
		for range m.All() {
			break
		}
		return nil
	},
}

// noneSuch leaves out that there is no such database.
func noneSuch(err error) error {
	if errors.Is(err, multidb.ErrNotFound) || errors.Is(err, multidb.ErrNoBackup) {
		return nil
	}
	return err
}

var always = []string{"Stats", "Nodes", "Healthy", "ScanErr", "All", "Largest", "Removed"}

func TestEveryMethodSaysSoBeforeStartAndAfterClose(t *testing.T) {
	var missing []string
	for i := range reflect.TypeFor[*multidb.Manager]().NumMethod() {
		name := reflect.TypeFor[*multidb.Manager]().Method(i).Name
		if name != "Start" && name != "Close" && calls[name] == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		t.Fatalf("not tried: %v", missing)
	}
	all := func(t *testing.T, m *multidb.Manager, want error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for name, call := range calls {
			err := call(ctx, m)
			if slices.Contains(always, name) {
				want := error(nil)
				if err != want {
					t.Errorf("%s: %v", name, err)
				}
			} else if !errors.Is(err, want) {
				t.Errorf("%s: error is %v, want %v", name, err, want)
			}
		}
	}
	fresh := func(t *testing.T, opts ...multidb.Option) *multidb.Manager {
		root := newTree(t, 1, 1)
		m, err := multidb.New(append([]multidb.Option{multidb.WithDiscoverer(multidb.Glob(pattern(root))),
			multidb.WithReplica(multidbtest.NewReplica())}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	mustStart := func(t *testing.T, m *multidb.Manager) {
		t.Helper()
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustClose := func(t *testing.T, m *multidb.Manager) {
		t.Helper()
		for range 3 {
			if err := m.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("new", func(t *testing.T) { all(t, fresh(t), multidb.ErrNotStarted) })
	t.Run("new and closed", func(t *testing.T) {
		m := fresh(t)
		mustClose(t, m)
		all(t, m, multidb.ErrClosed)
		if err := m.Start(t.Context()); err == nil {
			t.Error("a closed Manager can be started")
		}
	})
	t.Run("serving", func(t *testing.T) {
		m := fresh(t)
		mustStart(t, m)
		// The calls come in any order, and Adopt needs a backup.
		if _, err := m.Sync(t.Context(), "project0/db0"); err != nil {
			t.Fatal(err)
		}
		all(t, m, nil)
		if err := m.Start(t.Context()); err == nil {
			t.Error("a Manager can be started twice")
		}
		mustClose(t, m)
		all(t, m, multidb.ErrClosed)
	})
	t.Run("failed", func(t *testing.T) {
		state := t.TempDir()
		other := fresh(t, multidb.WithStateDir(state))
		mustStart(t, other)
		m := fresh(t, multidb.WithStateDir(state))
		if err := m.Start(t.Context()); !errors.Is(err, multidb.ErrInUse) {
			t.Fatalf("got %v", err)
		}
		all(t, m, multidb.ErrClosed)
		mustClose(t, m)
		mustClose(t, other)
	})
	t.Run("cancelled", func(t *testing.T) {
		state := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m := fresh(t, multidb.WithStateDir(state))
		if err := m.Start(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		all(t, m, multidb.ErrClosed)
		again := fresh(t, multidb.WithStateDir(state)) // nothing is held
		mustStart(t, again)
		mustClose(t, again)
	})
	t.Run("all at once", func(t *testing.T) {
		for range 5 {
			m := fresh(t)
			var wg sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			for _, call := range calls {
				for range 2 {
					wg.Go(func() { _ = call(ctx, m) })
				}
			}
			for range 3 {
				wg.Go(func() { _ = m.Start(ctx) })
				wg.Go(func() { _ = m.Close(ctx) })
			}
			wg.Wait()
			cancel()
			mustClose(t, m)
			all(t, m, multidb.ErrClosed)
		}
	})
}

func TestWhatIsKnownMayBeAskedForWhileTheManagerStarts(t *testing.T) {
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(newTree(t, 1, 1)))),
		multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxDisk(1<<40))
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			m.Stats()
			m.Healthy(time.Hour)
			for range m.All() {
				break
			}
			select {
			case <-started:
				return
			default:
			}
		}
	})
	err = m.Start(t.Context())
	close(started)
	wg.Wait()
	if err := errors.Join(err, m.Serving(), m.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// slowDiscoverer lists nothing until it is told to, or its context ends.
type slowDiscoverer struct {
	glob  *multidb.GlobDiscoverer
	begun chan struct{}
	once  sync.Once
	free  chan struct{}
}

func (d *slowDiscoverer) Discover(ctx context.Context) iter.Seq2[multidb.Database, error] {
	return func(yield func(multidb.Database, error) bool) {
		d.once.Do(func() { close(d.begun) })
		select {
		case <-d.free:
		case <-ctx.Done():
			return
		}
		for db, err := range d.glob.Discover(ctx) {
			if !yield(db, err) {
				return
			}
		}
	}
}

func TestCloseEndsAStartThatIsInProgress(t *testing.T) {
	root, state := newTree(t, 1, 1), t.TempDir()
	d := &slowDiscoverer{glob: multidb.Glob(pattern(root)), begun: make(chan struct{}), free: make(chan struct{})}
	m, err := multidb.New(multidb.WithDiscoverer(d), multidb.WithStateDir(state))
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- m.Start(t.Context()) }()
	<-d.begun
	if err := m.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-started; !errors.Is(err, multidb.ErrClosed) {
		t.Errorf("start: %v", err)
	}
	if _, err := m.Acquire(t.Context(), "project0/db0"); !errors.Is(err, multidb.ErrClosed) {
		t.Errorf("acquire: %v", err)
	}
	again, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithStateDir(state))
	if err == nil {
		err = again.Start(t.Context())
	}
	if err == nil {
		err = again.Close(t.Context())
	}
	if err != nil {
		t.Errorf("the state directory is held: %v", err)
	}
}

// panicking is a discoverer whose code is at fault.
type panicking struct{}

func (panicking) Discover(context.Context) iter.Seq2[multidb.Database, error] {
	return func(func(multidb.Database, error) bool) { panic("odd discoverer") }
}

func TestAStartThatPanicsLeavesNothingRunning(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	m, err := multidb.New(multidb.WithDiscoverer(panicking{}), multidb.WithStateDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("no panic")
			}
		}()
		_ = m.Start(t.Context())
	}()
	if _, err := m.Acquire(t.Context(), "x"); !errors.Is(err, multidb.ErrClosed) {
		t.Errorf("Acquire: %v, want ErrClosed", err)
	}
	next, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(t.TempDir()+"/{{tenant}}.db")), multidb.WithStateDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Start(t.Context()); err != nil {
		t.Errorf("the state directory is not free: %v", err)
	}
	_ = next.Close(t.Context())
}

func TestACloseThatRanOutOfTimeIsGoneOnWith(t *testing.T) {
	for name, stage := range map[string]struct {
		fault multidbtest.Fault
		hold  bool // a lease
	}{
		"while a lease is out":       {hold: true},
		"while it ships":             {fault: multidbtest.Fault{Op: multidbtest.OpWrite}},
		"while a compaction goes on": {fault: multidbtest.Fault{Op: multidbtest.OpWrite, Match: func(op multidbtest.Operation) bool { return op.Level > 0 }}},
	} {
		t.Run(name, func(t *testing.T) {
			rep, root := multidbtest.NewReplica(), newTree(t, 1, 1)
			opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithDiscoverer(multidb.Glob(pattern(root))),
				multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour)}
			m, err := multidb.New(opts...)
			if err == nil {
				err = m.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			const id = "project0/db0"
			insert := func() {
				t.Helper()
				if err := m.Do(t.Context(), id, func(db *sql.DB) error {
					_, err := db.Exec("INSERT INTO t(v) VALUES ('x')")
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			for len(rep.Files(id)) < 59 { // the 60th, which Close ships, makes a compaction due
				insert()
				if _, err := m.Sync(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			insert()
			var h multidb.Handle
			free := make(chan struct{})
			var in *multidbtest.Injection
			if stage.hold {
				if h, err = m.Acquire(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			} else {
				stage.fault.Until = free
				in = rep.Inject(stage.fault)
			}
			short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := m.Close(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("the first: %v", err)
			}
			if in != nil {
				close(free)
				in.Clear()
			}
			h.Release()
			for range 2 {
				if err := m.Close(t.Context()); err != nil {
					t.Fatalf("gone on with: %v", err)
				}
			}
			again, err := multidb.New(opts...)
			if err == nil {
				err = again.Start(t.Context())
			}
			if err == nil {
				err = again.Close(t.Context())
			}
			if err != nil {
				t.Fatalf("a new Manager: %v", err)
			}
		})
	}
}

// TestALaterCloseNamesWhatTheFirstGaveUp: nil only if every commit is at the replica.
func TestALaterCloseNamesWhatTheFirstGaveUp(t *testing.T) {
	rep := multidbtest.NewReplica()
	m, err := multidb.New(multidb.WithReplica(rep), multidb.WithDiscoverer(multidb.Glob(pattern(newTree(t, 1, 1)))))
	if err == nil {
		err = m.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	rep.Inject(multidbtest.Fault{Err: errors.New("refused")})
	for range 3 {
		if err := m.Close(t.Context()); !errors.Is(err, multidb.ErrNotDurable) || !strings.Contains(err.Error(), "project0/db0") {
			t.Errorf("got %v", err)
		}
	}
}

func TestASecondCloseKeepsToItsOwnTime(t *testing.T) {
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(newTree(t, 1, 1)))))
	if err == nil {
		err = m.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	h, err := m.Acquire(t.Context(), "project0/db0")
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- m.Close(context.Background()) }()
	for err := error(nil); !errors.Is(err, multidb.ErrClosed); { // the first has begun
		_, err = m.Status("project0/db0")
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := m.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second: %v", err)
	}
	h.Release()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestAnOpenHookThatPanicsFailsItsDatabaseAlone(t *testing.T) {
	for name, fails := range map[string]func(){
		"panics":          func() { panic("odd schema") },
		"ends its thread": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			broken := true
			m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(newTree(t, 1, 2)))),
				multidb.WithOpenHook(func(_ context.Context, db multidb.Database, _ *sql.DB) error {
					if broken && db.ID == "project0/db0" {
						fails()
					}
					return nil
				}))
			if err == nil {
				err = m.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := m.Acquire(t.Context(), "project0/db0"); err == nil || !strings.Contains(fmt.Sprint(err), "panic while it was opened") {
					t.Errorf("got %v", err)
				}
			}
			broken = false
			for _, id := range []multidb.ID{"project0/db1", "project0/db0"} {
				if err := m.Do(t.Context(), id, func(db *sql.DB) error { return db.Ping() }); err != nil {
					t.Error(err)
				}
			}
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADirectoryInThePlaceOfAFileIsNoDatabaseAndNamedByNoClose(t *testing.T) {
	root := newTree(t, 1, 1)
	if err := os.MkdirAll(filepath.Join(root, "project0/databases/dir.db"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	if _, err := f.m.Acquire(t.Context(), "project0/dir"); !errors.Is(err, multidb.ErrNotDatabase) {
		t.Errorf("acquire: %v", err)
	}
	if _, err := f.m.Status("project0/dir"); !errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("status: %v", err)
	}
	if err := f.close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestASpoolThatIsGoneIsMadeAgain(t *testing.T) {
	state := t.TempDir()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(state))
	if err := os.Remove(filepath.Join(state, "spool")); err != nil {
		t.Fatal(err)
	}
	if err := f.m.Do(t.Context(), "project0/db0", func(db *sql.DB) error {
		_, err := db.Exec("INSERT INTO t(v) VALUES (randomblob(8000000))") // larger than memory may be
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f.sync("project0/db0")
}
