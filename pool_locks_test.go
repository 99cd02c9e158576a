//go:build linux

package multidb_test

import (
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

// locked reports whether this process holds a POSIX lock on a file. It asks of
// the descriptors that are open on it: a reading of /proc/locks skips lines while
// others lock and unlock.
func locked(t *testing.T, path string) bool {
	t.Helper()
	want, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if fi, err := os.Stat("/proc/self/fd/" + fd.Name()); err != nil || !os.SameFile(fi, want) {
			continue
		}
		if b, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name()); err == nil && strings.Contains(string(b), "POSIX") {
			return true
		}
	}
	return false
}

// TestALockOfTheApplicationSurvivesThatItsFileIsFound: where there is neither a WAL
// nor a journal beside it, the Manager reads the first bytes of the file.
//
// Red where readStart (internal/sqlitedb/header.go) opens it by package os.
func TestALockOfTheApplicationSurvivesThatItsFileIsFound(t *testing.T) {
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/db0.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{"PRAGMA journal_mode=delete", "BEGIN", "INSERT INTO t SELECT * FROM t WHERE 0"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if !locked(t, path) {
		t.Fatal("the application has no lock")
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	f.sync("project0/db0")
	if !locked(t, path) {
		t.Error("the lock is gone")
	}
}

// TestThePoolsLockSurvivesEverythingTheManagerDoes would fail if anything opened
// and closed the database file by other means than SQLite.
func TestThePoolsLockSurvivesEverythingTheManagerDoes(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 3), multidb.WithReplica(rep),
		multidb.WithHotDuration(150*time.Millisecond), multidb.WithPromotion(0, 0),
		multidb.WithCheckpointPages(5), multidb.WithSnapshotInterval(time.Millisecond))
	const id = "project0/db0"
	path := filepath.Join(f.root, "project0/databases/db0.db")

	// The application keeps connections of its own, of the same driver, so that
	// demotion is not kept off by a lease.
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO t(v) VALUES('mine')"); err != nil {
		t.Fatal(err)
	}
	h, err := f.m.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.DB().Ping(); err != nil {
		t.Fatal(err)
	}
	check := func(after string) {
		t.Helper()
		if !locked(t, path) {
			t.Fatalf("the lock is gone after %s", after)
		}
	}
	check("acquire")
	for i := range 30 {
		if _, err := h.DB().Exec("INSERT INTO t(v) VALUES(?)", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		check("insert")
		f.sync(id)
		check("step, checkpoint and snapshot")
	}
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	f.sync(id)
	check("resync")
	h.Release()
	check("release")
	if _, err := db.Exec("INSERT INTO t(v) VALUES('last')"); err != nil {
		t.Fatal(err)
	}
	f.events.wait(t, "demotion", func(ev multidb.Event) bool {
		return ev.Type == multidb.EventTier && ev.To == multidb.Cold && ev.ID == id
	})
	check("demotion")
	if err := f.m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: path}); !errors.Is(err, multidb.ErrExists) {
		t.Fatalf("restore over a database that is in use: %v", err)
	}
	f.restored(id, multidb.RestoreOptions{})
	check("restore")
	// Two whole scans from here.
	makeDB(t, filepath.Join(f.root, "project0/databases/marker1.db"), 1)
	f.events.wait(t, "scan", func(ev multidb.Event) bool { return ev.Type == multidb.EventAdded && ev.ID == "project0/marker1" })
	makeDB(t, filepath.Join(f.root, "project0/databases/marker2.db"), 1)
	f.events.wait(t, "scan", func(ev multidb.Event) bool { return ev.Type == multidb.EventAdded && ev.ID == "project0/marker2" })
	check("scans")
}
