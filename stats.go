package multidb

import (
	"time"

	"github.com/multidb-go/multidb/internal/lag"
)

// Stats is the Manager's totals: since it was made, unless a field says
// otherwise. Which databases are the worst is for Healthy to say. It is a plain
// value.
type Stats struct {
	Databases       int // known now
	Evicted         int // of them, without a local file on purpose, see WithMaxDisk
	Cold, Warm, Hot int // of them now
	Running         int // being worked on now
	Failing         int // waiting after a failure now
	Stopped         int // refused or fenced now
	Pending         int // with a change that is left local now, see ColdSyncNone
	Ignored         int // files that match a pattern now and are no database, or a second name of one
	// FailingScans is how many discoverers have failed at their last listing, and in
	// how many discovery roots another volume is mounted, now: what ScanErr joins.
	FailingScans int

	// LocalBytes, ReplicaBytes and ReplicaObjects are the sums of those of all databases now,
	// see Status. ReplicaUnsized is how many databases are not in the sums of the replica,
	// because it is not known yet what their prefixes hold.
	LocalBytes     int64
	ReplicaBytes   int64
	ReplicaObjects int64
	ReplicaUnsized int

	// Unwell is how many databases have an error now (Status.Err), by reason:
	// those that are failing and those that are stopped.
	Unwell ByReason

	Promotions, Demotions int64
	Shipped               int64 // databases of which something was shipped, those that have gone since too
	Transactions          int64 // shipped
	Bytes                 int64 // of LTX written by shipping
	Resyncs               int64 // whole states shipped where a continuation was not provable
	Compactions           int64
	Snapshots             int64
	Failures              int64    // runs that failed
	FailuresBy            ByReason // the same by reason

	// LagP50 and LagP99 are from commit to acknowledgement, of the last one to
	// two minutes; zero if nothing was shipped. They are rounded up by an eighth
	// at most.
	LagP50, LagP99 time.Duration
	Lag            LagHistogram // the same, all of it

	Pool     PoolStats
	Disk     DiskStats     // zero without WithMaxDisk
	FleetLog FleetLogStats // zero without WithFleetLog
	Drills   DrillStats    // zero without WithDrills
	Requests RequestStats  // of the replica, if its factory counts; those of the fleet log included
}

// LagHistogram is how long commits took to be acknowledged, since the Manager was
// made. It only grows, so that rates and quantiles of any period can be taken of
// it, of several Managers together too.
type LagHistogram struct {
	Count int64         // commits, or runs of them that were shipped together
	Sum   time.Duration // of their lags
	// Buckets[i] counts those of at most LagBounds()[i], the smaller ones
	// included.
	Buckets [lagBuckets]int64
}

const lagBuckets = lag.Buckets

// LagBounds returns the upper bounds of LagHistogram.Buckets. They never change.
func LagBounds() [lagBuckets]time.Duration { return lag.Bounds() }

// PoolStats is the connection pool.
type PoolStats struct {
	Open, Leased, Idle int // databases now
	Waiting            int // callers of Acquire now
	Opens, Hits        int64
	Evictions          int64
}

// Stats returns the totals. It costs the same however many databases there are.
func (m *Manager) Stats() Stats {
	now, total := m.fleet.Counts()
	scanErrs, _ := m.scanErrs()
	s := Stats{
		Databases: now.All, Evicted: now.Evicted, Cold: now.Cold, Warm: now.Warm, Hot: now.Hot,
		Running: now.Running, Failing: now.BackingOff, Stopped: now.Stopped,
		Pending: now.Deferred, Ignored: now.Refusals, FailingScans: len(scanErrs),
		Unwell:     ByReason(now.Failing),
		LocalBytes: now.Sizes.Local, ReplicaBytes: now.Sizes.Replica, ReplicaObjects: now.Sizes.Objects, ReplicaUnsized: now.Sizes.Unknown,
		Promotions: total.Promotions, Demotions: total.Demotions,
		Shipped: total.Shipped, Transactions: total.Transactions, Bytes: total.Bytes, Resyncs: total.Resyncs,
		Compactions: total.Compactions, Snapshots: total.Snapshots,
		FailuresBy: ByReason(total.Failures),
		Lag:        LagHistogram(m.lag.Histogram()),
	}
	s.Failures = s.FailuresBy.Total()
	s.LagP50, s.LagP99 = m.lag.Quantiles(m.cfg.now())
	if now.Served { // what Start makes
		s.Disk = DiskStats(m.evictor.Stats())
		p := m.opener.Stats()
		s.Pool = PoolStats{Open: p.Open, Leased: p.Leased, Idle: p.Idle, Waiting: p.Waiting,
			Opens: p.Opens, Hits: p.Hits, Evictions: p.Evictions}
	}
	s.Drills = DrillStats(m.drills.Counts())
	if now.Served && m.fleetLog != nil {
		s.FleetLog = m.fleetLogStats()
	}
	if r, ok := m.cfg.replica.(ReplicaStats); ok {
		s.Requests = r.RequestStats()
	}
	return s
}
