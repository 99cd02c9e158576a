package ship

import (
	"context"
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// sealUploadTime bounds the upload of the last few commits while the write lock
// is held, so that no writer waits for a slow replica.
const sealUploadTime = 500 * time.Millisecond

// Checkpoint ships what is new, and then copies the WAL's frames into the database file
// while that is exactly the state that was shipped. It holds the write lock meanwhile, so
// that the next commit begins a new generation, and rule R2 can prove that nothing was
// missed. Writers wait while frames are copied, but not for the replica.
func (s *Shipper) Checkpoint(ctx context.Context, db *DB) (out Sealed, err error) {
	if done, err := s.prepare(ctx, db, &out); err != nil || done {
		return out, err
	}
	defer func() { <-s.seals }()
	// One connection holds the write lock and the other checkpoints, since SQLite does
	// not checkpoint inside a transaction.
	lock, err := sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	work, err := sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, work.Close()) }()

	for i := 0; ; i++ {
		s.reach(beforeLock)
		if err := lock.BeginImmediate(ctx); err != nil {
			return out, err
		}
		allShipped, err := s.shipLocked(ctx, db, &out, i > 2)
		if err == nil && allShipped {
			err = s.checkpointLocked(ctx, db, work, &out)
		}
		lock.End()
		if errors.Is(err, errGhost) {
			err = truncateGhost(ctx, work, err)
		}
		if err != nil || allShipped {
			return out, err
		}
		if err := s.drain(ctx, db, &out); err != nil {
			return out, err
		}
	}
}

// shipLocked looks for commits that were made before the lock was taken; there are rarely
// any. If there are, it returns false: the caller releases the lock and ships them without
// it. If insist is set, it ships them under the lock, so that this ends some time.
func (s *Shipper) shipLocked(ctx context.Context, db *DB, out *Sealed, insist bool) (allShipped bool, err error) {
	for {
		d, empty, err := s.capture(ctx, db)
		if err != nil || empty {
			return empty, err
		}
		if d.ltx == nil {
			db.State = d.next
			if d.more {
				continue
			}
			return true, nil
		}
		if !insist {
			d.close()
			return false, nil
		}
		wctx, cancel := context.WithTimeout(ctx, sealUploadTime)
		r, err := s.apply(wctx, db, d)
		cancel()
		d.close()
		out.Result = out.Add(r)
		if err != nil {
			return false, err
		}
	}
}

// checkpointLocked checkpoints under the write lock.
func (s *Shipper) checkpointLocked(ctx context.Context, db *DB, work *sqlitedb.Conn, out *Sealed) error {
	failpoint.Hit("seal.checkpoint.before")
	log, _, _, err := work.Checkpoint(ctx, "NOOP")
	if err != nil {
		return err
	}
	if log > 0 {
		h, _, err := walHeader(db.Path)
		if err != nil {
			return err
		}
		if shipped, ours := shippedFrames(db, h); !ours || shipped != log {
			return ghostError(db, log)
		}
		db.State.Published = true
		done := int64(0)
		if log, done, _, err = work.Checkpoint(ctx, "PASSIVE"); err != nil {
			return err
		}
		if done < log {
			return nil
		}
	}
	failpoint.Hit("seal.checkpoint.after")
	out.Complete = true
	return nil
}
