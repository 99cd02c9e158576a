package replicate

import (
	"context"
	"errors"
	"io/fs"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// limitWAL keeps a log that the replica does not take within its limit, or the
// fleet's within theirs.
func (x *run) limitWAL(ctx context.Context, cause error) error {
	// As it is now: the replica may have been waited for for minutes.
	if now, err := x.stat(); err == nil {
		x.r.WALSize = now.WAL.Size
	}
	if x.r.WALSize <= x.cfg.MaxWALSize && !x.in.Relieve || x.r.WALSize == 0 || !relievable(cause) {
		return cause
	}
	err := x.cfg.Ship.Relieve(ctx, &x.st.db)
	x.st.unrecorded = true
	x.noteWALSize()
	if err != nil {
		return errors.Join(cause, err)
	}
	x.event(Event{Type: EventWALLimit, Err: cause})
	return cause
}

// mayRelieve reports whether a log can be given up without another attempt to
// ship it.
func (x *run) mayRelieve() bool {
	if last := x.in.LastErr; last == nil || !relievable(last) || !x.cfg.Replicated {
		return false
	}
	var err error
	if x.r.Files, err = x.stat(); err != nil {
		return false // the step says why
	}
	x.r.WALSize = x.r.Files.WAL.Size
	return x.r.WALSize > 0
}

// relievable reports whether a failure is the replica's, so that giving up the
// log is what helps.
func relievable(err error) bool { return !errors.Is(err, ship.ErrFenced) && !IsLocal(err) }

// noteWALSize notes what a checkpoint of ours left of the log.
func (x *run) noteWALSize() {
	x.noteCheckpoint()
	if wal, err := fsid.Stat(x.in.Path + "-wal"); err == nil || errors.Is(err, fs.ErrNotExist) {
		x.r.WALSize = wal.Size
	}
}

// assumedPage is SQLite's default page size, for limits in pages where the real
// one is not known.
const assumedPage = 4096

// trim checkpoints a log that nobody ships: SQLite does not do it on the pool's
// connections.
func (x *run) trim(ctx context.Context) error {
	err := x.cfg.Ship.Relieve(ctx, &ship.DB{Path: x.in.Path})
	x.noteWALSize()
	if errors.Is(err, sqlitedb.ErrBusy) {
		return nil // somebody reads or writes: the next run tries again
	}
	return err
}
