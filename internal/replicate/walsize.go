package replicate

import (
	"context"
	"errors"
	"io/fs"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// limitWAL is called when a log could not be shipped because of cause. If the log is above
// its limit, or the Input says that all logs together are above theirs, it is cut.
func (x *run) limitWAL(ctx context.Context, cause error) error {
	// The size is taken again, since the run may have waited for the replica for minutes.
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
	x.r.Counts.Gaps++
	x.event(Event{Type: EventWALLimit, Err: cause})
	return cause
}

// mayRelieve reports whether a log can be cut without another attempt to ship it.
func (x *run) mayRelieve() bool {
	if last := x.in.LastErr; last == nil || !relievable(last) || !x.cfg.Replicated {
		return false
	}
	var err error
	if x.r.Files, err = x.stat(); err != nil {
		return false // the step reports why
	}
	x.r.WALSize = x.r.Files.WAL.Size
	return x.r.WALSize > 0
}

// relievable reports whether the replica is the reason of a failure, so that it helps to
// cut the log without it.
func relievable(err error) bool { return !errors.Is(err, ship.ErrFenced) && !IsLocal(err) }

// noteWALSize notes the size of the log after a checkpoint of ours.
func (x *run) noteWALSize() {
	x.noteCheckpoint()
	if wal, err := fsid.Stat(x.in.Path + "-wal"); err == nil || errors.Is(err, fs.ErrNotExist) {
		x.r.WALSize = wal.Size
	}
}

// assumedPage is SQLite's default page size, for limits in pages where the real
// one is not known.
const assumedPage = 4096

// trim cuts a log where there is no replica: SQLite does not checkpoint on the pool's
// connections.
func (x *run) trim(ctx context.Context) error {
	err := x.cfg.Ship.Relieve(ctx, &ship.DB{Path: x.in.Path})
	x.noteWALSize()
	if errors.Is(err, sqlitedb.ErrBusy) {
		return nil // somebody reads or writes: the next run tries again
	}
	return err
}
