package multidb

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// overflow keeps a WAL that the replica does not take within its limit, or the
// fleet's within theirs.
func (m *Manager) overflow(ctx context.Context, r *runState, cause error) error {
	e := r.e
	// As it is now: the replica may have been waited for for minutes.
	if now, err := m.statFiles(e.db.Path); err == nil {
		r.walSize = now.WAL.Size
	}
	if r.walSize <= m.cfg.maxWALSize && !r.relieve || r.walSize == 0 || !relievable(cause) {
		return cause
	}
	db := &ship.DB{Path: e.db.Path, State: e.work.state}
	if e.work.rep != nil {
		db = &e.work.rep.db
	}
	err := m.ship.Relieve(ctx, db)
	e.work.state = db.State // whatever came of it, what was shipped is no longer in the WAL
	e.work.dirty = true
	m.cut(r)
	if err != nil {
		return errors.Join(cause, err)
	}
	m.emit(Event{Type: EventWALLimit, ID: e.db.ID, Path: e.db.Path, Err: cause})
	return cause
}

// mayRelieve reports whether a WAL can be given up without another attempt to
// ship it.
func (m *Manager) mayRelieve(r *runState, last error) bool {
	if last == nil || !relievable(last) || m.cfg.replica == nil {
		return false
	}
	var err error
	if r.before, err = m.statFiles(r.e.db.Path); err != nil {
		return false // the step says why
	}
	r.walSize = r.before.WAL.Size
	return r.walSize > 0
}

// relievable reports whether a failure is the replica's, so that giving up the
// WAL is what helps.
func relievable(err error) bool { return !errors.Is(err, ErrFenced) && !isLocal(err) }

// cut notes what a checkpoint of ours left of the WAL.
func (m *Manager) cut(r *runState) {
	m.noteOwn(r.e)
	if wal, err := fsid.Stat(r.e.db.Path + "-wal"); err == nil || errors.Is(err, fs.ErrNotExist) {
		r.walSize = wal.Size
	}
}

// assumedPage is SQLite's default page size, for limits in pages where the real
// one is not known.
const assumedPage = 4096

// trim checkpoints a WAL that nobody ships: SQLite does not do it on the pool's
// connections.
func (m *Manager) trim(ctx context.Context, r *runState) error {
	err := m.ship.Relieve(ctx, &ship.DB{Path: r.e.db.Path})
	m.cut(r)
	if errors.Is(err, sqlitedb.ErrBusy) {
		return nil // somebody reads or writes: the next run tries again
	}
	return err
}

// shippedWeight is how much sooner a WAL that is at the replica is cut than one
// of its size that is not: nothing is lost by it.
const shippedWeight = 16

// budgetLocked counts the WAL, and asks for the largest to be cut where they
// all are over their limit.
func (m *Manager) budgetLocked(r *runState, now time.Time) {
	if e := r.e; e.removed || r.outcome.Stop {
		m.wals.Remove(e)
	} else {
		weight := r.walSize
		if e.health.dirtySince == 0 {
			weight *= shippedWeight
		}
		m.wals.Set(e, r.walSize, weight, r.relieve)
	}
	for e, ok := m.wals.Next(); ok; e, ok = m.wals.Next() {
		m.fleet.Request(e.item, now)
	}
}
