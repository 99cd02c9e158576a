package multidb

import (
	"time"

	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/schedule"
)

// HotPolicy says whether a database may be hot.
type HotPolicy uint8

const (
	// HotAuto: by its writes and accesses, see WithPromotion.
	HotAuto HotPolicy = iota
	// HotAlways: from when it is known on, whether it is written or not, and before all
	// databases that are not HotAlways. It counts for WithMaxHot: if there are more of
	// them than that, the rest are Warm. None of them goes cold, so each is looked at
	// for ever.
	HotAlways
	// HotNever: it takes no hot place. While it is written or leased it is Warm, though
	// places may be free, and what is written is shipped within its cold sync interval.
	HotNever
)

// String returns "auto", "always" or "never", as the configuration has it.
func (h HotPolicy) String() string {
	switch h {
	case HotAuto:
		return "auto"
	case HotAlways:
		return "always"
	case HotNever:
		return "never"
	}
	return "unknown"
}

// Policy is how one database is treated; see WithPolicy. A duration of zero is that of
// the Manager's option of the same name.
type Policy struct {
	SyncInterval     time.Duration
	ColdSyncInterval time.Duration // zero: the Manager's, or SyncInterval if that is longer
	HotDuration      time.Duration
	SnapshotInterval time.Duration
	Retention        time.Duration
	L0Retention      time.Duration

	Hot HotPolicy
	// EvictPriority orders the databases that leave the local disk when it is full: one
	// with a higher number leaves later. Default 0.
	EvictPriority int
}

// own is the policy as the inner packages know it.
func (p Policy) own() policy.Own {
	return policy.Own{
		SyncInterval: p.SyncInterval, ColdSyncInterval: p.ColdSyncInterval, HotDuration: p.HotDuration,
		SnapshotInterval: p.SnapshotInterval, Retention: p.Retention, L0Retention: p.L0Retention,
		Heat: schedule.Heat(p.Hot), EvictPriority: p.EvictPriority,
	}
}
