package sqlitedb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrHook is returned where the application's function for new connections failed.
var ErrHook = errors.New("connection hook")

// errGoexit is what a hook ends with that ends its goroutine.
var errGoexit = errors.New("runtime.Goexit was called")

// prepare makes a new connection what the application wants of its connections: it runs the
// statements, then the hook.
func prepare(ctx context.Context, conn driver.Conn, statements []string, hook func(context.Context, *sql.Conn) error) error {
	exec, ok := conn.(driver.ExecerContext)
	if !ok {
		return errors.New("sqlitedb: the driver's connections run no statements")
	}
	for _, s := range statements {
		if _, err := exec.ExecContext(ctx, s, nil); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if hook == nil {
		return nil
	}
	if err := callHook(ctx, conn, hook); err != nil {
		return fmt.Errorf("%w: %w", ErrHook, err)
	}
	// What it left begun would keep everybody from writing, or every reader at one state.
	if _, err := exec.ExecContext(ctx, "BEGIN", nil); err != nil {
		return fmt.Errorf("%w: it has left a transaction open: %w", ErrHook, err)
	}
	if _, err := exec.ExecContext(ctx, "ROLLBACK", nil); err != nil {
		return fmt.Errorf("%w: %w", ErrHook, err)
	}
	return nil
}

// callHook lends a connection to the hook as a *sql.Conn. The hook is the application's code,
// and this goroutine may be one of database/sql, which serves all that wait for a connection:
// so the hook has a goroutine of its own, and neither a panic in it nor runtime.Goexit ends
// more than that.
func callHook(ctx context.Context, conn driver.Conn, hook func(context.Context, *sql.Conn) error) error {
	db := sql.OpenDB(&lent{conn: conn})
	c, err := db.Conn(ctx)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	of, cancel := context.WithCancel(ctx)
	called := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
			called <- err
		}()
		err = hook(of, c)
	}()
	err = <-called
	cancel()
	// It waits for Rows that the hook has left open, and gives the connection back to db.
	if e := c.Close(); !errors.Is(e, sql.ErrConnDone) { // which the hook may have done
		err = errors.Join(err, e)
	}
	if err == nil {
		// Close leaves a connection open that is in use. Nothing else is left of db.
		_, err = db.Conn(ctx)
	}
	return errors.Join(err, db.Close())
}

// lent is a Connector that has one connection, which exists already.
type lent struct{ conn driver.Conn }

func (l *lent) Connect(context.Context) (driver.Conn, error) {
	conn := l.conn
	if conn == nil {
		return nil, errors.New("the connection cannot be used any more: a statement on it was interrupted")
	}
	l.conn = nil
	return conn, nil
}

func (l *lent) Driver() driver.Driver { return nil }
