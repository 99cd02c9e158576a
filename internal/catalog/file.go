package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

const (
	applicationID = 0x6d646263 // "mdbc": this file is a catalog
	formatVersion = 2          // user_version; 1 had no notes

	schema = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE databases (
	id         TEXT PRIMARY KEY,
	path       TEXT NOT NULL,
	prefix     TEXT NOT NULL,
	vars       BLOB NOT NULL,
	state      BLOB NOT NULL,
	files      BLOB NOT NULL,
	dev        INTEGER NOT NULL,
	ino        INTEGER NOT NULL,
	last_write INTEGER NOT NULL,
	txid       INTEGER NOT NULL,
	flags      INTEGER NOT NULL,
	sum        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;`
)

// DamagedError says that the catalog's file could not be used.
type DamagedError struct {
	MovedTo string // where the file is now, with its -wal and -shm if any
	Err     error  // what was wrong with it
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("catalog damaged, begun anew; the old one is kept as %s: %v", e.MovedTo, e.Err)
}

// Unwrap returns what was wrong.
func (e *DamagedError) Unwrap() error { return e.Err }

// errDamaged marks errors that only a new file can fix.
var errDamaged = errors.New("not a usable catalog")

// openFile opens the file; if it is damaged or missing, it makes a new one and opens
// that.
func (c *Catalog) openFile(ctx context.Context) error {
	err := c.tryOpenFile(ctx)
	if err == nil || !isDamage(err) {
		return err
	}
	moved, moveErr := moveAside(c.path)
	if moveErr != nil {
		return errors.Join(err, moveErr)
	}
	if moved != "" { // otherwise there was nothing: a new state directory
		c.damage = &DamagedError{MovedTo: moved, Err: err}
	}
	if err := create(ctx, c.path); err != nil {
		return err
	}
	return c.tryOpenFile(ctx)
}

func (c *Catalog) tryOpenFile(ctx context.Context) (err error) {
	if err := checkHeader(c.path); err != nil {
		return err
	}
	db, err := openDB(c.path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if err := inspect(ctx, db); err != nil {
		return err
	}
	var node, clean sql.NullInt64
	if err := db.QueryRowContext(ctx, `SELECT
		(SELECT value FROM meta WHERE key = 'node_id'),
		(SELECT value FROM meta WHERE key = 'clean')`).Scan(&node, &clean); err != nil {
		return err
	}
	if node.Int64 == 0 || !clean.Valid {
		return fmt.Errorf("%w: it has no node ID", errDamaged)
	}
	// From here on the file is written to.
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
		return err
	}
	if err := upgrade(ctx, db); err != nil {
		return err
	}
	c.db, c.nodeID, c.clean = db, uint64(node.Int64), clean.Int64 == 1
	return c.markClean(ctx, false)
}

// checkHeader looks for an SQLite header whose format SQLite would write to: any
// other SQLite reports as a read-only file, like one that merely has the wrong
// permissions. Only for a file that this process does not have open: closing it
// would drop SQLite's locks on it.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return err
	}
	var h [20]byte
	_, err = io.ReadFull(f, h[:])
	if err := errors.Join(ignoreEOF(err), f.Close()); err != nil {
		return err
	}
	writeVersion, readVersion := h[18], h[19]
	if string(h[:16]) != sqlitedb.Magic || writeVersion > 2 || readVersion > 2 {
		return fmt.Errorf("%w: it has no SQLite header", errDamaged)
	}
	return nil
}

// ignoreEOF drops the error of a read that found less than it wanted.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// openDB opens the SQLite file at path.
func openDB(path string) (*sql.DB, error) {
	connector, err := connect(path)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// connect makes connections to the file at path. What is deleted is overwritten with zeros,
// so that nothing stays of an erased database. The journal mode is not among the
// pragmas: it is written to the file, which has not been inspected yet.
func connect(path string) (driver.Connector, error) {
	return sqlitedb.Connector(path, "busy_timeout(5000)", "synchronous(NORMAL)", "journal_size_limit(16777216)", "secure_delete(ON)")
}

// inspect verifies the file before anything is written to it.
func inspect(ctx context.Context, db *sql.DB) error {
	var app, version int64
	if err := db.QueryRowContext(ctx, `SELECT
		(SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version)`).Scan(&app, &version); err != nil {
		return err
	}
	switch {
	case app != applicationID:
		return fmt.Errorf("%w: an empty file or another program's (application_id %#x)", errDamaged, app)
	case version > formatVersion:
		return fmt.Errorf("%w: it has format %d, this one reads up to %d: use a newer version, or another state directory",
			ErrNewerFormat, version, formatVersion)
	case version < 1:
		return fmt.Errorf("%w: format %d", errDamaged, version)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	// A table that is not as we create it would fail every Flush.
	for _, q := range []string{"SELECT key, value FROM meta LIMIT 0", selectAll + " LIMIT 0"} {
		rows, err := db.QueryContext(ctx, q)
		if err == nil {
			err = rows.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// upgrade gives a catalog of an older version what it lacks. After that the older version
// refuses it: it would forget every database that has no local file on purpose.
func upgrade(ctx context.Context, db *sql.DB) (err error) {
	var version int64
	if err := db.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&version); err != nil {
		return err
	}
	if version < formatVersion {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		err = inTransaction(context.WithoutCancel(ctx), conn, "catalog.upgrade", func() error {
			_, err := conn.ExecContext(ctx, notesSchema+fmt.Sprintf("PRAGMA user_version = %d", formatVersion))
			return err
		})
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
	rows, err := db.QueryContext(ctx, "SELECT kind, id, value, sum FROM notes LIMIT 0")
	if err != nil {
		return err
	}
	return rows.Close()
}

// create makes an empty catalog at path, where no file is. It appears there
// complete, so that an empty file is always one that was truncated.
func create(ctx context.Context, path string) error {
	tmp := path + ".new"
	for _, suffix := range []string{"", "-journal"} { // of a create that crashed
		if err := os.Remove(tmp + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// SQLite would make it readable by all; -wal and -shm take the file's mode.
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openDB(tmp)
	if err != nil {
		return err
	}
	err = fill(ctx, db)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// fill writes what an empty catalog consists of.
func fill(ctx context.Context, db *sql.DB) error {
	node := newNode()
	_, err := db.ExecContext(ctx, "BEGIN;"+schema+
		notesSchema+
		fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, formatVersion)+
		fmt.Sprintf("INSERT INTO meta VALUES ('node_id', %d), ('clean', 0); COMMIT;", int64(node)))
	return err
}

// markClean notes whether the catalog is closed. Synced, because otherwise a
// power failure could bring back the note of the last clean close, and with it
// positions that are older than what has been shipped since.
func (c *Catalog) markClean(ctx context.Context, clean bool) (err error) {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "UPDATE meta SET value = ? WHERE key = 'clean'", clean)
	_, back := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = NORMAL")
	return errors.Join(err, back)
}

// isDamage reports whether err says that the file is not, or no longer, a
// catalog, rather than that it cannot be read or written now.
func isDamage(err error) bool {
	// A general error of SQLite counts too, since our statements are right.
	return errors.Is(err, errDamaged) || sqlitedb.BadContent(err)
}

// moveAside renames the file at path, and what SQLite keeps beside it, and
// returns the new name; it is empty if there was nothing. A WAL without its
// database is moved too: SQLite would replay it into the next file of the name.
func moveAside(path string) (string, error) {
	suffixes := []string{"", "-wal", "-shm", "-journal"}
	taken := func(name string) bool {
		return slices.ContainsFunc(suffixes, func(s string) bool {
			_, err := os.Lstat(name + s)
			return err == nil
		})
	}
	base := path + ".corrupt-" + strconv.FormatInt(time.Now().Unix(), 10)
	to := base
	for n := 2; taken(to); n++ {
		to = fmt.Sprintf("%s.%d", base, n)
	}
	moved := ""
	for _, suffix := range suffixes {
		err := os.Rename(path+suffix, to+suffix)
		if err == nil {
			moved = to
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return moved, durable.SyncDir(filepath.Dir(path))
}
