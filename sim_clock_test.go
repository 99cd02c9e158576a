package multidb_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// setClock is a wall clock that somebody sets: its times are the system's but
// for the wall's part, as after settimeofday. Only the runtime can make such a
// time, so the seconds are put where package time keeps them.
type setClock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *setClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := time.Now()
	const nsecBits, hasMonotonic, year1885 = 30, 1 << 63, -2682288000
	parts := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t))
	if parts.wall&hasMonotonic == 0 { // in a bubble of virtual time, whose times have a wall's part alone
		unix, nsec := t.Unix(), t.Nanosecond()
		parts.wall, parts.ext = hasMonotonic, 0
		parts.ext = int64(time.Since(t))
		parts.wall |= uint64(unix-year1885)<<nsecBits | uint64(nsec)
	}
	parts.wall += uint64(int64(c.off/time.Second)) << nsecBits
	return t
}

func (c *setClock) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

func TestTheClockOfTheseTestsJumpsAsTheSystemsDoes(t *testing.T) {
	theClockJumps(t)
	synctest.Test(t, theClockJumps)
}

func theClockJumps(t *testing.T) {
	c := &setClock{}
	for _, off := range []time.Duration{0, 80 * time.Hour, -80 * time.Hour, 365 * 24 * time.Hour} {
		before := c.now()
		<-time.After(time.Millisecond)
		if d := time.Since(before); d < time.Millisecond || d > time.Minute {
			t.Errorf("%v since a millisecond ago", d)
		}
		c.set(off)
		real, jumped := time.Now(), c.now()
		if d := jumped.Sub(before); d < time.Millisecond || d > time.Minute {
			t.Errorf("%v: the monotonic clock moved by %v", off, d)
		}
		if d := jumped.Round(0).Sub(real.Round(0)) - off; d < 0 || d > time.Minute {
			t.Errorf("%v: the wall clock is wrong by %v", off, d)
		}
		if before.After(jumped) {
			t.Errorf("%v: time went back", off)
		}
		c.set(0)
	}
}

// TestAClockThatIsSetLosesNothing sets it by hours and days, forward and back,
// while databases are written, go cold, are compacted and get snapshots. With a
// retention of a day all of it is minutes old, and every transaction that was
// ever shipped must be restorable through all of it.
//
// Red without fsid.AgeClock: the first jump of two days deletes the history.
func TestAClockThatIsSetLosesNothing(t *testing.T) {
	t.Parallel()
	clock, rep := &setClock{}, multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 4), multidb.WithReplica(rep), multidb.WithClock(clock.now),
		multidb.WithHotDuration(100*time.Millisecond), multidb.WithMaxHot(1),
		multidb.WithRetentionInterval(30*time.Millisecond), multidb.WithCheckpointPages(5),
		multidb.WithSnapshotInterval(time.Hour))
	snapshots := func() (n int) {
		f.events.mu.Lock()
		defer f.events.mu.Unlock()
		for _, ev := range f.events.all {
			if ev.Type == multidb.EventSnapshot {
				n++
			}
		}
		return n
	}
	ids := []multidb.ID{"project0/db0", "project0/db1", "project0/db2", "project0/db3"}
	synced := map[multidb.ID][]multidb.TXID{}
	write := func(step int) {
		for i, id := range ids {
			if i == 3 && step%3 != 0 {
				continue // goes cold
			}
			f.insert(id, fmt.Sprintf("at %d", step))
			pos, err := f.m.Sync(t.Context(), id)
			if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			synced[id] = append(synced[id], pos.TXID)
		}
		for st := range f.m.All() {
			if st.Lag < 0 || st.Lag > time.Minute {
				t.Errorf("step %d: %s has a lag of %v", step, st.ID, st.Lag)
			}
			if st.Err != nil {
				t.Errorf("step %d: %v", step, st.Err)
			}
		}
		if ok, worst := f.m.Healthy(time.Minute); !ok {
			t.Errorf("step %d: not healthy: %v, lag %v", step, worst[0].Err, worst[0].Lag)
		}
	}
	const hour, day = time.Hour, 24 * time.Hour
	jumps := []time.Duration{0, 2 * day, 2*day + hour, -3 * day, 0, 400 * day, 400*day + hour, 0, -hour, hour, 30 * day, 0}
	for i, off := range jumps {
		clock.set(off)
		for j := range 3 {
			write(3*i + j)
			<-time.After(60 * time.Millisecond) // two looks at the retention
		}
	}
	if n := snapshots(); n < 4 {
		t.Errorf("%d snapshots in all those days", n)
	}
	for _, id := range ids {
		for i, txid := range synced[id] {
			out := filepath.Join(t.TempDir(), "restored.db")
			if err := f.m.Restore(context.Background(), id, multidb.RestoreOptions{OutputPath: out, TXID: txid}); err != nil {
				t.Fatalf("%s at its %d-th sync, transaction %v: %v", id, i, txid, err)
			}
			db, err := sql.Open("sqlite", out)
			if err != nil {
				t.Fatal(err)
			}
			var n int
			err = db.QueryRow("SELECT count(*) FROM t").Scan(&n)
			if err != nil || n != 3+i+1 {
				t.Errorf("%s at its %d-th sync has %d rows: %v", id, i, n, err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}
