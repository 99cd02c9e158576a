package multidb

import (
	"context"
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// upkeep is what a shipped database needs now and then: a checkpoint of its
// WAL, compaction, a snapshot, retention. None of it holds up a Sync.
func (m *Manager) upkeep(ctx context.Context, r *runState, retainAt int64) error {
	w := r.e.work
	if w.rep != nil {
		if err := m.checkpoint(ctx, r); err != nil {
			return err
		}
		if r.shipped > 0 || w.rep.due {
			if err := m.compact(ctx, r.e, false); err != nil {
				return err
			}
		}
	}
	if retainAt != 0 && m.age.Trusted(r.started).UnixMilli() >= retainAt {
		return m.retain(ctx, r.e)
	}
	return nil
}

// checkpoint moves a long WAL that is shipped into the database file.
func (m *Manager) checkpoint(ctx context.Context, r *runState) error {
	w := r.e.work
	st := w.state
	if st.Offset == 0 || st.PageSize == 0 || (st.Offset-32)/int64(st.PageSize+24) < int64(m.cfg.checkpointPages) {
		return nil
	}
	point := sealPoint{st.Salt2, st.Offset}
	if w.sealed == point || r.started.Before(w.nextSeal) {
		return nil // done, and the next commit restarts the WAL; or tried just now
	}
	w.nextSeal = r.started.Add(sealPause)
	w.lingers = true
	res, err := m.ship.Checkpoint(ctx, &w.rep.db)
	w.state = w.rep.db.State
	m.count(res.Result)
	m.noteOwn(r.e)
	if errors.Is(err, sqlitedb.ErrBusy) || errors.Is(err, ship.ErrUnsettled) {
		return nil // somebody is writing: the next run tries again
	} else if err != nil {
		w.nextSeal = time.Time{} // when to try again is tend's to say
		return err
	}
	w.dirty = true
	if res.Complete {
		w.sealed, w.nextSeal = sealPoint{w.state.Salt2, w.state.Offset}, time.Time{}
	}
	return nil
}

// noteOwn keeps the time of the files after a checkpoint of ours, so that a
// watcher's word of it is not taken for a write of the application.
func (m *Manager) noteOwn(e *entry) {
	if st, err := m.statFiles(e.db.Path); err == nil {
		e.work.own = st.ModTime().UnixNano()
	}
}

// sealPause is how long after a checkpoint that a reader or writer kept from
// completing the next one is tried.
const sealPause = 5 * time.Second

// demote ships the rest, seals, and gives up what a cold database does not need.
func (m *Manager) demote(ctx context.Context, r *runState) error {
	if m.cfg.replica == nil {
		r.outcome.Demoted = true
		if r.walSize == 0 {
			return nil
		}
		return m.trim(ctx, r)
	}
	still, err := m.seal(ctx, r)
	if err != nil {
		return err
	}
	if !still {
		r.outcome.Moved = true // somebody is writing, so it is not idle
		return nil
	}
	if err := m.compact(ctx, r.e, true); err != nil {
		return err
	}
	r.outcome.Demoted = true
	return nil
}

// seal ships the rest and cuts the WAL to nothing. It reports whether nobody
// wrote meanwhile: only then is the files' time afterwards known to be that of
// what is shipped, so that what is written from then on is seen while cold.
func (m *Manager) seal(ctx context.Context, r *runState) (still bool, err error) {
	w := r.e.work
	rep, err := m.activate(ctx, r.e)
	if err != nil {
		return false, err
	}
	before, err := m.statFiles(r.e.db.Path)
	if err != nil {
		return false, err
	}
	res, err := m.ship.Seal(ctx, &rep.db)
	w.state = rep.db.State
	m.count(res.Result)
	w.dirty = true
	m.cut(r)
	if errors.Is(err, sqlitedb.ErrBusy) || errors.Is(err, ship.ErrUnsettled) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	after, err := m.statFiles(r.e.db.Path)
	if err != nil {
		return false, err
	}
	quiet := after.Main == w.state.Print && after.WAL.Size == 0 ||
		after.WAL == before.WAL && !before.Racy(r.started)
	if !quiet && !res.Empty {
		return false, nil
	}
	now := m.cfg.now()
	w.stat, w.clean = after, !after.Racy(now)
	w.modTime, w.young = after.ModTime(), after.Young(now)
	r.outcome.ModTime = w.modTime
	return true, nil
}
