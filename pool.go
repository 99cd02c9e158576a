package multidb

import (
	"context"
	"database/sql"
	"slices"

	"github.com/multidb-go/multidb/internal/opener"
	"github.com/multidb-go/multidb/internal/pragma"
	"github.com/multidb-go/multidb/internal/trace"
)

// WithPragma sets a pragma on every connection of the pool when it is made, before
// WithConnHook and WithOpenHook, and on none of multidb's own. The last one of a name counts.
//
// It takes those that are of one connection: analysis_limit, automatic_index, cache_size,
// cache_spill, cell_size_check, foreign_keys, fullfsync, ignore_check_constraints,
// legacy_alter_table, max_page_count, query_only, recursive_triggers,
// reverse_unordered_selects, secure_delete, synchronous (normal, full or extra), temp_store,
// threads and trusted_schema. New refuses all others, and values that SQLite would take for
// something else, and says why: those that are kept in the file, such as user_version, belong
// in WithOpenHook; the journal and its checkpoints are multidb's.
//
// Without it the connections are as SQLite makes them, but for synchronous, which is normal,
// and the busy timeout. So foreign_keys is off, as it is with the library that the databases
// may come from: multidb opens fleets that exist, and a statement that has worked on them is
// not to fail from now on. WithPragma("foreign_keys", "on") enforces them.
func WithPragma(name, value string) Option {
	return func(c *config) error {
		p, err := pragma.Parse(name, value)
		if err != nil {
			return invalid("WithPragma", "%v", err)
		}
		c.pragmas = slices.DeleteFunc(slices.Clone(c.pragmas), func(q pragma.Pragma) bool { return q.Name == p.Name })
		c.pragmas = append(c.pragmas, p)
		return nil
	}
}

// WithConnHook is called once with every new connection of the pool, after WithPragma and
// before anybody uses it: for what is of one connection and not of the database, such as
// temporary views, limits (sqlite.Limit) or an authorizer (conn.Raw). It is not called for
// multidb's own connections.
//
// ctx is that of whoever needs the connection: of the opening for the first one, of the
// statement for others. An error fails that, and so does a panic, with its stack. The hook
// leaves no transaction and no Rows open, and conn is not used after it has returned.
//
// Functions and collations are registered with the driver instead, before Start, for the whole
// process: sqlite.RegisterFunction, sqlite.RegisterCollationUtf8 (modernc.org/sqlite). No
// restore needs them. The check of a restored database runs no code of the application: it
// proves the structure of all of the file, and says in a warning (EventIntegrity,
// RestoreOptions.Warn) which table's content it could not compare with its indexes.
func WithConnHook(fn func(ctx context.Context, db Database, conn *sql.Conn) error) Option {
	return func(c *config) error {
		if fn == nil {
			return invalid("WithConnHook", "nil function")
		}
		c.connHook = fn
		return nil
	}
}

// Handle is the right to use one open database until Release. It is a small
// value; copies are the same handle. The zero Handle is a released one. Safe
// for concurrent use.
type Handle struct{ lease opener.Lease }

// DB is the database, good until Release; it panics after that. It is in WAL
// mode, and its checkpoints are the Manager's: do not run PRAGMA wal_checkpoint
// or journal_mode on it. Do not close it.
//
// It has at most WithMaxConns connections (4), for all handles of the database. A statement
// that finds them all in use waits for one, for as long as its context allows: always close
// Rows, and inside of a transaction use the sql.Tx and not the DB, or the program waits for itself.
func (h Handle) DB() *sql.DB { return h.lease.DB() }

// ID is the database's.
func (h Handle) ID() ID { return ID(h.lease.ID()) }

// Release gives the handle back. What was written through it is shipped within
// the sync interval. Only the first call does something.
func (h Handle) Release() { h.lease.Release() }

// Acquire opens a database, or shares it if it is open, and pins it: it is not
// closed before Release. One that no discoverer has listed yet is opened, and
// created if need be, where a pattern allows its ID; see AcquireExisting. If that fails, as by
// an error of the open hook, nothing of it stays, and nothing of it was shipped.
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
	ctx, end := trace.Begin(ctx, m.cfg.tracer, "acquire", string(id))
	defer func() { end(SpanEnd{Err: err}) }()
	h, err = m.acquire(ctx, id)
	return h, opError("acquire", id, err)
}

func (m *Manager) acquire(ctx context.Context, id ID) (Handle, error) {
	if err := m.fleet.Serving(); err != nil {
		return Handle{}, err
	}
	var lease opener.Lease
	err := m.node.elsewhere(ctx, id, func() (err error) {
		lease, err = m.opener.Lease(ctx, string(id))
		return err
	})
	return Handle{lease}, err
}

// AcquireExisting is Acquire for a database that exists: it never makes one, so that a
// mistyped name is ErrNotFound, without a file, a row or a backup of that name. A database
// that is known here is opened as Acquire opens it, and brought back if it was evicted. Of
// another ID the replica is asked, as Exists does: with WithRestoreOnOpen its backup is
// brought back; without it ErrBackupExists says that there is one.
//
// If the replica cannot be asked, the error is the replica's, and not ErrNotFound: whether
// there is such a database is not known then.
func (m *Manager) AcquireExisting(ctx context.Context, id ID) (Handle, error) {
	err := m.fleet.Serving()
	var h Handle
	if err == nil {
		err = m.node.elsewhere(ctx, id, func() (err error) {
			h.lease, err = m.opener.LeaseExisting(ctx, string(id))
			return err
		})
	}
	return h, opError("acquire", id, err)
}

// Exists reports whether there is a database with an ID, here or at the replica. It opens
// and makes nothing.
//
// A database that is known here, or whose file is there, costs no request, and neither does an
// ID that no pattern makes. Others cost the replica one listing, and one more request if it
// has something; callers who want to know the same at once share them. The answer is
// remembered for 30 s, for 4,096 IDs, and is dropped when the database is made here: so what
// another machine makes, removes or erases may show that much later.
//
// A removed database does not exist, nor does a renamed one by its old ID. One that is being
// removed, renamed or forked right now may be ErrInUse. A file that is no database is
// ErrNotDatabase, a missing volume ErrRootMissing. If the replica does not answer within 5 s,
// the error is the replica's. ctx bounds the waiting. Errors are *Error.
func (m *Manager) Exists(ctx context.Context, id ID) (bool, error) {
	err := m.fleet.Serving()
	exists := false
	if err == nil {
		exists, err = m.opener.Exists(ctx, string(id))
	}
	return exists, opError("look up", id, err)
}

// WithLeaseTraces notes where each handle was taken, so that a Close that waits for it in
// vain says so: file and line of whoever called Acquire or Do, outside of this package. It
// costs about a microsecond and 200 bytes for each handle that is out; false costs nothing.
// Default false. For tests, and for a service that does not come down.
func WithLeaseTraces(on bool) Option {
	return func(c *config) error {
		c.leaseTraces = on
		return nil
	}
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
