package sqlitedb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// raw is a connection without database/sql, for what the driver does not offer:
// limits, and an interrupt of every step of a statement. It has none of the
// functions and collations that the application has registered with the driver.
// Not safe for concurrent use.
type raw struct {
	tls *libc.TLS
	db  uintptr
}

// rawError is an error of SQLite. Its code decides what it wraps.
type rawError struct {
	code    int32
	msg     string
	running bool // it came from running a statement, not from compiling it
}

func (e *rawError) Error() string { return fmt.Sprintf("SQLite: %s (%d)", e.msg, e.code) }

func (e *rawError) Unwrap() error { return kindOf(int(e.code)) }

// openRaw opens an existing database for reading and writing.
func openRaw(path string) (r *raw, err error) {
	r = &raw{tls: libc.NewTLS()}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
			r = nil
		}
	}()
	if rc := sqlite3.Xsqlite3_initialize(r.tls); rc != sqlite3.SQLITE_OK {
		return r, &rawError{code: rc, msg: "cannot start"}
	}
	name, err := libc.CString(path)
	if err != nil {
		return r, err
	}
	defer libc.Xfree(r.tls, name)
	slot := libc.Xcalloc(r.tls, 1, 8)
	if slot == 0 {
		return r, &rawError{code: sqlite3.SQLITE_NOMEM, msg: "out of memory"}
	}
	defer libc.Xfree(r.tls, slot)
	rc := sqlite3.Xsqlite3_open_v2(r.tls, name, slot, sqlite3.SQLITE_OPEN_READWRITE, 0)
	r.db = *at[uintptr](slot)
	if rc != sqlite3.SQLITE_OK {
		return r, r.error(rc)
	}
	sqlite3.Xsqlite3_busy_timeout(r.tls, r.db, 1000)
	return r, nil
}

func (r *raw) close() error {
	if r.tls == nil {
		return nil
	}
	rc := int32(sqlite3.SQLITE_OK)
	if r.db != 0 {
		rc = sqlite3.Xsqlite3_close_v2(r.tls, r.db)
	}
	r.tls.Close()
	*r = raw{}
	if rc != sqlite3.SQLITE_OK {
		return &rawError{code: rc, msg: "cannot close"}
	}
	return nil
}

func (r *raw) error(rc int32) *rawError {
	e := &rawError{code: rc, msg: "unknown error"}
	if r.db != 0 {
		e.msg = libc.GoString(sqlite3.Xsqlite3_errmsg(r.tls, r.db))
	}
	return e
}

// maxLength makes SQLite refuse (SQLITE_TOOBIG) every value and row above n bytes.
func (r *raw) maxLength(n int32) {
	sqlite3.Xsqlite3_limit(r.tls, r.db, sqlite3.SQLITE_LIMIT_LENGTH, n)
}

// exec runs one statement without a result.
func (r *raw) exec(ctx context.Context, query string) error {
	return r.query(ctx, query, func([]string) error { return nil })
}

// query runs one statement and calls row for each row, with the columns as text.
// ctx interrupts it also between two rows.
func (r *raw) query(ctx context.Context, query string, row func([]string) error) (err error) {
	if err := ctx.Err(); err != nil {
		return &rawError{code: sqlite3.SQLITE_INTERRUPT, msg: err.Error()}
	}
	stop := r.interruptAtEnd(ctx)
	defer stop()
	text, err := libc.CString(query)
	if err != nil {
		return err
	}
	defer libc.Xfree(r.tls, text)
	slot := libc.Xcalloc(r.tls, 1, 8)
	if slot == 0 {
		return &rawError{code: sqlite3.SQLITE_NOMEM, msg: "out of memory"}
	}
	defer libc.Xfree(r.tls, slot)
	rc := sqlite3.Xsqlite3_prepare_v2(r.tls, r.db, text, -1, slot, 0)
	if rc != sqlite3.SQLITE_OK {
		return r.error(rc)
	}
	stmt := *at[uintptr](slot)
	defer sqlite3.Xsqlite3_finalize(r.tls, stmt)
	cols := make([]string, sqlite3.Xsqlite3_column_count(r.tls, stmt))
	for {
		switch rc := sqlite3.Xsqlite3_step(r.tls, stmt); rc {
		case sqlite3.SQLITE_ROW:
		case sqlite3.SQLITE_DONE:
			return nil
		default:
			e := r.error(rc)
			e.running = true
			return e
		}
		for i := range cols {
			cols[i] = libc.GoString(sqlite3.Xsqlite3_column_text(r.tls, stmt, int32(i)))
		}
		if err := row(cols); err != nil {
			return err
		}
	}
}

// interruptAtEnd interrupts the statements of the connection when ctx ends, until
// stop is called. It does so again and again: SQLite forgets an interrupt that
// comes before a statement's first step.
func (r *raw) interruptAtEnd(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-end:
			return
		case <-ctx.Done():
		}
		tls := libc.NewTLS()
		defer tls.Close()
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for {
			sqlite3.Xsqlite3_interrupt(tls, r.db)
			select {
			case <-end:
				return
			case <-again.C:
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}
