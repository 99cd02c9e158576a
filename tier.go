package multidb

import (
	"time"

	"github.com/multidb-go/multidb/internal/schedule"
)

// Tier says how closely a database is followed.
type Tier uint8

const (
	// Cold: known, not polled. It costs nothing until a scan or the pool says
	// that it changed.
	Cold Tier = iota
	// Warm: active, but more databases are than MaxHot allows: shipped every
	// cold sync interval.
	Warm
	// Hot: its WAL streams to the replica every sync interval.
	Hot
)

// String returns "cold", "warm" or "hot".
func (t Tier) String() string {
	switch t {
	case Cold:
		return "cold"
	case Warm:
		return "warm"
	case Hot:
		return "hot"
	}
	return "unknown"
}

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

func tierOf(t schedule.Tier) Tier {
	switch t {
	case schedule.Hot:
		return Hot
	case schedule.Warm:
		return Warm
	}
	return Cold
}

// limits is what the options mean to the schedule.
func (c *config) limits() schedule.Limits {
	return schedule.Limits{
		MaxHot:           c.maxHot,
		SyncInterval:     c.syncInterval,
		ColdSyncInterval: c.coldSyncInterval,
		HotDuration:      c.hotDuration,
		RecentModify:     c.recentModify,
		AccessCount:      c.accessCount,
		AccessWindow:     c.hotDuration,
		BackoffMin:       c.syncInterval,
		BackoffMax:       max(c.syncInterval, maxBackoff),
	}
}

// maxBackoff is the longest pause after failures, so that a replica that is
// back is used again soon.
const maxBackoff = 15 * time.Second
