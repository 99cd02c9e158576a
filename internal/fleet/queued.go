package fleet

import (
	"cmp"
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

// queued is what a client that acknowledges later (replicate.Deferred) has taken of a
// database, and is not durable yet.
type queued struct {
	pledges []pledge // in the order of their transactions
	again   bool     // a run is wanted when all is durable: what it had to do could not be done
	broken  bool     // the last run failed, for a reason of its own
	behind  bool     // a run since has found something to ship, and has not handed over all of it
}

// pledge is what one run has left to be answered when a transaction is durable.
type pledge struct {
	txid    ltx.TXID
	began   moment    // of the run: what was committed until then is in it
	written time.Time // when the files were written that it has read; zero: that was long before
	waiters *waiter
}

// queuedLocked notes that a run has handed over everything that there was, and leaves its
// callers of Sync to be answered when that is durable.
func (f *Fleet) queuedLocked(r *Run, rep *replicate.Report, keep bool) {
	e := r.Entry
	q := f.queued[e]
	if q == nil {
		q = &queued{}
		f.queued[e] = q
	}
	q.broken, q.behind = false, false
	p := pledge{txid: rep.Captured, began: f.moment(rep.Started)}
	if !rep.Acked.IsZero() {
		p.written, rep.Acked = rep.Files.ModTime(), time.Time{} // its lag is known when it is durable
	}
	if keep {
		p.waiters, r.waiters = r.waiters, nil
	}
	if n := len(q.pledges); n > 0 && q.pledges[n-1].txid == p.txid { // nothing new was taken
		last := &q.pledges[n-1]
		last.began, last.waiters = p.began, last.waiters.join(p.waiters)
		return
	}
	q.pledges = append(q.pledges, p)
}

// Durable notes that what a client has taken of the database with a prefix is durable up to
// a transaction, and answers those who wait for it. lags are how long the commits of each
// run took that are durable now. err: this process will never know them to be durable; the
// database is fenced if that is ship.ErrFenced.
func (f *Fleet) Durable(prefix string, txid ltx.TXID, err error) (lags []time.Duration) {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.reg.ByPrefix(prefix)
	if e == nil {
		return nil
	}
	if err != nil {
		f.lostLocked(e, err)
		return nil
	}
	return f.durableLocked(e, txid, now)
}

func (f *Fleet) durableLocked(e *Entry, txid ltx.TXID, now time.Time) (lags []time.Duration) {
	q, h := f.queued[e], &e.health
	if q == nil {
		return nil
	}
	for len(q.pledges) > 0 && q.pledges[0].txid <= txid {
		p := q.pledges[0]
		q.pledges = q.pledges[1:]
		if h.txid == 0 && p.txid != 0 {
			f.backedUpLocked(e)
		}
		h.txid = max(h.txid, p.txid)
		h.syncedAt, h.dirtySince = max(h.syncedAt, p.began), p.began
		p.waiters.answer(Synced{TXID: p.txid})
		if !p.written.IsZero() {
			lags = append(lags, now.Sub(p.written))
		}
	}
	if e.state != nil && !e.item.Running() { // nobody else owns it
		e.state.Settle(txid)
	}
	if len(q.pledges) > 0 {
		return lags
	}
	delete(f.queued, e)
	if !q.behind {
		h.dirtySince = 0
		delete(f.backlog, e)
	}
	if _, maintenance := h.err.(*replicate.MaintenanceError); h.err != nil && !maintenance && !q.broken {
		f.recoveredLocked(e)
	}
	if q.again {
		f.schedule.Request(e.item, now)
		f.cfg.Due()
	}
	return lags
}

// Unacknowledged notes that an attempt to make what was taken of any database durable has
// failed; it goes on. Who waits is answered with the error.
func (f *Fleet) Unacknowledged(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e, q := range f.queued {
		if e.health.err == nil {
			f.mu.Note(Event{Type: EventFailed, ID: e.ID(), Path: e.Path(), Op: "sync", Err: err})
			f.setErrLocked(e, err)
			f.countLocked(err)
		}
		for i := range q.pledges {
			q.pledges[i].waiters.answer(Synced{TXID: e.health.txid, Err: err})
			q.pledges[i].waiters = nil
		}
	}
}

// Fence refuses every database: another process has taken over the log that all are written
// to. Whoever waits for one gets the error.
func (f *Fleet) Fence(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fence = err
	for e := range f.queued {
		f.lostLocked(e, err)
	}
}

// Unfence ends a Fence: this process has another log, and no database that it had before.
func (f *Fleet) Unfence() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fence = nil
}

// lostLocked answers everybody who waits for what will never be known to be durable.
func (f *Fleet) lostLocked(e *Entry, err error) {
	if errors.Is(err, ship.ErrFenced) && e.reg.Refused == nil {
		e.reg.Refused = err
		f.mu.Note(Event{Type: EventFenced, ID: e.ID(), Path: e.Path(), Op: "sync", Err: err})
		f.setErrLocked(e, err)
		f.countLocked(err)
	}
	f.dropQueuedLocked(e, err)
}

// dropQueuedLocked forgets what is queued of a database.
func (f *Fleet) dropQueuedLocked(e *Entry, err error) {
	q := f.queued[e]
	if q == nil {
		return
	}
	delete(f.queued, e)
	for _, p := range q.pledges {
		p.waiters.answer(Synced{Err: err})
	}
}

// unfinishedLocked has a run follow that could not do what it had to because something was
// not durable.
func (f *Fleet) unfinishedLocked(r *Run, rep *replicate.Report) {
	e, now := r.Entry, f.cfg.Now()
	q := f.queued[e]
	err := cmp.Or(f.fence, e.reg.Refused)
	switch {
	case q == nil && rep.Held: // all is durable by now
		f.schedule.Request(e.item, now)
	case q == nil:
	case err != nil: // it is fenced, which was found out before it was noted
		f.dropQueuedLocked(e, err)
	default:
		q.again = q.again || rep.Held
		if rep.Captured == 0 { // it was acknowledged before it was noted
			f.durableLocked(e, rep.Position.TXID, now)
		}
	}
}
