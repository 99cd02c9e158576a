package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// The tests of the watcher scan once an hour, so what is seen was watched.
func watching(t *testing.T, root string, opts ...multidb.Option) (*fleet, *multidbtest.Replica) {
	t.Helper()
	rep := multidbtest.NewReplica()
	f := start(t, root, append([]multidb.Option{
		multidb.WithReplica(rep), multidb.WithScanInterval(time.Hour),
		multidb.WithColdSyncInterval(time.Hour),
	}, opts...)...)
	return f, rep
}

func (f *fleet) waitEvent(typ multidb.EventType, id multidb.ID) {
	f.t.Helper()
	f.events.wait(f.t, fmt.Sprint(typ, " of ", id), func(ev multidb.Event) bool { return ev.Type == typ && ev.ID == id })
}

// waitTXID returns when the replica has acknowledged more than before.
func (f *fleet) waitTXID(id multidb.ID, after multidb.TXID) {
	f.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		st, err := f.m.Status(id)
		if err == nil && st.TXID > after {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			f.t.Fatalf("%s was not shipped: %+v, %v", id, st, err)
		}
	}
}

// writeEnv makes the test binary write one row to a database and exit.
const writeEnv = "MULTIDB_TEST_WRITE"

// TestWriterProcess is the other process; it does nothing in a normal run.
func TestWriterProcess(t *testing.T) {
	path := os.Getenv(writeEnv)
	if path == "" {
		t.Skip("run by other tests")
	}
	writeRow(t, path, "elsewhere")
}

func writeRow(t testing.TB, path, v string) {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_pragma=busy_timeout(20000)"}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO t(v) VALUES(?)", v); err != nil {
		t.Fatal(err)
	}
}

func writeElsewhere(t *testing.T, path string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriterProcess$")
	cmd.Env = append(os.Environ(), writeEnv+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// cold waits until no database is active or due.
func (f *fleet) cold() {
	f.t.Helper()
	for range time.Tick(time.Millisecond) {
		if s := f.m.Stats(); s.Hot+s.Warm+s.Running == 0 {
			return
		}
		if f.t.Context().Err() != nil {
			f.t.Fatal("never cold")
		}
	}
}

// TestACommitSoonAfterTheFirstTouchOfAColdDatabaseDoesNotWaitForTheInterval: what a
// writer does first is to make a log, and by that the database is hot.
//
// Red without early in lookLocked (internal/fleet/touch.go).
func TestACommitSoonAfterTheFirstTouchOfAColdDatabaseDoesNotWaitForTheInterval(t *testing.T) {
	root := newTree(t, 1, 3)
	for i := range 3 {
		old := time.Now().Add(-24 * time.Hour)
		if err := os.Chtimes(filepath.Join(root, fmt.Sprintf("project0/databases/db%d.db", i)), old, old); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := watching(t, root, multidb.WithHotDuration(time.Hour), multidb.WithSyncInterval(time.Hour))
	const id = "project0/db1"
	f.sync(id)
	db, err := sql.Open("sqlite", filepath.Join(f.root, "project0/databases/db1.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{"BEGIN IMMEDIATE", "INSERT INTO t(v) VALUES('slow')"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	f.waitEvent(multidb.EventTier, id)
	st, err := f.m.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("COMMIT"); err != nil {
		t.Fatal(err)
	}
	f.waitTXID(id, st.TXID)
}

func TestAWriteOfAnotherProcessToAColdDatabaseIsShippedAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  multidb.Option
	}{
		{"promoted", multidb.WithPromotion(time.Minute, 0)},
		{"not promoted", multidb.WithPromotion(0, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, _ := watching(t, newTree(t, 2, 10), multidb.WithHotDuration(100*time.Millisecond), c.opt)
			const id = "project1/db7"
			for st := range f.m.All() {
				f.sync(st.ID)
			}
			f.cold()
			st, err := f.m.Status(id)
			if err != nil {
				t.Fatal(err)
			}
			writeElsewhere(t, st.Path)
			f.waitTXID(id, st.TXID)
			f.sync(id)
			if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 elsewhere]" {
				t.Errorf("restored %v", got)
			}
			f.cold()
		})
	}
}

func TestWithoutTheWatcherAChangeWaitsForTheScan(t *testing.T) {
	root := newTree(t, 1, 1)
	f, _ := watching(t, root, multidb.WithWatch(false))
	g, _ := watching(t, root, multidb.WithStateDir(t.TempDir()))
	makeDB(t, filepath.Join(root, "late/databases/db.db"), 1)
	g.waitEvent(multidb.EventAdded, "late/db")
	if _, err := f.m.Status("late/db"); !errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("status: %v", err)
	}
}

func TestABurstOfNewDirectoriesAndDatabasesIsSeenWhole(t *testing.T) {
	const many = 500
	f, _ := watching(t, newTree(t, 1, 1))
	template := filepath.Join(t.TempDir(), "template.db")
	makeDB(t, template, 1)
	b, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	for i := range many {
		path := filepath.Join(f.root, fmt.Sprintf("burst%d/databases/db.db", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		id := multidb.ID(fmt.Sprintf("burst%d/db", i))
		f.waitEvent(multidb.EventAdded, id)
	}
	for i := range many {
		f.waitTXID(multidb.ID(fmt.Sprintf("burst%d/db", i)), 0)
	}
}

func TestARenamedDirectoryIsFollowedUnderItsNewName(t *testing.T) {
	f, _ := watching(t, newTree(t, 2, 2), multidb.WithHotDuration(50*time.Millisecond))
	f.sync("project0/db1")
	if err := os.Rename(filepath.Join(f.root, "project0"), filepath.Join(f.root, "renamed")); err != nil {
		t.Fatal(err)
	}
	f.waitEvent(multidb.EventAdded, "renamed/db1")
	f.waitEvent(multidb.EventRemoved, "project0/db1")
	pos := f.sync("renamed/db1")
	f.cold()
	writeRow(t, filepath.Join(f.root, "renamed/databases/db1.db"), "x")
	f.waitTXID("renamed/db1", pos.TXID)
	// The old name may be taken again, by something new.
	makeDB(t, filepath.Join(f.root, "project0/databases/db2.db"), 1)
	f.waitEvent(multidb.EventAdded, "project0/db2")
}

func TestADatabaseBehindASymlinkIsWatchedToo(t *testing.T) {
	root := newTree(t, 1, 1)
	elsewhere := t.TempDir()
	makeDB(t, filepath.Join(elsewhere, "dir/db.db"), 1)
	makeDB(t, filepath.Join(elsewhere, "file.sqlite"), 1)
	for from, to := range map[string]string{
		"project0/databases/link.db": "file.sqlite",
		"linked/databases":           "dir",
	} {
		from = filepath.Join(root, from)
		if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(elsewhere, to), from); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := watching(t, root, multidb.WithHotDuration(50*time.Millisecond))
	for id, path := range map[multidb.ID]string{"project0/link": "file.sqlite", "linked/db": "dir/db.db"} {
		pos := f.sync(id)
		f.cold()
		writeRow(t, filepath.Join(elsewhere, path), "x")
		f.waitTXID(id, pos.TXID)
	}
	makeDB(t, filepath.Join(elsewhere, "dir/new.db"), 1)
	f.waitEvent(multidb.EventAdded, "linked/new")
	if err := os.Symlink(filepath.Join(elsewhere, "dir"), filepath.Join(root, "project0/again")); err != nil {
		t.Fatal(err)
	}
	if f.events.has(multidb.EventIgnored) {
		t.Error("a file was taken for two databases")
	}
}

func TestADatabaseInRollbackModeIsWatchedToo(t *testing.T) {
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/old.db")
	makeDB(t, path, 1)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA journal_mode=delete"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f, _ := watching(t, root, multidb.WithHotDuration(50*time.Millisecond))
	const id = "project0/old"
	pos := f.sync(id)
	f.cold()
	writeElsewhere(t, path)
	f.waitTXID(id, pos.TXID)
}

func TestASealIsNotTakenForAWrite(t *testing.T) {
	f, _ := watching(t, newTree(t, 1, 5), multidb.WithHotDuration(50*time.Millisecond))
	for i := range 5 {
		f.insert(multidb.ID(fmt.Sprintf("project0/db%d", i)), "x")
	}
	f.cold()
	before := f.promotions()
	// Whatever the seals made the kernel tell is told before this.
	makeDB(t, filepath.Join(f.root, "project0/databases/after.db"), 1)
	f.waitEvent(multidb.EventAdded, "project0/after")
	f.sync("project0/after")
	f.cold()
	if after := f.promotions(); after > before {
		t.Errorf("%d promotions after the seals", after-before)
	}
}

// promotions counts those of databases that are called db….
func (f *fleet) promotions() (n int) {
	f.events.mu.Lock()
	defer f.events.mu.Unlock()
	for _, ev := range f.events.all {
		if ev.Type == multidb.EventTier && ev.From == multidb.Cold && strings.HasPrefix(string(ev.ID), "project0/db") {
			n++
		}
	}
	return n
}

func TestCloseEndsTheWatcherWhateverHappensMeanwhile(t *testing.T) {
	f, _ := watching(t, newTree(t, 1, 1))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			dir := filepath.Join(f.root, fmt.Sprintf("p%d/databases", i%10))
			_ = os.MkdirAll(dir, 0o755)
			_ = os.WriteFile(filepath.Join(dir, "db.db"), nil, 0o644)
			_ = os.RemoveAll(filepath.Dir(dir))
		}
	}()
	f.waitEvent(multidb.EventAdded, "p5/db")
	if err := f.close(); err != nil {
		t.Log(err) // of databases that went meanwhile
	}
	stop()
	<-done
}
