package multidb

import (
	"context"
	"database/sql"

	"github.com/multidb-go/multidb/internal/opener"
)

// Handle is the right to use one open database until Release. It is a small
// value; copies are the same handle. The zero Handle is a released one. Safe
// for concurrent use.
type Handle struct{ lease opener.Lease }

// DB is the database, good until Release; it panics after that. It is in WAL
// mode, and its checkpoints are the Manager's: do not run PRAGMA wal_checkpoint
// or journal_mode on it. Do not close it.
func (h Handle) DB() *sql.DB { return h.lease.DB() }

// ID is the database's.
func (h Handle) ID() ID { return ID(h.lease.ID()) }

// Release gives the handle back. What was written through it is shipped within
// the sync interval. Only the first call does something.
func (h Handle) Release() { h.lease.Release() }

// Acquire opens a database, or shares it if it is open, and pins it: it is not
// closed before Release. One that no discoverer has listed yet is opened, and
// created if need be, where a pattern allows its ID.
//
// An application in the same process must open its databases here, or with the
// same driver (modernc.org/sqlite): two SQLite libraries in one process drop
// each other's POSIX locks, which corrupts databases. Other processes are free.
//
// A transaction begun by database/sql takes the write lock at once (BEGIN
// IMMEDIATE), unless it is read-only (sql.TxOptions). One that you begin in SQL
// should do the same if it will write: SQLite fails a transaction that reads
// first and comes to write during a checkpoint of the Manager's with SQLITE_BUSY,
// without waiting.
//
// Each Acquire looks whose file it gets: where another one was put at the path, the
// handles of the former one are closed first, and while one is leased Acquire waits
// for its Release. Evict does that before the file is exchanged.
//
// If MaxOpen databases are leased, Acquire waits until one is released. ctx
// bounds the waiting, not the opening, which goes on for others.
//
// A database of which the replica has a backup, but whose file is missing, is not
// made anew: ErrBackupExists, unless WithRestoreOnOpen brings it back. That costs
// a new database one listing of the replica; if it does not answer within 5 s, the
// database is made, and refused with ErrFenced should it be shipped over a backup.
// In a discovery root that does not exist, or that is another one than it was,
// nothing is made: ErrRootMissing.
//
// Errors: ErrNotFound, ErrNotDatabase, ErrCorrupt, ErrReadOnly, ErrMissing, ErrClosed,
// ErrBackupExists, ErrRootMissing; ErrInUse where the file was exchanged again and
// again meanwhile; ErrConflict for another name of a known file, or the new one of a
// file that was renamed without its log and is leased; that of the open hook, or that
// of ctx; all as *Error.
func (m *Manager) Acquire(ctx context.Context, id ID) (h Handle, err error) {
	ctx, end := span(ctx, m.cfg.tracer, "acquire", id)
	defer func() { end(SpanEnd{Err: err}) }()
	h, err = m.acquire(ctx, id)
	return h, opError("acquire", id, err)
}

func (m *Manager) acquire(ctx context.Context, id ID) (Handle, error) {
	if err := m.fleet.Serving(); err != nil {
		return Handle{}, err
	}
	lease, err := m.opener.Lease(ctx, string(id))
	return Handle{lease}, err
}

// Do acquires a database, calls fn with it and releases it. The errors are
// those of Acquire, and fn's as it is.
func (m *Manager) Do(ctx context.Context, id ID, fn func(*sql.DB) error) error {
	h, err := m.Acquire(ctx, id)
	if err != nil {
		return err
	}
	defer h.Release()
	return fn(h.DB())
}
