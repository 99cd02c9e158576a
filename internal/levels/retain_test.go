package levels_test

import (
	"errors"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/levels"
)

// wantDue checks that retention is due at a time, and not a millisecond before.
func (d *tenant) wantDue(p levels.Policy, at time.Time) {
	d.t.Helper()
	if got := d.v.NextRetention(p); !got.Equal(at) {
		d.t.Fatalf("next retention %v, want %v\n%s", got, at, d.dump())
	}
	if d.v.RetentionDue(p, at.Add(-time.Nanosecond)) || !d.v.RetentionDue(p, at) {
		d.t.Fatal("RetentionDue and NextRetention differ")
	}
	d.now = at.Add(-time.Millisecond)
	if rep := d.retain(p); rep.Deleted != 0 {
		d.t.Fatalf("deleted %d files too early", rep.Deleted)
	}
	d.now = at
}

func TestLevelZeroStaysForAWhileAfterItsCompaction(t *testing.T) {
	p := levels.Policy{L0Retention: 10 * time.Second}
	d := newTenant(t, 1)
	d.commits(30)
	if at := d.v.NextRetention(p); !at.IsZero() {
		t.Fatalf("next retention %v before any compaction", at)
	}
	d.compact(p, true)
	// All of a level 1 file go together, when its newest is old enough.
	d.wantDue(p, d.times[30].Add(10*time.Second+time.Millisecond))
	d.now = d.times[30].Add(10*time.Second + time.Millisecond)
	if rep := d.retain(p); rep.Deleted != 29 || d.names(0) != "30-30" || d.b.deletes != 1 {
		t.Fatalf("report %+v, level 0: %s, %d deletions", rep, d.names(0), d.b.deletes)
	}
	d.wantLatest()
	d.wantSame()
	if !d.v.NextRetention(p).IsZero() {
		t.Fatal("something is left to delete")
	}
}

func TestLevelZeroThatIsNotCompactedStays(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.now = d.now.Add(100 * 24 * time.Hour)
	if rep := d.retain(levels.Policy{}); rep.Deleted != 0 {
		t.Fatalf("report %+v", rep)
	}
	d.wantLatest()
}

func TestGranularityKeepsLevelZeroWhereLevelOneIsCoarse(t *testing.T) {
	p := levels.Policy{L0Retention: time.Second, Granularity: 10 * time.Second, Retention: time.Hour}
	d := newTenant(t, 1)
	d.commits(30)
	d.compact(p, true)
	d.now = d.now.Add(time.Minute)
	if rep := d.retain(p); rep.Deleted != 10 {
		t.Fatalf("report %+v", rep)
	}
	d.wantRestore(litestream.RestoreOptions{Timestamp: d.times[15].Add(1)}, 15)
	d.wantRestore(litestream.RestoreOptions{Timestamp: d.times[25]}, 19)
	d.wantDue(p, d.times[30].Add(time.Hour+time.Millisecond))
	if rep := d.retain(p); rep.Deleted != 19 || d.names(0) != "30-30" {
		t.Fatalf("report %+v", rep)
	}
	d.wantLatest()
}

func TestTheSnapshotBeforeTheWindowStays(t *testing.T) {
	p := levels.Policy{Retention: time.Hour, L0Files: 5, Fanout: 100}
	d := newTenant(t, 1)
	for range 3 { // snapshots at 5, 10, 15
		d.now = d.now.Add(30 * time.Minute)
		d.commits(5)
		d.compact(p, false)
		d.snapshot()
	}
	d.now = d.now.Add(10 * time.Minute)
	d.retain(p)
	if d.names(9) != "1-5 1-10 1-15" || d.names(1) != "6-10 11-15" || d.names(0) != "15-15" {
		t.Fatal(d.dump())
	}
	// The second snapshot becomes the base when it leaves the window.
	d.wantDue(p, d.times[10].Add(time.Hour+time.Millisecond))
	d.retain(p)
	if d.names(9) != "1-10 1-15" || d.names(1) != "11-15" {
		t.Fatal(d.dump())
	}
	d.wantRestore(litestream.RestoreOptions{Timestamp: d.now.Add(-time.Hour)}, 10)
	d.wantRestore(litestream.RestoreOptions{Timestamp: d.times[15]}, 10)
	d.wantLatest()
	d.wantDue(p, d.times[15].Add(time.Hour+time.Millisecond))
	d.retain(p)
	if d.names(9) != "1-15" || d.names(1) != "11-15" || d.names(0) != "15-15" {
		t.Fatal(d.dump())
	}
	if !d.v.NextRetention(p).IsZero() {
		t.Fatal("the last files of the levels are to be deleted")
	}
	d.wantLatest()
	d.wantSame()
}

func TestWithoutASnapshotTheFileFromTheFirstTXIDStays(t *testing.T) {
	p := levels.Policy{Retention: time.Hour, L0Files: 3, Fanout: 3}
	d := newTenant(t, 1)
	for range 10 {
		d.commits(3)
		d.compact(p, false)
	}
	d.now = d.now.Add(1000 * time.Hour)
	d.retain(p)
	if d.names(3) != "1-27" || d.names(2) != "19-27" || d.names(1) != "28-30" || d.names(0) != "30-30" {
		t.Fatal(d.dump())
	}
	d.wantLatest()
	d.wantSame()
}

func TestALowerLevelStaysUntilTheHigherOneServesTheWholeWindow(t *testing.T) {
	p := levels.Policy{Retention: time.Hour, L0Files: 3, Fanout: 3}
	d := newTenant(t, 1)
	for range 3 {
		d.now = d.now.Add(20 * time.Minute)
		d.commits(3)
		d.compact(p, false)
	} // 1-3 4-6 7-9 in 1-9, over 40 minutes
	d.now = d.now.Add(10 * time.Minute)
	d.retain(p)
	d.wantDue(p, d.times[9].Add(time.Hour+time.Millisecond))
	d.wantRestore(litestream.RestoreOptions{Timestamp: d.times[9]}, 6)
	d.retain(p)
	if d.names(1) != "7-9" || d.names(2) != "1-9" {
		t.Fatal(d.dump())
	}
}

func TestNothingIsDeletedWhereTheNewestStateCannotBeRestored(t *testing.T) {
	p := levels.Policy{Retention: time.Hour, L0Retention: time.Second}
	d := newTenant(t, 1)
	d.commits(5)
	d.compact(p, true)
	d.commits(5)
	gone := &ltx.FileInfo{MinTXID: 8, MaxTXID: 8}
	d.v.Remove(gone)
	d.now = d.now.Add(48 * time.Hour)
	if !d.v.RetentionDue(p, d.now) {
		t.Fatal("nothing due")
	}
	if _, err := levels.Retain(ctx, d.b, d.v, p, d.now); !errors.Is(err, levels.ErrNotRestorable) || d.b.deletes != 0 {
		t.Fatalf("error %v, %d deletions", err, d.b.deletes)
	}
	d.snapshot()
	d.retain(p)
	d.wantLatest()
}

func TestDeletionsGoInBatches(t *testing.T) {
	p := levels.Policy{L0Files: 50, L0Retention: time.Second}
	d := newTenant(t, 1)
	d.commits(2500)
	d.compact(p, false)
	d.now = d.now.Add(time.Minute)
	if rep := d.retain(p); rep.Deleted != 2499 || d.b.deletes != 3 {
		t.Fatalf("report %+v, %d requests", rep, d.b.deletes)
	}
	d.wantLatest()
	d.wantSame()
}

func TestADeletionThatFailedIsDoneAgain(t *testing.T) {
	p := levels.Policy{L0Retention: time.Second}
	for _, fault := range []error{errBefore, errAfter} {
		t.Run(fault.Error(), func(t *testing.T) {
			d := newTenant(t, 1)
			d.commits(10)
			d.compact(p, true)
			d.now = d.now.Add(time.Minute)
			d.b.fault, d.b.rng = failOn("delete", fault), d.rng // half is deleted
			if _, err := levels.Retain(ctx, d.b, d.v, p, d.now); !errors.Is(err, fault) {
				t.Fatalf("error %v", err)
			}
			if d.v.Strays() != 9 || d.names(0) != "10-10" {
				t.Fatal(d.dump())
			}
			d.wantLatest()
			d.b.fault = nil
			if !d.v.RetentionDue(p, d.now.Add(-24*time.Hour)) { // whatever the clock says
				t.Fatal("strays are not due")
			}
			d.v.Reset(d.b.infos())
			left := d.v.Len() - 2 // level 0 has its last file and what was not deleted; level 1 has one
			if rep := d.retain(p); rep.Deleted != left || left == 0 {
				t.Fatalf("report %+v, want %d deleted", rep, left)
			}
			d.wantSame()
		})
	}
}

// TestNoLevel0FileGoesBeforeItsGrace: the time that counts is that from which it is
// known to be there, not what it bears.
func TestNoLevel0FileGoesBeforeItsGrace(t *testing.T) {
	p := levels.Policy{L0Retention: time.Second, Grace: time.Minute}
	d := newTenant(t, 1)
	d.commits(10)
	d.compact(p, true)
	d.now = d.now.Add(1000 * time.Hour) // all of it looks old
	retained := func(want int) {
		t.Helper()
		b := encode(t, d.v) // also when the database was cold meanwhile
		if err := d.v.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		due := d.v.RetentionDue(p, d.now)
		if rep := d.retain(p); rep.Deleted != want || due != (want > 0) {
			t.Fatalf("due %v, report %+v, want %d deleted", due, rep, want)
		}
	}
	retained(0) // nobody has said that they are there
	known := d.now
	d.v.MarkSeen(d.now, p.Grace)
	d.now = d.now.Add(time.Second)
	d.commits(5)
	d.compact(levels.Policy{MaxLevel: 1}, true)
	d.v.MarkSeen(d.now, p.Grace)
	d.now = known.Add(p.Grace)
	retained(0)
	d.now = d.now.Add(time.Second)
	retained(10) // those of before; of the others the grace is not over
	d.now = d.now.Add(2*time.Second + p.Grace)
	retained(4)
	d.wantLatest()
	d.wantSame()
}

// TestAGraceIsNoLongerThanAQuarterMore bounds what MarkSeen keeps.
func TestAGraceIsNoLongerThanAQuarterMore(t *testing.T) {
	const grace = 100 * time.Second
	p := levels.Policy{L0Retention: time.Second, Grace: grace}
	d := newTenant(t, 1)
	for range 1000 { // a busy database
		d.commits(1)
		d.v.MarkSeen(d.now, grace)
	}
	d.compact(p, true)
	d.retain(p)
	first, _ := d.oldest(0)
	if age := d.now.Sub(d.times[first]); age < grace || age > grace*5/4+5*time.Second {
		t.Fatalf("the oldest file that is left is of %v ago", age)
	}
	if n, short := len(encode(t, d.v)), len(encode(t, d.v))-len(encode(t, withoutMarks(t, d))); n == 0 || short > 60 {
		t.Fatalf("the marks take %d bytes", short)
	}
}

func withoutMarks(t *testing.T, d *tenant) *levels.Inventory {
	v := new(levels.Inventory)
	for info := range d.v.All() {
		v.Add(info)
	}
	return v
}

// oldest is the first TXID of a level.
func (d *tenant) oldest(level int) (ltx.TXID, bool) {
	for info := range d.v.Files(level) {
		return info.MinTXID, true
	}
	return 0, false
}

func TestAFileOfUnknownAgeIsNeverOld(t *testing.T) {
	p := levels.Policy{Retention: time.Hour, L0Retention: time.Second}
	d := newTenant(t, 1)
	d.commits(5)
	d.snapshot()
	d.commits(5)
	d.snapshot()
	infos := d.b.infos()
	for _, info := range infos {
		info.CreatedAt = time.Time{}
	}
	d.v.Reset(infos)
	d.now = d.now.Add(1000 * time.Hour)
	if rep := d.retain(p); rep.Deleted != 0 {
		t.Fatalf("report %+v", rep)
	}
}

func TestASnapshotIsDueOncePerIntervalAndOnlyAfterAChange(t *testing.T) {
	p := levels.Policy{SnapshotInterval: time.Hour}
	d := newTenant(t, 1)
	due := func(want bool) {
		t.Helper()
		if got := d.v.SnapshotDue(p, d.now); got != want {
			t.Fatalf("due: %v\n%s", got, d.dump())
		}
	}
	due(false) // nothing there
	d.commits(3)
	d.compact(p, true)
	due(false) // level 1 begins at TXID 1 and is young
	d.now = d.now.Add(2 * time.Hour)
	due(false) // nothing changed since
	d.commits(1)
	due(true)
	d.snapshot()
	due(false)
	d.commits(1)
	due(false)
	d.now = d.now.Add(time.Hour)
	due(true)
	d.now = d.now.Add(-3 * time.Hour) // the clock was ahead when the snapshot was taken
	due(true)
	d.snapshot()
	due(false)

	all := d.b.infos()
	d.v.Reset([]*ltx.FileInfo{all[2]}) // TXID 3 alone
	due(true)
}

func TestAnEpochAfterTheNewestSnapshotMakesOneDue(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.snapshot()
	d.v.BeginEpoch(5)
	d.v.Reset(d.b.infos()) // epochs are not at the replica
	if d.v.SnapshotDue(levels.Policy{}, d.now) || d.v.Restorable() != nil {
		t.Fatal("a snapshot is due with nothing after the epoch began")
	}
	d.commits(1)
	if !d.v.SnapshotDue(levels.Policy{}, d.now) || !errors.Is(d.v.Restorable(), levels.ErrNotRestorable) {
		t.Fatal("no snapshot is due after an epoch began")
	}
	d.snapshot()
	if d.v.SnapshotDue(levels.Policy{}, d.now) {
		t.Fatal("a snapshot is due again")
	}
	d.wantLatest()
}

func TestASnapshotLevelFileFromTheMiddleIsNotASnapshot(t *testing.T) {
	v := new(levels.Inventory)
	v.Add(&ltx.FileInfo{Level: 9, MinTXID: 5, MaxTXID: 9, CreatedAt: time.UnixMilli(1)})
	if err := v.Restorable(); !errors.Is(err, levels.ErrNotRestorable) {
		t.Fatalf("error %v", err)
	}
}

func TestAFileThatIsOnlyPartlyInAHigherLevelStays(t *testing.T) {
	v := new(levels.Inventory)
	for _, f := range [][3]ltx.TXID{{0, 2, 5}, {0, 6, 6}, {1, 1, 4}} {
		v.Add(&ltx.FileInfo{Level: int(f[0]), MinTXID: f[1], MaxTXID: f[2], CreatedAt: time.UnixMilli(1)})
	}
	if at := v.NextRetention(levels.Policy{}); !at.IsZero() {
		t.Fatalf("deletable at %v", at)
	}
}

func TestALaterSnapshotWithAnEarlierTimeIsABaseToo(t *testing.T) {
	v := new(levels.Inventory)
	at := time.UnixMilli(1_700_000_000_000).UTC()
	v.Add(&ltx.FileInfo{Level: 9, MinTXID: 1, MaxTXID: 5, CreatedAt: at.Add(10 * time.Hour)}) // the clock was ahead
	v.Add(&ltx.FileInfo{Level: 9, MinTXID: 1, MaxTXID: 8, CreatedAt: at})
	v.Add(&ltx.FileInfo{Level: 1, MinTXID: 1, MaxTXID: 4, CreatedAt: at})
	v.Add(&ltx.FileInfo{Level: 1, MinTXID: 5, MaxTXID: 9, CreatedAt: at})
	doomed := v.NextRetention(levels.Policy{Retention: time.Hour})
	if want := at.Add(time.Hour + time.Millisecond); !doomed.Equal(want) {
		t.Fatalf("next retention %v, want %v", doomed, want)
	}
	b := newBucket()
	if rep, err := levels.Retain(ctx, b, v, levels.Policy{Retention: time.Hour}, doomed); err != nil || rep.Deleted != 2 {
		t.Fatalf("report %+v, error %v", rep, err)
	}
}
