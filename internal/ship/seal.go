package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// Sealed is what a checkpoint of ours achieved.
type Sealed struct {
	Result
	// Complete: every frame is in the database file. If not, a reader keeps some
	// of them in the WAL; nothing is lost, and the next seal goes on.
	Complete bool
	// Frames is how many frames the WAL had.
	Frames int64
}

// sealUploadTime bounds the upload of the last few commits while the write lock
// is held, so that no writer waits for a slow replica.
const sealUploadTime = 500 * time.Millisecond

// errGhost: SQLite does not see what stands in the file and was shipped: a
// commit whose writer died before it was published.
var errGhost = fmt.Errorf("%w: a commit that SQLite does not have", ErrUnsettled)

// Checkpoint ships what is left and moves the WAL's frames into the database
// file at exactly the shipped state: with the write lock held, so that the next
// commit begins a new generation of which rule R2 can prove that it missed
// nothing. Writers wait for the copying, not for the replica.
func (s *Shipper) Checkpoint(ctx context.Context, db *DB) (Sealed, error) {
	return s.seal(ctx, db, false)
}

// Seal is Checkpoint for a database that goes cold: it also keeps the file's
// fingerprint for rule R3 and cuts the WAL to nothing. A database that has no
// WAL is sealed as it is.
func (s *Shipper) Seal(ctx context.Context, db *DB) (Sealed, error) {
	return s.seal(ctx, db, true)
}

func (s *Shipper) seal(ctx context.Context, db *DB, cold bool) (out Sealed, err error) {
	drain := func() error {
		for {
			r, err := s.Step(ctx, db)
			out.Result = out.Add(r)
			if err != nil || !r.More {
				return err
			}
		}
	}
	if err := drain(); err != nil || out.Empty {
		return out, err
	}
	if sealed, err := isSealed(db); err != nil || sealed {
		out.Complete = sealed
		return out, err
	}
	if err := take(ctx, s.seals); err != nil {
		return out, err
	}
	defer func() { <-s.seals }()
	conn, err := s.openSealer(ctx, db.Path)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, conn.close()) }()

	for i := 0; ; i++ {
		if err := conn.lock.BeginImmediate(ctx); err != nil {
			return out, err
		}
		settled, err := s.shipLocked(ctx, db, &out, i > 2)
		if err == nil && settled {
			err = s.sealLocked(ctx, db, conn, cold, &out)
		}
		conn.lock.End()
		if errors.Is(err, errGhost) {
			// Cut off, or the replica would have it until somebody commits. The
			// next step ships what there is.
			if _, _, _, e := conn.work.Checkpoint(ctx, "TRUNCATE"); !errors.Is(e, sqlitedb.ErrBusy) {
				err = errors.Join(err, e)
			}
		}
		if err != nil {
			return out, err
		}
		if settled {
			break
		}
		if err := drain(); err != nil {
			return out, err
		}
	}
	if !cold || db.State.Print.IsZero() {
		return out, nil
	}
	failpoint.Hit("seal.truncate.before")
	// Whoever commits from here on changes the file if this checkpoint takes
	// the commit with it, and R3 will see that.
	if _, _, busy, err := conn.work.Checkpoint(ctx, "TRUNCATE"); err != nil && !errors.Is(err, sqlitedb.ErrBusy) {
		return out, err
	} else if busy || err != nil {
		return out, nil // somebody reads; the WAL stays as it is, checkpointed
	}
	failpoint.Hit("seal.truncate.after")
	conn.drop = true
	return out, nil
}

// isSealed reports whether the file is all of the database already, as a step
// has just found.
func isSealed(db *DB) (bool, error) {
	if db.State.Print.IsZero() {
		return false, nil
	}
	f, size, err := openWAL(db.Path)
	if f != nil {
		err = f.Close()
	}
	return err == nil && size == 0, err
}

// sealer is the two connections of a seal: one holds the write lock, the other
// checkpoints, which SQLite does not do inside a transaction.
type sealer struct {
	lock, work *sqlitedb.Conn
	drop       bool // the WAL may go with the last connection
}

func (s *Shipper) openSealer(ctx context.Context, path string) (*sealer, error) {
	lock, err := sqlitedb.OpenConn(ctx, path, s.cfg.BusyTimeout)
	if err != nil {
		return nil, err
	}
	work, err := sqlitedb.OpenConn(ctx, path, s.cfg.BusyTimeout)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &sealer{lock: lock, work: work}, nil
}

func (c *sealer) close() error {
	var errs []error
	for _, conn := range []*sqlitedb.Conn{c.lock, c.work} {
		if c.drop {
			errs = append(errs, conn.DropWAL())
		}
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// shipLocked looks for commits that came before the lock was taken. There are
// rarely any; then the lock is given up and they are shipped outside, but not
// forever.
func (s *Shipper) shipLocked(ctx context.Context, db *DB, out *Sealed, insist bool) (settled bool, err error) {
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

// sealLocked checkpoints under the write lock.
func (s *Shipper) sealLocked(ctx context.Context, db *DB, c *sealer, cold bool, out *Sealed) error {
	failpoint.Hit("seal.checkpoint.before")
	log, _, _, err := c.work.Checkpoint(ctx, "NOOP")
	if err != nil {
		return err
	}
	if log > 0 {
		h, _, err := walHeader(db.Path)
		if err != nil {
			return err
		}
		if h == nil || db.State.Offset == 0 || h.Frames(db.State.pos()) != log {
			return fmt.Errorf("%w: %s: shipped up to %d, %d frames in use", errGhost, db.Path, db.State.Offset, log)
		}
		db.State.Known = true
		done := int64(0)
		if log, done, _, err = c.work.Checkpoint(ctx, "PASSIVE"); err != nil {
			return err
		}
		out.Frames = log
		if done < log {
			return nil
		}
	}
	failpoint.Hit("seal.checkpoint.after")
	out.Complete = true
	if !cold {
		return nil
	}
	db.State.Print, err = s.sealPrint(ctx, db.Path)
	return err
}

// Relieve checkpoints a WAL that grew past its limit while the replica could
// not take it, and cuts it. Nothing local is lost; the next step resyncs, so that
// the states in between are missing from the replica's history. Where a reader
// keeps the WAL (sqlitedb.ErrBusy) the state stays what it is: what is not
// shipped is still there.
func (s *Shipper) Relieve(ctx context.Context, db *DB) error {
	if err := take(ctx, s.seals); err != nil {
		return err
	}
	defer func() { <-s.seals }()
	c, err := sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout)
	if err != nil {
		return err
	}
	old := db.State
	db.State.noWAL()
	db.State.Print = Fingerprint{}
	failpoint.Hit("relieve.truncate.before")
	_, _, busy, err := c.Checkpoint(ctx, "TRUNCATE")
	failpoint.Hit("relieve.truncate.after")
	if busy || errors.Is(err, sqlitedb.ErrBusy) {
		db.State = old // the rules say what it is worth
	}
	if busy && err == nil {
		err = fmt.Errorf("%w: a reader keeps the WAL", sqlitedb.ErrBusy)
	}
	return errors.Join(err, c.Close())
}
