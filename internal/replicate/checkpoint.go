package replicate

import (
	"context"
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// checkpointPause is how long after a checkpoint that a reader or writer kept from
// completing the next one is tried.
const checkpointPause = 5 * time.Second

// checkpoint moves a long log that is shipped into the database file.
func (x *run) checkpoint(ctx context.Context) error {
	st, pos := x.st, &x.st.db.State
	if pos.Offset == 0 || pos.PageSize == 0 || (pos.Offset-32)/int64(pos.PageSize+24) < int64(x.cfg.CheckpointPages) {
		return nil
	}
	point := walPoint{pos.Salt2, pos.Offset}
	if st.checkpointed == point || x.r.Started.Before(st.nextCheckpoint) {
		return nil // it is checkpointed, and the next commit restarts it; or that was tried just now
	}
	st.nextCheckpoint = x.r.Started.Add(checkpointPause)
	st.mayLeaveLog = true
	old := st.db.State
	res, err := x.cfg.Ship.Checkpoint(ctx, &st.db)
	x.took(old)
	x.count(res.Result)
	x.noteCheckpoint()
	if errors.Is(err, sqlitedb.ErrBusy) || errors.Is(err, ship.ErrUnsettled) {
		return nil // somebody is writing: the next run tries again
	} else if err != nil {
		st.nextCheckpoint = time.Time{} // maintain decides when to try again
		return err
	}
	st.unrecorded = true
	if res.Complete {
		st.checkpointed, st.nextCheckpoint = walPoint{pos.Salt2, pos.Offset}, time.Time{}
	}
	return nil
}

// noteCheckpoint remembers the modification time of the files after a checkpoint of ours.
func (x *run) noteCheckpoint() {
	if f, err := x.stat(); err == nil {
		x.st.checkpointTime = f.ModTime().UnixNano()
	}
}

// demote ships what is new, seals, and compacts, so that the database can become cold.
func (x *run) demote(ctx context.Context) error {
	if !x.cfg.Replicated {
		x.r.Outcome.Demoted = true
		if x.r.WALSize == 0 {
			return nil
		}
		return x.trim(ctx)
	}
	still := x.in.Order == OrderEvict && x.quiet && x.r.WALSize == 0 && x.r.Files.Main == x.st.db.State.Fingerprint
	if !still { // else it is sealed already, as one that was only read since it was brought back
		var err error
		if still, err = x.seal(ctx); err != nil {
			return err
		}
	}
	if !still {
		x.r.Outcome.Moved = true // somebody is writing, so the database is not idle
		return nil
	}
	if err := x.compact(ctx, true); err != nil {
		return err
	}
	x.r.Outcome.Demoted = true
	return nil
}

// seal ships what is new, truncates the log, and unpacks what is due, as nobody may come back
// for what is in the fleet log alone. It reports whether nobody wrote meanwhile: only then is
// the modification time of the files that of what is shipped, so that a scan notices what is
// written to the cold database from then on.
func (x *run) seal(ctx context.Context) (still bool, err error) {
	if still, err = x.truncate(ctx); err == nil {
		err = x.unpack(ctx)
	}
	return still, err
}

// truncate is seal without unpacking.
func (x *run) truncate(ctx context.Context) (still bool, err error) {
	if err := x.activate(ctx); err != nil {
		return false, err
	}
	st := x.st
	before, err := x.stat()
	if err != nil {
		return false, err
	}
	old := st.db.State
	res, err := x.cfg.Ship.Seal(ctx, &st.db)
	x.took(old)
	x.count(res.Result)
	st.unrecorded = true
	x.noteWALSize()
	if err := x.await(ctx); err != nil { // sealed is what is durable
		return false, err
	}
	if errors.Is(err, sqlitedb.ErrBusy) || errors.Is(err, ship.ErrUnsettled) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	after, err := x.stat()
	if err != nil {
		return false, err
	}
	quiet := after.Main == st.db.State.Fingerprint && after.WAL.Size == 0 ||
		after.WAL == before.WAL && !before.Racy(x.r.Started)
	if !quiet && !res.Empty {
		return false, nil
	}
	now := x.cfg.Now()
	st.files, st.clean = after, !after.Racy(now)
	st.modTime, st.young = after.ModTime(), after.Young(now)
	x.r.Outcome.ModTime = st.modTime
	return true, nil
}
