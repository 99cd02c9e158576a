package ship

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/wal"
)

// behind asks with the file as it is.
func (r *rig) behind() (end, lag int64) {
	r.t.Helper()
	main, err := fsid.Stat(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	end, lag, err = Backlog(r.path, r.db.State, main)
	if err != nil {
		r.t.Fatal(err)
	}
	return end, lag
}

func TestHowFarADatabaseIsAheadIsCountedInBytesOfItsWAL(t *testing.T) {
	r := newRig(t, 4096)
	main, err := fsid.Stat(r.path)
	if err != nil {
		t.Fatal(err)
	}
	r.insert(1, 10)
	if end, lag := r.behind(); end <= wal.HeaderSize || lag != main.Size+end {
		t.Errorf("of one that was never shipped: %d, %d; the file has %d bytes", end, lag, main.Size)
	}
	r.ship(RuleResync)
	if end, lag := r.behind(); lag != 0 || end != r.db.State.Offset {
		t.Errorf("shipped to %d: %d, %d", r.db.State.Offset, end, lag)
	}
	const frame = 4096 + wal.FrameHeaderSize
	for i := range int64(5) {
		r.insert(1, 10)
		if end, lag := r.behind(); lag != (i+1)*frame || end != r.db.State.Offset+lag {
			t.Errorf("after %d commits of a page: %d, %d", i+1, end, lag)
		}
	}
	r.ship(RuleSame)
	if _, err := r.s.Checkpoint(t.Context(), r.db); err != nil {
		t.Fatal(err)
	}
	if _, lag := r.behind(); lag != 0 {
		t.Errorf("after a checkpoint: %d", lag)
	}
	r.insert(2, 10) // in a file that is as long as it was
	if end, lag := r.behind(); lag != 2*frame || end != wal.HeaderSize+lag {
		t.Errorf("in a log that restarted: %d, %d", end, lag)
	}
	r.ship(RuleRestart)
	if end, lag := r.behind(); lag != 0 || end != r.db.State.Offset {
		t.Errorf("shipped again: %d, %d", end, lag)
	}
	r.exec("PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA journal_mode=delete", "INSERT INTO t(v) VALUES(1)")
	if main, err = fsid.Stat(r.path); err != nil {
		t.Fatal(err)
	}
	if end, lag := r.behind(); end != 0 || lag != main.Size {
		t.Errorf("without a WAL: %d, %d; the file has %d bytes", end, lag, main.Size)
	}
}

func TestTheEndOfALogThatIsFoundByHalvingIsThatOfReadingItAll(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, 512)
	for i := range 60 {
		r.insert(rnd.IntN(20), rnd.IntN(3000))
		if rnd.IntN(3) == 0 {
			r.exec("PRAGMA wal_checkpoint(RESTART)")
		}
		f, size, err := openWAL(r.path)
		if err != nil {
			t.Fatal(err)
		}
		if f == nil || size == 0 {
			continue
		}
		h, err := readHeader(f, size)
		if err != nil {
			t.Fatal(err)
		}
		s, err := wal.NewScanner(f, h, h.Start(), make([]byte, 1<<16))
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, _, ok := s.Next(); !ok {
				break
			}
		}
		got, err := usedEnd(f, h, size)
		if err != nil || got != s.Pos().Offset {
			t.Fatalf("seed %d, step %d: %d, want %d (%v)", seed, i, got, s.Pos().Offset, err)
		}
		r.close(f)
	}
}

// TestAStepTellsWhatBehindSays before it writes: with more than it ships at once,
// an open transaction at the end, and after restarts of the log.
func TestAStepTellsWhatBehindSays(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, 512)
	r.s.cfg.ChunkSize = 16 << 10
	seen := map[Rule]int{}
	more, tails := 0, 0
	all := func() bool {
		return seen[RuleSame] > 0 && seen[RuleRestart] > 0 && seen[RuleResync] > 0 && more > 0 && tails > 0
	}
	for i := 0; i < 150 || !all() && i < 10_000; i++ {
		if i%10 > 0 { // else the log restarts behind what was shipped
			r.insert(rnd.IntN(30), rnd.IntN(3000))
		}
		switch rnd.IntN(6) {
		case 0:
			r.exec("PRAGMA wal_checkpoint(RESTART)")
		case 1:
			r.foreign("PRAGMA wal_checkpoint(TRUNCATE)")
		}
		open := func() {}
		if rnd.IntN(4) == 0 {
			c := r.conn()
			mustExec(t, c, "PRAGMA cache_size=1")
			mustExec(t, c, "BEGIN IMMEDIATE")
			mustExec(t, c, "INSERT INTO t(v) VALUES(randomblob(6000))")
			open = func() { mustExec(t, c, "COMMIT"); r.close(c) }
		}
		for n := range 3 {
			told := 0
			end, lag := r.behind()
			r.db.OnBacklog = func(e, l int64) {
				if told++; e != end || l != lag {
					t.Errorf("seed %d, round %d, step %d: told of %d, %d; Backlog says %d, %d", seed, i, n, e, l, end, lag)
				}
			}
			res, err := r.s.Step(t.Context(), r.db)
			if err != nil {
				t.Fatal(err)
			}
			if (res.Txns > 0) && told != 1 {
				t.Errorf("seed %d, round %d, step %d: told %d times of %+v", seed, i, n, told, res)
			}
			if res.Txns > 0 {
				seen[res.Rule]++
				more += btoi(res.More)
				tails += btoi(res.Tail)
			}
		}
		open()
	}
	if t.Logf("%v, more %d, tails %d", seen, more, tails); !all() {
		t.Errorf("seed %d: not all was seen: %v, more %d, tails %d", seed, seen, more, tails)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
