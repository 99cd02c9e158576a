package multidb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/multidbtest"
)

// statusErr waits until a database's status carries the error.
func (f *fleet) failed(id multidb.ID, want error) {
	f.t.Helper()
	f.events.wait(f.t, fmt.Sprint(want), func(ev multidb.Event) bool {
		return ev.ID == id && errors.Is(ev.Err, want)
	})
}

func TestAFileThatIsNotSQLiteIsNamedAndLeavesTheOthersAlone(t *testing.T) {
	root := newTree(t, 1, 1)
	bad := filepath.Join(root, "project0/databases/bad.db")
	if err := os.WriteFile(bad, []byte("this is some text, long enough to be a header"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	f.failed("project0/bad", multidb.ErrNotDatabase)
	if _, err := f.m.Status("project0/bad"); !errors.Is(err, multidb.ErrNotDatabase) {
		t.Errorf("status: %v", err)
	}
	if _, err := f.m.Acquire(t.Context(), "project0/bad"); !errors.Is(err, multidb.ErrNotDatabase) {
		t.Errorf("acquire: %v", err)
	}
	f.sync("project0/db0")
	// It becomes one.
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	makeDB(t, bad, 1)
	// The first time was before anybody had looked into it.
	f.events.wait(t, "added", nth(2, func(ev multidb.Event) bool { return ev.Type == multidb.EventAdded && ev.ID == "project0/bad" }))
	f.sync("project0/bad")
	if got := fmt.Sprint(f.restored("project0/bad", multidb.RestoreOptions{})); got != "[0]" {
		t.Errorf("restored %v", got)
	}
}

func TestAZeroByteFileHasNothingToShipUntilItIsADatabase(t *testing.T) {
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/zero.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	if pos := f.sync("project0/zero"); pos.TXID != 0 {
		t.Errorf("position %v", pos)
	}
	if err := f.m.Restore(t.Context(), "project0/zero", multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "x")}); !errors.Is(err, multidb.ErrNoBackup) {
		t.Errorf("restore: %v", err)
	}
	makeDB(t, path, 2)
	f.sync("project0/zero")
	if got := fmt.Sprint(f.restored("project0/zero", multidb.RestoreOptions{})); got != "[0 1]" {
		t.Errorf("restored %v", got)
	}
}

func TestATruncatedDatabaseIsReportedAsCorrupt(t *testing.T) {
	root := newTree(t, 1, 2)
	path := filepath.Join(root, "project0/databases/cut.db")
	makeDB(t, path, 2000)
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	f.failed("project0/cut", multidb.ErrCorrupt)
	st, err := f.m.Status("project0/cut")
	if err != nil || !errors.Is(st.Err, multidb.ErrCorrupt) {
		t.Errorf("status %v, %v", st.Err, err)
	}
	f.sync("project0/db0")
	f.sync("project0/db1")
}

func TestAnEncryptedDatabaseIsNoDatabase(t *testing.T) {
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/secret.db")
	b := make([]byte, 8192)
	for i := range b {
		b[i] = byte(i*7 + 13)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	f.failed("project0/secret", multidb.ErrNotDatabase)
}

func TestAHotDatabaseThatIsDeletedIsLetGoAndItsReplicaStays(t *testing.T) {
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(multidbtest.NewReplica()))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	path := filepath.Join(f.root, "project0/databases/db0.db")
	for _, s := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + s)
	}
	f.events.wait(t, "removed", func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved && ev.ID == id })
	if _, err := f.m.Status(id); !errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("status: %v", err)
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 x]" {
		t.Errorf("restored %v", got)
	}
	// Restored to its old place, it goes on where it was.
	if err := f.m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: path}); err != nil {
		t.Fatal(err)
	}
	f.events.wait(t, "added", nth(2, func(ev multidb.Event) bool { return ev.Type == multidb.EventAdded && ev.ID == id }))
	f.insert(id, "y")
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 x y]" {
		t.Errorf("restored %v", got)
	}
}

func TestAHotDatabaseThatIsReplacedAtItsPathIsShippedWhole(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	path := filepath.Join(f.root, "project0/databases/db0.db")
	other := filepath.Join(t.TempDir(), "other.db")
	makeDB(t, other, 5)
	for _, s := range []string{"-wal", "-shm"} {
		_ = os.Remove(path + s)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	f.events.wait(t, "replaced", func(ev multidb.Event) bool { return ev.Type == multidb.EventReplaced })
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 3 4]" {
		t.Errorf("restored %v", got)
	}
	f.insert(id, "z")
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 3 4 z]" {
		t.Errorf("restored %v", got)
	}
}

// A run may begin with one file and ship another. The pool must let go of the
// first all the same, or the application goes on writing to a file without a name.
func TestADatabaseThatIsReplacedDuringARunIsNoticed(t *testing.T) {
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/db0.db")
	other := filepath.Join(t.TempDir(), "other.db")
	makeDB(t, other, 5)
	var armed atomic.Bool
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()), multidb.WithWatch(false), multidb.WithScanInterval(time.Hour),
		multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour),
		multidb.WithStat(func(p string) (fsid.Fingerprint, error) {
			st, err := fsid.Stat(p)
			if p == path && armed.CompareAndSwap(true, false) {
				for _, s := range []string{"-wal", "-shm"} {
					_ = os.Remove(path + s)
				}
				if err := os.Rename(other, path); err != nil {
					t.Error(err)
				}
			}
			return st, err
		}))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	f.insert(id, "lost with its file")
	armed.Store(true)
	f.sync(id)
	f.events.wait(t, "replaced", func(ev multidb.Event) bool { return ev.Type == multidb.EventReplaced })
	f.insert(id, "z")
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 3 4 z]" {
		t.Errorf("restored %v", got)
	}
}

func TestARecreatedDatabaseOfAnotherPageSizeIsRestoredBeforeAndAfter(t *testing.T) {
	for name, opts := range map[string][]multidb.Option{"direct": nil, "fleet log": {multidb.WithFleetLog(multidb.FleetLogConfig{})}} {
		t.Run(name, func(t *testing.T) { recreatedWithAnotherPageSize(t, opts...) })
	}
}

func recreatedWithAnotherPageSize(t *testing.T, opts ...multidb.Option) {
	t.Helper()
	f := start(t, newTree(t, 1, 1), append(opts, multidb.WithReplica(multidbtest.NewReplica()))...)
	const id = "project0/db0"
	before := f.sync(id)
	path := filepath.Join(f.root, "project0/databases/db0.db")
	for i, size := range []int{65536, 512} {
		other := filepath.Join(t.TempDir(), "other.db")
		db, err := sql.Open("sqlite", other)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{fmt.Sprintf("PRAGMA page_size=%d", size), "PRAGMA journal_mode=wal",
			"CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT)", fmt.Sprintf("INSERT INTO t(v) VALUES('size%d')", size)} {
			if _, err := db.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"-wal", "-shm"} {
			_ = os.Remove(path + s)
		}
		if err := os.Rename(other, path); err != nil {
			t.Fatal(err)
		}
		f.events.wait(t, "resync", nth(i+1, func(ev multidb.Event) bool { return ev.Type == multidb.EventResync }))
		for j := range 3 {
			f.insert(id, fmt.Sprint(j))
			f.sync(id)
		}
		if got, want := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})), fmt.Sprintf("[size%d 0 1 2]", size); got != want {
			t.Errorf("restored %v, want %v", got, want)
		}
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{TXID: before.TXID})); got != "[0 1 2]" {
		t.Errorf("restored %v", got)
	}
}

func TestADatabaseInRollbackJournalModeIsShippedAtEveryChange(t *testing.T) {
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/roll.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"PRAGMA journal_mode=delete", "CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES('a')"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	const id = "project0/roll"
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[a]" {
		t.Errorf("restored %v", got)
	}
	if _, err := db.Exec("INSERT INTO t(v) VALUES('b')"); err != nil {
		t.Fatal(err)
	}
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[a b]" {
		t.Errorf("restored %v", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f.insert(id, "c") // the pool converts it
	f.sync(id)
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[a b c]" {
		t.Errorf("restored %v", got)
	}
}

func TestPathsOfAnyBytesAreFollowedPooledAndRestored(t *testing.T) {
	root := t.TempDir()
	names := []string{"with space", "100%", "what?", "ha#sh", "quote'\"", "[br]{x}", "\xff\xfe", "umlaut-ü", "%2e", "a&b=c"}
	for _, n := range names {
		makeDB(t, filepath.Join(root, "p", "databases", n+".db"), 1)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	for _, n := range names {
		id := multidb.ID("p/" + n)
		f.insert(id, "x")
		f.sync(id)
		if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 x]" {
			t.Errorf("%q: restored %v", n, got)
		}
	}
}

func TestTwoDatabasesOfOnePrefixAreAConflictBeforeEitherLosesAByte(t *testing.T) {
	root := newTree(t, 2, 1) // project0/db0 and project1/db0
	rep, err := multidb.NewFileReplica(t.TempDir(), "all/{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(rep))
	ev := f.events.wait(t, "conflict", func(ev multidb.Event) bool { return errors.Is(ev.Err, multidb.ErrConflict) })
	loser, winner := ev.ID, multidb.ID("project0/db0")
	if loser == winner {
		winner = "project1/db0"
	}
	if _, err := f.m.Sync(t.Context(), loser); !errors.Is(err, multidb.ErrConflict) {
		t.Errorf("sync of the one refused: %v", err)
	}
	f.insert(loser, "still usable")
	f.insert(winner, "w")
	f.sync(winner)
	if got := fmt.Sprint(f.restored(winner, multidb.RestoreOptions{})); got != "[0 1 2 w]" {
		t.Errorf("restored %v", got)
	}
	if err := f.close(); !errors.Is(err, multidb.ErrNotDurable) || !errors.Is(err, multidb.ErrConflict) {
		t.Errorf("close: %v", err)
	}
}

func TestASymlinkToADatabaseIsTheSameDatabase(t *testing.T) {
	root := newTree(t, 1, 1)
	if err := os.Symlink("db0.db", filepath.Join(root, "project0/databases/link.db")); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
	n := 0
	for range f.m.All() {
		n++
	}
	if n != 1 {
		t.Errorf("%d databases, want 1", n)
	}
}

func TestAReplicaThatIsGoneAtStartIsAStatusAndHealsByItself(t *testing.T) {
	rep := multidbtest.NewReplica()
	down := errors.New("connection refused")
	fault := rep.Inject(multidbtest.Fault{Err: down})
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(rep))
	f.failed("project0/db0", down)
	f.failed("project0/db1", down)
	f.insert("project0/db0", "meanwhile")
	if _, err := f.m.Sync(t.Context(), "project0/db0"); !errors.Is(err, down) {
		t.Errorf("sync: %v", err)
	}
	fault.Clear()
	f.events.wait(t, "recovered", func(ev multidb.Event) bool { return ev.Type == multidb.EventRecovered && ev.ID == "project0/db0" })
	if got := fmt.Sprint(f.restored("project0/db0", multidb.RestoreOptions{})); got != "[0 1 2 meanwhile]" {
		t.Errorf("restored %v", got)
	}
	if st, err := f.m.Status("project0/db0"); err != nil || st.Err != nil || st.Lag > 10*time.Second { // waiting for its turn is a little lag, too
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestALostAnswerIsRecognisedAndNothingIsWrittenTwice(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	const id = "project0/db0"
	f.sync(id)
	lost := errors.New("lost answer")
	for i := range 5 {
		rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Times: 1, LostAnswer: true, Err: lost})
		f.insert(id, fmt.Sprint("v", i))
		if _, err := f.m.Sync(t.Context(), id); err != nil && !errors.Is(err, lost) {
			t.Fatal(err)
		}
		f.insert(id, fmt.Sprint("w", i))
		f.sync(id)
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 v0 w0 v1 w1 v2 w2 v3 w3 v4 w4]" {
		t.Errorf("restored %v", got)
	}
}

// fencedBySecond returns two Managers with state of their own on one prefix, of which the
// second has fenced the first.
func fencedBySecond(t *testing.T, rep *multidbtest.Replica, id multidb.ID) (first, second *fleet) {
	t.Helper()
	first = start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	first.insert(id, "first")
	first.sync(id)
	second = start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithTakeover(multidb.TakeoverUnknown))
	second.insert(id, "second")
	second.sync(id)
	first.insert(id, "too late")
	if _, err := first.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrFenced) {
		t.Fatalf("sync of the first: %v", err)
	}
	return first, second
}

func TestASecondWriterOnThePrefixFencesTheFirst(t *testing.T) {
	const id = "project0/db0"
	first, second := fencedBySecond(t, multidbtest.NewReplica(), id)
	second.insert(id, "goes on")
	second.sync(id)
	if got := fmt.Sprint(second.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 second goes on]" {
		t.Errorf("restored %v", got)
	}
	if err := first.close(); !errors.Is(err, multidb.ErrFenced) || !errors.Is(err, multidb.ErrNotDurable) {
		t.Errorf("close of the first: %v", err)
	}
}

func TestRestoreNeverOverwritesAndLeavesNothingBehind(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	const id = "project0/db0"
	f.sync(id)
	for _, suffix := range []string{"", "-wal", "-journal"} {
		dir := t.TempDir()
		out := filepath.Join(dir, "out.db")
		if err := os.WriteFile(out+suffix, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := f.m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: out}); !errors.Is(err, multidb.ErrExists) {
			t.Errorf("%q: %v", suffix, err)
		}
		if b, err := os.ReadFile(out + suffix); err != nil || string(b) != "mine" {
			t.Errorf("%q was touched: %q, %v", suffix, b, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("left behind: %v", entries)
		}
	}
	dir := t.TempDir()
	if err := f.m.Restore(t.Context(), "project0/none", multidb.RestoreOptions{OutputPath: filepath.Join(dir, "x")}); !errors.Is(err, multidb.ErrNoBackup) {
		t.Errorf("a database without a backup: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestCloseWithADeadReplicaIsBoundedAndNamesWhatIsLeft(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 3), multidb.WithReplica(rep))
	for i := range 3 {
		f.sync(multidb.ID(fmt.Sprintf("project0/db%d", i)))
	}
	hang := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Hang: true})
	f.insert("project0/db1", "left")
	<-hang.Hit()
	ctx, cancel := contextWithTimeout(t, 100*time.Millisecond)
	defer cancel()
	err := f.m.Close(ctx)
	var e *multidb.Error
	if !errors.Is(err, multidb.ErrNotDurable) || !errors.As(err, &e) {
		t.Fatalf("close: %v", err)
	}
	if _, err := f.m.Acquire(t.Context(), "project0/db0"); !errors.Is(err, multidb.ErrClosed) {
		t.Errorf("acquire after close: %v", err)
	}
	hang.Clear()
	if err := f.close(); err != nil {
		t.Fatalf("close again: %v", err)
	}
}
