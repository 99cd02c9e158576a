package levels_test

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/levels"
)

func TestLevelZeroIsCompactedWhenEnoughFilesAreNotInLevelOne(t *testing.T) {
	p := levels.Policy{L0Files: 10}
	d := newTenant(t, 1)
	d.commits(9)
	if d.v.CompactionDue(p) {
		t.Fatal("due with 9 files")
	}
	if rep := d.compact(p, false); rep != (levels.Report{}) {
		t.Fatalf("did %+v with nothing due", rep)
	}
	d.commits(1)
	if !d.v.CompactionDue(p) {
		t.Fatal("not due with 10 files")
	}
	rep := d.compact(p, false)
	if rep.Compactions != 1 || rep.FilesRead != 10 || rep.BytesRead == 0 || rep.BytesWritten == 0 {
		t.Fatalf("report %+v", rep)
	}
	if d.b.gets.Load() != 10 || d.b.puts != 1 || d.b.lists != 0 {
		t.Fatalf("%d gets, %d puts, %d lists", d.b.gets.Load(), d.b.puts, d.b.lists)
	}
	if d.v.CompactionDue(p) || d.names(1) != "1-10" {
		t.Fatalf("level 1: %s", d.names(1))
	}
	d.commits(10)
	d.compact(p, false)
	if d.names(1) != "1-10 11-20" {
		t.Fatalf("level 1: %s", d.names(1))
	}
	d.wantLatest()
	d.wantSame()
}

func TestLevelZeroIsCompactedWhenItsFilesAreLarge(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(1)
	p := levels.Policy{L0Bytes: d.v.Bytes() + 1}
	if d.v.CompactionDue(levels.Policy{L0Bytes: 1}) {
		t.Fatal("one file alone is due")
	}
	d.commits(1)
	if !d.v.CompactionDue(p) || d.v.CompactionDue(levels.Policy{}) {
		t.Fatal("due by size: want true, with the default size false")
	}
}

func TestLevelsCascadeUpToTheHighest(t *testing.T) {
	p := levels.Policy{L0Files: 2, Fanout: 2, MaxLevel: 2}
	d := newTenant(t, 1)
	for range 8 {
		d.commits(1)
		d.compact(p, false)
		d.wantLatest()
	}
	if d.names(1) != "1-2 3-4 5-6 7-8" || d.names(2) != "1-4 5-8" || d.names(3) != "" {
		t.Fatal(d.dump())
	}
	d.wantSame()
}

func TestADatabaseAtRestIsCompactedWhereTwoFilesAreLeft(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(1)
	if rep := d.compact(levels.Policy{}, true); rep.Compactions != 0 {
		t.Fatal("a single file was compacted")
	}
	d.commits(2)
	d.compact(levels.Policy{}, true)
	d.commits(2)
	d.compact(levels.Policy{}, true)
	if d.names(1) != "1-3 4-5" || d.names(2) != "1-5" || d.names(3) != "" {
		t.Fatal(d.dump())
	}
	d.wantLatest()
	d.wantSame()
}

func TestALongBacklogIsCompactedInPieces(t *testing.T) {
	p := levels.Policy{L0Files: 10, MaxLevel: 1}
	d := newTenant(t, 1)
	d.commits(35)
	d.compact(p, false)
	if d.names(1) != "1-11 12-23 24-35" {
		t.Fatal(d.names(1))
	}
	d.commits(600)
	d.compact(levels.Policy{L0Files: 500, MaxLevel: 1}, false)
	for info := range d.v.Files(1) {
		if info.MaxTXID-info.MinTXID >= 256 {
			t.Fatalf("%d-%d were read at once", info.MinTXID, info.MaxTXID)
		}
	}
	d.wantLatest()
	d.wantSame()
}

func TestOnlyContiguousFilesAreCompacted(t *testing.T) {
	t.Run("TXIDs missing in the source level divide it", func(t *testing.T) {
		d := newTenant(t, 1)
		d.commits(10)
		d.snapshot()
		gone := &ltx.FileInfo{MinTXID: 4, MaxTXID: 4}
		if err := d.b.DeleteLTXFiles(ctx, []*ltx.FileInfo{gone}); err != nil {
			t.Fatal(err)
		}
		d.v.Remove(gone)
		d.compact(levels.Policy{L0Files: 6, MaxLevel: 1}, false)
		if d.names(1) != "1-3 5-10" {
			t.Fatal(d.names(1))
		}
		d.wantLatest()
		d.wantSame()
	})
	t.Run("TXIDs missing after the destination level do not matter", func(t *testing.T) {
		d := newTenant(t, 1)
		d.commits(4)
		d.compact(levels.Policy{}, true)
		d.commits(6)
		gone := &ltx.FileInfo{MinTXID: 5, MaxTXID: 5}
		if err := d.b.DeleteLTXFiles(ctx, []*ltx.FileInfo{gone}); err != nil {
			t.Fatal(err)
		}
		d.v.Remove(gone)
		d.snapshot()
		d.compact(levels.Policy{MaxLevel: 1}, true)
		if d.names(1) != "1-4 6-10" {
			t.Fatal(d.names(1))
		}
		d.compact(levels.Policy{}, true)
		if d.names(2) != "" {
			t.Fatalf("level 2 over a gap: %s", d.names(2))
		}
		d.wantLatest()
	})
	t.Run("an epoch divides every level", func(t *testing.T) {
		p := levels.Policy{L0Files: 5, Fanout: 3, MaxLevel: 2}
		d := newTenant(t, 1)
		for i := range 20 {
			if i == 9 {
				d.changePageSize()
			}
			d.commits(5)
			d.compact(p, false)
			d.wantLatest()
		}
		for _, level := range []int{1, 2} {
			for info := range d.v.Files(level) {
				if info.MinTXID <= 45 && info.MaxTXID > 45 {
					t.Fatal(d.dump())
				}
			}
		}
		d.wantRestore(litestream.RestoreOptions{TXID: 45}, 45)
		d.wantSame()
	})
	t.Run("overlapping files of a listing are merged", func(t *testing.T) {
		d := newTenant(t, 1)
		d.commits(9)
		d.compact(levels.Policy{L0Files: 3, MaxLevel: 1}, false) // 1-3 4-6 7-9
		other := levels.Inventory{}
		other.Reset(d.b.infos())
		for _, level := range []int{1} {
			for info := range d.v.Files(level) {
				other.Remove(info)
			}
		}
		if _, err := levels.Compact(ctx, d.b, &other, levels.Policy{L0Files: 5, MaxLevel: 1}, false, nil); err != nil { // 1-9
			t.Fatal(err)
		}
		d.v.Reset(d.b.infos())
		if d.names(1) != "1-3 1-9 4-6 7-9" {
			t.Fatal(d.names(1))
		}
		d.commits(2)
		d.compact(levels.Policy{MaxLevel: 2}, true)
		if d.names(1) != "1-3 1-9 4-6 7-9 10-11" || d.names(2) != "1-11" {
			t.Fatal(d.dump())
		}
		d.wantLatest()
	})
}

func TestAFileThatBeginsInTheNextLevelIsPassed(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.compact(levels.Policy{}, true)
	d.commits(2)
	d.put(0, 4, 7, d.file(4, 7, d.allPages())) // as others may have left it
	for _, txid := range []ltx.TXID{6, 7} {
		delete(d.b.objects, name{0, txid, txid})
		d.v.Remove(&ltx.FileInfo{MinTXID: txid, MaxTXID: txid})
	}
	d.commits(2)
	d.compact(levels.Policy{MaxLevel: 1}, true)
	if d.names(1) != "1-5 8-9" {
		t.Fatal(d.dump())
	}
	d.now = d.now.Add(1000 * time.Hour)
	d.retain(levels.Policy{})
	if d.names(0) != "4-7 9-9" {
		t.Fatal(d.dump())
	}
	d.wantLatest()
	d.wantSame()
}

func TestAFileThatVanishedAsksForAListing(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	before := len(d.b.objects)
	delete(d.b.objects, name{0, 3, 3})
	_, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil)
	if !errors.Is(err, levels.ErrInventory) {
		t.Fatalf("error %v", err)
	}
	if len(d.b.objects) != before-1 || d.v.Len() != before {
		t.Fatal("a failed compaction changed something")
	}
	d.v.Reset(d.b.infos())
	if err := d.v.Restorable(); !errors.Is(err, levels.ErrNotRestorable) {
		t.Fatalf("restorable without TXID 3: %v", err)
	}
	d.snapshot()
	d.compact(levels.Policy{}, true)
	d.wantLatest()
	d.wantSame()
}

func TestAMissingDestinationIsNotAMissingFile(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.b.fault = failOn("put", errors.Join(errBefore, fs.ErrNotExist))
	_, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil)
	if !errors.Is(err, errBefore) || errors.Is(err, levels.ErrInventory) {
		t.Fatalf("error %v", err)
	}
}

func TestAChangeOfThePageSizeThatNobodyToldIsFoundAndPassed(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.now = d.now.Add(time.Second)
	d.rewrite()
	d.commits(4)
	_, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil)
	if !errors.Is(err, levels.ErrPageSize) || errors.Is(err, levels.ErrInventory) {
		t.Fatalf("error %v", err)
	}
	if err := d.v.Restorable(); !errors.Is(err, levels.ErrNotRestorable) {
		t.Fatalf("restorable over two page sizes: %v", err)
	}
	if !d.v.SnapshotDue(levels.Policy{}, d.now) {
		t.Fatal("no snapshot due")
	}
	d.snapshot()
	if d.v.SnapshotDue(levels.Policy{}, d.now) {
		t.Fatal("a snapshot is due after the snapshot")
	}
	d.compact(levels.Policy{}, true)
	if d.names(1) != "1-5 6-10" || d.names(2) != "" {
		t.Fatal(d.dump())
	}
	d.wantLatest()
	d.wantRestore(litestream.RestoreOptions{TXID: 5}, 5)
	d.wantSame()
}

func TestAFileOfOtherTXIDsIsNotCompacted(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.b.objects[name{0, 5, 5}] = object{d.b.objects[name{0, 5, 5}].info, d.file(5, 6, d.allPages())}
	if _, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil); err == nil || d.v.Len() != 5 || d.b.puts > 0 {
		t.Fatalf("error %v, %d files, %d written", err, d.v.Len(), d.b.puts)
	}
}

func TestAWriteThatFailedIsAStrayUntilItIsDoneAgainOrListed(t *testing.T) {
	for _, fault := range []error{errBefore, errAfter} {
		t.Run(fault.Error(), func(t *testing.T) {
			d := newTenant(t, 1)
			d.commits(5)
			d.b.fault = failOn("put", fault)
			if _, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil); !errors.Is(err, fault) {
				t.Fatalf("error %v", err)
			}
			if d.v.Strays() != 1 || d.v.Len() != 5 || !d.v.RetentionDue(levels.Policy{}, d.now) {
				t.Fatalf("%d strays, %d files", d.v.Strays(), d.v.Len())
			}
			d.wantLatest()

			d.b.fault = nil
			d.compact(levels.Policy{}, true)
			d.wantSame() // the same file again: no stray

			d.commits(5)
			d.b.fault = failOn("put", fault)
			if _, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil); !errors.Is(err, fault) {
				t.Fatalf("error %v", err)
			}
			d.commits(1)
			d.b.fault = nil
			d.compact(levels.Policy{MaxLevel: 1}, true) // 6-11, where 6-10 is in doubt
			if d.v.Strays() != 1 || d.names(1) != "1-5 6-11" {
				t.Fatal(d.dump())
			}
			// By its name it could be another writer's, who has deleted what it contains.
			if rep := d.retain(levels.Policy{}); rep.Deleted != 0 || d.b.deletes != 0 || d.v.Strays() != 1 {
				t.Fatalf("report %+v, %d deletions, %d strays", rep, d.b.deletes, d.v.Strays())
			}
			d.v.Reset(d.b.infos())
			if d.v.Strays() != 0 {
				t.Fatal("the listing did not settle it")
			}
			d.wantLatest()
			d.wantSame()
		})
	}
}

// TestACompactionOfAnotherContentIsNeverWrittenOver: every level is create-only.
func TestACompactionOfAnotherContentIsNeverWrittenOver(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	other := newTenant(t, 2)
	other.commits(5)
	theirs := other.file(1, 5, other.allPages())
	if _, err := d.b.WriteLTXFile(ctx, 1, 1, 5, bytes.NewReader(theirs)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil); !errors.Is(err, levels.ErrForeign) {
			t.Fatalf("error %v", err)
		}
		if got := d.b.objects[name{1, 1, 5}].data; !bytes.Equal(got, theirs) || d.names(1) != "" {
			t.Fatal("it was written over, or taken")
		}
	}
}

// TestADamagedCompactionIsNotTaken: the file that stands there is compared, not
// believed.
func TestADamagedCompactionIsNotTaken(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.compact(levels.Policy{MaxLevel: 1}, true)
	made := d.b.objects[name{1, 1, 5}]
	for i := range made.data {
		v := new(levels.Inventory)
		for info := range d.v.Files(0) {
			v.Add(info)
		}
		data := slices.Clone(made.data)
		data[i] ^= 0x10
		d.b.objects[name{1, 1, 5}] = object{made.info, data}
		if _, err := levels.Compact(ctx, d.b, v, levels.Policy{MaxLevel: 1}, true, nil); err == nil {
			var got bytes.Buffer // a byte of the compression's frame may mean nothing
			if err := ltx.NewDecoder(bytes.NewReader(data)).DecodeDatabaseTo(&got); err != nil || !bytes.Equal(got.Bytes(), d.states[5]) {
				t.Fatalf("byte %d of %d was changed, and it was taken", i, len(data))
			}
		}
	}
	d.b.objects[name{1, 1, 5}] = made
	v := new(levels.Inventory)
	for info := range d.v.Files(0) {
		v.Add(info)
	}
	if rep, err := levels.Compact(ctx, d.b, v, levels.Policy{MaxLevel: 1}, true, nil); err != nil || rep.Compactions != 1 {
		t.Fatalf("report %+v, error %v", rep, err)
	}
}

func TestLargeFilesAreStreamed(t *testing.T) {
	d := newTenant(t, 1)
	d.pages = make([][]byte, 400)
	big := func() {
		t.Helper()
		d.now = d.now.Add(time.Second)
		dirty := map[uint32]bool{}
		for _, pgno := range d.allPages() {
			dirty[pgno] = true
		}
		d.shipWith(dirty, 512)
	}
	big()
	big()
	if d.v.Bytes() < 2*100<<10 {
		t.Fatalf("%d bytes are not large", d.v.Bytes())
	}
	d.commits(2)
	if rep := d.compact(levels.Policy{}, true); rep.Compactions != 1 || rep.BytesRead < d.v.Bytes()/2 || d.b.gets.Load() != 4 {
		t.Fatalf("report %+v, %d gets", rep, d.b.gets.Load())
	}
	d.wantLatest()
	d.wantSame()

	t.Run("a connection that breaks is opened again", func(t *testing.T) {
		big()
		d.commits(1)
		once := errAfter
		d.b.fault = func(op string) error {
			err := once
			if op == "get" {
				once = nil
			}
			return err
		}
		before := d.b.gets.Load()
		rep, err := levels.Compact(ctx, d.b, d.v, levels.Policy{MaxLevel: 1}, true, nil)
		if err != nil || rep.Compactions != 1 || d.b.gets.Load() != before+3 {
			t.Fatalf("report %+v, %d gets, error %v", rep, d.b.gets.Load()-before, err)
		}
		d.b.fault = nil
		d.wantLatest()
		d.wantSame()
	})
	t.Run("a file that vanishes meanwhile asks for a listing", func(t *testing.T) {
		big()
		d.commits(1)
		once := errAfter
		d.b.fault = func(op string) error {
			err := once
			if op == "get" && err != nil {
				once = nil
				delete(d.b.objects, name{0, d.txid() - 1, d.txid() - 1})
				return errAfter
			}
			return err
		}
		_, err := levels.Compact(ctx, d.b, d.v, levels.Policy{MaxLevel: 1}, true, nil)
		if !errors.Is(err, levels.ErrInventory) {
			t.Fatalf("error %v", err)
		}
	})
}
