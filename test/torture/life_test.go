package torture

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

// The steps at which a process dies.
var (
	vacatePoints = []string{"evict.delete.before", "evict.delete-wal.after", "evict.delete-shm.after", "evict.delete.after"}
	notePoints   = []string{"catalog.notes.before@1", "catalog.notes.after@1", "catalog.notes.before@2", "catalog.notes.after@2"}
)

// lifeVerb is what is done to the database "a", with what it must be afterwards.
type lifeVerb struct {
	name   string
	before []string // each of which is done before
	do     string
	points []string
	// after looks at what a process does that is started on what the crash left, and lost at
	// that of one whose state directory is gone as well.
	after func(l *tenantLife)
	lost  func(l *tenantLife)
}

var written = []string{"write a", "sync a", "write a", "sync a"}

const lifeRows = 24

var lifeVerbs = []lifeVerb{
	{
		name: "evict", before: written, do: "evict a", points: slices.Concat(vacatePoints, notePoints),
		after: func(l *tenantLife) { l.inService("a"); l.is("a", lifeRows) },
		lost:  func(l *tenantLife) { l.is("a", lifeRows) },
	},
	{
		name: "acquire", before: append(slices.Clone(written), "evict a"), do: "acquire a",
		points: []string{"restore.link.before", "restore.link.after", "catalog.commit.before", "catalog.commit.after"},
		after:  func(l *tenantLife) { l.inService("a"); l.is("a", lifeRows) },
		lost:   func(l *tenantLife) { l.is("a", lifeRows) },
	},
	{
		name: "remove", before: written, do: "remove a",
		points: slices.Concat(vacatePoints, notePoints, []string{"life.remove.noted", "life.remove.vacated", "life.remove.entombed", "life.removed.noted", "file.publish.before", "catalog.notes.before@3"}),
		after: func(l *tenantLife) {
			l.oneOf("a")
			l.must("remove again", l.m.Remove(l.ctx, "a"))
			l.refused("a")
			l.noFiles("a")
			l.must("undelete", l.m.Undelete(l.ctx, "a"))
			l.inService("a")
			l.is("a", lifeRows)
		},
		lost: func(l *tenantLife) { l.backInService("a") },
	},
	{
		name: "remove an empty one", before: []string{"create a"}, do: "remove a",
		points: slices.Concat(notePoints, []string{"life.remove.noted", "life.remove.ended"}),
		after: func(l *tenantLife) {
			err := l.m.Remove(l.ctx, "a")
			if err != nil && !errors.Is(err, multidb.ErrNotFound) {
				l.t.Errorf("remove again: %v", err)
			}
			l.is("a", 0)
		},
		lost: func(l *tenantLife) { l.is("a", 0) },
	},
	{
		name: "undelete", before: append(slices.Clone(written), "remove a"), do: "undelete a",
		points: slices.Concat(notePoints, []string{"life.undelete.unmarked", "life.back.noted", "life.back.ended", "file.publish.before@1", "catalog.commit.before", "catalog.commit.after"}),
		after: func(l *tenantLife) {
			if l.oneOf("a") {
				// Whoever removes it now has it removed, for everybody.
				l.must("remove", l.m.Remove(l.ctx, "a"))
				l.elsewhere(func(o *tenantLife) { o.refused("a") })
				l.must("undelete again", l.m.Undelete(l.ctx, "a"))
			}
			l.inService("a")
			l.is("a", lifeRows)
			l.elsewhere(func(o *tenantLife) { o.restores("a", 0, lifeRows) })
		},
		lost: func(l *tenantLife) { l.backInService("a") },
	},
	{
		name: "erase", before: written, do: "erase a",
		points: slices.Concat(notePoints, []string{"life.erase.noted", "life.erase.local", "life.erase.marked", "life.erase.forgotten", "life.erase.erased", "life.erase.ended",
			"catalog.erase.before", "catalog.erase.after", "file.delete.after@1", "file.delete.after@2", "file.delete.after@5"}),
		after: func(l *tenantLife) { l.erased("a") },
		lost: func(l *tenantLife) {
			switch n, err := l.read("a"); {
			case err == nil && n == lifeRows: // nothing of it was erased yet
			case err == nil && n == 0:
				l.only("a")
				return
			case !errors.Is(err, multidb.ErrRemoved):
				l.t.Errorf("half erased: %d rows, %v", n, err)
			}
			_, err := l.m.Erase(l.ctx, "a")
			l.must("erase again", err)
			l.erased("a")
		},
	},
	{
		name: "erase a removed one", before: append(slices.Clone(written), "remove a"), do: "erase a",
		points: []string{"life.erase.noted", "life.erase.marked", "life.erase.forgotten", "life.erase.erased", "life.erase.ended", "file.delete.after@1", "catalog.erase.before"},
		after:  func(l *tenantLife) { l.erasedOr("a", func() { l.must("undelete", l.m.Undelete(l.ctx, "a")) }) },
		lost:   func(l *tenantLife) { l.refusedOr("a", 0) },
	},
	{
		name: "rename", before: written, do: "rename a b",
		points: slices.Concat(vacatePoints, notePoints, []string{"life.copy.noted", "life.rename.begun", "life.rename.copied", "life.move.noted", "life.rename.served",
			"life.rename.entombed", "life.rename.moved", "life.rename.erased", "file.link.after@1", "file.link.after@2", "file.publish.before", "file.delete.after@1", "file.delete.after@3",
			"catalog.erase.before", "catalog.erase.after", "catalog.notes.before@3", "catalog.notes.after@3", "catalog.notes.before@4", "restore.link.before", "restore.link.after"}),
		after: func(l *tenantLife) { l.renamed() },
		lost: func(l *tenantLife) {
			l.wholeOrNot("a")
			l.wholeOrNot("b")
			if a, b := l.canRestore("a"), l.canRestore("b"); !a && !b {
				l.t.Error("neither the old prefix nor the new one restores all of it")
			}
		},
	},
	{
		name: "fork", before: written, do: "fork a b",
		points: slices.Concat(notePoints, []string{"life.fork.noted", "life.fork.begun", "life.fork.copied", "life.fork.served", "life.fork.ended", "file.link.after@1", "file.link.after@2",
			"catalog.commit.before", "catalog.commit.after"}),
		after: func(l *tenantLife) {
			l.inService("a")
			l.is("a", lifeRows)
			l.ended("b")
			if _, err := l.m.Status("b"); errors.Is(err, multidb.ErrNotFound) {
				l.nothingAt("b")
				l.must("fork again", l.m.Fork(l.ctx, "a", "b", multidb.ForkOptions{}))
			}
			l.inService("b")
			l.is("b", lifeRows)
		},
		lost: func(l *tenantLife) { l.is("a", lifeRows); l.wholeOrNot("b") },
	},
}

// TestATenantsLifeGoesOnAfterAKillAtAnyStep kills a process at each step of what it does to a
// tenant, once, and once more at the same step of the process that goes on with it, and
// checks what the next one does: by itself, and where the state directory is lost as well.
func TestATenantsLifeGoesOnAfterAKillAtAnyStep(t *testing.T) {
	t.Parallel() // all that it looks at is its children's
	bin := buildChild(t)
	var mu sync.Mutex
	kills, never := 0, []string{}
	t.Run("kills", func(t *testing.T) {
		slots := make(chan struct{}, 4)
		withAndWithoutLog(t, func(t *testing.T, log bool) {
			for _, v := range lifeVerbs {
				for _, point := range v.points {
					if !strings.Contains(point, "@") {
						point += "@1"
					}
					t.Run(v.name+"/"+point, func(t *testing.T) {
						t.Parallel()
						slots <- struct{}{}
						defer func() { <-slots }()
						n := lifeAndDeath(t, bin, log, v, point)
						mu.Lock()
						defer mu.Unlock()
						if kills += n; n == 0 {
							never = append(never, t.Name())
						}
					})
				}
			}
		})
	})
	slices.Sort(never)
	t.Logf("%d kills; no process came by these: %v", kills, never)
	if len(never) > 40 {
		t.Error("these tests kill hardly anybody any more")
	}
}

// drawn has one of n steps go through what takes long, and all where there is time.
func drawn(n int) bool { return os.Getenv(timeEnv) != "" || rand.IntN(n) == 0 }

// lifeAndDeath returns how many processes have died at the point.
func lifeAndDeath(t *testing.T, bin string, log bool, v lifeVerb, point string) (kills int) {
	once := newTenantLife(t, bin, log)
	once.run("", v.before...)
	if !once.run(point, v.do) {
		return 0
	}
	copied := once.copy()
	kills = 1

	func() {
		once.start()
		defer once.stop()
		v.after(once)
	}()
	if t.Failed() {
		t.Log("after one kill")
		return kills
	}

	if drawn(2) {
		if err := os.RemoveAll(filepath.Join(copied.root, ".multidb")); err != nil {
			t.Fatal(err)
		}
		func() {
			copied.start()
			defer copied.stop()
			v.lost(copied)
		}()
		if t.Failed() {
			t.Log("after one kill and the loss of the state directory")
			return kills
		}
	}
	if testing.Short() || !drawn(4) || strings.HasPrefix(point, "file.") || strings.HasPrefix(point, "catalog.") {
		return kills // the other steps lie between the same ones
	}
	twice := newTenantLife(t, bin, log)
	twice.run("", v.before...)
	killed := twice.run(point, v.do)
	if killed && twice.run(point, v.do) { // and once more, where the next process goes on
		kills++
		twice.start()
		defer twice.stop()
		v.after(twice)
		if t.Failed() {
			t.Log("after two kills")
		}
	}
	return kills
}

// tenantLife is a machine with the database "a", and perhaps "b", that becomes of it.
type tenantLife struct {
	t     *testing.T
	bin   string
	dir   string
	root  string
	place place
	ctx   context.Context
	m     *multidb.Manager

	signup string           // of the processes, see lifeConfig
	more   []multidb.Option // of the Manager here
}

func newTenantLife(t *testing.T, bin string, log bool) *tenantLife {
	l := &tenantLife{t: t, bin: bin, dir: t.TempDir(), ctx: t.Context()}
	l.root, l.place = filepath.Join(l.dir, "data"), place{dir: filepath.Join(l.dir, "replica"), log: log}
	if err := os.Mkdir(l.root, 0o755); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *tenantLife) copy() *tenantLife {
	o := newTenantLife(l.t, l.bin, l.place.log)
	if err := os.CopyFS(o.dir, os.DirFS(l.dir)); err != nil && !errors.Is(err, fs.ErrExist) {
		l.t.Fatal(err)
	}
	return o
}

// run has a process do something, and reports whether it died at the point.
func (l *tenantLife) run(point string, do ...string) bool {
	l.t.Helper()
	job, err := json.Marshal(lifeConfig{Root: l.root, Dir: l.place.dir, FleetLog: l.place.log, Said: filepath.Join(l.dir, "said"), Signup: l.signup, Do: do})
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.CommandContext(l.ctx, l.bin)
	cmd.Env = append(os.Environ(), lifeEnv+"="+string(job), "MULTIDB_FAILPOINT="+point)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
			return true
		}
	}
	if err != nil {
		l.t.Fatalf("%v: %v\n%s", do, err, out)
	}
	return false
}

func (l *tenantLife) start() {
	l.t.Helper()
	opts, err := lifeOptions(l.root, l.place, func(multidb.Event) {})
	if err == nil {
		l.m, err = multidb.New(append(opts, l.more...)...)
	}
	if err == nil {
		err = l.m.Start(l.ctx)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *tenantLife) stop() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.m.Close(ctx); err != nil {
		l.t.Errorf("close: %v", err)
	}
}

// elsewhere is a machine that has only the replica.
func (l *tenantLife) elsewhere(do func(o *tenantLife)) {
	l.t.Helper()
	o := *l
	o.root = l.t.TempDir()
	o.start()
	defer o.stop()
	do(&o)
}

func (l *tenantLife) must(what string, err error) {
	l.t.Helper()
	if err != nil {
		l.t.Errorf("%s: %v", what, err)
	}
}

// read is how many transactions a database has that somebody leases; it waits until what is
// done to it is done.
func (l *tenantLife) read(id multidb.ID) (n int, err error) {
	for end := time.Now().Add(15 * time.Second); ; pause(10 * time.Millisecond) {
		err = l.m.Do(l.ctx, id, func(db *sql.DB) (err error) {
			n, err = lifeLedger.verify(l.ctx, db)
			return err
		})
		if !errors.Is(err, multidb.ErrInUse) || time.Now().After(end) {
			return n, err
		}
	}
}

func (l *tenantLife) is(id multidb.ID, want int) {
	l.t.Helper()
	if n, err := l.read(id); err != nil || n != want {
		l.t.Errorf("%s has %d of %d transactions: %v", id, n, want, err)
	}
}

func (l *tenantLife) refused(id multidb.ID) {
	l.t.Helper()
	if n, err := l.read(id); !errors.Is(err, multidb.ErrRemoved) {
		l.t.Errorf("%s is leased, and has %d transactions: %v", id, n, err)
	}
}

func (l *tenantLife) refusedOr(id multidb.ID, want int) {
	l.t.Helper()
	if n, err := l.read(id); !errors.Is(err, multidb.ErrRemoved) && (err != nil || n != want) {
		l.t.Errorf("%s has %d of %d transactions: %v", id, n, want, err)
	}
}

func (l *tenantLife) inService(id multidb.ID) {
	l.t.Helper()
	if _, err := l.m.Status(id); err != nil {
		l.t.Errorf("%s is not known: %v", id, err)
	}
}

// oneOf reports whether a database is removed; if not it is in service, perhaps soon.
func (l *tenantLife) oneOf(id multidb.ID) (removed bool) {
	l.t.Helper()
	eventually(l.t, 15*time.Second, func() string {
		if _, err := l.m.Status(id); errors.Is(err, multidb.ErrInUse) {
			return err.Error()
		}
		return ""
	})
	for r := range l.m.Removed() {
		removed = removed || r.ID == id
	}
	if removed {
		l.refused(id)
	} else {
		l.inService(id)
		l.is(id, lifeRows)
	}
	return removed
}

// backInService is a database that the state directory does not know.
func (l *tenantLife) backInService(id multidb.ID) {
	l.t.Helper()
	l.restores(id, 0, lifeRows)
	if _, err := l.read(id); errors.Is(err, multidb.ErrRemoved) {
		l.must("undelete", l.m.Undelete(l.ctx, id))
	}
	l.is(id, lifeRows)
}

func (l *tenantLife) noFiles(id multidb.ID) {
	l.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(l.root, string(id)+".db*")); len(left) > 0 {
		l.t.Errorf("local files are left: %v", left)
	}
}

// objects are the names of what is at a prefix.
func (l *tenantLife) objects(id multidb.ID) (names []string) {
	err := filepath.WalkDir(filepath.Join(l.place.dir, string(id)), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	l.must("list", err)
	return names
}

func (l *tenantLife) nothingAt(id multidb.ID) {
	l.t.Helper()
	if left := l.objects(id); len(left) > 0 {
		l.t.Errorf("left at the prefix: %v", left)
	}
}

// restores proves what a restore gives that asks nobody but the replica.
func (l *tenantLife) restores(id multidb.ID, txid ltx.TXID, want int) {
	l.t.Helper()
	n, err := l.restored(id, txid)
	if err != nil || n != want {
		l.t.Errorf("a restore of %s has %d of %d transactions: %v", id, n, want, err)
	}
}

func (l *tenantLife) restored(id multidb.ID, txid ltx.TXID) (int, error) {
	out := filepath.Join(l.t.TempDir(), "out.db")
	err := multidb.RestoreFrom(l.ctx, l.place.reader(l.t), l.place.database(string(id)), multidb.RestoreOptions{OutputPath: out, TXID: txid})
	if err != nil {
		return 0, err
	}
	return lifeLedger.verifyFile(l.t, out)
}

func (l *tenantLife) canRestore(id multidb.ID) bool {
	l.t.Helper()
	n, err := l.restored(id, 0)
	return err == nil && n == lifeRows
}

// wholeOrNot is a database that has everything, or is refused, or is made anew where the
// replica has no transaction of it.
func (l *tenantLife) wholeOrNot(id multidb.ID) {
	l.t.Helper()
	empty := !slices.ContainsFunc(l.objects(id), func(name string) bool { return filepath.Ext(name) == ".ltx" })
	switch n, err := l.read(id); {
	case err == nil && n == lifeRows:
	case err == nil && n == 0 && empty:
	case err != nil: // whatever it says
	default:
		l.t.Errorf("%s has %d transactions: %v; at its prefix: %v", id, n, err, l.objects(id))
	}
}

// ended waits until nothing is done to a database any more. It makes none.
func (l *tenantLife) ended(id multidb.ID) {
	l.t.Helper()
	eventually(l.t, 15*time.Second, func() string {
		_, err := l.m.Status(id)
		if err == nil {
			err = l.m.Do(l.ctx, id, func(*sql.DB) error { return nil })
		}
		if err != nil && !errors.Is(err, multidb.ErrNotFound) {
			return fmt.Sprint(err)
		}
		return ""
	})
}

// erased is a database of which nothing is left, or soon. It is made anew.
func (l *tenantLife) erased(id multidb.ID) {
	l.t.Helper()
	l.erasedOr(id, func() {})
}

// erasedOr is erased, or as it was, since the erasure had not begun.
func (l *tenantLife) erasedOr(id multidb.ID, back func()) {
	l.t.Helper()
	asItWas := func() bool {
		if _, err := l.m.Status(id); err == nil {
			return true
		}
		for r := range l.m.Removed() {
			if r.ID == id {
				return true
			}
		}
		return false
	}
	if asItWas() {
		back()
		l.is(id, lifeRows)
		_, err := l.m.Erase(l.ctx, id)
		l.must("erase", err)
	}
	l.ended(id) // by itself
	l.nothingAt(id)
	l.noFiles(id)
	again, err := l.m.Erase(l.ctx, id)
	if err != nil || again.Objects != 0 || again.Versions != 0 || len(again.Local) != 0 || !again.Complete() {
		l.t.Errorf("erased once more: %+v, %v", again, err)
	}
	l.only(id)
}

// only makes a database anew, and proves that its restores have nothing of the former one.
func (l *tenantLife) only(id multidb.ID) {
	l.t.Helper()
	l.is(id, 0)
	l.must("write", l.m.Do(l.ctx, id, func(db *sql.DB) error { return lifeWrite(l.ctx, db, lifeLedger, 3) }))
	_, err := l.m.Sync(l.ctx, id)
	l.must("sync", err)
	l.must("unpack", l.m.Unpack(l.ctx, id))
	l.restores(id, 0, 3)
	bare := newRestorer(l.t, place{dir: l.place.dir}, string(id))
	for range 2 { // ours, and litestream's
		path, err := bare.restore(l.t.TempDir(), 0)
		if err != nil {
			l.t.Error(err)
			continue
		}
		if n, err := lifeLedger.verifyFile(l.t, path); err != nil || n != 3 {
			l.t.Errorf("made anew it has %d transactions: %v", n, err)
		}
	}
}

// synced are the TXIDs of the two Syncs before the kill.
func (l *tenantLife) synced() (at []ltx.TXID) {
	b, err := os.ReadFile(filepath.Join(l.dir, "said"))
	l.must("read", err)
	for line := range strings.Lines(string(b)) {
		var txid uint64
		if _, err := fmt.Sscanf(line, "sync a: %d", &txid); err == nil {
			at = append(at, ltx.TXID(txid))
		}
	}
	return at
}

// renamed is "a" that became "b", or is what it was.
func (l *tenantLife) renamed() {
	l.t.Helper()
	l.ended("a")
	l.ended("b")
	_, aErr := l.m.Status("a")
	_, bErr := l.m.Status("b")
	switch {
	case (aErr == nil) == (bErr == nil):
		l.t.Errorf("the old one: %v; the new one: %v", aErr, bErr)
		return
	case aErr == nil:
		l.is("a", lifeRows)
		l.nothingAt("b")
		l.must("rename again", l.m.Rename(l.ctx, "a", "b"))
	}
	l.nothingAt("a")
	l.noFiles("a")
	l.is("b", lifeRows)
	l.restores("b", 0, lifeRows)
	if at := l.synced(); !l.place.log { // whose finer history stays behind
		l.restores("b", at[0], 12)
	}
	l.only("a")
	l.is("b", lifeRows)
}
