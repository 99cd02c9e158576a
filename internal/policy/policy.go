// Package policy has what may be set for one database and not for all of them: how often
// it is looked at, and what its replica keeps. It decides from values alone.
package policy

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/schedule"
)

// Policy is how one database is treated. It is a plain value, and can be compared.
type Policy struct {
	Pace          schedule.Pace // with every duration set
	Levels        levels.Policy
	EvictPriority int // the higher, the later its file leaves the local disk
}

// Own is what is said of one database. A zero duration: as the others have it.
type Own struct {
	SyncInterval, ColdSyncInterval, HotDuration time.Duration
	SnapshotInterval, Retention, L0Retention    time.Duration

	Heat          schedule.Heat
	EvictPriority int
}

// With returns p with what is said of one database. The error names every field that cannot
// be, joined.
func (p Policy) With(own Own) (Policy, error) {
	var errs []error
	set := func(field string, to *time.Duration, d time.Duration) {
		switch {
		case d < 0:
			errs = append(errs, fmt.Errorf("%s is %v; want 0, or a duration above zero", field, d))
		case d > 0:
			*to = d
		}
	}
	set("SyncInterval", &p.Pace.SyncInterval, own.SyncInterval)
	set("ColdSyncInterval", &p.Pace.ColdSyncInterval, own.ColdSyncInterval)
	set("HotDuration", &p.Pace.HotDuration, own.HotDuration)
	set("SnapshotInterval", &p.Levels.SnapshotInterval, own.SnapshotInterval)
	set("Retention", &p.Levels.Retention, own.Retention)
	set("L0Retention", &p.Levels.L0Retention, own.L0Retention)
	p.Levels.Granularity = p.Levels.L0Retention
	if own.Heat > schedule.Never {
		errs = append(errs, fmt.Errorf("%s is %d; want HotAuto, HotAlways or HotNever", "Hot", own.Heat))
	}
	p.Pace.Heat, p.EvictPriority = own.Heat, own.EvictPriority
	switch pace := &p.Pace; {
	case pace.ColdSyncInterval >= pace.SyncInterval:
	case own.ColdSyncInterval > 0:
		errs = append(errs, fmt.Errorf("a ColdSyncInterval of %v is shorter than the SyncInterval of %v", pace.ColdSyncInterval, pace.SyncInterval))
	default: // it is the one of all databases
		pace.ColdSyncInterval = pace.SyncInterval
	}
	return p, errors.Join(errs...)
}

// Ask is With what the user's code says. The error is also that it panicked, with its stack:
// on whose goroutine it is called would else end the process.
func (p Policy) Ask(fn func() Own) (out Policy, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the function panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return p.With(fn())
}

// Longest is how long anything at the replica is kept for its age.
func (p Policy) Longest() time.Duration { return max(p.Levels.Retention, p.Levels.L0Retention) }
