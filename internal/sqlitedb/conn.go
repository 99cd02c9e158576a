package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Conn is one connection for maintenance: reading pages, checkpoints. It never
// makes a database. Not safe for concurrent use.
type Conn struct {
	db *sql.DB
	c  *sql.Conn
}

// OpenConn opens an existing database as it is, in whatever journal mode. When
// it is the last connection to close, SQLite checkpoints, but the WAL file
// stays with its frames; see DropWAL.
func OpenConn(ctx context.Context, path string, busy time.Duration) (*Conn, error) {
	return openConn(ctx, path, busy)
}

func openConn(ctx context.Context, path string, busy time.Duration, pragmas ...string) (*Conn, error) {
	driver, err := connect(path, "rw", append([]string{
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		"wal_autocheckpoint(0)",
	}, pragmas...))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector{Connector: driver, path: path, keep: true})
	db.SetMaxOpenConns(1)
	c, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, Classify(err)
	}
	return &Conn{db: db, c: c}, nil
}

// OpenAlone opens an existing database that no other connection of any process has read
// from and not closed since: it has the exclusive lock until Close. Else the error is
// ErrBusy, after busy.
func OpenAlone(ctx context.Context, path string, busy time.Duration) (*Conn, error) {
	// With it the first read of a database in WAL mode takes the lock of the whole file
	// (https://www.sqlite.org/wal.html#noshm).
	conn, err := openConn(ctx, path, busy, "locking_mode(EXCLUSIVE)")
	if err != nil {
		return nil, err
	}
	if err := conn.Exec(ctx, "BEGIN EXCLUSIVE"); err != nil {
		_ = conn.Close() // it has nothing
		return nil, err
	}
	return conn, nil
}

// DropWAL lets SQLite delete the WAL and its index if this is the last
// connection to close. Only for a WAL whose every frame is in the database.
func (c *Conn) DropWAL() error {
	return Classify(c.c.Raw(func(dc any) error { return persistWAL(dc, false) }))
}

// Close ends the connection and any transaction on it.
func (c *Conn) Close() error {
	err := c.c.Close()
	if e := c.db.Close(); err == nil {
		err = e
	}
	return Classify(err)
}

// Exec runs statements without a result.
func (c *Conn) Exec(ctx context.Context, query string) error {
	_, err := c.c.ExecContext(ctx, query)
	return Classify(err)
}

// QueryRow reads one row into dest.
func (c *Conn) QueryRow(ctx context.Context, query string, dest ...any) error {
	return Classify(c.c.QueryRowContext(ctx, query).Scan(dest...))
}

// Checkpoint runs wal_checkpoint in the given mode and returns how many frames
// the WAL has, as this connection's wal-index knows it, and how many of them
// are in the database file. NOOP only asks. Both are -1 outside WAL mode. Busy
// means that somebody kept it from finishing.
func (c *Conn) Checkpoint(ctx context.Context, mode string) (log, done int64, busy bool, err error) {
	var b int
	err = c.QueryRow(ctx, "PRAGMA wal_checkpoint("+mode+")", &b, &log, &done)
	return log, done, b != 0, err
}

// BeginRead begins a transaction and takes its read lock at once: what is read
// from here to End is one state of the database.
func (c *Conn) BeginRead(ctx context.Context) error {
	if err := c.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	var n int
	if err := c.QueryRow(ctx, "SELECT count(*) FROM sqlite_schema LIMIT 1", &n); err != nil {
		c.End()
		return err
	}
	return nil
}

// BeginImmediate takes the write lock; nobody can commit until End.
func (c *Conn) BeginImmediate(ctx context.Context) error { return c.Exec(ctx, "BEGIN IMMEDIATE") }

// End rolls the transaction back. Nothing was written in it, so nothing can be lost,
// and closing the connection ends it in any case.
func (c *Conn) End() { _ = c.Exec(context.Background(), "ROLLBACK") }

// Pages calls fn for every page in order, the lock page included. The slice is
// valid until fn returns. sqlite_dbpage reads through the pager, inside the
// transaction, without a descriptor of ours.
func (c *Conn) Pages(ctx context.Context, fn func(pgno uint32, data []byte) error) error {
	rows, err := c.c.QueryContext(ctx, "SELECT pgno, data FROM sqlite_dbpage('main') ORDER BY pgno")
	if err != nil {
		return Classify(err)
	}
	defer func() { _ = rows.Close() }()
	var pgno uint32
	var data sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&pgno, &data); err != nil {
			return Classify(err)
		}
		if err := fn(pgno, data); err != nil {
			return err
		}
	}
	return Classify(rows.Err())
}

// PageSize returns a database's page size in bytes. It goes through SQLite, as
// somebody may have the file open: see the package comment.
func PageSize(ctx context.Context, path string) (n uint32, err error) {
	c, err := OpenConn(ctx, path, time.Second)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	err = c.QueryRow(ctx, "PRAGMA page_size", &n)
	return n, err
}
