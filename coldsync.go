package multidb

import "time"

// ColdSyncMode says what becomes of a change in a cold database that does not
// make it hot: an old one that a scan finds, such as of a file copied in with its
// old time stamps, or any where WithPromotion has thresholds of zero. A write
// through the pool always makes a database hot.
type ColdSyncMode uint8

const (
	// ColdSyncSnapshot ships it within the cold sync interval: as what was
	// committed where that can be proved, else as a whole state.
	ColdSyncSnapshot ColdSyncMode = iota
	// ColdSyncNone leaves it local, however long, until the database is hot or
	// warm again, Sync asks for it, or its WAL must go (WithMaxTotalWALSize).
	// Close ships what is left. Until then a
	// restore is of the state before the change; Status says so in PendingSince
	// and LagBytes, Stats counts such databases in Pending, and neither Lag nor
	// Healthy counts them, since it is what was asked for. A database that the
	// replica has nothing of is shipped all the same: there is no state before.
	ColdSyncNone
)

// String returns "snapshot" or "none", as the configuration has it.
func (m ColdSyncMode) String() string {
	switch m {
	case ColdSyncSnapshot:
		return "snapshot"
	case ColdSyncNone:
		return "none"
	}
	return "unknown"
}

// WithColdSyncMode sets what becomes of a change in a database that stays cold.
// Default ColdSyncSnapshot.
func WithColdSyncMode(mode ColdSyncMode) Option {
	return func(c *config) error {
		if mode > ColdSyncNone {
			return invalid("WithColdSyncMode", "%d; want ColdSyncSnapshot or ColdSyncNone", mode)
		}
		c.coldSyncMode = mode
		return nil
	}
}

// mayDeferLocked reports whether what a run finds changed may stay local. What
// Sync has asked for, or a run has begun to ship, is shipped to its end.
func (m *Manager) mayDeferLocked(e *entry, cold, asked bool) bool {
	return m.cfg.coldSyncMode == ColdSyncNone && m.cfg.replica != nil && cold && !asked &&
		(e.deferred || e.health.dirtySince == 0)
}

// momentOfFile is moment for a time that may be before the Manager was made.
func (m *Manager) momentOfFile(t time.Time) moment {
	if at := moment(t.Sub(m.epoch)) + 1; at != 0 {
		return at
	}
	return 1
}

// setDeferredLocked notes whether there is a change that is left local, and since when.
func (m *Manager) setDeferredLocked(e *entry, deferred bool, since moment) {
	if deferred && !e.deferred {
		m.deferred++
		e.health.dirtySince = since
	} else if !deferred && e.deferred {
		m.deferred--
		e.health.dirtySince = 0
	}
	e.deferred = deferred
}
