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

// mayLeaveLocked reports whether what a run finds changed may stay local. What
// Sync has asked for, or a run has begun to ship, is shipped to its end.
func (m *Manager) mayLeaveLocked(e *entry, cold, asked bool) bool {
	return m.cfg.coldSyncMode == ColdSyncNone && m.cfg.replica != nil && cold && !asked &&
		(e.left || e.health.dirtySince == 0)
}

// leave decides, for a run that may, whether to leave the database as it is. It
// does not where only a step can tell whether there is a change at all: where the
// stamps are those of our own checkpoint, or were too young when they were taken.
func (r *runState) leave(racy bool) bool {
	w, mod := r.e.work, r.before.ModTime()
	switch {
	case !r.mayLeave:
		return false
	case w.state.TXID == 0, mod.UnixNano() == w.own, r.before == w.stat:
		r.mayLeave = false
		return false
	case mod.Equal(w.modTime) && !racy:
		return true // as scans judge it too: nothing has changed
	}
	r.left = true
	r.outcome.ModTime = mod
	r.measure(w.state)
	return true
}

// momentOfFile is moment for a time that may be before the Manager was made.
func (m *Manager) momentOfFile(t time.Time) moment {
	if at := moment(t.Sub(m.epoch)) + 1; at != 0 {
		return at
	}
	return 1
}

// setLeftLocked notes whether there is a change that is left local, and since when.
func (m *Manager) setLeftLocked(e *entry, left bool, since moment) {
	if left && !e.left {
		m.left++
		e.health.dirtySince = since
	} else if !left && e.left {
		m.left--
		e.health.dirtySince = 0
	}
	e.left = left
}
