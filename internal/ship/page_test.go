package ship

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

func TestEveryPageSizeIsShippedAndRestored(t *testing.T) {
	for _, size := range []int{512, 4096, 16384, 65536} {
		t.Run(fmt.Sprintf("of %d bytes", size), func(t *testing.T) {
			r := newRig(t, size)
			h := history{}
			r.insert(3, 2*size)
			r.ship(RuleResync)
			h.note(r)
			r.insert(3, 3*size)
			r.ship(RuleSame)
			h.note(r)
			if _, err := r.s.Checkpoint(t.Context(), r.db); err != nil {
				t.Fatal(err)
			}
			r.insert(2, size)
			r.ship(RuleRestart)
			h.note(r)
			if got := r.client.read(t, 0, r.db.State.TXID, r.db.State.TXID).hdr.PageSize; got != uint32(size) {
				t.Errorf("the file has pages of %d bytes", got)
			}
			h.check(r)
		})
	}
}

func TestABigEndianLogIsShipped(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.closeApp()
	r.db.Path = r.path
	h, frames := parseLog(t, r.log())
	h.BigEndian = true
	r.setLog(buildLog(h, frames))
	r.app = ours(t, r.path)
	r.insert(1, 100) // SQLite goes on in the log's byte order
	if h, frames := parseLog(t, r.log()); !h.BigEndian || len(frames) < 5 {
		t.Fatalf("SQLite did not take the big-endian log: %+v, %d frames", h, len(frames))
	}
	r.ship(RuleResync)
	r.same()
	r.insert(4, 5000)
	if res := r.ship(RuleSame); res.Txns != 4 {
		t.Fatalf("shipped %+v", res)
	}
	r.same()
}

func TestVacuumIsShipped(t *testing.T) {
	for _, auto := range []string{"none", "full", "incremental"} {
		t.Run("with auto_vacuum "+auto, func(t *testing.T) {
			r := newRig(t, 1024, "PRAGMA auto_vacuum="+auto)
			h := history{}
			ship := func(rule Rule) {
				t.Helper()
				r.ship(rule)
				h.note(r)
			}
			r.insert(24, 1500)
			ship(RuleResync)
			r.exec("DELETE FROM t WHERE k % 3 <> 0")
			ship(RuleSame)
			r.exec("PRAGMA incremental_vacuum(20)")
			ship(RuleSame)
			r.insert(12, 1500)
			ship(RuleSame)
			pages := r.db.State.Commit
			r.exec("DELETE FROM t WHERE k % 2 = 0", "VACUUM")
			ship(RuleSame)
			if r.db.State.Commit >= pages {
				t.Errorf("still %d pages", r.db.State.Commit)
			}
			r.insert(30, 1500)
			ship(RuleSame)
			r.exec("DELETE FROM t", "VACUUM")
			r.insert(5, 10)
			ship(RuleSame)
			h.check(r)
		})
	}
}

// unwritten makes transactions on a copy of the database and puts the resulting
// log beside the original, without the frames of free pages of its last
// transaction: their content is nobody's, and not every writer writes them. It
// returns the pages left out.
func (r *rig) unwritten(qs ...string) []uint32 {
	r.t.Helper()
	r.closeApp()
	twin := &rig{t: r.t, path: filepath.Join(r.t.TempDir(), "twin.db")}
	r.copyTo(twin.path)
	twin.app = ours(r.t, twin.path)
	twin.exec(qs...)
	h, frames := parseLog(r.t, twin.log())
	twin.closeApp()

	last := map[uint32][]byte{}
	begin := 0 // of the last transaction
	for i, f := range frames {
		last[f.pgno] = f.page
		if f.commit != 0 && i+1 < len(frames) {
			begin = i + 1
		}
	}
	free := map[uint32]bool{}
	be := binary.BigEndian
	for trunk := be.Uint32(last[1][32:]); trunk != 0 && last[trunk] != nil; trunk = be.Uint32(last[trunk]) {
		for i := range be.Uint32(last[trunk][4:]) {
			free[be.Uint32(last[trunk][8+4*i:])] = true
		}
	}
	var left []uint32
	kept := slices.Clone(frames[:begin])
	for i, f := range frames[begin:] {
		if free[f.pgno] && begin+i+1 < len(frames) {
			left = append(left, f.pgno)
			continue
		}
		kept = append(kept, f)
	}
	if end := &kept[len(kept)-1]; free[end.pgno] { // the commit mark moves
		commit := end.commit
		left = append(left, end.pgno)
		kept = kept[:len(kept)-1]
		kept[len(kept)-1].commit = commit
	}
	r.setLog(buildLog(h, kept))
	slices.Sort(left)
	return slices.Compact(left)
}

func TestPagesThatGrewWithoutBeingWrittenAreFilled(t *testing.T) {
	r := newRig(t, 512)
	r.insert(5, 100)
	r.ship(RuleResync)
	before := r.db.State.Commit
	left := r.unwritten("BEGIN; INSERT INTO t(v) VALUES(randomblob(30000)); INSERT INTO t(v) VALUES('kept'); DELETE FROM t WHERE length(v) > 20000; COMMIT")
	if len(left) < 20 {
		t.Fatalf("only the pages %v were left out", left)
	}
	res := r.ship(RuleSame)
	if res.Txns != 1 || r.db.State.Commit <= before+20 {
		t.Fatalf("not the situation: %+v, %d pages after %d", res, r.db.State.Commit, before)
	}
	pages := r.client.read(t, 0, r.db.State.TXID, r.db.State.TXID).pages
	for pgno := before + 1; pgno <= r.db.State.Commit; pgno++ {
		if pages[pgno] == nil {
			t.Errorf("page %d is not in the file", pgno)
		}
	}
	r.same()
}

// TestPagesThatWentAndCameBackInOneBatchAreFilled: what the replica has of them
// is of before the cut.
func TestPagesThatWentAndCameBackInOneBatchAreFilled(t *testing.T) {
	r := newRig(t, 512)
	r.insert(60, 400)
	r.ship(RuleResync)
	before := r.db.State.Commit
	left := r.unwritten("DELETE FROM t WHERE k > 3", "VACUUM",
		"BEGIN; INSERT INTO t(v) VALUES(randomblob(15000)); INSERT INTO t(v) VALUES('kept'); DELETE FROM t WHERE length(v) > 10000; COMMIT")
	if len(left) < 10 {
		t.Fatalf("only the pages %v were left out", left)
	}
	cut := before // the smallest size in between
	_, frames := parseLog(t, r.log())
	for _, f := range frames[(r.db.State.Offset-wal.HeaderSize)/(wal.FrameHeaderSize+512):] {
		if f.commit != 0 {
			cut = min(cut, f.commit)
		}
	}
	res := r.ship(RuleSame)
	if res.Txns != 3 || r.db.State.Commit >= before {
		t.Fatalf("not the situation: %+v, %d pages after %d", res, r.db.State.Commit, before)
	}
	pages := r.client.read(t, 0, r.db.State.TXID, r.db.State.TXID).pages
	for pgno := cut + 1; pgno <= r.db.State.Commit; pgno++ {
		if pages[pgno] == nil {
			t.Errorf("page %d is not in the file", pgno)
		}
	}
	r.same()
}

// TestTheLockPageIsNeverShipped: SQLite never writes the page at 1 GiB, but the
// database grows over it.
func TestTheLockPageIsNeverShipped(t *testing.T) {
	const size = 65536
	lock := ltx.LockPgno(size)
	if lock != 1<<30/size+1 {
		t.Fatalf("the lock page is %d", lock)
	}
	for name, pgnos := range map[string][]uint32{
		"when pages around it are written":       {lock - 1, lock + 1},
		"when it lies among pages not written":   {lock - 2, lock + 2},
		"when a frame of it stands in the log":   {lock - 1, lock, lock + 1},
		"when the database ends with it":         {lock - 1, lock},
		"when everything behind it is unwritten": {lock - 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShipper(t)
			h := wal.Header{PageSize: size, Salt1: 1, Salt2: 2}
			commit := max(pgnos[len(pgnos)-1], lock+1)
			if name == "when the database ends with it" {
				commit = lock
			}
			var frames []logFrame
			for _, pgno := range pgnos {
				frames = append(frames, logFrame{pgno: pgno, page: slices.Repeat([]byte{byte(pgno)}, size)})
			}
			frames[len(frames)-1].commit = commit
			log := buildLog(h, frames)
			h, err := wal.ParseHeader(log)
			if err != nil {
				t.Fatal(err)
			}
			s.cfg.ChunkSize = len(log)
			b, err := s.readBatch(readerAt(log), int64(len(log)), h, h.Start())
			if err != nil {
				t.Fatal(err)
			}
			defer s.release(b)
			d := &delta{next: State{TXID: 2, PageSize: size, Commit: commit}}
			defer d.close()
			if err := s.encodeBatch(d, b, lock-4); err != nil {
				t.Fatal(err)
			}
			pages := decode(t, d.ltx.reader()).pages
			for pgno := lock - 3; pgno <= commit; pgno++ {
				want := byte(0)
				if slices.Contains(pgnos, pgno) {
					want = byte(pgno)
				}
				if p, ok := pages[pgno]; ok == (pgno == lock) || ok && p[0] != want {
					t.Errorf("page %d (the lock page is %d): there %v", pgno, lock, ok)
				}
			}
		})
	}
}

func TestManyTransactionsMakeSeveralFilesOfBoundedSize(t *testing.T) {
	r := newRig(t, 4096)
	r.ship(RuleResync)
	r.insert(100, 3000)
	more, h := 0, history{}
	for {
		res, err := r.s.Step(t.Context(), r.db)
		if err != nil {
			t.Fatal(err)
		}
		last := r.client.read(t, 0, r.db.State.TXID, r.db.State.TXID).hdr
		if res.Txns == 0 || last.WALSize > int64(r.s.cfg.ChunkSize) {
			t.Fatalf("%+v made of %d bytes", res, last.WALSize)
		}
		if !res.More {
			break
		}
		more++
	}
	if more < 5 {
		t.Errorf("only %d files", more+1)
	}
	h.note(r)
	h.check(r)
	r.contiguous()
}

// TestOneGiantTransactionIsOneFileInBoundedMemory writes 3 MB in one
// transaction through 64 KiB of buffer.
func TestOneGiantTransactionIsOneFileInBoundedMemory(t *testing.T) {
	r := newRig(t, 4096)
	r.ship(RuleResync)
	r.insert(1, 100)
	r.exec("BEGIN; INSERT INTO t(v) SELECT randomblob(100000) FROM json_each('[" + giantList + "]'); COMMIT")
	r.insert(1, 100)

	cl := &discardClient{memClient: r.client}
	r.db.Client = cl
	st := r.db.State
	var before, after runtime.MemStats
	var sizes []int64
	runtime.ReadMemStats(&before)
	for {
		res, err := r.s.Step(t.Context(), r.db)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, res.Bytes)
		if !res.More {
			break
		}
	}
	runtime.ReadMemStats(&after)
	// What was allocated in all, freed or not, bounds what was held at once.
	if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
	if len(sizes) != 3 || sizes[1] < 3_000_000 {
		t.Errorf("the files have %v bytes, want a giant one between two small ones", sizes)
	}

	r.db.Client, r.db.State = r.client, st
	if res := r.ship(RuleCheckpoint); res.Txns != 3 || r.db.State.TXID != st.TXID+3 {
		t.Errorf("shipped %+v up to %s", res, r.db.State.TXID)
	}
	r.same()
}

// TestAGiantTransactionThatIsNotCommittedIsNotShipped: the spool is given up.
func TestAGiantTransactionThatIsNotCommittedIsNotShipped(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(3, 100)
	r.ship(RuleResync)
	c := r.conn()
	mustExec(t, c, "PRAGMA cache_size=5")
	mustExec(t, c, "BEGIN IMMEDIATE")
	mustExec(t, c, "INSERT INTO t(v) SELECT randomblob(100000) FROM json_each('[1,2,3,4,5,6,7,8,9]')")
	for range 3 {
		if res := r.ship(RuleSame); res.Txns != 0 || !res.Tail {
			t.Fatalf("shipped %+v", res)
		}
	}
	mustExec(t, c, "COMMIT")
	r.close(c)
	if res := r.ship(RuleSame); res.Txns != 1 {
		t.Fatalf("shipped %+v", res)
	}
	r.same()
}
