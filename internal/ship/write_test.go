package ship

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/superfly/ltx"
)

var errLost = errors.New("connection reset")

// once makes the next level-0 write fail, and takes effect if applied.
func (c *memClient) once(applied bool) {
	c.fault = func(int, ltx.TXID) (error, bool) {
		c.fault = nil
		return errLost, applied
	}
}

func TestALostAnswerIsFoundOutAndTheFileAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		between func(r *rig)
		rule    Rule // of what came between
		txns    int
	}{
		"when nothing else happened": {func(*rig) {}, RuleSame, 0},
		"when more was committed":    {func(r *rig) { r.insert(3, 100) }, RuleSame, 3},
		"when the log restarted": {func(r *rig) {
			r.foreign("PRAGMA wal_checkpoint(FULL)")
			r.insert(1, 100)
		}, RuleResync, 1},
		"when a commit was missed": {func(r *rig) {
			r.insert(1, 100)
			r.foreign("PRAGMA wal_checkpoint(FULL)")
			r.insert(1, 100)
		}, RuleResync, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			var told []ltx.TXID
			var adopted []ltx.TXID
			r.db.OnWrite = func(f *ltx.FileInfo, data []byte) {
				told = append(told, f.MaxTXID)
				if data == nil {
					adopted = append(adopted, f.MaxTXID)
				} else if !bytes.Equal(data, r.client.files[[3]uint64{0, uint64(f.MinTXID), uint64(f.MaxTXID)}]) {
					t.Errorf("OnWrite was given other bytes of %s than are stored", f.MaxTXID)
				}
			}
			r.insert(10, 100)
			r.ship(RuleResync)
			h := history{}
			r.insert(2, 100)
			h[2] = contentHash(t, r.app)
			st := r.db.State
			r.client.once(true)
			if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, errLost) {
				t.Fatalf("got %v", err)
			}
			if r.db.State != st {
				t.Fatal("the state moved without an answer")
			}
			c.between(r)
			if res := r.ship(c.rule); res.Txns != c.txns {
				t.Fatalf("shipped %+v, want %d transactions", res, c.txns)
			}
			h.note(r)
			h.check(r)
			r.contiguous()
			if want := []ltx.TXID{1, 2, 3}[:len(r.client.list())]; !slices.Equal(told, want) {
				t.Errorf("OnWrite was told of %v, want %v", told, want)
			}
			if !slices.Equal(adopted, []ltx.TXID{2}) {
				t.Errorf("OnWrite was given no bytes of %v; want none of what was adopted, 2", adopted)
			}
		})
	}
}

// TestALateArrivalOfAnEarlierAttemptIsAdopted: the first attempt reaches the
// store after the second, larger one was refused an answer too.
func TestALateArrivalOfAnEarlierAttemptIsAdopted(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	r.insert(1, 100)
	h := history{2: contentHash(t, r.app)}
	r.client.once(true)
	if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	key := [3]uint64{0, 2, 2}
	late := r.client.files[key] // it is still under way
	delete(r.client.files, key)
	r.insert(1, 100)
	r.client.fault = func(int, ltx.TXID) (error, bool) {
		r.client.fault = nil
		r.client.files[key] = late // now it arrives, just before
		return nil, false
	}
	r.ship(RuleSame)
	if r.db.State.TXID != 3 {
		drain(t, r.s, r.db)
	}
	h.note(r)
	if r.db.State.TXID != 3 {
		t.Errorf("shipped up to %s", r.db.State.TXID)
	}
	h.check(r)
}

func TestAFailingReplicaNeverMovesTheState(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	st := r.db.State
	r.client.fault = func(int, ltx.TXID) (error, bool) { return errLost, false }
	for range 3 * maxPending {
		r.insert(1, 100)
		if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, errLost) {
			t.Fatalf("got %v", err)
		}
		if _, err := r.s.Seal(t.Context(), r.db); !errors.Is(err, errLost) {
			t.Fatalf("got %v", err)
		}
		if r.db.State != st {
			t.Fatal("the state moved")
		}
		if n := len(r.db.pending); n > maxPending+1 {
			t.Fatalf("%d attempts are remembered", n)
		}
	}
	r.client.fault = nil
	r.ship(RuleSame)
	r.same()
	r.contiguous()
	if len(r.db.pending) != 0 {
		t.Errorf("%d attempts are still pending", len(r.db.pending))
	}
}

// intruder ships another database to the rig's prefix, as the given run.
func (r *rig) intruder(node, session uint32) *rig {
	r.t.Helper()
	o := newRig(r.t, 4096)
	o.s.cfg.Node, o.s.cfg.Session = node, session
	o.client = r.client
	o.db = &DB{Path: o.path, Client: r.client, State: State{TXID: r.db.State.TXID}}
	o.insert(2, 50)
	o.ship(RuleResync)
	return o
}

func TestAForeignFileAtOurNextTransactionFencesUs(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	r.intruder(2, 1)
	st, theirs := r.db.State, slices.Clone(r.client.files[[3]uint64{0, 2, 2}])
	r.insert(1, 100)
	for i := range 4 {
		for name, f := range r.ops() {
			if err := f(); !errors.Is(err, ErrFenced) {
				t.Errorf("%d: %s: %v", i, name, err)
			}
		}
		r.insert(1, 100)
	}
	if r.db.State != st || len(r.client.files) != 2 || !slices.Equal(r.client.files[[3]uint64{0, 2, 2}], theirs) {
		t.Error("something was written or moved")
	}
}

// TestADamagedBodyNeverFencesADatabase loses the answer of a write, and lets
// nothing arrive whole that is read to find out what became of it.
func TestADamagedBodyNeverFencesADatabase(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	r.client.fault = func(int, ltx.TXID) (error, bool) { return errLost, true }
	r.insert(1, 100)
	if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	r.client.fault = nil
	st, pending, size := r.db.State, slices.Clone(r.db.pending), len(r.client.files[[3]uint64{0, 2, 2}])
	for i := range 2 * size { // each byte changed, then each length but the whole
		r.client.damage = func(b []byte) []byte {
			if i >= size {
				return b[:i-size]
			}
			b[i] ^= 0x10
			return b
		}
		_, err := r.s.Step(t.Context(), r.db)
		if errors.Is(err, ErrFenced) || errors.Is(err, ErrStale) {
			t.Fatalf("damage %d of %d: %v", i, 2*size, err)
		} else if err == nil && r.db.State == st {
			t.Fatalf("damage %d of %d: no error, and the state has not moved", i, 2*size)
		}
		r.db.State, r.db.pending = st, slices.Clone(pending) // where the trailer was whole it was adopted
	}
	r.client.damage = nil
	r.ship(RuleSame)
	r.same()
	r.contiguous()
}

func TestAFileOfTheRunBeforeIsStale(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	old := r.db.State
	r.insert(1, 100)
	r.ship(RuleSame) // it arrives after the next run has read its catalog
	r.db.State = old
	r.reborn()
	r.insert(1, 100)
	for range 2 {
		if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, ErrStale) || errors.Is(err, ErrFenced) {
			t.Fatalf("got %v", err)
		}
	}
	r.verify()
	r.ship(RuleSame)
	r.same()
	if r.db.State.TXID != 3 {
		t.Errorf("at %s", r.db.State.TXID)
	}
}

// TestAFileOfThisRunIsStaleAtAnyTime: the database was forgotten with a write
// under way, and found again.
func TestAFileOfThisRunIsStaleAtAnyTime(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	old := r.db.State
	r.insert(1, 100)
	r.ship(RuleSame) // arrives after the database was known anew
	r.db.State = old
	r.at(time.Hour)
	r.insert(1, 100)
	if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, ErrStale) || errors.Is(err, ErrFenced) {
		t.Fatalf("got %v", err)
	}
	r.verify()
	r.ship(RuleSame)
	r.same()
	r.contiguous()
}

// TestAFileOfOurNodeFencesUnlessItsSessionIsKnown: a copy of the state directory
// writes as the same node. Its sessions are not known here, but for the one that was
// running when it was copied: what that wrote after our start is not ours.
func TestAFileOfOurNodeFencesUnlessItsSessionIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		session uint32
		ahead   time.Duration
		want    error
	}{
		"an earlier run's":                  {1, 0, ErrStale},
		"a copy's":                          {1000, 0, ErrFenced},
		"an earlier run's that goes on yet": {1, time.Hour, ErrFenced},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(5, 100)
			r.ship(RuleResync)
			old := r.db.State
			r.s.cfg.Session = c.session
			r.at(c.ahead)
			r.insert(1, 100)
			r.ship(RuleSame)
			r.at(0)
			r.s.cfg.Session = 1
			r.db.State = old
			r.reborn()
			r.db.EndSeen = r.s.cfg.Boot()
			r.insert(1, 100)
			if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestOneFailedWriteOfManyLosesNothing lets every second write fail, half of
// them after they took effect.
func TestOneFailedWriteOfManyLosesNothing(t *testing.T) {
	r := newRig(t, 1024)
	n := 0
	r.client.fault = func(int, ltx.TXID) (error, bool) {
		if n++; n%2 == 0 {
			return nil, false
		}
		return errLost, n%4 == 1
	}
	h := history{}
	for i := range 40 {
		r.insert(1, 300)
		if i%7 == 3 {
			if _, err := r.s.Checkpoint(t.Context(), r.db); err != nil && !errors.Is(err, errLost) {
				t.Fatal(err)
			}
		}
		for try := 0; ; try++ {
			res, err := r.s.Step(t.Context(), r.db)
			if err == nil && !res.More {
				break
			} else if err != nil && !errors.Is(err, errLost) || try > 20 {
				t.Fatal(err)
			}
		}
		h.note(r)
	}
	h.check(r)
	r.contiguous()
}
