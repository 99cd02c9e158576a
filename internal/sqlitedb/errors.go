package sqlitedb

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What SQLite's result codes mean to the owner of a database.
var (
	ErrNotDatabase = errors.New("not an SQLite database (or an encrypted one)")
	ErrCorrupt     = errors.New("database is corrupt")
	ErrReadOnly    = errors.New("database is read-only")
	ErrBusy        = errors.New("database is locked by another connection")
	ErrDiskFull    = errors.New("disk is full")
	ErrNoFile      = errors.New("cannot open the database file")
)

// Classify wraps a driver error with the sentinel of its result code, so that
// callers decide with errors.Is and never by text or number.
func Classify(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	kind := kindOf(e.Code())
	if kind == nil || errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// kindOf returns the sentinel of a result code, or nil.
func kindOf(code int) error {
	switch code & 0xff { // the primary code
	case sqlite3.SQLITE_NOTADB:
		return ErrNotDatabase
	case sqlite3.SQLITE_CORRUPT:
		return ErrCorrupt
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return ErrReadOnly
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ErrBusy
	case sqlite3.SQLITE_FULL:
		return ErrDiskFull
	case sqlite3.SQLITE_CANTOPEN:
		return ErrNoFile
	}
	return nil
}

// BadContent reports whether err, from a statement known to be right, says that the
// content of the file is at fault: it is not a database, or a damaged or truncated one,
// or its schema is not the one that the statement is for. Otherwise the file only
// cannot be read or written now.
func BadContent(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR:
		return true
	}
	return e.Code() == sqlite3.SQLITE_IOERR_SHORT_READ
}

// Explain distinguishes a database that cannot be written from one that cannot be
// opened for another reason. SQLite reports both alike, since even to read a database
// in WAL mode it needs to create the WAL beside it.
func Explain(path string, err error) error {
	if !errors.Is(err, ErrNoFile) || errors.Is(err, ErrReadOnly) {
		return err
	}
	for _, p := range []string{filepath.Dir(path), path} {
		if denied := writable(p); denied != nil {
			return fmt.Errorf("%w: %w", denied, err)
		}
	}
	return err
}

// writable returns ErrReadOnly if this process may not write the file; nil if it may,
// or if that cannot be found out.
func writable(path string) error {
	const wOK = 2
	switch denied := syscall.Access(path, wOK); {
	case errors.Is(denied, syscall.EROFS), errors.Is(denied, syscall.EACCES):
		return fmt.Errorf("%w: %s: %w", ErrReadOnly, path, denied)
	}
	return nil
}
