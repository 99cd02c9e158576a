package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

// ward is a running Manager with one tenant that is about to suffer, "sick", and
// two that are written all the time. Each is in a directory of its own, whose
// name is its ID.
type ward struct {
	t      *testing.T
	dir    string
	place  place
	opts   []multidb.Option
	m      *multidb.Manager
	events *events
	sick   *tenant
	well   []*tenant
	all    bool // the fault is everybody's
	stop   chan struct{}
	seeds  uint64                           // given to tenants so far
	suits  func(name string, l ledger) bool // or the next seed is tried; nil: each does
	wrote  sync.WaitGroup
}

func newWard(t *testing.T, opts ...multidb.Option) *ward {
	t.Helper()
	w := &ward{t: t, dir: t.TempDir(), place: filePlace(t), events: &events{}}
	if err := os.Mkdir(w.data(), 0o755); err != nil {
		t.Fatal(err)
	}
	w.opts = append(fast(w.data(), w.place.factory(t), w.events.observe), opts...)
	w.opts[0] = multidb.WithDiscoverer(multidb.Glob(filepath.Join(w.data(), "{{database}}", "x.db")))
	w.opts = append(w.opts, multidb.WithStateDir(w.state()), multidb.WithTakeover(multidb.TakeoverNever))
	return w
}

func (w *ward) data() string            { return filepath.Join(w.dir, "data") }
func (w *ward) state() string           { return filepath.Join(w.dir, "state") }
func (w *ward) path(name string) string { return filepath.Join(w.data(), name, "x.db") }

// tenant has the next seed: each run of a test has the same ones.
func (w *ward) tenant(name string) *tenant {
	for {
		w.seeds++
		if l := (ledger{w.seeds}); w.suits == nil || w.suits(name, l) {
			return &tenant{t: w.t, w: w, id: multidb.ID(name), l: l}
		}
	}
}

// start starts the Manager, and writers that go on until finish.
func (w *ward) start() {
	w.t.Helper()
	w.manager()
	w.sick = w.tenant("sick")
	w.sick.write(12)
	w.sick.sync()
	for _, name := range []string{"well1", "well2"} {
		p := w.tenant(name)
		p.write(3)
		p.sync()
		w.well = append(w.well, p)
	}
}

func (w *ward) manager() {
	w.t.Helper()
	m, err := multidb.New(w.opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.m = m
	w.t.Cleanup(func() { // of a test that gave up
		w.stopWriters()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = m.Close(ctx)
	})
}

// othersFlow writes the well ones until finish: each commit is at the replica
// within the limits of a tenant, or the test fails.
func (w *ward) othersFlow() {
	stop := make(chan struct{})
	w.stop = stop
	for _, p := range w.well {
		w.wrote.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.write(2)
					p.sync()
					pause(60 * time.Millisecond)
				}
			}
		})
	}
}

// calm is a ledger of which no transaction needs a file to be shipped, up to the
// 600th.
func calm(_ string, l ledger) bool { return l.firstLarge() > 600 }

// maxLag is what Healthy is asked with.
const maxLag = 3 * time.Second

// named waits for Healthy to name the sick one, with an error that is want (nil:
// any) or, if lag may be the answer, with a lag: within 10 s. Nobody else may be named
// with an error.
func (w *ward) named(want error, orLag bool, meanwhile func()) {
	w.t.Helper()
	eventually(w.t, 10*time.Second, func() string {
		if meanwhile != nil {
			meanwhile()
		}
		ok, worst := w.m.Healthy(maxLag)
		found := ""
		for _, st := range worst {
			switch {
			case st.ID == w.sick.id && st.Err != nil && (want == nil || errors.Is(st.Err, want)),
				st.ID == w.sick.id && orLag && st.Lag > maxLag:
				found = "yes"
			case st.ID == w.sick.id:
				found = fmt.Sprintf("it says %v, lag %v; want %v", st.Err, st.Lag, want)
			case st.Err != nil && !w.all:
				w.t.Errorf("%s is named: %v", st.ID, st.Err)
			}
		}
		if found == "yes" && !ok {
			return ""
		}
		return "Healthy does not name it: " + found
	})
}

// healthy waits for everybody to be well again, with no help.
func (w *ward) healthy() {
	w.t.Helper()
	eventually(w.t, 40*time.Second, func() string {
		if ok, worst := w.m.Healthy(maxLag); !ok {
			return fmt.Sprintf("Healthy names %s: %v, lag %v", worst[0].ID, worst[0].Err, worst[0].Lag)
		}
		return ""
	})
}

// arrived waits, without a Sync, for the last commit of the sick one: P3.
func (w *ward) arrived() {
	w.t.Helper()
	eventually(w.t, 40*time.Second, func() string {
		st, err := w.m.Status(w.sick.id)
		if err != nil || st.Err != nil || st.Lag > 0 || st.SyncedAt.Before(w.sick.last) {
			return fmt.Sprintf("lag %v, synced at %v, last commit at %v: %v, %v", st.Lag, st.SyncedAt, w.sick.last, st.Err, err)
		}
		return ""
	})
}

// finish ends the writers and the Manager, and compares every TXID of every
// prefix with its source.
func (w *ward) finish() {
	w.t.Helper()
	w.rest()
	for _, p := range append([]*tenant{w.sick}, w.well...) {
		w.whole(p)
		p.l.checkAll(w.t, w.place.client(w.t, string(p.id)), p.n)
	}
}

// rest ends the writers and the Manager.
func (w *ward) rest() {
	w.t.Helper()
	w.stopWriters()
	closeManager(w.t, w.m)
}

func (w *ward) stopWriters() {
	if w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
	w.wrote.Wait()
}

// whole checks the application's own database.
func (w *ward) whole(p *tenant) {
	w.t.Helper()
	st, err := p.l.verifyCopy(w.t, w.path(string(p.id)))
	if err != nil || st != p.n {
		w.t.Errorf("%s is at transaction %d, want %d: %v", p.id, st, p.n, err)
	}
}

// quiet waits until the sick one is cold, sealed and closed, so that its file
// alone is all of it.
func (w *ward) quiet() {
	w.t.Helper()
	eventually(w.t, 20*time.Second, func() string {
		st, err := w.m.Status(w.sick.id)
		fi, walErr := os.Stat(w.path("sick") + "-wal")
		switch {
		case err != nil || st.Tier != multidb.Cold || st.Err != nil:
			return fmt.Sprintf("it is %v: %v, %v", st.Tier, st.Err, err)
		case walErr == nil && fi.Size() > 0:
			return "it has a WAL"
		case w.m.Stats().Pool.Open > len(w.well):
			return "it is open"
		}
		return ""
	})
}

// run runs a program, which opens and closes what this process must not.
func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// aloneEnv says that a test runs in a process of its own.
const aloneEnv = "MULTIDB_TORTURE_ALONE"

// alone runs a test in a process of its own, behind the words of a command such
// as unshare. It returns true in that process. Where the command cannot be run
// the test is skipped, with its answer as the reason.
func alone(t *testing.T, wrap ...string) bool {
	t.Helper()
	if os.Getenv(aloneEnv) == t.Name() {
		return true
	}
	if len(wrap) > 0 {
		if out, err := exec.Command(wrap[0], append(wrap[1:len(wrap):len(wrap)], "true")...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", wrap, err, out)
		}
	}
	args := append(wrap[:len(wrap):len(wrap)], os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=90s")
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), aloneEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skipf("%s", out)
	case err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// eventLimit bounds the wait for what the next scan tells.
const eventLimit = 10 * time.Second

func newestTXID(t testing.TB, w *ward, name string) ltx.TXID {
	t.Helper()
	files, err := listFiles(w.place.client(t, name))
	if err != nil || len(files) == 0 {
		t.Fatalf("the files of %s: %v, %v", name, files, err)
	}
	return files[len(files)-1].MaxTXID
}

// newest restores the newest state of a prefix, and is its transaction.
func (w *ward) newest(name string, l ledger) int {
	w.t.Helper()
	path, err := restoreFile(w.place.client(w.t, name), w.t.TempDir(), newestTXID(w.t, w, name))
	if err != nil {
		w.t.Error(err)
		return -1
	}
	n, err := l.verifyFile(w.t, path)
	if err != nil {
		w.t.Errorf("the newest state of %s: %v", name, err)
	}
	return n
}

// finishNewest is finish where the sick one's prefix has the history of more
// than one database.
func (w *ward) finishNewest() {
	w.t.Helper()
	w.rest()
	w.whole(w.sick)
	if n := w.newest("sick", w.sick.l); n != w.sick.n {
		w.t.Errorf("the newest state is transaction %d, the source is at %d", n, w.sick.n)
	}
	for _, p := range w.well {
		w.whole(p)
		p.l.checkAll(w.t, w.place.client(w.t, string(p.id)), p.n)
	}
}

func execOutput(args ...string) (string, error) {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	return string(out), err
}
