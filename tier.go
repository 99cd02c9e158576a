package multidb

import (
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/schedule"
)

// Tier says how closely a database is followed.
type Tier uint8

const (
	// Cold: known, not polled. It costs nothing until a scan or the pool says
	// that it changed.
	Cold Tier = iota
	// Warm: active, but more databases are than MaxHot allows, or its policy
	// is HotNever: shipped every cold sync interval.
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

// WithPolicy treats databases differently, as those of customers who pay and who do not.
// The function is asked when a database becomes known, each time a listing has it (see
// WithScanInterval), and when it becomes hot or warm. What it says last counts, from the
// next time on that the database is looked at: a shorter interval at once, a shorter retention
// when the replica is next searched for what is old (WithRetentionInterval).
//
// It is called without any lock, concurrently and often: it must be quick, and must not call
// the Manager. Where it panics, or gives what cannot be (a negative duration, a
// ColdSyncInterval shorter than the SyncInterval), the Manager's options count for the
// database, and EventPolicy says so, once until it gives what can be. At most 4095 different
// values count at once, for any number of databases; EventPolicy tells of more. Default: all
// are treated alike.
func WithPolicy(fn func(Database) Policy) Option {
	return func(c *config) error {
		if fn == nil {
			return invalid("WithPolicy", "nil function")
		}
		c.policyOf = fn
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

// common is the policy of a database that has none of its own.
func (c *config) common() policy.Policy {
	l := c.limits()
	return policy.Policy{Levels: c.policy(),
		Pace: schedule.Pace{SyncInterval: l.SyncInterval, ColdSyncInterval: l.ColdSyncInterval, HotDuration: l.HotDuration}}
}

// asks is WithPolicy as the inner packages call it; nil: none.
func (c *config) asks() func(registry.Database) (policy.Policy, error) {
	if c.policyOf == nil {
		return nil
	}
	common := c.common()
	return func(db registry.Database) (policy.Policy, error) {
		p, err := common.Ask(func() policy.Own { return c.policyOf(databaseOf(db)).own() })
		if err != nil {
			err = fmt.Errorf("WithPolicy: %w: %w", ErrInvalidOption, err)
		}
		return p, err
	}
}
