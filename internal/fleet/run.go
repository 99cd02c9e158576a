package fleet

import (
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
)

// Run is one run of one database, from Begin to Finish. Its caller sets Entry and
// Action, as Next returned them; the rest is the Fleet's. It can be used again when it
// is zero again.
type Run struct {
	Entry  *Entry
	Action schedule.Action

	started   time.Time
	waiters   *waiter         // callers of Sync that came before it
	order     *Order          // what else it is to do
	ended     []chan struct{} // closed when it has ended
	failed    bool            // that it failed is noted
	cutting   bool            // it took the note that a log may have been left
	vacating  bool            // its local file was about to be deleted, on purpose
	file      fsid.ID         // which it was
	relieve   bool            // the fleet's logs are over their limit, and this one is to be cut
	shippedTo int64           // how much of the log is at the replica
	policy    policy.Policy
}

// Started is when Begin was called.
func (r *Run) Started() time.Time { return r.started }

// Next returns the database whose run is due, and what it is to do. Each that is
// returned needs a Begin and a Finish.
func (f *Fleet) Next(now time.Time) (e *Entry, action schedule.Action, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	it, action, ok := f.schedule.Next(now)
	if !ok {
		return nil, 0, false
	}
	return it.Value, action, true
}

// Wake returns when the next run becomes due; false: only an event makes one due.
func (f *Fleet) Wake() (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.schedule.Wake()
}

// Beginning is what a run begins with.
type Beginning struct {
	Input replicate.Input  // without Caller
	State *replicate.State // the run owns it until Finish
	// AskPolicy: the application is to be asked how to treat it.
	AskPolicy bool
	// Unread: its header is to be checked first.
	Unread bool
	// Making: there is nothing to run yet; see BeginNew.
	Making bool
	// Blocked is why it may not run, if it may not; nor will it, until somebody says
	// otherwise.
	Blocked error
}

// Begin says what a run is to do.
func (f *Fleet) Begin(r *Run) (b Beginning) {
	e, now := r.Entry, f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	r.started = now
	if f.makingLocked(e) { // who waits for the database goes on waiting
		f.runs[e] = r
		return Beginning{State: e.unpack(), Making: true}
	}
	r.order = f.orders[e]
	r.waiters, e.waiters = e.waiters, nil
	kind := replicate.OrderNone
	if r.order != nil {
		kind = r.order.kind
		if !e.reg.PrefixTaken && kind != replicate.OrderCut && kind != replicate.OrderUnpack {
			e.reg.Refused = nil
		}
	}
	cold := e.item.Tier() == schedule.Cold
	r.relieve = f.wals.Asked(e)
	asked := r.waiters != nil
	b.Input = replicate.Input{
		ID: e.ID(), Path: e.Path(), Order: kind,
		Demote: r.Action == schedule.Demote, Cold: cold, Relieve: r.relieve, Asked: asked,
		Overdue:  e.item.Failures() > 1 && e.health.dirtySince != 0 && !e.deferred,
		MayDefer: cold && f.mayDeferLocked(e) && !r.relieve && !asked && r.order == nil,
		LastErr:  e.health.err, RetainAt: e.retainAt, Evicted: e.evicted,
	}
	if kind == replicate.OrderEvict {
		b.Input.Demote, b.Input.MayDefer = true, false
	}
	r.policy = f.policyLocked(e)
	b.Input.SetPolicy(r.policy)
	b.AskPolicy, e.askPolicy = e.askPolicy, false
	f.runs[e] = r
	b.State = e.unpack()
	r.shippedTo = b.State.Position().Offset
	b.Unread, b.Blocked = e.reg.Unread, f.blockedLocked(e)
	return b
}

// Blocked is why a run that has begun may not go on, if it may not.
func (f *Fleet) Blocked(r *Run) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blockedLocked(r.Entry)
}

func (f *Fleet) blockedLocked(e *Entry) error {
	switch {
	case e.reg.Removed:
		return f.reg.WhyNot(e.ID())
	case f.fence != nil:
		return f.fence
	case f.cfg.Replicated:
		return e.reg.Refused
	}
	return nil
}

// Progress notes that a run has found something to ship, before it waits for the
// replica, so that a replica that does not answer shows as lag.
func (f *Fleet) Progress(r *Run, rep *replicate.Report) {
	e := r.Entry
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setDeferredLocked(e, false, 0)
	if e.health.dirtySince == 0 {
		e.health.dirtySince = f.moment(rep.Started)
	}
	if q := f.queued[e]; q != nil {
		q.behind = true
	}
	f.setBacklogLocked(e, rep)
}

// Settled notes what came of shipping, before anybody is answered. Where it is not durable
// yet, the callers of Sync that wait for the run are answered when it is, unless stray says
// what to answer now.
func (f *Fleet) Settled(r *Run, rep *replicate.Report, stray error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reportedLocked(r.Entry, rep)
	f.setPackedLocked(r.Entry, rep)
	switch {
	case rep.Err != nil:
		f.failedLocked(r, rep, rep.Err)
	case rep.Drained && rep.Captured != 0:
		f.queuedLocked(r, rep, stray == nil)
	case rep.Drained:
		f.syncedLocked(r, rep)
	}
}

// Awaited reports whether callers of Sync wait for a run.
func (f *Fleet) Awaited(r *Run) bool { return r.waiters != nil }

// Answer answers the callers of Sync that wait for a run. Only the run calls it.
func (f *Fleet) Answer(r *Run, rep *replicate.Report, err error) {
	r.waiters.answer(Synced{TXID: rep.Position.TXID, Err: err})
	r.waiters = nil
}

// MayCut reports whether the log of a database that the pool does not have open is to be
// cut. A note that one may have been left is taken: Finish puts it back if it is not
// cut. idle: the run found the database at rest.
func (f *Fleet) MayCut(r *Run, idle bool) bool {
	e := r.Entry
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := e.poolClosed || idle || f.life.Closing() || r.order != nil && r.order.kind == replicate.OrderCut
	if !wanted || e.item.Pinned() || e.reg.Held != 0 {
		return false
	}
	r.cutting, e.poolClosed = e.poolClosed, false
	return true
}

// Replaced notes that another file took the place of the local one, or was about to.
// file is the one that is there now. Whoever called Sync since the run began, or
// before an Adopt, may have committed to the one that was set aside.
func (f *Fleet) Replaced(r *Run, rep *replicate.Report, file fsid.ID) {
	e, err := r.Entry, rep.Err
	f.mu.Lock()
	lost := e.waiters
	e.waiters = nil
	if r.order.kind == replicate.OrderAdopt {
		lost, r.waiters = lost.join(r.waiters), nil
	}
	r.order.kept = rep.Kept
	if err == nil {
		f.reg.SetFile(e, file)
		f.absent.Remove(e.ID())
		f.unknownLocked(e)
		e.health.txid, e.health.dirtySince = rep.Position.TXID, 0
		f.backedUpLocked(e)
	}
	f.mu.Unlock()
	if err == nil {
		err = errReplaced
	}
	lost.answer(Synced{Err: err})
}

// NotedExchange reports whether it is noted already that this file is at the path.
// The State is of the file before as long as nothing is shipped of this one, so each run
// finds it exchanged.
func (f *Fleet) NotedExchange(e *Entry, file fsid.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !file.IsZero() && e.reg.File == file && f.reg.ByFile(file) == e
}

// Exchanged notes that another file is at the path; the handles of the former one were
// dropped.
func (f *Fleet) Exchanged(e *Entry, file fsid.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reg.SetFile(e, file)
	f.mu.Note(Event{Type: EventReplaced, ID: e.ID(), Path: e.Path()})
}

// syncedLocked notes that everything is at the replica.
func (f *Fleet) syncedLocked(r *Run, rep *replicate.Report) {
	e, h := r.Entry, &r.Entry.health
	if h.txid == 0 && rep.Position.TXID != 0 {
		f.backedUpLocked(e)
	}
	h.txid = rep.Position.TXID
	f.setDeferredLocked(e, false, 0)
	h.syncedAt, h.dirtySince = f.moment(rep.Started), 0
	if q := f.queued[e]; q != nil {
		q.behind = false
	}
	rep.Measured, r.shippedTo = false, rep.Position.Offset
	delete(f.backlog, e)
	if _, maintenance := h.err.(*replicate.MaintenanceError); h.err != nil && !maintenance { // which is not over yet
		f.recoveredLocked(e)
	}
}

// backedUpLocked tells that the replica has something of a database.
func (f *Fleet) backedUpLocked(e *Entry) {
	if f.cfg.BackedUp != nil && !e.reg.Removed {
		f.cfg.BackedUp(e.Database())
	}
}

func (f *Fleet) recoveredLocked(e *Entry) {
	f.setErrLocked(e, nil)
	f.mu.Note(Event{Type: EventRecovered, ID: e.ID(), Path: e.Path()})
}

// failedLocked notes, once in a run, that it failed.
func (f *Fleet) failedLocked(r *Run, rep *replicate.Report, err error) {
	e := r.Entry
	if err == nil || r.failed || e.reg.Removed {
		return
	}
	r.failed = true
	if q := f.queued[e]; q != nil {
		q.broken = true
	}
	fenced := errors.Is(err, ship.ErrFenced)
	if fenced {
		e.reg.Refused = err
		rep.Outcome.Stop = true
	}
	if fenced && e.cache {
		// Nothing is wrong: others have gone on, and the file is set aside, which an event of its own tells.
	} else if e.health.err == nil || fenced && !errors.Is(e.health.err, ship.ErrFenced) {
		t := EventFailed
		if fenced {
			t = EventFenced
		}
		f.mu.Note(Event{Type: t, ID: e.ID(), Path: e.Path(), Op: "sync", Err: err})
	}
	f.setErrLocked(e, err)
	if rep.Maintenance == nil { // which was counted when it was tried
		f.countLocked(err)
	}
}

func (f *Fleet) countLocked(err error) { f.totals.Failures[f.cfg.Reason(err)]++ }

// reportedLocked takes the events and the counts out of a report.
func (f *Fleet) reportedLocked(e *Entry, rep *replicate.Report) {
	for _, ev := range rep.Events {
		f.mu.Note(e.event(ev))
	}
	if !e.shipped && rep.Counts.Transactions+rep.Counts.Resyncs > 0 {
		e.shipped = true
		f.totals.Shipped++
	}
	c := &f.totals.Counts
	c.Transactions += rep.Counts.Transactions
	c.Bytes += rep.Counts.Bytes
	c.Resyncs += rep.Counts.Resyncs
	c.Compactions += rep.Counts.Compactions
	c.Snapshots += rep.Counts.Snapshots
	c.Gaps += rep.Counts.Gaps
	for _, err := range rep.Failed {
		f.countLocked(err)
	}
	rep.Events, rep.Counts, rep.Failed = nil, replicate.Counts{}, nil
}

// event is what a run reports as an event of the fleet.
func (e *Entry) event(ev replicate.Event) Event {
	out := Event{Type: ofRun[ev.Type], ID: e.ID(), Path: ev.Path, TXID: ev.TXID, Err: ev.Err, Why: ev.Why, Bytes: ev.Bytes}
	if out.Path == "" && out.Type != EventState {
		out.Path = e.Path()
	}
	return out
}

// Report delivers what a run has reported so far: an observer that hangs shows as a run
// that goes on.
func (f *Fleet) Report(r *Run, rep *replicate.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reportedLocked(r.Entry, rep)
}

// Finish ends a run: the one place where what it found becomes what is known. removed:
// the database went meanwhile. touched: it is to be looked at, as Look does.
func (f *Fleet) Finish(r *Run, rep *replicate.Report) (removed, touched bool) {
	e, st := r.Entry, r.Entry.state
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.runs, e)
	e.cache = e.cache && !rep.Proved
	if rep.Shipped > 0 {
		e.early = 0
	}
	if rep.RetainKnown {
		if e.retainAt = unixMilli(rep.RetainAt); e.retainAt != 0 && r.policy.Levels != f.policyLocked(e).Levels {
			e.retainAt = replicate.RetainUnknown // it was found out by the policy from before
		}
	}
	if errors.Is(rep.Err, ship.ErrFenced) || e.reg.Removed {
		st.Forget() // it is compacted no more
	}
	if r.cutting && rep.WALSize > 0 {
		e.poolClosed = true
	}
	f.healthLocked(r, rep)
	f.unfinishedLocked(r, rep)
	f.endEvictLocked(r, rep.Vacated)
	rep.Outcome.Err = rep.Err
	if rep.Outcome.Stop {
		rep.Outcome.Err = nil
		f.failWaitersLocked(e, rep.Err) // who called Sync meanwhile: nothing runs again
	}
	if r.waiters != nil {
		if rep.Err != nil {
			r.waiters.answer(Synced{Err: rep.Err})
		} else {
			e.waiters = e.waiters.join(r.waiters)
			f.schedule.Request(e.item, now)
		}
	}
	if r.order != nil && (rep.Err != nil || !rep.Outcome.More) {
		err := rep.Err
		if err == nil {
			err = rep.Unvacated
		}
		f.endOrderLocked(e, r.order, err)
	} else if r.order != nil { // it goes on, with what this run has begun
		if rep.TookOver {
			r.order.kind = replicate.OrderCheck // the rest of it is shipping
		}
		f.schedule.Request(e.item, now)
	}
	f.schedule.Done(e.item, now, rep.Outcome)
	if o := f.orders[e]; o != nil && e.reg.Removed { // given while this run was ending: there is no other
		f.endOrderLocked(e, o, registry.ErrNotFound)
	} else if o != nil && rep.Outcome.Stop {
		f.schedule.Reset(e.item, now)
		f.schedule.Request(e.item, now)
	}
	f.budgetLocked(r, rep, now)
	for _, ended := range r.ended {
		close(ended)
	}
	removed, touched = e.reg.Removed, e.touched
	e.touched = false
	e.packLocked()
	f.cfg.Due()
	return removed, touched
}

// healthLocked takes over from a report how the database is replicated.
func (f *Fleet) healthLocked(r *Run, rep *replicate.Report) {
	e, h := r.Entry, &r.Entry.health
	f.measureLocked(e, rep)
	if rep.Captured == 0 || rep.Position.TXID > h.txid { // else more may be durable since it was asked
		h.txid = rep.Position.TXID
	}
	f.setBacklogLocked(e, rep)
	f.setPackedLocked(e, rep)
	switch {
	case rep.Deferred:
		f.setDeferredLocked(e, true, f.fileMoment(rep.Files.ModTime()))
	case !rep.Drained && !rep.MayDefer && h.dirtySince == 0:
		h.dirtySince = f.moment(rep.Started)
	}
	failure := rep.Err
	if failure == nil {
		failure = rep.Maintenance
	}
	if failure == nil {
		if failure = f.overdueLocked(e); failure != nil && h.err == nil {
			f.countLocked(failure)
		}
		rep.Maintenance = failure
	}
	if failure == nil && rep.Captured == 0 && (rep.Drained || rep.MayDefer) && h.err != nil {
		f.recoveredLocked(e)
	}
	f.failedLocked(r, rep, failure)
}

// shippedWeight is how much sooner a log that is at the replica is cut than one of its
// size that is not: nothing is lost by it.
const shippedWeight = 16

// budgetLocked counts the log, and asks for the largest to be cut where they all are
// over their limit.
func (f *Fleet) budgetLocked(r *Run, rep *replicate.Report, now time.Time) {
	if e := r.Entry; e.reg.Removed || rep.Outcome.Stop {
		f.wals.Remove(e)
	} else {
		weight := rep.WALSize
		if e.health.dirtySince == 0 {
			weight *= shippedWeight
		}
		f.wals.Set(e, rep.WALSize, weight, r.relieve)
	}
	for e, ok := f.wals.Next(); ok; e, ok = f.wals.Next() {
		f.schedule.Request(e.item, now)
	}
}

// mayDeferLocked reports whether what a run finds changed in a cold database may stay
// local. What a run has begun to ship is shipped to its end.
func (f *Fleet) mayDeferLocked(e *Entry) bool {
	return f.cfg.DeferCold && f.cfg.Replicated && (e.deferred || e.health.dirtySince == 0)
}

// setDeferredLocked notes whether there is a change that is left local, and since when.
func (f *Fleet) setDeferredLocked(e *Entry, deferred bool, since moment) {
	if deferred && !e.deferred {
		f.deferred++
		e.health.dirtySince = since
	} else if !deferred && e.deferred {
		f.deferred--
		e.health.dirtySince = 0
	}
	e.deferred = deferred
}

// setErrLocked changes why a database is not being shipped, and since when.
func (f *Fleet) setErrLocked(e *Entry, err error) {
	h := &e.health
	if h.err != nil {
		f.failing[f.cfg.Reason(h.err)]--
	}
	if err != nil {
		f.failing[f.cfg.Reason(err)]++
	}
	switch {
	case err == nil:
		h.errSince = 0
	case h.err == nil:
		h.errSince = f.moment(f.cfg.Now())
	}
	h.err = err
}

// setBacklogLocked keeps what a run has measured, until one finds everything shipped.
func (f *Fleet) setBacklogLocked(e *Entry, rep *replicate.Report) {
	if rep.Measured && !e.reg.Removed {
		f.backlog[e] = rep.Backlog
	}
}

// RequestRetention makes those due whose replica has something to delete by old.
func (f *Fleet) RequestRetention(old time.Time) {
	now, at := f.cfg.Now(), old.UnixMilli()
	f.mu.Lock()
	defer f.mu.Unlock()
	for e := range f.reg.All() {
		if e.retainAt != 0 && at >= e.retainAt {
			f.schedule.Request(e.item, now)
		}
	}
	f.cfg.Due()
}

// unixMilli is a time in 8 bytes, 0 for none. The Unix epoch, which stands for "at
// once", is not none.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 1)
}
