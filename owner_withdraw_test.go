package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

const ordered = multidb.ID("p0/d0")

// lagging is a machine whose file of a tenant another machine has gone on from, in a
// bubble of synctest.
type lagging struct {
	t      *testing.T
	rep    *multidbtest.Replica
	root   string
	opts   []multidb.Option
	m      *multidb.Manager
	before os.FileInfo
}

func newLagging(t *testing.T, dir string, opts ...multidb.Option) *lagging {
	t.Helper()
	rep, boot := multidbtest.NewReplica(), virtualBoot()
	begin := func(name string) *lagging {
		l := &lagging{t: t, rep: rep, root: filepath.Join(dir, name)}
		if err := os.MkdirAll(filepath.Join(l.root, "data"), 0o755); err != nil {
			t.Fatal(err)
		}
		l.opts = append([]multidb.Option{multidb.WithDiscoverer(multidb.Glob(filepath.Join(l.root, "data", "{{project}}/{{database}}.db"))),
			multidb.WithReplica(rep), multidb.WithStateDir(filepath.Join(l.root, "state")), multidb.WithRestoreOnOpen(),
			multidb.WithBoot(boot, time.Minute), multidb.WithWatch(false), multidb.WithStat(newStamps().stat)}, opts...)
		l.start()
		return l
	}
	first := begin("first")
	first.write("one", true)
	second := begin("second")
	second.write("two", true)
	second.close()
	first.close()
	first.start() // it looks again
	first.write("three", true)
	first.close()
	second.start()
	var err error
	if second.before, err = os.Stat(second.path()); err != nil {
		t.Fatal(err)
	}
	return second
}

func (l *lagging) path() string { return filepath.Join(l.root, "data/p0/d0.db") }

func (l *lagging) start() {
	l.t.Helper()
	m, err := multidb.New(l.opts...)
	if err == nil {
		err = m.Start(l.t.Context())
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.m = m
}

func (l *lagging) close() {
	l.t.Helper()
	if err := l.m.Close(l.t.Context()); err != nil {
		l.t.Error(err)
	}
}

func (l *lagging) write(v string, sync bool) {
	l.t.Helper()
	err := l.m.Do(l.t.Context(), ordered, func(db *sql.DB) error {
		_, err := db.Exec("CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT); INSERT INTO t(v) VALUES('" + v + "')")
		return err
	})
	if err == nil && sync {
		_, err = l.m.Sync(l.t.Context(), ordered)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// has returns what is in the file that a handle has.
func (l *lagging) has(db *sql.DB) string {
	l.t.Helper()
	var s sql.NullString
	if err := db.QueryRow("SELECT group_concat(v, ' ') FROM (SELECT v FROM t ORDER BY k)").Scan(&s); err != nil {
		l.t.Fatal(err)
	}
	return s.String
}

func (l *lagging) replicaHas(want string) {
	l.t.Helper()
	out := filepath.Join(l.t.TempDir(), "out.db")
	if err := l.m.Restore(l.t.Context(), ordered, multidb.RestoreOptions{OutputPath: out}); err != nil {
		l.t.Fatal(err)
	}
	if got := strings.Join(rows(l.t, out), " "); got != want {
		l.t.Errorf("the replica has %q, want %q", got, want)
	}
}

// kept returns the files that were set aside.
func (l *lagging) kept() (names []string) {
	entries, err := os.ReadDir(filepath.Join(filepath.Dir(l.path()), ".multidb-kept"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.t.Error(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "d0.db-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// stays fails unless the local file is the one that it was.
func (l *lagging) stays(when string) {
	l.t.Helper()
	if now, err := os.Stat(l.path()); err != nil || !os.SameFile(l.before, now) || len(l.kept()) > 0 {
		l.t.Errorf("%s the local file is another one (%v), kept: %v", when, err, l.kept())
	}
}

// The replica answers after the opening has waited for as long as it may. Whoever opened
// the file has it, and nothing is put in its place then.
func TestAnOpeningThatWaitsNoLongerKeepsTheFileThatItGot(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		l := newLagging(t, dir)
		slow := l.rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Delay: time.Minute, Times: 1})
		began := time.Now()
		h, err := l.m.Acquire(t.Context(), ordered)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 5*time.Second || took > 10*time.Second || slow.Hits() != 1 {
			t.Errorf("the opening took %v, with %d slow listings", took, slow.Hits())
		}
		time.Sleep(2 * time.Minute) // of the bubble's clock: the order was carried out
		l.stays("after the answer")
		if got := l.has(h.DB()); got != "one two" {
			t.Errorf("it has %q", got)
		}
		if _, err := h.DB().Exec("INSERT INTO t(v) VALUES('mine')"); err != nil {
			t.Fatal(err)
		}
		h.Release()
		if _, err := l.m.Sync(t.Context(), ordered); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("sync: %v, want ErrFenced", err)
		}
		l.stays("after a commit")
		l.replicaHas("one two three")
		if err := l.m.Close(t.Context()); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("close: %v, want ErrFenced", err)
		}
	})
}

// The file was set aside already when the opening had waited for as long as it may: it
// waits for the other one.
func TestAnOpeningWaitsForAReplacementThatHasBegun(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		armed, held := false, 0 // nothing is asked of the replica any more: an observer holds the run up
		l := newLagging(t, dir, multidb.WithObserver(func(ev multidb.Event) {
			if armed && ev.Type == multidb.EventAdopted {
				held++
				time.Sleep(time.Minute) // of the bubble's clock
			}
		}))
		armed = true
		began := time.Now()
		h, err := l.m.Acquire(t.Context(), ordered)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Minute || held != 1 {
			t.Errorf("the opening took %v, and the replacement was held up %d times", took, held)
		}
		if got := l.has(h.DB()); got != "one two three" || len(l.kept()) == 0 {
			t.Errorf("it has %q, kept: %v", got, l.kept())
		}
		h.Release()
		l.write("four", true)
		l.replicaHas("one two three four")
		l.close()
	})
}

// Adopt waits until no lease is left. Whoever gives up waiting has given no order.
func TestAnAdoptThatWasGivenUpBeforeTheLastReleaseIsNotCarriedOut(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		l := newLagging(t, dir)
		slow := l.rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Delay: time.Minute, Times: 1})
		h, err := l.m.Acquire(t.Context(), ordered)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.DB().Exec("INSERT INTO t(v) VALUES('mine')"); err != nil {
			t.Fatal(err)
		}
		if _, err := l.m.Sync(t.Context(), ordered); !errors.Is(err, multidb.ErrFenced) || slow.Hits() != 1 {
			t.Errorf("sync: %v, want ErrFenced", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.m.Adopt(ctx, ordered); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("adopt while it is leased: %v, want that of ctx", err)
		}
		h.Release()
		for range 2 { // opened anew, as Adopt has made the pool do
			if err := l.m.Do(t.Context(), ordered, func(db *sql.DB) error {
				if got := l.has(db); got != "one two mine" {
					return fmt.Errorf("it has %q", got)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		l.stays("after an Adopt that was given up")
		// And the next one is.
		if kept, err := l.m.Adopt(t.Context(), ordered); err != nil || kept == "" {
			t.Errorf("adopt: %q, %v", kept, err)
		}
		l.close()
	})
}

// TakeOver says that ctx bounds the waiting only: what a run has begun it ends.
func TestATakeOverThatNobodyWaitsForIsDone(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		l := newLagging(t, dir)
		silent := l.rep.Inject(multidbtest.Fault{Err: multidbtest.ErrInjected})
		l.write("mine", false)
		silent.Clear()
		if _, err := l.m.Sync(t.Context(), ordered); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("sync: %v, want ErrFenced", err)
		}
		slow := l.rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Delay: time.Minute, Times: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.m.TakeOver(ctx, ordered); !errors.Is(err, context.DeadlineExceeded) || slow.Hits() != 1 {
			t.Errorf("take over: %v, want that of ctx; %d slow listings", err, slow.Hits())
		}
		time.Sleep(2 * time.Minute)
		l.stays("after a TakeOver")
		l.replicaHas("one two mine")
		if st, err := l.m.Status(ordered); err != nil || st.Err != nil {
			t.Errorf("status: %v, %v", st.Err, err)
		}
		l.close()
	})
}
