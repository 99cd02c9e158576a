package fleet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

// taken is the report of a run whose client has taken everything up to a transaction, of
// which so much is durable.
func taken(upTo, durable ltx.TXID) replicate.Report {
	rep := replicate.Report{Drained: true, Pending: true, Captured: upTo, Shipped: 1}
	rep.Position.TXID = durable
	if upTo == durable {
		rep.Captured = 0
	}
	return rep
}

// waiting reports whether a Sync has no answer yet.
func waiting(c <-chan Synced) bool { return len(c) == 0 }

func TestASyncIsAnsweredWhenTheLogIsDurableAndNotWhenItWasTaken(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	first := r.Sync(e)
	r.run(t, e, taken(1, 0))
	second := r.Sync(e)
	r.run(t, e, taken(2, 0))
	if !waiting(first) || !waiting(second) {
		t.Fatal("answered before anything was durable")
	}
	if s := r.Status(e); s.TXID != 0 || !s.SyncedAt.IsZero() {
		t.Errorf("taken, not durable: %+v", s)
	}
	r.now = r.now.Add(3 * time.Second)
	r.Durable("replica/a", 1, nil)
	if waiting(first) || !waiting(second) {
		t.Error("the first transaction is durable, and no other")
	} else if s := <-first; s.TXID != 1 || s.Err != nil {
		t.Errorf("answered %+v", s)
	}
	if s := r.Status(e); s.TXID != 1 || s.Lag != 3*time.Second {
		t.Errorf("half of it is durable: TXID %s, lag %v", s.TXID, s.Lag)
	}
	r.Durable("replica/a", 2, nil)
	if s := <-second; s.TXID != 2 || s.Err != nil {
		t.Errorf("answered %+v", s)
	}
	if s := r.Status(e); s.TXID != 2 || s.Lag != 0 || s.SyncedAt.IsZero() {
		t.Errorf("all is durable: %+v", s)
	}
	if kept, _ := r.Kept(); kept != 3 { // its ID, file and prefix
		t.Errorf("%d things are kept of a database at rest", kept)
	}
}

// TestWhatIsDurableBeforeItWasNotedIsNotWaitedFor: the log may be faster than the run.
func TestWhatIsDurableBeforeItWasNotedIsNotWaitedFor(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	done := r.Sync(e)
	run := r.begin(t, e)
	rep := taken(1, 0)
	rep.Started = run.Started()
	r.Durable("replica/a", 1, nil) // nothing is noted yet
	r.Settled(run, &rep, nil)
	r.Answer(run, &rep, nil)
	if !waiting(done) {
		t.Fatal("answered though the run does not know it to be durable")
	}
	rep = taken(1, 1) // it asks again at its end
	rep.Started = run.Started()
	r.Finish(run, &rep)
	if waiting(done) {
		t.Fatal("nobody answers any more")
	} else if s := <-done; s.TXID != 1 || s.Err != nil {
		t.Errorf("answered %+v", s)
	}
}

// TestNobodyWaitsForWhatWillNeverBeDurable: a fence, a database that goes.
func TestNobodyWaitsForWhatWillNeverBeDurable(t *testing.T) {
	fence := fmt.Errorf("%w: another process has the log", ship.ErrFenced)
	for what, end := range map[error]func(*rig, *Entry){
		ship.ErrFenced:       func(r *rig, _ *Entry) { r.Durable("replica/a", 1, fence) },
		life.ErrClosed:       func(r *rig, _ *Entry) { r.Durable("replica/a", 1, life.ErrClosed) },
		registry.ErrNotFound: func(r *rig, e *Entry) { r.Remove(e, r.NextScan(), false) },
	} {
		r := newRig(t, nil)
		e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
		done := r.Sync(e)
		r.run(t, e, taken(1, 0))
		end(r, e)
		if waiting(done) {
			t.Errorf("%v: nobody answers", what)
		} else if s := <-done; !errors.Is(s.Err, what) {
			t.Errorf("%v: answered %+v", what, s)
		}
		if what == ship.ErrFenced {
			if s := <-r.Sync(e); !errors.Is(s.Err, ship.ErrFenced) {
				t.Errorf("after the fence: %+v", s)
			}
		}
	}
}

// TestARunFollowsThatWaitedForTheLog: a demotion is not done while something is on its way.
func TestARunFollowsThatWaitedForTheLog(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	run := r.begin(t, e)
	rep := taken(1, 0)
	rep.Held = true // a demotion
	rep.Started = run.Started()
	r.Settled(run, &rep, nil)
	r.Finish(run, &rep)
	if _, _, ok := r.Next(r.now); ok {
		t.Fatal("due before it is durable")
	}
	r.Durable("replica/a", 1, nil)
	if due, _, ok := r.Next(r.now); !ok || due != e {
		t.Error("no run follows")
	}
}

// TestARunFollowsThatWaitedForALogThatWasFaster: what the run could not do is done all the
// same.
func TestARunFollowsThatWaitedForALogThatWasFaster(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	run := r.begin(t, e)
	rep := taken(1, 0)
	rep.Held = true // a demotion
	rep.Started = run.Started()
	r.Durable("replica/a", 1, nil) // nothing is noted yet
	r.Settled(run, &rep, nil)
	rep = taken(1, 1) // it asks again at its end
	rep.Started, rep.Held = run.Started(), true
	r.Finish(run, &rep)
	if due, _, ok := r.Next(r.now); !ok || due != e {
		t.Error("no run follows")
	}
}

// TestARunFollowsThatWasHeldByWhatIsDurableNow: the log was faster than the rest of the run.
func TestARunFollowsThatWasHeldByWhatIsDurableNow(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	run := r.begin(t, e)
	rep := taken(1, 0)
	rep.Started, rep.Held = run.Started(), true
	r.Settled(run, &rep, nil)
	r.Durable("replica/a", 1, nil)
	r.Finish(run, &rep)
	if due, _, ok := r.Next(r.now); !ok || due != e {
		t.Error("no run follows")
	}
}

// TestAFenceThatComesBeforeItWasNotedIsAnswered: the run had not ended when it was found out.
func TestAFenceThatComesBeforeItWasNotedIsAnswered(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	done := r.Sync(e)
	run := r.begin(t, e)
	rep := taken(1, 0)
	rep.Started = run.Started()
	r.Durable("replica/a", 1, ship.ErrFenced)
	r.Settled(run, &rep, nil)
	r.Finish(run, &rep)
	if waiting(done) {
		t.Fatal("nobody answers any more")
	} else if s := <-done; !errors.Is(s.Err, ship.ErrFenced) {
		t.Errorf("answered %+v", s)
	}
}

// TestALogThatCannotBeWrittenFailsItsSyncs, and is well again when it can.
func TestALogThatCannotBeWrittenFailsItsSyncs(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	away := errors.New("the store does not answer")
	done := r.Sync(e)
	r.run(t, e, taken(1, 0))
	r.Unacknowledged(away)
	if waiting(done) {
		t.Fatal("nobody answers")
	} else if s := <-done; !errors.Is(s.Err, away) {
		t.Errorf("answered %+v", s)
	}
	if s := r.Status(e); !errors.Is(s.Err, away) || s.TXID != 0 {
		t.Errorf("the status is %+v", s)
	}
	r.run(t, e, taken(1, 0)) // it finds nothing new
	if s := r.Status(e); s.Err == nil {
		t.Error("well, though nothing is durable")
	}
	r.Durable("replica/a", 1, nil)
	if s := r.Status(e); s.Err != nil || s.TXID != 1 {
		t.Errorf("durable: %+v", s)
	}
}

// TestWhatFailedByItselfIsNotWellWhenTheLogIsDurable: only a run can tell.
func TestWhatFailedByItselfIsNotWellWhenTheLogIsDurable(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	r.run(t, e, taken(1, 0))
	local := errors.New("the file cannot be read")
	rep := replicate.Report{Err: local, Captured: 1}
	r.run(t, e, rep)
	r.Durable("replica/a", 1, nil)
	if s := r.Status(e); !errors.Is(s.Err, local) {
		t.Errorf("the status is %+v", s)
	}
}

// TestTheLagGoesOnWhereARunHasFoundMore than what is acknowledged meanwhile.
func TestTheLagGoesOnWhereARunHasFoundMore(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	r.run(t, e, taken(1, 0))
	first := r.now
	r.now = r.now.Add(3 * time.Second)
	run := r.begin(t, e)
	rep := replicate.Report{Started: run.Started(), Pending: true, Measured: true, Backlog: replicate.Backlog{WALEnd: 500, Lag: 100}}
	r.Progress(run, &rep)
	r.Durable("replica/a", 1, nil)
	if s := r.Status(e); s.TXID != 1 || s.Lag != 3*time.Second || s.Backlog.Lag != 100 || !s.SyncedAt.Equal(first) {
		t.Errorf("more was found: TXID %s, lag %v, %d bytes, synced at %v", s.TXID, s.Lag, s.Backlog.Lag, s.SyncedAt)
	}
	rep = taken(2, 1)
	rep.Started = run.Started()
	r.Settled(run, &rep, nil)
	r.Finish(run, &rep)
	r.Durable("replica/a", 2, nil)
	if s := r.Status(e); s.TXID != 2 || s.Lag != 0 || s.Backlog.Lag != 0 || !s.SyncedAt.Equal(r.now) {
		t.Errorf("all is durable: TXID %s, lag %v, %d bytes, synced at %v", s.TXID, s.Lag, s.Backlog.Lag, s.SyncedAt)
	}
}

// TestTheLagOfACommitIsCountedOnce, when it is durable, and not that of the first state.
func TestTheLagOfACommitIsCountedOnce(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	r.run(t, e, taken(1, 0)) // the first of all has no Acked
	if lags := r.Durable("replica/a", 1, nil); len(lags) != 0 {
		t.Errorf("the first state: %v", lags)
	}
	run := r.begin(t, e)
	rep := taken(2, 1)
	rep.Started, rep.Acked = run.Started(), r.now
	rep.Files.Main.Mtime = r.now.Add(-time.Second).UnixNano()
	r.Settled(run, &rep, nil)
	r.Finish(run, &rep)
	if !rep.Acked.IsZero() {
		t.Error("the run counts it too")
	}
	r.now = r.now.Add(2 * time.Second)
	if lags := r.Durable("replica/a", 2, nil); len(lags) != 1 || lags[0] != 3*time.Second {
		t.Errorf("%v, want one of 3 s", lags)
	}
}
