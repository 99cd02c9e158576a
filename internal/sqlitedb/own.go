package sqlitedb

import (
	"database/sql/driver"
	"errors"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// NewConnector returns the driver's connections to a file of this library's own, for
// sql.OpenDB. They make the file if it is missing, keep its journal mode, and begin by
// running the pragmas, each written like "busy_timeout(5000)". Tenants' databases are
// opened by Open and OpenConn instead.
func NewConnector(path string, pragmas ...string) (driver.Connector, error) {
	var b strings.Builder
	b.WriteString("file:" + escapePath(path) + "?")
	for _, p := range pragmas {
		b.WriteString("&_pragma=" + p)
	}
	return sqlite.NewConnector(b.String())
}

// IsUnusable reports whether an error of a statement says that the file is not, or no
// longer, what the statement was written for, and not only that it cannot be read or
// written now. The statement must be known to be right: SQLite calls both a wrong
// statement and an unexpected schema or an unknown format a general error.
func IsUnusable(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR:
		return true
	}
	return e.Code() == sqlite3.SQLITE_IOERR_SHORT_READ
}
