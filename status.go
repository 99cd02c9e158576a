package multidb

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Status is what is known of one database.
type Status struct {
	Database
	Tier   Tier
	Prefix string // of its replica
	TXID   TXID   // last one the replica acknowledged
	// SyncedAt is when the replica was last known to have everything; zero if
	// not since Start.
	SyncedAt time.Time
	// Lag is how long there has been something that the replica lacks, how long
	// (since its last write, where it has nothing of the database yet), how long
	// the database has been overdue to be looked at, or how long the work on it
	// has been going on, during which nobody sees what is written: the longest of
	// them, zero if none.
	Lag time.Duration
	// LagBytes is how many bytes of the WAL the replica lacks, when the database
	// was last looked at; of the whole file, where no WAL says what changed.
	LagBytes int64
	// PendingSince is when a change was made that is left local because the
	// database is cold, see ColdSyncNone; zero if there is none. It is no Lag.
	PendingSince time.Time
	LastWrite    time.Time // zero if unknown
	WALSize      int64     // of the file in bytes, when it was last looked at
	// WALPos is the local position: how many bytes of the WAL were in use when
	// it was last looked at. WALPos less LagBytes is at the replica, as TXID.
	WALPos int64
	Leased bool // the application holds a handle
	// Err is why it is not being shipped, since ErrSince; nil if all is well.
	Err      error
	ErrSince time.Time
	Failures int // attempts that failed in a row
}

// Status returns what is known of one database. The error is ErrNotFound, or why
// a file was refused (ErrNotDatabase, ErrConflict), as *Error.
func (m *Manager) Status(id ID) (Status, error) {
	e, err := m.lookup(id)
	if err != nil {
		return Status{}, opError("status", id, err)
	}
	m.mu.Lock()
	defer m.unlock()
	return m.statusLocked(e), nil
}

func (m *Manager) statusLocked(e *entry) Status {
	h := &e.health
	s := Status{
		Database: e.database(), Tier: tierOf(e.item.Tier()), Prefix: e.Prefix().String(),
		TXID: h.txid, SyncedAt: m.when(h.syncedAt), LastWrite: e.item.LastWrite(), WALSize: h.walSize,
		Leased: e.item.Pinned(), Err: opError("sync", e.id(), h.err), ErrSince: m.when(h.errSince),
		Failures: e.item.Failures(),
	}
	b := m.backlogLocked(e)
	s.WALPos, s.LagBytes = b.WALEnd, b.Lag
	if e.deferred {
		s.PendingSince = m.when(h.dirtySince)
	}
	s.Lag = m.lagLocked(e, m.cfg.now())
	return s
}

// neverShippedLocked notes that the replica, as far as is known here, has nothing
// of a database that is new here, or had another place: since it was last written.
// A run that finds everything shipped, or nothing in it, says otherwise.
func (m *Manager) neverShippedLocked(e *entry, written time.Time) {
	if m.cfg.replica == nil {
		return
	}
	now := m.cfg.now()
	if !written.After(time.Unix(0, 0)) || written.After(now) {
		written = now
	}
	e.health.dirtySince = m.momentOfFile(written)
}

// lagLocked is how long there has been something to ship, how long the database
// has waited for its turn to be looked at, or how long the run in progress has
// taken: one that hangs is seen by nothing else.
func (m *Manager) lagLocked(e *entry, now time.Time) time.Duration {
	var lag time.Duration
	if e.health.dirtySince != 0 && !e.deferred && !e.Unread { // else it may be no database
		lag = now.Sub(m.when(e.health.dirtySince))
	}
	if due, ok := e.item.NextDue(); ok && m.cfg.replica != nil {
		lag = max(lag, now.Sub(due))
	}
	if r := m.runs[e]; e.item.Running() && r != nil && m.cfg.replica != nil {
		// Shipped, perhaps, and now compacted: whatever is committed meanwhile
		// waits, and where the replica does not answer it waits long.
		lag = max(lag, now.Sub(r.started)-m.cfg.syncInterval)
	}
	return max(lag, 0)
}

// setErrLocked changes why a database is not being shipped, and since when.
func (m *Manager) setErrLocked(e *entry, err error) {
	h := &e.health
	if h.err != nil {
		m.unwell[ReasonOf(h.err)]--
	}
	if err != nil {
		m.unwell[ReasonOf(err)]++
	}
	switch {
	case err == nil:
		h.errSince = 0
	case h.err == nil:
		h.errSince = m.moment(m.cfg.now())
	}
	h.err = err
}

// sickest is how many databases Healthy names at most.
const sickest = 10

// Healthy reports whether every database is at the replica but for the last
// maxLag, and names the worst ten that are not: those that fail, are fenced or
// refused, wait for a replica that does not answer, hang in the work on them,
// wait for their turn, or were never shipped, be they as old and cold as they
// may; those with an error first, then by their Lag. What ColdSyncNone leaves local
// is no reason, nor is a file that is no database. A listing that was not whole is
// one (see ScanErr), and comes first, with an empty ID: databases that it lacks are
// not replicated. It looks at every database, in a few milliseconds for 100,000.
func (m *Manager) Healthy(maxLag time.Duration) (ok bool, worst []Status) {
	m.mu.Lock()
	defer m.unlock()
	now := m.cfg.now()
	for e := range m.reg.All() {
		if e.health.err == nil && m.lagLocked(e, now) <= maxLag {
			continue
		}
		worst = append(worst, m.statusLocked(e))
		if len(worst) > 20*sickest {
			worst = trimWorst(worst)
		}
	}
	worst = trimWorst(worst)
	if err := m.scanErrLocked(); err != nil {
		s := Status{Err: fmt.Errorf("discovery: %w", err), ErrSince: m.scanErrSinceLocked()}
		worst = append([]Status{s}, worst...)[:min(len(worst)+1, sickest)]
	}
	return len(worst) == 0, worst
}

// trimWorst keeps those with the most lag, errors first.
func trimWorst(a []Status) []Status {
	slices.SortFunc(a, func(x, y Status) int {
		if (x.Err != nil) != (y.Err != nil) {
			if x.Err != nil {
				return -1
			}
			return 1
		}
		return cmp.Compare(y.Lag, x.Lag)
	})
	return a[:min(len(a), sickest)]
}

// All returns the status of every database, in no order. It does not hold up
// the Manager: databases that come and go meanwhile may be in it or not.
func (m *Manager) All() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		m.mu.Lock()
		all := slices.Collect(m.reg.All())
		m.unlock()
		for _, e := range all {
			m.mu.Lock()
			s, gone := m.statusLocked(e), e.Removed
			m.unlock()
			if !gone && !yield(s) {
				return
			}
		}
	}
}
