package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// prepared opens a database whose connections the hook prepares.
func prepared(t *testing.T, conns int, hook func(context.Context, *sql.Conn) error, statements ...string) (*sql.DB, error) {
	t.Helper()
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), Options{
		BusyTimeout: time.Second, MaxConns: conns, Create: true, Statements: statements, Hook: hook,
	})
	if err == nil {
		t.Cleanup(func() { _ = db.Close() })
	}
	return db, err
}

// ask reads one value by a connection.
func ask(t *testing.T, c *sql.Conn, query string) (v string) {
	t.Helper()
	if err := c.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Error(err)
	}
	return v
}

func TestEachConnectionIsPreparedOnceBeforeItIsUsed(t *testing.T) {
	var calls atomic.Int32
	db, err := prepared(t, 3, func(ctx context.Context, c *sql.Conn) error {
		calls.Add(1)
		if on := ask(t, c, "PRAGMA foreign_keys"); on != "1" {
			t.Errorf("foreign_keys is %s when the hook is called", on)
		}
		_, err := c.ExecContext(ctx, "CREATE TEMP TABLE prepared AS SELECT 7 AS v")
		return errors.Join(err, c.Close()) // which does no harm
	}, "PRAGMA foreign_keys=on")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		var conns []*sql.Conn
		for range 3 {
			c, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if v := ask(t, c, "SELECT v FROM temp.prepared"); v != "7" {
				t.Errorf("round %d: the connection has %s", round, v)
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("%d calls for 3 connections", n)
	}
}

func TestAHookThatFailsFailsWhatTheConnectionWasFor(t *testing.T) {
	sad := errors.New("sad")
	for name, c := range map[string]struct {
		hook func(context.Context, *sql.Conn) error
		want string
	}{
		"an error":           {func(context.Context, *sql.Conn) error { return sad }, "sad"},
		"a panic":            {func(context.Context, *sql.Conn) error { panic("oh no") }, "oh no"},
		"the end of its own": {func(context.Context, *sql.Conn) error { runtime.Goexit(); return nil }, "runtime.Goexit"},
		"closed, and an error": {func(_ context.Context, c *sql.Conn) error {
			return errors.Join(c.Close(), sad)
		}, "sad"},
		"a transaction": {func(ctx context.Context, c *sql.Conn) error {
			_, err := c.ExecContext(ctx, "BEGIN IMMEDIATE")
			return err
		}, "left a transaction open"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := prepared(t, 1, c.hook)
			if err == nil || !errors.Is(err, ErrHook) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("opened %v, error is %v", db, err)
			}
			// Nor does one of database/sql's own goroutines stop working.
			bad := atomic.Bool{}
			db, err = prepared(t, 1, func(ctx context.Context, conn *sql.Conn) error {
				if bad.Load() {
					return c.hook(ctx, conn)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			db.SetMaxIdleConns(0) // from here on each use makes a connection
			bad.Store(true)
			for range 3 {
				if _, err := db.ExecContext(t.Context(), "SELECT 1"); !errors.Is(err, ErrHook) {
					t.Fatalf("a later connection: error is %v", err)
				}
			}
			bad.Store(false)
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE t(v)"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestTheConnectionOfAHookEndsWithIt(t *testing.T) {
	var kept *sql.Conn
	var ctxOfHook context.Context
	db, err := prepared(t, 1, func(ctx context.Context, c *sql.Conn) error {
		kept, ctxOfHook = c, ctx
		_, err := c.QueryContext(ctx, "VALUES (1), (2)") // Rows that nobody closes
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.PingContext(t.Context()); !errors.Is(err, sql.ErrConnDone) {
		t.Errorf("a kept connection: %v", err)
	}
	if ctxOfHook.Err() == nil {
		t.Error("the context of a hook goes on")
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE t(v)"); err != nil {
		t.Error(err)
	}
}

func TestAHookIsBoundedByWhoeverNeedsTheConnection(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Open(ctx, filepath.Join(t.TempDir(), "a.db"), Options{BusyTimeout: time.Second, MaxConns: 1, Create: true,
		Hook: func(ctx context.Context, _ *sql.Conn) error {
			cancel()
			<-ctx.Done()
			return nil // it does not care
		}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
