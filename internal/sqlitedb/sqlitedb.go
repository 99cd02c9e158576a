// Package sqlitedb opens SQLite databases with the settings that shipping
// relies on. It is the only importer of the driver.
//
// Every connection of this process to a tenant's file must come from one SQLite
// library: closing any other descriptor of the file would drop the process's
// POSIX locks on it. So nothing here opens a database file by other means.
package sqlitedb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// Magic is what an SQLite database file begins with.
const Magic = "SQLite format 3\x00"

// Options of the application's connections.
type Options struct {
	// BusyTimeout is how long a statement waits for another writer.
	BusyTimeout time.Duration
	// MaxConns bounds the connections of one database.
	MaxConns int
	// Create makes a missing file; otherwise it is an error.
	Create bool
	// DropWAL lets SQLite delete the WAL when the last connection closes, after a
	// checkpoint of all of it. Otherwise it is kept for the shipper.
	DropWAL bool
	// Statements are run on each new connection, before anybody uses it, and then Hook is
	// called with it; nil: there is none. It must leave the connection open, and no
	// transaction on it. Its error, which wraps ErrHook, and a panic in it fail whatever the
	// connection was made for: Open, or a statement. ctx is that of whoever needs the
	// connection.
	Statements []string
	Hook       func(ctx context.Context, conn *sql.Conn) error
}

// Open opens a database for the application: in WAL mode (a rollback-journal
// database is converted), never checkpointed by SQLite itself, and with its WAL
// kept when the last connection closes, unless Options say otherwise. Checkpoints belong to the shipper: one
// that it did not see costs a resync.
//
// A transaction that is not read-only takes the write lock when it begins: one
// that came to write only later could not wait for a checkpoint of the shipper,
// as SQLite refuses such an upgrade at once.
func Open(ctx context.Context, path string, o Options) (*sql.DB, error) {
	mode := "rw"
	if o.Create {
		mode = "rwc"
	}
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", o.BusyTimeout.Milliseconds()),
		"journal_mode(wal)",
		"wal_autocheckpoint(0)",
		"synchronous(normal)",
	}
	c, err := connect(path, mode+"&_txlock=immediate", pragmas)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector{c, path, true, !o.DropWAL, o.Statements, o.Hook})
	db.SetMaxOpenConns(o.MaxConns)
	db.SetMaxIdleConns(o.MaxConns)
	var journal string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
		_ = db.Close()
		return nil, Classify(err)
	}
	if journal != "wal" {
		_ = db.Close()
		return nil, fmt.Errorf("%w: it stays in %q journal mode", ErrReadOnly, journal)
	}
	return db, nil
}

// connector gives database/sql the driver's connections, each told whether to
// keep the WAL file when it is the last to close.
type connector struct {
	driver.Connector
	path    string
	written bool // the connections are to write
	keep    bool // the WAL

	statements []string // and hook: see Options
	hook       func(context.Context, *sql.Conn) error
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	// SQLite silently opens a file that it may not write for reading, and the
	// connection would stay read-only when the file can be written again. Worse, it
	// gives the WAL and its index the permissions of the file, which they would keep.
	if err := writable(c.path); err != nil && (c.written || errors.Is(err, fs.ErrPermission)) {
		return nil, err
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, Classify(err)
	}
	if err = persistWAL(conn, c.keep); err == nil {
		err = prepare(ctx, conn, c.statements, c.hook)
	}
	if err != nil {
		_ = conn.Close()
		return nil, Classify(err)
	}
	return conn, nil
}

// dropWait bounds how long CloseAndDropWAL waits for a connection that somebody has not given
// back.
const dropWait = 100 * time.Millisecond

// CloseAndDropWAL closes a database, and lets SQLite delete the WAL and its index if no other
// connection is open, of any process. Only for a WAL in which nothing is: what somebody else
// commits meanwhile may go into the file, of which the whole is shipped then.
func CloseAndDropWAL(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), dropWait)
	defer cancel()
	c, err := db.Conn(ctx)
	if err != nil {
		return db.Close()
	}
	err = c.Raw(func(dc any) error { return persistWAL(dc, false) })
	// It closes after all others, and so finds itself the last.
	return errors.Join(err, db.Close(), c.Close())
}

func persistWAL(conn any, on bool) error {
	fc, ok := conn.(sqlite.FileControl)
	if !ok {
		return errors.New("sqlitedb: the driver has no file control")
	}
	mode := 0
	if on {
		mode = 1
	}
	_, err := fc.FileControlPersistWAL("main", mode)
	return err
}

// Connector returns the driver's connections, for sql.OpenDB, to a file of this
// library's own, such as its catalog. They make the file if it is missing and run the
// pragmas, each written like "busy_timeout(5000)". Tenants' databases are opened by
// Open and OpenConn instead.
func Connector(path string, pragmas ...string) (driver.Connector, error) {
	return connect(path, "rwc", pragmas)
}

func connect(path, mode string, pragmas []string) (driver.Connector, error) {
	var b strings.Builder
	b.WriteString("file:")
	b.WriteString(escapePath(path))
	b.WriteString("?mode=" + mode)
	for _, p := range pragmas {
		b.WriteString("&_pragma=" + p)
	}
	return sqlite.NewConnector(b.String())
}

// escapePath writes a path, of any bytes but NUL, as the path of an SQLite URI
// (https://www.sqlite.org/uri.html).
func escapePath(p string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '/', c == '-', c == '_', c == '.':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
