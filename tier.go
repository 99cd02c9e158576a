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
