package multidb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
)

// job is one run of one database, and what the run asks of the Manager. It is used
// again, so that looking at an idle database allocates nothing.
type job struct {
	m  *Manager
	do func(context.Context) // runs it, once

	e       *entry
	action  schedule.Action
	started time.Time
	waiters *waiter // callers of Sync that came before it
	order   *order  // what else it is to do
	failed  bool    // that it failed is noted
	cutting bool    // it took the word that a log may have been left
	relieve bool    // the fleet's logs are over their limit, and this one is to be cut
	// Guarded by Manager.mu: how much of the log is at the replica.
	shippedTo int64
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

// source gives the worker pool the schedule's jobs.
type source struct{ m *Manager }

func (s source) Next(now time.Time) (func(context.Context), bool) {
	s.m.mu.Lock()
	it, action, ok := s.m.fleet.Next(now)
	s.m.unlock()
	if !ok {
		return nil, false
	}
	return s.m.job(it.Value, action), true
}

func (s source) Wake() (time.Time, bool) {
	s.m.mu.Lock()
	defer s.m.unlock()
	return s.m.fleet.Wake()
}

// run is one job of the worker pool: it owns the entry's State until it returns.
func (j *job) run(ctx context.Context) {
	m := j.m
	in, unread, removed, refused := m.begin(j)
	var err error
	if unread {
		err = m.ensureRead(ctx, j.e)
		m.mu.Lock()
		removed = j.e.Removed // it is no database
		m.unlock()
	}
	var r replicate.Report
	switch {
	case err != nil:
		r = j.blocked(err, false)
	case removed:
		r = j.blocked(m.whyNot(j.e.id()), true)
	case refused != nil && m.cfg.replica != nil:
		r = j.blocked(refused, true)
	default:
		r = m.replicator.Run(ctx, j.e.state, in)
	}
	m.finish(j, &r)
	*j = job{m: m, do: j.do}
	m.jobs.Put(j)
}

// begin says what the run is to do.
func (m *Manager) begin(j *job) (in replicate.Input, unread, removed bool, refused error) {
	e, now := j.e, m.cfg.now()
	m.mu.Lock()
	defer m.unlock()
	j.started, j.order = now, m.orders[e]
	j.waiters, e.waiters = e.waiters, nil
	order := replicate.OrderNone
	if j.order != nil {
		order = j.order.kind
		if !e.Clash && order != replicate.OrderCut {
			e.Refused = nil
		}
	}
	cold, relieve := e.item.Tier() == schedule.Cold, m.wals.Asked(e)
	j.relieve = relieve
	in = replicate.Input{
		ID: e.ID, Path: e.Path, Caller: j, Order: order,
		Demote: j.action == schedule.Demote, Cold: cold, Relieve: relieve,
		Asked:    j.waiters != nil,
		Overdue:  e.item.Failures() > 1 && e.health.dirtySince != 0 && !e.deferred,
		MayDefer: m.mayDeferLocked(e, cold, relieve || j.waiters != nil || j.order != nil),
		LastErr:  e.health.err, RetainAt: e.retainAt,
	}
	m.runs[e] = j
	j.shippedTo = e.unpack().Position().Offset
	return in, e.Unread, e.Removed, e.Refused
}

// blocked is the report of a run that could not be.
func (j *job) blocked(err error, stop bool) replicate.Report {
	r := replicate.Report{Started: j.started, Err: err, Position: j.e.state.Position()}
	r.Outcome.Stop = stop
	j.Settled(&r)
	return r
}

// Client returns the client of the database's prefix.
func (j *job) Client() (litestream.ReplicaClient, error) {
	return j.m.cfg.replica.ReplicaClient(j.e.database())
}

// Vars are the values of the database, for metadata.json.
func (j *job) Vars() map[string]string {
	vars := map[string]string{}
	for _, v := range j.e.database().Vars {
		vars[v.Name] = v.Value
	}
	return vars
}

// Progress notes what a run has found, before it waits for the replica: since when
// there is something to ship, so that a replica that does not answer shows as lag,
// and how much.
func (j *job) Progress(r *replicate.Report) {
	m, e := j.m, j.e
	if r.Exchanged && !r.Pending {
		m.exchanged(e)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setDeferredLocked(e, false, 0)
	if e.health.dirtySince == 0 {
		e.health.dirtySince = m.moment(r.Started)
	}
	m.setBacklogLocked(e, r)
}

// Settled notes what came of shipping, and then tells whoever waits for it.
func (j *job) Settled(r *replicate.Report) {
	m, e := j.m, j.e
	if r.Err = m.explainMissing(e, r.Err); errors.Is(r.Err, ErrMissing) {
		m.mu.Lock()
		leased := e.item.Pinned()
		m.unlock()
		if !leased {
			m.pool.Evict(e) // or the next lease would write to a file without a name
		}
	}
	if r.Replaced {
		j.replaced(r)
	}
	m.mu.Lock()
	m.tellReportLocked(e, r)
	if r.Err == nil && r.Drained {
		m.syncedLocked(j, r)
	}
	if r.Err != nil {
		m.failedLocked(j, r, r.Err)
	}
	m.unlock()
	told := r.Err
	if told == nil && r.Drained && j.waiters != nil {
		told = m.strayed(e)
	}
	if r.Err != nil || r.Drained {
		j.waiters.tell(syncResult{txid: r.Position.TXID, err: told})
		j.waiters = nil
	}
}

// MayCut reports whether the log is to be cut, which nobody in this process uses. A
// word that one may have been left is taken: finish gives it back if it is not cut.
func (j *job) MayCut(idle bool) bool {
	m, e := j.m, j.e
	if _, _, open := m.pool.Peek(e); open {
		return false // its closing asks again
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := e.shut || idle || m.life.Closing() || j.order != nil && j.order.kind == replicate.OrderCut
	if !wanted || e.item.Pinned() || e.Held != 0 {
		return false
	}
	j.cutting, e.shut = e.shut, false
	return true
}

// MayReplace reports whether the local file may be replaced now; from then on the
// order cannot be withdrawn.
func (j *job) MayReplace() bool {
	m := j.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if j.order.withdrawn {
		return false
	}
	j.order.replacing = true
	return true
}

// replaced notes that another file took the place of the local one. Whoever called
// Sync since the run began, or before an Adopt, may have committed to the one that was
// set aside.
func (j *job) replaced(r *replicate.Report) {
	m, e := j.m, j.e
	id := fsid.OrZero(e.Path)
	m.mu.Lock()
	lost := e.waiters
	e.waiters = nil
	if j.order.kind == replicate.OrderAdopt {
		lost, j.waiters = lost.join(j.waiters), nil
	}
	j.order.kept = r.Kept
	if r.Err == nil {
		m.reg.SetFile(e, id)
		m.absent.Remove(e.ID)
		e.health.txid, e.health.dirtySince = r.Position.TXID, 0
	}
	m.unlock()
	err := r.Err
	if err == nil {
		err = fmt.Errorf("%w: the replica's state took the place of the local file, which was set aside", ErrFenced)
	}
	lost.tell(syncResult{err: err})
}

// exchanged drops the handles of a file that another one has taken the place of.
func (m *Manager) exchanged(e *entry) {
	id := fsid.OrZero(e.Path)
	m.mu.Lock()
	noted := id != (fsid.ID{}) && e.File == id && m.reg.ByFile(id) == e
	m.unlock()
	if noted {
		// The state is of the file before as long as nothing is shipped of this one,
		// and the handles were dropped when it was noted. To drop them at every
		// attempt would keep a fenced database from being opened at all.
		return
	}
	m.pool.Evict(e)
	m.mu.Lock()
	m.reg.SetFile(e, id)
	m.events = append(m.events, Event{Type: EventReplaced, ID: e.id(), Path: e.Path})
	m.unlock()
}

// syncedLocked notes that everything is at the replica, before anybody is told.
func (m *Manager) syncedLocked(j *job, r *replicate.Report) {
	e, h := j.e, &j.e.health
	h.txid = r.Position.TXID
	m.setDeferredLocked(e, false, 0)
	h.syncedAt, h.dirtySince = m.moment(r.Started), 0
	r.Measured, j.shippedTo = false, r.Position.Offset
	delete(m.backlogs, e)
	if _, maintenance := h.err.(*replicate.MaintenanceError); h.err != nil && !maintenance { // which is not over yet
		m.recoveredLocked(e)
	}
}

func (m *Manager) recoveredLocked(e *entry) {
	m.setErrLocked(e, nil)
	m.events = append(m.events, Event{Type: EventRecovered, ID: e.id(), Path: e.Path})
}

// failedLocked notes, once in a run, that it failed.
func (m *Manager) failedLocked(j *job, r *replicate.Report, err error) {
	e := j.e
	if err == nil || j.failed || e.Removed {
		return
	}
	j.failed = true
	fenced := errors.Is(err, ErrFenced)
	if fenced {
		e.Refused = err
		r.Outcome.Stop = true
	}
	if e.health.err == nil || fenced && !errors.Is(e.health.err, ErrFenced) {
		t := EventFailed
		if fenced {
			t = EventFenced
		}
		m.events = append(m.events, Event{Type: t, ID: e.id(), Path: e.Path, Err: opError("sync", e.id(), err)})
	}
	m.setErrLocked(e, err)
	if r.Maintenance == nil { // which was counted when it was tried
		m.counters.failures[ReasonOf(err)].Add(1)
	}
}

// reportEvents are the public names of what a run tells.
var reportEvents = map[replicate.EventType]EventType{
	replicate.EventResync: EventResync, replicate.EventSnapshot: EventSnapshot, replicate.EventWALLimit: EventWALLimit,
	replicate.EventAdopted: EventAdopted, replicate.EventLogSetAside: EventLogSetAside, replicate.EventState: EventState,
}

// tellReportLocked takes the events and the counts out of a report.
func (m *Manager) tellReportLocked(e *entry, r *replicate.Report) {
	for _, ev := range r.Events {
		m.events = append(m.events, m.eventOf(e, ev))
	}
	c := &m.counters
	c.transactions.Add(r.Counts.Transactions)
	c.bytes.Add(r.Counts.Bytes)
	c.resyncs.Add(r.Counts.Resyncs)
	c.compactions.Add(r.Counts.Compactions)
	c.snapshots.Add(r.Counts.Snapshots)
	for _, err := range r.Failed {
		c.failures[ReasonOf(err)].Add(1)
	}
	r.Events, r.Counts, r.Failed = nil, replicate.Counts{}, nil
}

func (m *Manager) eventOf(e *entry, ev replicate.Event) Event {
	out := Event{Type: reportEvents[ev.Type], ID: e.id(), Path: ev.Path, TXID: ev.TXID, Err: ev.Err}
	if out.Path == "" && out.Type != EventState {
		out.Path = e.Path
	}
	return out
}

// finish ends a run: the schedule, the status, the catalog.
func (m *Manager) finish(j *job, r *replicate.Report) {
	e, st := j.e, j.e.state
	now := m.cfg.now()
	if r.Exchanged {
		m.exchanged(e) // during this run; the pool may still write to the file that was
	}
	if st.Unrecorded() {
		m.persist(e)
	}
	if !r.Acked.IsZero() {
		m.counters.lag.Observe(r.Acked.Sub(r.Files.ModTime()), now)
	}

	m.mu.Lock()
	m.tellReportLocked(e, r)
	m.unlock() // an observer that hangs shows as a run that goes on

	m.mu.Lock()
	delete(m.runs, e)
	if r.Shipped > 0 {
		e.early = 0
	}
	if r.RetainKnown {
		e.retainAt = unixMilli(r.RetainAt)
	}
	if errors.Is(r.Err, ErrFenced) || e.Removed {
		st.Forget() // it is compacted no more
	}
	if e.Removed {
		m.logs.Forget(e.ID)
	}
	if j.cutting && r.WALSize > 0 {
		e.shut = true
	}
	h := &e.health
	h.txid, h.walSize = r.Position.TXID, r.WALSize
	m.setBacklogLocked(e, r)
	switch {
	case r.Deferred:
		m.setDeferredLocked(e, true, m.momentOfFile(r.Files.ModTime()))
	case !r.Drained && !r.MayDefer && h.dirtySince == 0:
		h.dirtySince = m.moment(r.Started)
	}
	failure := r.Err
	if failure == nil {
		failure = r.Maintenance
	}
	if failure == nil && (r.Drained || r.MayDefer) && h.err != nil {
		m.recoveredLocked(e)
	}
	m.failedLocked(j, r, failure)
	r.Outcome.Err = r.Err
	if r.Outcome.Stop {
		r.Outcome.Err = nil
		m.failWaitersLocked(e, r.Err) // who called Sync meanwhile: nothing runs again
	}
	if j.waiters != nil {
		if r.Err != nil {
			j.waiters.tell(syncResult{err: r.Err})
		} else {
			e.waiters = e.waiters.join(j.waiters)
			m.fleet.Request(e.item, now)
		}
	}
	if j.order != nil && (r.Err != nil || !r.Outcome.More) {
		m.endOrderLocked(e, j.order, r.Err)
	} else if j.order != nil { // it goes on, with what this run has begun
		if r.TookOver {
			j.order.kind = replicate.OrderCheck // the rest of it is shipping
		}
		m.fleet.Request(e.item, now)
	}
	m.fleet.Done(e.item, now, r.Outcome)
	if o := m.orders[e]; o != nil && e.Removed { // given while this run was ending: there is no other
		m.endOrderLocked(e, o, ErrNotFound)
	} else if o != nil && r.Outcome.Stop {
		m.fleet.Reset(e.item, now)
		m.fleet.Request(e.item, now)
	}
	m.budgetLocked(j, r, now)
	touched := e.touched
	e.touched = false
	e.packLocked()
	removed := e.Removed
	m.unlock()
	m.workers.Poke()
	if removed { // and this run may have written its page hashes since
		m.dropPages(e.id())
	}
	if touched {
		m.look(e)
	}
}

// shippedWeight is how much sooner a log that is at the replica is cut than one
// of its size that is not: nothing is lost by it.
const shippedWeight = 16

// budgetLocked counts the log, and asks for the largest to be cut where they
// all are over their limit.
func (m *Manager) budgetLocked(j *job, r *replicate.Report, now time.Time) {
	if e := j.e; e.Removed || r.Outcome.Stop {
		m.wals.Remove(e)
	} else {
		weight := r.WALSize
		if e.health.dirtySince == 0 {
			weight *= shippedWeight
		}
		m.wals.Set(e, r.WALSize, weight, j.relieve)
	}
	for e, ok := m.wals.Next(); ok; e, ok = m.wals.Next() {
		m.fleet.Request(e.item, now)
	}
}

// setBacklogLocked keeps what a run has measured, until one finds everything
// shipped.
func (m *Manager) setBacklogLocked(e *entry, r *replicate.Report) {
	if r.Measured && !e.Removed {
		m.backlogs[e] = r.Backlog
	}
}

// backlogLocked is how many bytes of the log are in use and how many of them the
// replica lacks, by the last look.
func (m *Manager) backlogLocked(e *entry) replicate.Backlog {
	if b, ok := m.backlogs[e]; ok {
		return b
	}
	if j := m.runs[e]; j != nil {
		return replicate.Backlog{WALEnd: j.shippedTo}
	}
	return replicate.Backlog{WALEnd: e.peekLocked().Position().Offset}
}

// unixMilli is a time in 8 bytes, 0 for none. The Unix epoch, which stands for
// "at once", is not none.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 1)
}

// requestRetention makes those due whose replica has something to delete.
func (m *Manager) requestRetention() {
	now := m.cfg.now()
	old := m.age.Trusted(now).UnixMilli()
	m.mu.Lock()
	for e := range m.reg.All() {
		if e.retainAt != 0 && old >= e.retainAt {
			m.fleet.Request(e.item, now)
		}
	}
	m.unlock()
	m.workers.Poke()
}
