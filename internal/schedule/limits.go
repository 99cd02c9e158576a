package schedule

import "time"

// Tier says how closely a database is followed.
type Tier uint8

// The tiers.
const (
	Cold Tier = iota // known, not polled
	Warm             // active, polled every ColdSyncInterval: no Hot place is free
	Hot              // active, polled every SyncInterval
)

// String returns "cold", "warm" or "hot".
func (t Tier) String() string {
	switch t {
	case Warm:
		return "warm"
	case Hot:
		return "hot"
	default:
		return "cold"
	}
}

// Action is what a run has to do.
type Action uint8

// The actions.
const (
	Step   Action = iota // ship what is new
	Demote               // ship the rest, seal, and say Demoted
)

// String returns "step" or "demote".
func (a Action) String() string {
	if a == Demote {
		return "demote"
	}
	return "step"
}

// maxDuration bounds every limit and every jump of the clock, so that sums
// of them cannot overflow.
const maxDuration = 365 * 24 * time.Hour

// Limits are the intervals and bounds of a Schedule. A duration that is zero or
// negative means its default; one above a year counts as a year.
type Limits struct {
	// MaxHot is how many items may be Hot at once. Zero or negative: none,
	// every active item is Warm.
	MaxHot int
	// SyncInterval is the time between two steps of a Hot item. Default 1s.
	SyncInterval time.Duration
	// ColdSyncInterval is the time between two steps of a Warm item, and the
	// longest delay of the one step that an old change gives a Cold one.
	// Default 30s; at least SyncInterval.
	ColdSyncInterval time.Duration
	// HotDuration is how long after its last write an item stays active.
	// Default 5m.
	HotDuration time.Duration
	// RecentModify is the age below which a change found by Seen promotes.
	// Zero or negative: Seen never promotes.
	RecentModify time.Duration
	// AccessCount is how many accesses within AccessWindow promote. Zero or
	// negative: accesses never promote. At most 65535.
	AccessCount int
	// AccessWindow begins with the first access that is counted. Default HotDuration.
	AccessWindow time.Duration
	// BackoffMin is the delay after a first failure; it doubles with each
	// further one. Default 1s.
	BackoffMin time.Duration
	// BackoffMax is the longest delay after failures. Default 5m; at least
	// BackoffMin.
	BackoffMax time.Duration
}

// withDefaults returns l with every field in its range.
func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
		*d = min(*d, maxDuration)
	}
	set(&l.SyncInterval, time.Second)
	set(&l.ColdSyncInterval, 30*time.Second)
	set(&l.HotDuration, 5*time.Minute)
	set(&l.AccessWindow, l.HotDuration)
	set(&l.BackoffMin, time.Second)
	set(&l.BackoffMax, 5*time.Minute)
	l.ColdSyncInterval = max(l.ColdSyncInterval, l.SyncInterval)
	l.BackoffMax = max(l.BackoffMax, l.BackoffMin)
	l.MaxHot = max(l.MaxHot, 0)
	l.AccessCount = min(max(l.AccessCount, 0), 1<<16-1)
	return l
}
