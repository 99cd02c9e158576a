package multidb

import (
	"iter"
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
	// Lag is how long there has been something that the replica lacks; zero if
	// there is nothing, as far as is known.
	Lag       time.Duration
	LastWrite time.Time // zero if unknown
	WALSize   int64     // bytes, when it was last looked at
	Leased    bool      // the application holds a handle
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
		Database: e.db, Tier: tierOf(e.item.Tier()), Prefix: e.prefix,
		TXID: h.txid, SyncedAt: h.syncedAt, LastWrite: e.item.LastWrite(), WALSize: h.walSize,
		Leased: e.item.Pinned(), Err: opError("sync", e.db.ID, h.err), ErrSince: h.errSince,
		Failures: e.item.Failures(),
	}
	if !h.dirtySince.IsZero() {
		s.Lag = m.cfg.now().Sub(h.dirtySince)
	}
	return s
}

// All returns the status of every database, in no order. It does not hold up
// the Manager: databases that come and go meanwhile may be in it or not.
func (m *Manager) All() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		m.mu.Lock()
		all := make([]*entry, 0, len(m.entries))
		for _, e := range m.entries {
			all = append(all, e)
		}
		m.unlock()
		for _, e := range all {
			m.mu.Lock()
			s, gone := m.statusLocked(e), e.removed
			m.unlock()
			if !gone && !yield(s) {
				return
			}
		}
	}
}
