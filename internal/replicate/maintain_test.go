package replicate

import (
	"fmt"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

// TestWhoDidNotWriteLastCompactsAndDeletesNothing: two that keep one prefix in order
// would delete what the other counts on. It has no client: a request would panic.
func TestWhoDidNotWriteLastCompactsAndDeletesNothing(t *testing.T) {
	p := New(Config{
		Mine: func(uint32, uint32) bool { return false },
		Now:  time.Now, Aged: func(now time.Time) time.Time { return now },
		Grace: time.Minute,
	})
	keeps := levels.Policy{Grace: time.Minute, L0Retention: time.Minute, Retention: time.Hour, SnapshotInterval: time.Hour}
	long := time.Now().Add(-30 * 24 * time.Hour)
	a := &active{snapshotNeeded: true}
	x := &run{Replicator: p, st: &State{active: a, verified: true}, in: Input{Levels: keeps}}
	pos := &x.st.db.State
	for txid := ltx.TXID(1); txid <= 3; txid++ {
		a.inv.Add(&ltx.FileInfo{MinTXID: txid, MaxTXID: txid, Size: 100, CreatedAt: long})
		pos.TXID = txid
	}
	pos.Origin = ship.Origin{Writer: 7<<32 | 1, Sum: 1}
	if err := x.compact(t.Context(), true); err != nil || a.due {
		t.Errorf("compact: %v, due %v", err, a.due)
	}
	if err := x.retain(t.Context()); err != nil {
		t.Errorf("retain: %v", err)
	}
	if at := x.nextRetention(); !at.IsZero() {
		t.Errorf("it deletes at %v", at)
	}
}

// TestADatabaseAtRestHasItsPath: a run that takes nothing for granted any more may still
// have to cut the log.
func TestADatabaseAtRestHasItsPath(t *testing.T) {
	p := New(Config{PagesDir: t.TempDir()})
	st := &State{active: &active{}, db: ship.DB{Path: "/data/a.db", State: ship.State{TXID: 7}, EndSeen: 5}}
	if err := p.Rest("a", st); err != nil {
		t.Fatal(err)
	}
	if st.active != nil || st.db.Path != "/data/a.db" || st.db.State.TXID != 7 || st.db.EndSeen != 5 {
		t.Errorf("at rest: %+v", st.db)
	}
}

// tailOf is a client that has taken so many files.
type tailOf struct {
	Deferred
	files int
}

func (f *tailOf) Tail() (files int, size int64) { return f.files, int64(f.files) }
func (f *tailOf) Pressed() bool                 { return false }

// TestDatabasesThatBecomeActiveTogetherAreNotUnpackedTogether: the first time each has a
// moment of its own within the interval, and from then on an interval between two.
func TestDatabasesThatBecomeActiveTogetherAreNotUnpackedTogether(t *testing.T) {
	const databases, interval, step = 1000, 100 * time.Second, time.Second
	p := New(Config{UnpackInterval: interval, UnpackSize: 1 << 20})
	began := time.Now()
	together := map[time.Duration]int{}
	for i := range databases {
		tail := &tailOf{files: 1}
		a := &active{deferred: tail}
		x := &run{Replicator: p, st: &State{active: a}, in: Input{ID: fmt.Sprint("project/db", i)}}
		var times []time.Duration
		for at := time.Duration(0); at <= 3*interval; at += step {
			x.r.Started = began.Add(at)
			if due, _ := x.unpackDue(); due {
				times = append(times, at)
				a.unpacked = x.r.Started
			}
			if tail.files = 0; i%2 == 0 { // some have nothing left until the next commit
				x.unpackDue()
			}
			tail.files = 1
		}
		if i%2 == 1 && (len(times) < 3 || times[1]-times[0] != interval) {
			t.Fatalf("database %d was unpacked at %v", i, times)
		}
		if len(times) > 0 {
			together[times[0]]++
		}
	}
	most := 0
	for _, n := range together {
		most = max(most, n)
	}
	if len(together) < 50 || most > databases/20 {
		t.Errorf("%d moments, up to %d of %d databases in one", len(together), most, databases)
	}
}
