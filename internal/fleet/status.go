package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/superfly/ltx"
)

// Status is what is known of one database. What the fields mean is with the public
// type of that name.
type Status struct {
	registry.Identity
	Tier         schedule.Tier
	TXID         ltx.TXID
	UnpackedTXID ltx.TXID
	SyncedAt     time.Time
	Lag          time.Duration
	PendingSince time.Time
	LastWrite    time.Time
	WALSize      int64
	Backlog      replicate.Backlog
	Leased       bool
	Err          error
	ErrSince     time.Time
	Failures     int
	Removed      bool
	Evicted      bool // it has no local file on purpose
	Size
}

// Status returns what is known of a database.
func (f *Fleet) Status(e *Entry) Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statusLocked(e)
}

func (f *Fleet) statusLocked(e *Entry) Status {
	h := &e.health
	s := Status{
		Identity: e.reg.Identity, Tier: e.item.Tier(), TXID: h.txid, UnpackedTXID: f.unpackedLocked(e), SyncedAt: f.when(h.syncedAt),
		Lag: f.lagLocked(e, f.cfg.Now()), LastWrite: e.item.LastWrite(), WALSize: h.walSize, Backlog: f.backlogLocked(e),
		Leased: e.item.Pinned(), Err: h.err, ErrSince: f.when(h.errSince), Failures: e.item.Failures(), Removed: e.reg.Removed, Evicted: e.evicted,
	}
	s.Size = e.sizeNow()
	if e.deferred {
		s.PendingSince = f.when(h.dirtySince)
	}
	return s
}

// backlogLocked is how many bytes of the log are in use and how many of them the
// replica lacks, by the last look.
func (f *Fleet) backlogLocked(e *Entry) replicate.Backlog {
	if b, ok := f.backlog[e]; ok {
		return b
	}
	if r := f.runs[e]; r != nil {
		return replicate.Backlog{WALEnd: r.shippedTo}
	}
	return replicate.Backlog{WALEnd: e.peekLocked().Position().Offset}
}

// neverShippedLocked notes that the replica, as far as is known here, has nothing of a
// database that is new here, or had another place: since it was last written. A run
// that finds everything shipped, or nothing in it, says otherwise.
func (f *Fleet) neverShippedLocked(e *Entry, written time.Time) {
	if !f.cfg.Replicated {
		return
	}
	now := f.cfg.Now()
	if !written.After(time.Unix(0, 0)) || written.After(now) {
		written = now
	}
	e.health.dirtySince = f.fileMoment(written)
}

// lagLocked is how long there has been something to ship, how long the database has
// waited for its turn to be looked at, or how long the run in progress has taken: one
// that hangs is seen by nothing else.
func (f *Fleet) lagLocked(e *Entry, now time.Time) time.Duration {
	var lag time.Duration
	if e.health.dirtySince != 0 && !e.deferred && !e.reg.Unread { // else it may be no database
		lag = now.Sub(f.when(e.health.dirtySince))
	}
	if due, ok := e.item.NextDue(); ok && f.cfg.Replicated {
		lag = max(lag, now.Sub(due))
	}
	if r := f.runs[e]; e.item.Running() && r != nil && f.cfg.Replicated {
		// Shipped, perhaps, and now compacted: whatever is committed meanwhile waits,
		// and where the replica does not answer it waits long.
		lag = max(lag, now.Sub(r.started)-f.schedule.PaceOf(e.item).SyncInterval)
	}
	return max(lag, 0)
}

// Worst returns those that fail, or lag more than maxLag, n of them at most: with an
// error first, then by their lag.
func (f *Fleet) Worst(maxLag time.Duration, n int) (worst []Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.cfg.Now()
	for e := range f.reg.All() {
		if e.health.err == nil && f.lagLocked(e, now) <= maxLag {
			continue
		}
		worst = append(worst, f.statusLocked(e))
		if len(worst) > 20*n {
			worst = trimWorst(worst, n)
		}
	}
	return trimWorst(worst, n)
}

// WorstLag returns the longest lag of all databases. It looks at each.
func (f *Fleet) WorstLag() (worst time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.cfg.Now()
	for e := range f.reg.All() {
		worst = max(worst, f.lagLocked(e, now))
	}
	return worst
}

func trimWorst(a []Status, n int) []Status {
	slices.SortFunc(a, func(x, y Status) int {
		if (x.Err != nil) != (y.Err != nil) {
			if x.Err != nil {
				return -1
			}
			return 1
		}
		return cmp.Compare(y.Lag, x.Lag)
	})
	return a[:min(len(a), n)]
}

// Counts is how many databases there are now.
type Counts struct {
	All, Cold, Warm, Hot         int
	Evicted                      int // of them, without a local file on purpose
	Running, BackingOff, Stopped int
	Deferred                     int     // with a change that is left local
	Refusals                     int     // files that are no database, or a second name of one
	Failing                      []int64 // by the kind of the error
	Sizes                        Sizes
	Served                       bool // Start has succeeded
}

// Counts returns how many databases there are now, and what happened so far. It costs
// the same however many there are.
func (f *Fleet) Counts() (c Counts, t Totals) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.Cold, c.Warm, c.Hot, c.Running, c.BackingOff, c.Stopped = f.schedule.Counts()
	c.All, c.Evicted, c.Deferred, c.Refusals = f.reg.Len(), f.evicted, f.deferred, f.reg.RefusalsLen()
	c.Sizes = f.sizes
	c.Failing, c.Served = slices.Clone(f.failing), f.life.Served()
	t = f.totals
	t.Failures = slices.Clone(t.Failures)
	return c, t
}
