package multidb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// walSize is what the WAL of a database takes on disk.
func (f *fleet) walSize(id multidb.ID) int64 {
	f.t.Helper()
	st, err := f.m.Status(id)
	if err != nil {
		f.t.Fatal(err)
	}
	fi, err := os.Stat(st.Path + "-wal")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	} else if err != nil {
		f.t.Fatal(err)
	}
	return fi.Size()
}

// grow commits rows until the WAL has a size, and has the Manager look at it.
func (f *fleet) grow(id multidb.ID, size int64) (rows int) {
	f.t.Helper()
	for ; f.walSize(id) < size; rows++ {
		f.insert(id, strings.Repeat("x", 8000))
	}
	_, _ = f.m.Sync(f.t.Context(), id) // fails where the replica is away
	return rows
}

func (f *fleet) walSizes(dbs int) (sum int64) {
	for i := range dbs {
		sum += f.walSize(multidb.ID(fmt.Sprintf("project0/db%d", i)))
	}
	return sum
}

func TestTheLargestWALsAreCutWhereAllTogetherPassTheirLimit(t *testing.T) {
	const dbs, limit = 5, 1 << 20
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, dbs), multidb.WithReplica(rep), multidb.WithMaxTotalWALSize(limit))
	id := func(i int) multidb.ID { return multidb.ID(fmt.Sprintf("project0/db%d", i)) }
	want := make([]int, dbs)
	for i := range dbs {
		f.sync(id(i))
		want[i] = 3
	}
	down := rep.Inject(multidbtest.Fault{Err: errors.New("down")})
	for i, size := range []int64{300 << 10, 500 << 10, 100 << 10, 60 << 10} {
		want[i] += f.grow(id(i), size)
	}
	if f.events.has(multidb.EventWALLimit) {
		t.Fatalf("a WAL was cut although all take %d bytes of %d", f.walSizes(dbs), limit)
	}
	want[4] += f.grow(id(4), 200<<10)
	cut := func(ev multidb.Event) bool { return ev.Type == multidb.EventWALLimit }
	if ev := f.events.wait(t, "WAL limit", cut); ev.ID != id(1) || ev.Err == nil {
		t.Errorf("cut %s because of %v, want the largest, %s", ev.ID, ev.Err, id(1))
	}
	eventually(t, "WALs within their limit", func() bool { return f.walSizes(dbs) <= limit })
	if n := f.walSize(id(1)); n > 100<<10 {
		t.Errorf("the WAL that was cut has %d bytes", n)
	}
	if n := f.walSize(id(0)); n < 300<<10 {
		t.Errorf("a WAL has %d bytes, although cutting another one was enough", n)
	}

	// It goes on for as long as the replica is away.
	for range 4 {
		for i := range dbs {
			want[i] += f.grow(id(i), f.walSize(id(i))+(150<<10))
		}
		eventually(t, "WALs within their limit", func() bool { return f.walSizes(dbs) <= limit })
	}

	down.Clear()
	for i := range dbs {
		f.sync(id(i))
		if got := len(f.restored(id(i), multidb.RestoreOptions{})); got != want[i] {
			t.Errorf("%s: restored %d rows of %d", id(i), got, want[i])
		}
		f.insert(id(i), "after")
		f.sync(id(i))
		if got := f.restored(id(i), multidb.RestoreOptions{}); len(got) != want[i]+1 || got[want[i]] != "after" {
			t.Errorf("%s: restored %d rows of %d after another commit", id(i), len(got), want[i]+1)
		}
	}
	if f.m.Stats().Resyncs == 0 {
		t.Error("no resync")
	}
}

func TestWALsThatAreShippedAreCutFirstAndNothingIsLost(t *testing.T) {
	const dbs, limit = 4, 512 << 10
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, dbs), multidb.WithReplica(rep), multidb.WithMaxTotalWALSize(limit),
		multidb.WithCheckpointPages(1<<20)) // none that is not because of the limit
	id := func(i int) multidb.ID { return multidb.ID(fmt.Sprintf("project0/db%d", i)) }
	f.sync(id(0))
	down := rep.Inject(multidbtest.Fault{Prefix: string(id(0)), Err: errors.New("down")})
	want := 3 + f.grow(id(0), 300<<10) // the largest, but not at the replica
	for i := range 12 {
		f.grow(id(1+i%3), f.walSize(id(1+i%3))+(90<<10))
	}
	eventually(t, "WALs within their limit", func() bool { return f.walSizes(dbs) <= limit })
	// (A commit that comes while its WAL is cut costs a resync, and loses nothing.)
	if f.events.has(multidb.EventWALLimit) {
		t.Error("history was given up")
	}
	if n := f.walSize(id(0)); n < 300<<10 {
		t.Errorf("the WAL that is not at the replica has %d bytes", n)
	}
	down.Clear()
	f.sync(id(0))
	if got := len(f.restored(id(0), multidb.RestoreOptions{})); got != want {
		t.Errorf("restored %d rows of %d", got, want)
	}
}

func TestAQuietDatabaseThatCannotBeShippedKeepsItsWALUntilItCan(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep),
		multidb.WithHotDuration(100*time.Millisecond), multidb.WithPromotion(0, 0))
	const id = "project0/db0"
	f.sync(id)
	down := rep.Inject(multidbtest.Fault{Err: errors.New("down")})
	f.insert(id, "kept")
	f.events.wait(t, "failed", func(ev multidb.Event) bool { return ev.Type == multidb.EventFailed })
	eventually(t, "a second failure", func() bool {
		st, err := f.m.Status(id)
		return err == nil && st.Failures > 1 && st.Tier != multidb.Cold
	})
	if f.walSize(id) == 0 {
		t.Error("the WAL is gone")
	}
	down.Clear()
	f.events.wait(t, "cold", func(ev multidb.Event) bool { return ev.Type == multidb.EventTier && ev.To == multidb.Cold })
	if n := f.walSize(id); n != 0 {
		t.Errorf("the WAL of a cold database has %d bytes", n)
	}
	if st, err := f.m.Status(id); err != nil || st.WALSize != 0 {
		t.Errorf("status: a WAL of %d bytes, %v", st.WALSize, err)
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 kept]" || f.m.Stats().Resyncs != 0 {
		t.Errorf("restored %v with %d resyncs", got, f.m.Stats().Resyncs)
	}
}

func TestAColdDatabaseHasNoWALWhoeverLeftIt(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 3)
	path := func(i int) string { return fmt.Sprintf("%s/project0/databases/db%d.db", root, i) }
	id := func(i int) multidb.ID { return multidb.ID(fmt.Sprintf("project0/db%d", i)) }
	// Another process leaves its WAL behind before the first start.
	leaveWAL(t, path(0))
	if fi, err := os.Stat(path(0) + "-wal"); err != nil || fi.Size() == 0 {
		t.Fatalf("no WAL was left: %v", err)
	}
	never := multidb.WithPromotion(0, 0) // a change found by a scan promotes nothing
	f := start(t, root, multidb.WithReplica(rep), never)
	eventually(t, "no WAL that was there at the start", func() bool { return f.walSize(id(0)) == 0 })
	// Another one does while the database is known and cold.
	f.cold()
	st, err := f.m.Status(id(1))
	if err != nil {
		t.Fatal(err)
	}
	leaveWAL(t, path(1))
	f.waitTXID(id(1), st.TXID)
	eventually(t, "no WAL that came later", func() bool { return f.walSize(id(1)) == 0 })
	// And one before the next start. The Manager's own is cut when it closes.
	f.insert(id(2), "hot")
	f.sync(id(2))
	if f.walSize(id(2)) == 0 {
		t.Fatal("a hot database has no WAL: the test shows nothing")
	}
	if st, err := f.m.Status(id(0)); err != nil || st.Tier != multidb.Cold {
		t.Errorf("%v, %v", st.Tier, err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path(2) + "-wal"); err == nil && fi.Size() > 0 {
		t.Errorf("Close left a WAL of %d bytes", fi.Size())
	}
	leaveWAL(t, path(2))
	if fi, err := os.Stat(path(2) + "-wal"); err != nil || fi.Size() == 0 {
		t.Fatalf("no WAL was left: %v", err)
	}
	f = start(t, root, multidb.WithReplica(rep), never)
	eventually(t, "no WAL of the time before the restart", func() bool { return f.walSize(id(2)) == 0 })
	if st, err := f.m.Status(id(2)); err != nil || st.Tier != multidb.Cold {
		t.Errorf("%v, %v", st.Tier, err)
	}
	for i, want := range []string{"[0 1 2 left]", "[0 1 2 left]", "[0 1 2 hot left]"} {
		f.sync(id(i))
		if got := fmt.Sprint(f.restored(id(i), multidb.RestoreOptions{})); got != want {
			t.Errorf("%s: restored %v, want %s", id(i), got, want)
		}
	}
	// Only a first copy is one: nothing that a seal of ours did looked like a gap.
	if n := f.m.Stats().Resyncs; n != 0 {
		t.Errorf("%d resyncs", n)
	}
}

// leaveEnv makes the test binary commit one row to a database and die.
const leaveEnv = "MULTIDB_TEST_LEAVE"

// TestLeaverProcess is the other process; it does nothing in a normal run.
func TestLeaverProcess(t *testing.T) {
	path := os.Getenv(leaveEnv)
	if path == "" {
		t.Skip("run by other tests")
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_pragma=busy_timeout(20000)"}).String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO t(v) VALUES('left')"); err != nil {
		t.Fatal(err)
	}
	os.Exit(0) // the database is not closed
}

// leaveWAL commits a row in another process, which leaves its WAL behind.
func leaveWAL(t *testing.T, path string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLeaverProcess$")
	cmd.Env = append(os.Environ(), leaveEnv+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
