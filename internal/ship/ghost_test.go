package ship

import (
	"context"
	"errors"
	"testing"

	"github.com/multidb-go/multidb/internal/wal"
)

// ghost puts a transaction of n frames behind the shipped position as a writer
// leaves it that dies after it has written its commit frame and before readers
// see it, and ships it: from the file alone it is a commit like any other. Each
// frame marks a page of the table.
func (r *rig) ghost(n int) {
	r.t.Helper()
	h, frames := parseLog(r.t, r.log())
	st := r.db.State
	at, sum := st.Offset, st.Sum
	for i := range n {
		last := frames[len(frames)-1-i]
		g := logFrame{pgno: last.pgno, page: append([]byte(nil), last.page...)}
		copy(g.page[len(g.page)-50:], "never published")
		if i == n-1 {
			g.commit = frames[len(frames)-1].commit
		}
		var fr []byte
		fr, sum = buildFrame(h, sum, g)
		r.writeLog(fr, at)
		at += h.FrameSize()
	}
	if res := r.ship(RuleSame); res.Txns != 1 || r.db.State.Offset != at {
		r.t.Fatalf("not the situation: %+v", res)
	}
}

// ghostRig is a rig whose log has some frames, shipped.
func ghostRig(t *testing.T) *rig {
	r := newRig(t, 1024)
	r.insert(40, 300)
	r.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	r.exec("UPDATE t SET v = randomblob(300)") // many pages, one frame each
	r.ship(RuleResync)
	return r
}

// TestACommitShorterThanTheGhostItReplacesIsShipped: the next commit is written
// over the ghost, but not over its last frame, which still carries our checksum.
// The line is the scan from the last transaction's start in sameGeneration.
func TestACommitShorterThanTheGhostItReplacesIsShipped(t *testing.T) {
	r := ghostRig(t)
	r.ghost(4)
	st := r.db.State
	r.exec("UPDATE t SET v = randomblob(300) WHERE k = 1")
	h, _ := parseLog(t, r.log())
	if fr := wal.ParseFrame(r.log()[st.Offset-h.FrameSize():]); fr.Sum != st.Sum {
		t.Fatal("not the situation: the ghost's last frame is gone")
	}
	r.ship(RuleResync)
	r.same()
	r.insert(3, 300)
	r.ship(RuleSame)
	r.same()
}

// TestAGhostBeforeARestartIsNotTakenForACommit: another program checkpoints the
// log without the ghost and restarts it. The slot behind the ghost is untouched, so
// that nothing seems to be missed. The line is the condition on st.Published in
// restartedOnce.
func TestAGhostBeforeARestartIsNotTakenForACommit(t *testing.T) {
	r := ghostRig(t)
	r.ghost(1)
	r.exec("PRAGMA wal_checkpoint(PASSIVE)", "INSERT INTO t(v) VALUES(randomblob(10))")
	r.ship(RuleResync)
	r.same()
	r.insert(3, 300)
	r.ship(RuleSame)
	r.same()
}

// TestAGhostIsReplacedByTheNextCommit, which is at least as long.
func TestAGhostIsReplacedByTheNextCommit(t *testing.T) {
	r := ghostRig(t)
	r.ghost(1)
	st := r.db.State
	r.exec("UPDATE t SET v = randomblob(300) WHERE k = 1")
	h, _ := parseLog(t, r.log())
	if fr := wal.ParseFrame(r.log()[st.Offset-h.FrameSize():]); fr.Sum == st.Sum {
		t.Fatal("SQLite did not write over the commit")
	}
	r.ship(RuleResync)
	r.same()
	r.insert(1, 100)
	r.ship(RuleSame)
	r.same()
	r.checkpoint()
}

// TestAGhostEndsWithACheckpointThoughNobodyCommits: it is neither checkpointed nor
// sealed as if it were a commit, and it does not stay the newest state.
func TestAGhostEndsWithACheckpointThoughNobodyCommits(t *testing.T) {
	for name, checkpoint := range map[string]func(*Shipper, context.Context, *DB) (Sealed, error){
		"checkpoint": (*Shipper).Checkpoint, "seal": (*Shipper).Seal,
	} {
		t.Run(name, func(t *testing.T) {
			r := ghostRig(t)
			r.ghost(3)
			st := r.db.State
			if got, err := checkpoint(r.s, t.Context(), r.db); !errors.Is(err, ErrUnsettled) || got.Complete {
				t.Errorf("a state that SQLite does not have: %+v, %v", got, err)
			}
			if r.db.State != st {
				t.Error("the state moved")
			}
			r.ship(RuleResync)
			r.same()
			if got, err := checkpoint(r.s, t.Context(), r.db); err != nil || !got.Complete {
				t.Errorf("again: %+v, %v", got, err)
			}
			r.insert(2, 100)
			drain(t, r.s, r.db)
			r.same()
		})
	}
}
