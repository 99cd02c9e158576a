package ship

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/wal"
)

// Sealed is the result of Seal and Checkpoint.
type Sealed struct {
	Result
	// Complete: every frame was copied into the database file. If not, a reader keeps
	// some of them in the WAL. This loses nothing, and the next seal copies the rest.
	Complete bool
}

// errGhost: a commit is in the log and was shipped, but it is none to SQLite, because its
// writer died before it published the commit.
var errGhost = fmt.Errorf("%w: a commit that SQLite does not have", ErrUnsettled)

// sealAttempts bounds how often Seal tries again because the database was written to
// meanwhile. Such a database is not idle.
const sealAttempts = 4

// Seal prepares a database to become cold: it ships what is new, copies the frames of the
// WAL into the database file, keeps the fingerprint of the file for rule R3, and truncates
// the WAL. It waits for nobody and makes nobody wait. If somebody writes meanwhile, the
// error is ErrUnsettled or sqlitedb.ErrBusy.
func (s *Shipper) Seal(ctx context.Context, db *DB) (out Sealed, err error) {
	if done, err := s.prepare(ctx, db, &out); err != nil || done {
		return out, err
	}
	defer func() { <-s.seals }()
	conn, err := sqlitedb.OpenConn(ctx, db.Path, 0)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	for i := 0; ; i++ {
		settled, err := s.sealOnce(ctx, db, conn, &out)
		if errors.Is(err, errGhost) {
			err = truncateGhost(ctx, conn, err)
		}
		if err != nil {
			return out, err
		} else if settled {
			break
		} else if i+1 == sealAttempts {
			return out, fmt.Errorf("%w: %s: it is written to while it is sealed", ErrUnsettled, db.Path)
		}
		if err := s.drain(ctx, db, &out); err != nil {
			return out, err
		}
	}
	if db.State.Fingerprint.IsZero() {
		return out, nil
	}
	failpoint.Hit("seal.truncate.before")
	// If a commit is made from here on and this checkpoint copies it into the file, the
	// file changes, and R3 notices that.
	if _, _, busy, err := conn.Checkpoint(ctx, "TRUNCATE"); err != nil && !errors.Is(err, sqlitedb.ErrBusy) {
		return out, err
	} else if busy || err != nil {
		return out, nil // somebody reads: the WAL is checkpointed, but keeps its size
	}
	failpoint.Hit("seal.truncate.after")
	return out, conn.DropWAL()
}

// sealOnce checkpoints what was shipped and takes the file's fingerprint. No lock keeps
// writers out; instead it looks at the log afterwards. A commit made meanwhile would be in
// the log: after what was shipped, or in a new generation. So if the log still ends where
// shipping ended, nobody has committed since, and no checkpoint of anybody had something to
// write to the file. If sealOnce returns false, somebody has committed, and the next step
// ships that.
func (s *Shipper) sealOnce(ctx context.Context, db *DB, conn *sqlitedb.Conn, out *Sealed) (settled bool, err error) {
	failpoint.Hit("seal.checkpoint.before")
	h, _, err := walHeader(db.Path)
	if err != nil {
		return false, err
	}
	log, done, _, err := conn.Checkpoint(ctx, "PASSIVE")
	if err != nil {
		return false, err
	}
	shipped, ours := shippedFrames(db, h)
	switch {
	case !ours && log <= 0: // nothing in the log is in use
		out.Complete = !db.State.Fingerprint.IsZero()
		return out.Complete, nil
	case !ours || log > shipped:
		return false, nil
	case log < shipped:
		return false, ghostError(db, log)
	}
	if done < log {
		return true, nil // somebody reads
	}
	failpoint.Hit("seal.checkpoint.after")
	print, err := s.StableFingerprint(ctx, db.Path)
	if err != nil {
		return false, err
	}
	if still, err := s.nothingAfter(db); err != nil || !still {
		return false, err
	}
	db.State.Published, db.State.Fingerprint = true, print
	out.Complete = true
	return true, nil
}

// shippedFrames returns how many frames of the log are shipped. ours is false if the log
// has another generation than the one that was shipped from.
func shippedFrames(db *DB, h *wal.Header) (n int64, ours bool) {
	st := &db.State
	if h == nil || st.Offset == 0 || h.Salt1 != st.Salt1 || h.Salt2 != st.Salt2 {
		return 0, false
	}
	return h.Frames(st.pos()), true
}

func ghostError(db *DB, log int64) error {
	return fmt.Errorf("%w: %s: shipped up to %d, %d frames in use", errGhost, db.Path, db.State.Offset, log)
}

// truncateGhost truncates the log that has a ghost, so that the next step ships the
// database without it. Otherwise the replica would have the ghost until somebody commits.
func truncateGhost(ctx context.Context, conn *sqlitedb.Conn, err error) error {
	if _, _, _, e := conn.Checkpoint(ctx, "TRUNCATE"); !errors.Is(e, sqlitedb.ErrBusy) {
		err = errors.Join(err, e)
	}
	return err
}

// drain makes steps until nothing is left to ship.
func (s *Shipper) drain(ctx context.Context, db *DB, out *Sealed) error {
	for {
		r, err := s.Step(ctx, db)
		out.Result = out.Add(r)
		if err != nil || !r.More {
			return err
		}
	}
}

// prepare ships everything and acquires the semaphore seals. If done is true, there is
// nothing to checkpoint, and it has not acquired it.
func (s *Shipper) prepare(ctx context.Context, db *DB, out *Sealed) (done bool, err error) {
	if err := s.drain(ctx, db, out); err != nil || out.Empty {
		return true, err
	}
	if out.Complete, err = isSealed(db); err != nil || out.Complete {
		return true, err
	}
	return false, acquire(ctx, s.seals)
}

// isSealed reports whether the file alone is the database already. It must be called right
// after a step.
func isSealed(db *DB) (bool, error) {
	if db.State.Fingerprint.IsZero() {
		return false, nil
	}
	size, err := walSize(db.Path)
	return err == nil && size == 0, err
}

// walSize is the length of a database's log; 0 if there is none.
func walSize(path string) (int64, error) {
	fi, err := os.Stat(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Relieve checkpoints and truncates a WAL that was not shipped: it grew past its limit
// while the replica could not take it. The local database loses nothing. The next step
// resyncs, so that the replica never gets the states in between. If a reader keeps the WAL
// (sqlitedb.ErrBusy), the state does not change: what is not shipped is still in the WAL.
func (s *Shipper) Relieve(ctx context.Context, db *DB) error {
	if err := acquire(ctx, s.seals); err != nil {
		return err
	}
	defer func() { <-s.seals }()
	c, err := sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout)
	if err != nil {
		return err
	}
	old := db.State
	db.State.noWAL()
	db.State.Fingerprint = fsid.Fingerprint{}
	failpoint.Hit("relieve.truncate.before")
	_, _, busy, err := c.Checkpoint(ctx, "TRUNCATE")
	failpoint.Hit("relieve.truncate.after")
	if busy || errors.Is(err, sqlitedb.ErrBusy) {
		db.State = old // the next step's rules decide whether it still holds
	}
	if busy && err == nil {
		err = fmt.Errorf("%w: a reader keeps the WAL", sqlitedb.ErrBusy)
	}
	return errors.Join(err, c.Close())
}
