package ship

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/multidb-go/multidb/internal/wal"
)

// TestClosingAndOpeningAgainLosesNothing is the failure that this package was
// written for: hot, cold while the application writes, hot again.
func TestClosingAndOpeningAgainLosesNothing(t *testing.T) {
	for _, mode := range []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"} {
		t.Run("after a checkpoint of mode "+mode, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(10, 100)
			r.ship(RuleResync)
			r.insert(5, 100)
			r.foreign("PRAGMA wal_checkpoint(" + mode + ")")
			r.insert(1, 100)
			r.ship(RuleResync)
			r.same()
			r.insert(1, 100)
			r.ship(RuleSame)
			r.same()
		})
	}
}

func TestARestartAfterOurCheckpointIsProved(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(10, 100)
	for range 3 {
		got, err := r.s.Checkpoint(t.Context(), r.db)
		if err != nil || !got.Complete {
			t.Fatalf("checkpoint: %+v, %v", got, err)
		}
		r.insert(2, 100)
		r.ship(RuleRestart)
		r.same()
		r.insert(1, 5000)
		r.ship(RuleSame)
		r.same()
	}
	r.contiguous()
}

func TestTwoRestartsAreNotTakenForOne(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(10, 100)
	r.ship(RuleResync)
	for range 2 {
		r.foreign("PRAGMA wal_checkpoint(FULL)")
		r.insert(1, 100)
	}
	r.ship(RuleResync)
	r.same()
}

// TestALogThatWasCutAndGrewToTheOldSizeIsNotARestart: the file ended at the
// slot when we shipped, and ends there again. A commit between was cut away.
func TestALogThatWasCutAndGrewToTheOldSizeIsNotARestart(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(20, 10)
	r.ship(RuleResync)
	st := r.db.State
	if st.SlotLen != 0 {
		t.Fatalf("the file goes on for %d bytes behind the position", st.SlotLen)
	}
	c := r.conn() // the sequence number goes on only on one connection
	defer r.close(c)
	mustExec(t, c, "UPDATE t SET v = 'missed' WHERE k = 2")
	mustExec(t, c, "PRAGMA wal_checkpoint(TRUNCATE)")
	for i := 0; ; i++ {
		mustExec(t, c, "UPDATE t SET v = randomblob(10) WHERE k = 1") // one frame
		fi, err := os.Stat(r.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		if fi.Size() == st.Offset {
			break
		} else if fi.Size() > st.Offset || i > 1000 {
			t.Fatalf("the log has %d bytes, wanted %d", fi.Size(), st.Offset)
		}
	}
	if h, _ := parseLog(t, r.log()); h.Salt1 != st.Salt1+1 {
		t.Fatalf("the log is at %+v, not one restart after %+v", h, st)
	}
	r.ship(RuleResync)
	r.same()
}

// TestALogCutBelowThePositionIsNotARestart: likewise, but shorter.
func TestALogCutBelowThePositionIsNotARestart(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(20, 10)
	r.ship(RuleResync)
	c := r.conn()
	defer r.close(c)
	mustExec(t, c, "UPDATE t SET v = 'missed' WHERE k = 2")
	mustExec(t, c, "PRAGMA wal_checkpoint(TRUNCATE)")
	mustExec(t, c, "UPDATE t SET v = 'seen' WHERE k = 3")
	r.ship(RuleResync)
	r.same()
}

// TestAnInFlightFrameInTheSlotMakesARestartUnprovable: the spilled frames of an
// open transaction stood behind the position, and were committed as they were.
func TestAnInFlightFrameInTheSlotMakesARestartUnprovable(t *testing.T) {
	r := newRig(t, 1024)
	r.insert(10, 100)
	r.ship(RuleResync)
	c := r.conn()
	mustExec(t, c, "PRAGMA cache_size=5")
	mustExec(t, c, "BEGIN IMMEDIATE")
	for range 100 {
		mustExec(t, c, "INSERT INTO t(v) VALUES(randomblob(900))")
	}
	if res := r.ship(RuleSame); res.Txns != 0 || !res.Tail {
		t.Fatalf("an open transaction was shipped: %+v", res)
	}
	slot := wal.ParseFrame(r.db.State.Slot[:])
	if r.db.State.SlotLen != wal.FrameHeaderSize || slot.Salt1 != r.db.State.Salt1 || slot.Commit != 0 {
		t.Fatalf("the slot holds %+v", slot)
	}
	mustExec(t, c, "COMMIT")
	r.close(c)
	r.foreign("PRAGMA wal_checkpoint(FULL)")
	r.insert(1, 10)
	h, _ := parseLog(t, r.log())
	if now := wal.ParseFrame(r.log()[r.db.State.Offset:]); h.Salt1 != slot.Salt1+1 || now != slot {
		t.Fatalf("not the situation: log %+v, slot %+v, was %+v", h, now, slot)
	}
	r.ship(RuleResync)
	r.same()
}

// TestASlotWithoutSaltsMakesARestartUnprovable: a frame that SQLite writes again
// within a transaction has no salts until the commit, so two generations may
// write the same header.
func TestASlotWithoutSaltsMakesARestartUnprovable(t *testing.T) {
	r := newRig(t, 1024)
	r.insert(100, 900)
	r.ship(RuleResync)
	c := r.conn()
	mustExec(t, c, "PRAGMA cache_size=5")
	mustExec(t, c, "BEGIN IMMEDIATE")
	for range 4 {
		mustExec(t, c, "UPDATE t SET v = randomblob(900)")
	}
	mustExec(t, c, "INSERT INTO t(v) VALUES(randomblob(60000))")
	mustExec(t, c, "ROLLBACK")
	r.close(c)
	log, fs := r.log(), int64(wal.FrameHeaderSize+1024)
	at := r.db.State.Offset
	for f := wal.ParseFrame(log[at:]); f.Salt1 != 0 || f.Salt2 != 0; f = wal.ParseFrame(log[at:]) {
		if at += fs; at+fs > int64(len(log)) {
			t.Fatal("SQLite left no frame without salts")
		}
	}
	for range (at - r.db.State.Offset) / fs { // up to there, a frame each
		r.exec("UPDATE t SET v = randomblob(900) WHERE k = 1")
	}
	drain(t, r.s, r.db)
	if f := wal.ParseFrame(r.db.State.Slot[:]); r.db.State.Offset != at || f.Pgno == 0 || f.Salt1 != 0 || f.Salt2 != 0 {
		t.Fatalf("not the situation: at %d of %d, slot %+v", r.db.State.Offset, at, f)
	}
	st := r.db.State
	r.exec("UPDATE t SET v = 'missed' WHERE k = 2")
	r.foreign("PRAGMA wal_checkpoint(FULL)")
	r.exec("UPDATE t SET v = 'seen' WHERE k = 3")
	r.writeLog(st.Slot[:], st.Offset) // as an unfinished transaction would
	if h, _ := parseLog(t, r.log()); h.Salt1 != st.Salt1+1 {
		t.Fatalf("the log did not restart: %+v", h)
	}
	r.ship(RuleResync)
	r.same()
}

func TestASlotWhoseContentIsNotKnownIsNeverAccepted(t *testing.T) {
	h := wal.Header{Salt1: 7, Salt2: 9, PageSize: 512}
	st := State{TXID: 1, PageSize: 512}
	p := wal.Pos{Offset: wal.HeaderSize + 536}
	st.moveTo(h, p, p, unknownSlot(h))
	b := make([]byte, st.Offset+wal.FrameHeaderSize)
	copy(b[st.Offset:], st.Slot[:])
	next := wal.Header{Salt1: 8, Salt2: 1, Seq: 1, PageSize: 512}
	if ok, err := restartedOnce(&st, next, readerAt(b), int64(len(b))); ok || err != nil {
		t.Fatalf("ok %v, error %v", ok, err)
	}
}

func TestARolledBackSpillBehindThePositionIsNotShipped(t *testing.T) {
	r := newRig(t, 1024)
	r.insert(10, 100)
	r.ship(RuleResync)
	before := r.db.State
	c := r.conn()
	mustExec(t, c, "PRAGMA cache_size=5")
	mustExec(t, c, "BEGIN IMMEDIATE")
	for range 200 {
		mustExec(t, c, "INSERT INTO t(v) VALUES(randomblob(900))")
	}
	mustExec(t, c, "ROLLBACK")
	r.close(c)
	if fi, err := os.Stat(r.path + "-wal"); err != nil || fi.Size() < before.Offset+50*1048 {
		t.Fatalf("nothing was spilled: %v", err)
	}
	if res := r.ship(RuleSame); res.Txns != 0 || r.db.State.TXID != before.TXID {
		t.Fatalf("a rolled-back transaction was shipped: %+v", res)
	}
	for range 5 {
		r.insert(1, 100)
		if res := r.ship(RuleSame); res.Txns != 1 {
			t.Fatalf("shipped %d transactions", res.Txns)
		}
		r.same()
	}
}

// TestAHeaderHalfWrittenIsWaitedFor: it says nothing yet. When nobody finishes
// it, SQLite takes the log as empty, and so do we.
func TestAHeaderHalfWrittenIsWaitedFor(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	r.closeApp() // checkpoints, and leaves the log
	log := r.log()
	torn := append([]byte(nil), log[:wal.HeaderSize]...)
	binary.BigEndian.PutUint32(torn[16:], r.db.State.Salt1+1)
	r.writeLog(torn, 0)
	st := r.db.State
	if res := r.ship(RuleNone); !res.Tail || r.db.State != st {
		t.Fatalf("a torn header was decided on: %+v", res)
	}
	r.at(1100 * 1e6)
	r.ship(RuleResync)
	r.same()
}

func TestAHeaderCutShortBesideASealedFileIsNothing(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.closeApp()
	r.seal()
	for n := range wal.HeaderSize {
		r.setLog(make([]byte, n))
		if res := r.ship(RuleCheckpoint); res.Txns != 0 {
			t.Fatalf("a log of %d bytes was shipped: %+v", n, res)
		}
	}
	r.same()
}

// seal seals and asserts that it is complete.
func (r *rig) seal() {
	r.t.Helper()
	got, err := r.s.Seal(r.t.Context(), r.db)
	if err != nil || !got.Complete || r.db.State.Fingerprint.IsZero() {
		r.t.Fatalf("seal: %+v, %v, fingerprint %+v", got, err, r.db.State.Fingerprint)
	}
}

// readerAt is bytes as an io.ReaderAt.
type readerAt []byte

func (b readerAt) ReadAt(p []byte, off int64) (int, error) {
	return (&spool{mem: b}).ReadAt(p, off)
}
