package multidb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// filesPerRun bounds how many LTX files one run writes before others get their
// turn.
const filesPerRun = 32

// runState is what one run of one database finds out.
type runState struct {
	e       *entry
	before  fsid.Files // taken before anything was read
	walSize int64      // of the WAL, when it was last looked at
	relieve bool       // the fleet's WALs are over their limit, and this one is to be cut
	outcome schedule.Outcome
	drained bool // everything that stood there at before is at the replica
	quiet   bool // nobody has written since the run before
	shipped int  // transactions
	started time.Time

	untended error // what upkeep fails of, if it does
	mayLeave bool  // what is found changed may stay local: ColdSyncNone
	left     bool  // and does

	failing   bool   // so did the run before
	failed    bool   // and it is noted
	behind    behind // when it was last looked at
	measured  bool   // it was
	shippedTo int64  // in the WAL; guarded by Manager.mu

	acked time.Time // when the last of them was acknowledged
	order *order    // what else it is to do
	lags  bool      // another has gone on from the local file, which has nothing of its own

	looked   bool      // the inventory was at hand, and retainAt is what it says
	retainAt time.Time // when the replica has something to delete
}

// job is a run that is about to begin. It is used again, so that looking at an
// idle database allocates nothing.
type job struct {
	m      *Manager
	e      *entry
	action schedule.Action
	state  runState
	do     func(context.Context) // runs it, once
}

func (m *Manager) job(e *entry, action schedule.Action) func(context.Context) {
	j, ok := m.jobs.Get().(*job)
	if !ok {
		j = &job{m: m}
		j.do = j.run
	}
	j.e, j.action = e, action
	return j.do
}

func (j *job) run(ctx context.Context) {
	j.m.run(ctx, j.e, j.action, &j.state)
	j.e, j.state = nil, runState{}
	j.m.jobs.Put(j)
}

// run is one job of the worker pool: it owns e.work until it returns, and r.
func (m *Manager) run(ctx context.Context, e *entry, action schedule.Action, r *runState) {
	m.mu.Lock()
	waiters := e.waiters
	e.waiters = nil
	todo := m.orders[e]
	if todo != nil && !e.clash && todo.kind != orderCut {
		e.refused = nil
	}
	refused, retainAt, removed, unread := e.refused, e.retainAt, e.removed, e.unread
	cold := e.item.Tier() == schedule.Cold
	relieve, lastErr := m.wals.Asked(e), e.health.err
	down := e.item.Failures() > 1 && e.health.dirtySince != 0 && !e.left
	*r = runState{e: e, started: m.cfg.now(), relieve: relieve, failing: lastErr != nil, mayLeave: m.mayLeaveLocked(e, cold, relieve || waiters != nil || todo != nil), order: todo}
	m.runs[e] = r
	r.shippedTo = e.unpack().state.Offset
	m.unlock()

	var err error
	if unread {
		err = m.ensureRead(ctx, e)
		m.mu.Lock()
		removed = e.removed // it is no database
		m.unlock()
	}
	switch {
	case err != nil:
	case removed:
		err = m.whyNot(e.db.ID)
		r.outcome.Stop = true
	case refused != nil && m.cfg.replica != nil:
		err = refused
		r.outcome.Stop = true
	case todo != nil && todo.kind == orderAdopt:
		todo.kept, err = m.replaceLocal(ctx, r, "adopted")
		waiters = m.answerLost(m.late(e).join(waiters), err)
	case relieve && down && waiters == nil && m.mayRelieve(r, lastErr):
		// The disk does not wait until the replica has not answered once more.
		err = m.overflow(ctx, r, lastErr)
	default:
		if todo != nil && todo.kind == orderTakeOver {
			m.distrust(e)
			e.work.takeOver = true
		}
		err = m.explainMissing(e, sqlitedb.Explain(e.db.Path, m.step(ctx, r)))
		if errors.Is(err, ErrMissing) {
			m.mu.Lock()
			leased := e.item.Pinned()
			m.unlock()
			if !leased {
				m.pool.Evict(e) // or the next lease would write to a file without a name
			}
		}
	}
	if err == nil && r.drained && waiters != nil && m.cfg.replica != nil {
		err = m.syncLocal(r)
	}
	if err == nil && r.drained {
		m.well(r)
	}
	if err != nil { // known before anybody is told
		m.mu.Lock()
		m.failedLocked(r, err)
		m.unlock()
	}
	told := err
	if told == nil && r.drained && waiters != nil {
		told = m.strayed(e)
	}
	waiters = m.answer(r, waiters, told)
	if err == nil && todo != nil && todo.kind == orderHandOver && r.drained && !r.lags {
		if _, err = m.seal(ctx, r); err == nil {
			// Whoever goes on restores it from a few files, not from one for each commit.
			// If another has gone on already, that is what this is for.
			if err := m.compact(ctx, e, true); err != nil && !errors.Is(err, ErrFenced) && !errors.Is(err, ship.ErrStale) {
				r.untended = &upkeepError{err}
			}
		}
		m.distrust(e)
	}
	if r.lags || err == nil && todo != nil && todo.kind == orderHandOver && r.drained { // or it would be known again
		r.outcome.Demoted = action == schedule.Demote // there is nothing to keep in order
	} else if err == nil && !r.outcome.More && !r.outcome.Stop {
		err = m.tend(ctx, r, action, cold, retainAt)
	}
	if was, is := r.before.Main.Ino, e.work.state.Ino; was != 0 && is != 0 && was != is {
		m.replaced(e) // during this run; the pool may still write to the file that was
	}
	if rep := e.work.rep; rep != nil {
		if r.shipped > 0 || e.work.dirty || cold {
			r.looked, r.retainAt = true, m.nextRetention(e.work)
		}
		if err == nil && r.untended == nil && (r.outcome.Demoted || cold && !r.outcome.More) {
			m.deactivate(e)
		}
	}
	m.finish(r, waiters, err)
}

// tend does what is not shipping: the upkeep, the demotion. Where it fails
// (no space for a checkpoint, no right to delete), an active database is shipped
// at its pace all the same, and this is tried again after a pause of its own.
func (m *Manager) tend(ctx context.Context, r *runState, action schedule.Action, cold bool, retainAt int64) (err error) {
	w := r.e.work
	if wait := w.tendAt.Sub(r.started); !cold && wait > 0 && wait <= maxBackoff {
		r.untended = w.untended
		return nil
	}
	if m.cfg.replica != nil {
		err = m.upkeep(ctx, r, retainAt)
	}
	if err == nil && action == schedule.Demote {
		err = m.demote(ctx, r)
	} else if err == nil && r.drained && r.walSize > 0 && (r.relieve || cold) && m.cfg.replica != nil {
		// A cold database has no WAL, whoever left it there.
		_, err = m.seal(ctx, r)
	} else if err == nil && m.cutsLog(r) {
		_, err = m.seal(ctx, r)
		m.noteCut(r)
	}
	if errors.Is(err, ErrFenced) {
		return err
	} else if errors.Is(err, ship.ErrStale) {
		m.distrust(r.e)
		r.outcome.More, r.outcome.Demoted = true, false
		return nil
	} else if err == nil {
		w.untended, w.tendAt, w.tendPause = nil, time.Time{}, 0
		return nil
	}
	w.untended = &upkeepError{sqlitedb.Explain(r.e.db.Path, err)}
	w.tendPause = min(max(2*w.tendPause, m.cfg.syncInterval), maxBackoff)
	w.tendAt = r.started.Add(w.tendPause)
	r.untended = w.untended
	m.counters.failures[ReasonOf(err)].Add(1)
	if cold {
		return w.untended // it has no pace: only its back-off brings it back
	}
	return nil
}

// upkeepError is a failure that leaves everything at the replica.
type upkeepError struct{ error }

func (e *upkeepError) Unwrap() error { return e.error }

// step ships what is new, if anything can be.
func (m *Manager) step(ctx context.Context, r *runState) error {
	e, w := r.e, r.e.work
	var err error
	if r.before, err = m.statFiles(e.db.Path); err != nil {
		return err
	}
	if err := m.expelLogAs(e, r.before); err != nil {
		return err
	}
	r.walSize = r.before.WAL.Size
	racy := r.before.Racy(r.started)
	if w.clean && r.before == w.stat && (r.order == nil || r.order.kind == orderCut || w.verified) {
		r.drained, r.quiet = true, true
		r.outcome.ModTime = w.modTime
		return nil
	}
	if ino := w.state.Ino; ino != 0 && ino != r.before.Main.Ino {
		m.replaced(e)
	}
	if r.leave(racy) {
		return nil
	}
	w.clean = false
	if m.cfg.replica != nil {
		if w.rep == nil || !w.verified || r.failing { // it may be long before there is a step to tell
			r.measure(w.state)
		}
		m.owes(r)
	}
	if m.cfg.replica == nil {
		r.outcome.Moved = r.before != w.stat
		if w.stat == (fsid.Files{}) { // the first look: a write just now is what brought it about
			r.outcome.Moved = r.started.Sub(r.before.ModTime()) < 2*m.cfg.syncInterval
		}
		r.drained = true
		w.state.Ino = r.before.Main.Ino
		if r.walSize > int64(m.cfg.checkpointPages)*assumedPage || r.relieve {
			if err := m.trim(ctx, r); err != nil {
				return err
			}
		}
	} else if err := m.shipNew(ctx, r); err != nil {
		return m.overflow(ctx, r, err)
	}
	if r.drained {
		w.stat, w.clean = r.before, !racy
		w.modTime, w.young = r.before.ModTime(), r.before.Young(r.started)
		r.outcome.ModTime = w.modTime
		w.dirty = w.dirty || r.shipped > 0
	}
	return nil
}

// owes notes since when there is something to ship, so that a replica that does
// not answer shows as lag while it is waited for.
func (m *Manager) owes(r *runState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &r.e.health
	m.setLeftLocked(r.e, false, 0)
	if h.dirtySince == 0 {
		h.dirtySince = m.moment(r.started)
	}
	m.setBehindLocked(r)
}

// shipNew writes LTX files until nothing is left, or the run has had its share.
func (m *Manager) shipNew(ctx context.Context, r *runState) error {
	e := r.e
	rep, err := m.activate(ctx, e)
	switch {
	case errors.Is(err, ship.ErrBehind) && r.order != nil && r.order.kind == orderCheck:
		r.order.kept, err = m.replaceLocal(ctx, r, "behind")
		if errors.Is(err, errNotNow) { // so it stays as it is, as if nobody had asked
			r.drained, r.lags = true, true
			return nil
		}
		m.answerLost(m.late(e), err)
		return err
	case errors.Is(err, ship.ErrBehind) && m.cfg.restoreOpen:
		// It has nothing to ship, and is brought up to date when it is opened next.
		r.drained, r.lags = true, true
		return nil
	case err != nil:
		return err
	}
	if r.order != nil && r.order.kind == orderTakeOver {
		r.order.kind = orderCheck // the rest of it is shipping
	}
	rep.db.OnBehind = func(end, lag int64) { m.isBehind(r, behind{end, lag}) }
	defer func() { rep.db.OnBehind = nil }()
	for range filesPerRun {
		old := rep.db.State
		res, err := m.ship.Step(ctx, &rep.db)
		e.work.state = rep.db.State
		if err == nil || rep.db.State.TXID != old.TXID {
			m.count(res)
		}
		if errors.Is(err, ship.ErrStale) {
			m.distrust(e)
			r.outcome.More = true
			return nil
		} else if err != nil {
			return err
		}
		r.shipped += res.Txns
		if res.Rule == ship.RuleResync {
			e.work.lingers = true
		}
		if res.Rule == ship.RuleResync && res.Txns > 0 {
			m.resynced(e, rep, old)
		}
		if res.Txns > 0 {
			r.outcome.Moved = true
			if old.TXID != 0 { // the first time has no lag that means anything
				r.acked = m.cfg.now()
			}
		}
		if !res.More {
			r.drained = res.Rule != ship.RuleNone || res.Empty
			r.outcome.More = !r.drained && !res.Tail
			return nil
		}
	}
	r.outcome.More = true
	return nil
}

// resynced notes a full state in the inventory and tells of it.
func (m *Manager) resynced(e *entry, rep *replica, old ship.State) {
	if old.PageSize != 0 && old.PageSize != rep.db.State.PageSize {
		rep.inv.Cut(old.TXID) // files of two page sizes are never compacted together
	}
	if old.TXID != 0 {
		m.counters.resyncs.Add(1)
		m.emit(Event{Type: EventResync, ID: e.db.ID, Path: e.db.Path, TXID: rep.db.State.TXID})
	}
}

// isLocal reports whether an error is of the local file, not of the replica.
func isLocal(err error) bool {
	for _, target := range []error{ErrMissing, ErrCorrupt, ErrNotDatabase, ErrReadOnly,
		sqlitedb.ErrBusy, sqlitedb.ErrDiskFull, sqlitedb.ErrNoFile, ship.ErrUnsettled, ErrInUse} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// replaced drops the handles of a file that another one has taken the place of.
func (m *Manager) replaced(e *entry) {
	id := fsid.OrZero(e.db.Path)
	m.mu.Lock()
	noted := !id.IsZero() && e.file == id && m.files.Get(id) == e
	m.unlock()
	if noted {
		// The state is of the file before as long as nothing is shipped of this one,
		// and the handles were dropped when it was noted. To drop them at every
		// attempt would keep a fenced database from being opened at all.
		return
	}
	m.pool.Evict(e)
	m.mu.Lock()
	m.setFileLocked(e, id)
	m.events = append(m.events, Event{Type: EventReplaced, ID: e.db.ID, Path: e.db.Path})
	m.unlock()
}

// syncLocal flushes the WAL to disk for a Sync. The pool's commits are not
// flushed one by one (synchronous=NORMAL), so that after a power failure the local
// database could be older than what Sync said is durable, and be shipped over it
// as the newest state.
func (m *Manager) syncLocal(r *runState) error {
	w := r.e.work
	if r.before.WAL.Size == 0 || r.before.WAL == w.flushed {
		return nil
	}
	f, err := os.Open(r.e.db.Path + "-wal") // it carries no locks
	if errors.Is(err, fs.ErrNotExist) {
		return nil // checkpointed and gone, which flushed the database
	} else if err != nil {
		return err
	}
	if err := errors.Join(m.cfg.flush(f), f.Close()); err != nil {
		return fmt.Errorf("flush the WAL: %w", err)
	}
	if !r.before.Racy(r.started) { // or the next commit may look the same
		w.flushed = r.before.WAL
	}
	return nil
}

// well notes that everything is at the replica, before anybody is told.
func (m *Manager) well(r *runState) {
	m.mu.Lock()
	defer m.unlock()
	e, h := r.e, &r.e.health
	h.txid = e.work.state.TXID
	m.setLeftLocked(e, false, 0)
	h.syncedAt, h.dirtySince = m.moment(r.started), 0
	r.measured, r.shippedTo = false, e.work.state.Offset
	delete(m.behind, e)
	if _, upkeep := h.err.(*upkeepError); h.err != nil && !upkeep { // which is not over yet
		m.recoveredLocked(e)
	}
}

func (m *Manager) recoveredLocked(e *entry) {
	m.setErrLocked(e, nil)
	m.events = append(m.events, Event{Type: EventRecovered, ID: e.db.ID, Path: e.db.Path})
}

// failedLocked notes, once in a run, that it failed.
func (m *Manager) failedLocked(r *runState, err error) {
	e := r.e
	if err == nil || r.failed || e.removed {
		return
	}
	r.failed = true
	fenced := errors.Is(err, ErrFenced)
	if fenced {
		e.refused = err
		r.outcome.Stop = true
	}
	if e.health.err == nil || fenced && !errors.Is(e.health.err, ErrFenced) {
		t := EventFailed
		if fenced {
			t = EventFenced
		}
		m.events = append(m.events, Event{Type: t, ID: e.db.ID, Path: e.db.Path, Err: opError("sync", e.db.ID, err)})
	}
	m.setErrLocked(e, err)
	if r.untended == nil { // which was counted when it was tried
		m.counters.failures[ReasonOf(err)].Add(1)
	}
}

// answer tells the callers of Sync, before upkeep. It returns those who must
// wait for another run.
func (m *Manager) answer(r *runState, waiters *waiter, err error) *waiter {
	if err == nil && !r.drained {
		return waiters
	}
	waiters.tell(syncResult{txid: r.e.work.state.TXID, err: err})
	return nil
}

// late is the callers of Sync that came since a run began. If the run put another
// file in the place of the local one, nobody knows in which their commits are.
func (m *Manager) late(e *entry) *waiter {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiters := e.waiters
	e.waiters = nil
	return waiters
}

// answerLost tells the callers of Sync that what they wait for is in a file that was
// set aside.
func (m *Manager) answerLost(waiters *waiter, err error) *waiter {
	if err == nil {
		err = fmt.Errorf("%w: the replica's state took the place of the local file, which was set aside", ErrFenced)
	}
	waiters.tell(syncResult{err: err})
	return nil
}

// finish ends the run: the schedule, the status, the catalog.
func (m *Manager) finish(r *runState, waiters *waiter, err error) {
	e, w := r.e, r.e.work
	now := m.cfg.now()
	if r.before != (fsid.Files{}) {
		st := r.before
		if r.walSize == 0 {
			st.WAL = fsid.Fingerprint{} // cut, and its inode is free for another file
		}
		m.mu.Lock()
		m.noteLogLocked(e, st, w.state.Salt1, w.state.Offset != 0 && w.state.Ino == st.Main.Ino)
		m.mu.Unlock()
	}
	if w.dirty || !w.young && !w.modTime.Equal(w.told) {
		m.persist(e)
	}
	if !r.acked.IsZero() {
		m.counters.lag.observe(r.acked.Sub(r.before.ModTime()), now)
	}
	failedFirst := err != nil && !r.measured && !r.drained && r.before != (fsid.Files{}) && m.cfg.replica != nil
	if failedFirst || r.measured && r.shipped > 0 {
		r.measure(w.state)
	}

	m.mu.Lock()
	delete(m.runs, e)
	if r.shipped > 0 {
		e.early = 0
	}
	if r.looked {
		e.retainAt = unixMilli(r.retainAt)
	}
	if w.rep != nil && (errors.Is(err, ErrFenced) || e.removed) {
		w.rep.inv.Forget() // it is compacted no more
	}
	r.outcome.Young = err == nil && r.drained && w.young
	h := &e.health
	h.txid = w.state.TXID
	h.walSize = r.walSize
	m.setBehindLocked(r)
	switch {
	case r.left:
		m.setLeftLocked(e, true, m.momentOfFile(r.before.ModTime()))
	case !r.drained && !r.mayLeave && h.dirtySince == 0:
		h.dirtySince = m.moment(r.started)
	}
	failure := err
	if failure == nil {
		failure = r.untended
	}
	if failure == nil && (r.drained || r.mayLeave) && h.err != nil {
		m.recoveredLocked(e)
	}
	m.failedLocked(r, failure)
	r.outcome.Err = err
	if r.outcome.Stop {
		r.outcome.Err = nil
		m.failWaitersLocked(e, err) // who called Sync meanwhile: nothing runs again
	}
	if waiters != nil {
		if err != nil {
			waiters.tell(syncResult{err: err})
		} else {
			e.waiters = e.waiters.join(waiters)
			m.fleet.Request(e.item, now)
		}
	}
	if r.order != nil && (err != nil || !r.outcome.More) {
		m.endOrderLocked(e, r.order, err)
	} else if r.order != nil { // it goes on, with what this run has begun
		m.fleet.Request(e.item, now)
	}
	m.fleet.Done(e.item, now, r.outcome)
	if o := m.orders[e]; o != nil && e.removed { // given while this run was ending: there is no other
		m.endOrderLocked(e, o, ErrNotFound)
	} else if o != nil && r.outcome.Stop {
		m.fleet.Reset(e.item, now)
		m.fleet.Request(e.item, now)
	}
	m.budgetLocked(r, now)
	touched := e.touched
	e.touched = false
	e.packLocked()
	m.unlock()
	m.workers.Poke()
	if touched {
		m.look(e)
	}
}
