package multidb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"modernc.org/sqlite"
)

// atOnce returns what a query answers on n connections that exist at the same time.
func atOnce(t *testing.T, db *sql.DB, n int, query string) (all []string) {
	t.Helper()
	for range n {
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var v string
		if err := c.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// drop has the driver's connection thrown away.
func drop(t *testing.T, db *sql.DB) {
	t.Helper()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestAPragmaHoldsOnEveryConnectionOfThePool(t *testing.T) {
	inHook := ""
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxConns(4),
		multidb.WithPragma("foreign_keys", "off"), multidb.WithPragma("cache_size", "-4321"),
		multidb.WithPragma("Foreign_Keys", "ON"), // the last one counts
		multidb.WithOpenHook(func(_ context.Context, _ multidb.Database, db *sql.DB) error {
			inHook = strings.Join(atOnce(t, db, 4, "PRAGMA foreign_keys"), "")
			_, err := db.Exec("CREATE TABLE child(parent INTEGER REFERENCES t(k))")
			return err
		}))
	err := f.m.Do(t.Context(), "project0/db0", func(db *sql.DB) error {
		for range 2 {
			for pragma, want := range map[string]string{"foreign_keys": "1", "cache_size": "-4321", "synchronous": "1"} {
				if got := atOnce(t, db, 4, "PRAGMA "+pragma); fmt.Sprint(got) != fmt.Sprint([]string{want, want, want, want}) {
					t.Errorf("%s is %v on four connections, want %s", pragma, got, want)
				}
			}
			drop(t, db)
		}
		_, err := db.Exec("INSERT INTO child VALUES (99)")
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "FOREIGN KEY") {
		t.Errorf("a child without its parent: %v", err)
	}
	if inHook != "1111" {
		t.Errorf("in the open hook foreign_keys is %q", inHook)
	}
}

func TestWithoutAPragmaConnectionsAreAsSQLiteMakesThem(t *testing.T) {
	f := start(t, newTree(t, 1, 1))
	other, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	err = f.m.Do(t.Context(), "project0/db0", func(db *sql.DB) error {
		for _, pragma := range []string{"foreign_keys", "recursive_triggers", "trusted_schema", "cache_size", "temp_store", "secure_delete"} {
			ours, theirs := atOnce(t, db, 1, "PRAGMA "+pragma), atOnce(t, other, 1, "PRAGMA "+pragma)
			if ours[0] != theirs[0] {
				t.Errorf("%s is %s, SQLite's own %s", pragma, ours[0], theirs[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPragmaThatWouldBreakReplicationIsRefusedByNew(t *testing.T) {
	root := t.TempDir()
	for name, want := range map[string]string{
		"journal_mode": "write-ahead log", "wal_autocheckpoint": "checkpoints are multidb's", "locking_mode": "what is to be shipped",
		"foreign_key": "did you mean foreign_keys?", "x; DROP TABLE t": "no pragma",
	} {
		_, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithPragma(name, "1"))
		if !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "WithPragma") {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
	if _, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithConnHook(nil)); !errors.Is(err, multidb.ErrInvalidOption) {
		t.Errorf("no hook: %v", err)
	}
}

// TestTheConnHookIsCalledForThePoolsConnectionsAlone: shipping, checkpoints, a restore and
// its check make connections of their own.
func TestTheConnHookIsCalledForThePoolsConnectionsAlone(t *testing.T) {
	const id = "project0/db0"
	var calls atomic.Int32
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxConns(4), multidb.WithCheckpointPages(1),
		multidb.WithPragma("recursive_triggers", "on"),
		multidb.WithConnHook(func(ctx context.Context, db multidb.Database, conn *sql.Conn) error {
			calls.Add(1)
			if db.ID != id {
				t.Errorf("the hook is called for %q", db.ID)
			}
			old, err := sqlite.Limit(conn, 0, 1000) // SQLITE_LIMIT_LENGTH
			var on int
			if err := errors.Join(err, conn.QueryRowContext(ctx, "PRAGMA recursive_triggers").Scan(&on)); err != nil || on != 1 || old <= 1000 {
				t.Errorf("pragma %d, limit %d, %v", on, old, err)
			}
			return nil
		}))
	err := f.m.Do(t.Context(), id, func(db *sql.DB) error {
		for _, err := range []error{
			db.QueryRow("SELECT zeroblob(2000)").Scan(new([]byte)),
		} {
			if err == nil || !strings.Contains(err.Error(), "too big") {
				t.Errorf("the hook's limit: %v", err)
			}
		}
		atOnce(t, db, 4, "SELECT 1")
		drop(t, db)
		atOnce(t, db, 4, "SELECT 1")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.insert(id, "x")
	f.sync(id)
	f.restored(id, multidb.RestoreOptions{})
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if n := calls.Load(); n != 5 {
		t.Errorf("%d calls for 5 connections", n)
	}
}

func TestAConnHookThatFailsFailsTheAcquire(t *testing.T) {
	const id = "project0/db0"
	sad := errors.New("sad")
	var how atomic.Value
	f := start(t, newTree(t, 1, 1), multidb.WithMaxOpen(1), multidb.WithConnHook(func(context.Context, multidb.Database, *sql.Conn) error {
		switch how.Load() {
		case "error":
			return sad
		case "panic":
			panic("oh no")
		}
		return nil
	}))
	for _, c := range []struct{ how, want string }{{"error", "connection hook: sad"}, {"panic", "connection hook: panic: oh no"}, {"", ""}, {"error", "sad"}} {
		how.Store(c.how)
		err := f.m.Do(t.Context(), id, nothing)
		if c.want == "" {
			if err != nil {
				t.Error(err)
			}
			if err := f.m.Evict(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var e *multidb.Error
		if !errors.As(err, &e) || e.ID != id || e.Op != "acquire" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.how, err)
		}
	}
	how.Store("")
	if err := f.m.Do(t.Context(), id, nothing); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// backwards registers what this process's SQLite has beside its own, as an application
// does before Start.
func backwards(t *testing.T) {
	t.Helper()
	err := sqlite.RegisterCollationUtf8("backwards", func(a, b string) int { return strings.Compare(b, a) })
	if err != nil && !strings.Contains(err.Error(), "already registered") {
		t.Fatal(err)
	}
}

// TestATenantWithACollationOfItsOwnIsRestoredAndDrilled, also where no such collation is
// registered: the check says what it could not compare, and that is no damage.
func TestATenantWithACollationOfItsOwnIsRestoredAndDrilled(t *testing.T) {
	backwards(t)
	const id = "project0/db0"
	drills(t, 1, multidb.DrillOptions{PerDay: 1}, func(t *testing.T, d *drilled) {
		err := d.m.Do(t.Context(), id, func(db *sql.DB) error {
			_, err := db.Exec("CREATE INDEX of_its_own ON t(v COLLATE backwards)")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		d.insert(id, "x")
		d.sync(id)
		var warnings []string
		got := d.restored(id, multidb.RestoreOptions{Warn: func(w string) { warnings = append(warnings, w) }})
		if fmt.Sprint(got) != "[0 1 2 x]" {
			t.Errorf("restored %v", got)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0], "table t: its content was not compared: no such collation sequence: backwards") {
			t.Errorf("warnings: %q", warnings)
		}
		d.pass(24 * time.Hour)
		d.expect("after a day", "db0")
		if s := d.status("db0"); s.ProvedErr != nil || s.ProvedAt.IsZero() {
			t.Errorf("proved at %v, %v", s.ProvedAt, s.ProvedErr)
		}
	})
}

func ExampleWithPragma() {
	m, stop := exampleManager(multidb.WithPragma("foreign_keys", "on"))
	defer stop()
	err := m.Do(context.Background(), "p/d", func(db *sql.DB) error {
		if _, err := db.Exec("CREATE TABLE orders (id INTEGER PRIMARY KEY); CREATE TABLE lines (order_id INTEGER REFERENCES orders)"); err != nil {
			return err
		}
		_, err := db.Exec("INSERT INTO lines VALUES (1)")
		return err
	})
	fmt.Println(err)

	_, err = multidb.New(multidb.WithDiscoverer(multidb.Glob("/data/{{project}}/databases/{{database}}.db")), multidb.WithPragma("foreign_key", "on"))
	fmt.Println(err)
	// Output:
	// constraint failed: FOREIGN KEY constraint failed (787)
	// multidb: WithPragma: invalid option: "foreign_key" is no pragma that can be set; did you mean foreign_keys?
}

// A view of one connection, which no file and no backup has.
func ExampleWithConnHook() {
	m, stop := exampleManager(multidb.WithConnHook(func(ctx context.Context, db multidb.Database, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "CREATE TEMP VIEW tenant AS SELECT '"+filepath.Base(string(db.ID))+"' AS name")
		return err
	}))
	defer stop()
	err := m.Do(context.Background(), "p/d", func(db *sql.DB) error {
		var name string
		err := db.QueryRow("SELECT name FROM tenant").Scan(&name)
		fmt.Println(name)
		return err
	})
	fmt.Println(err)
	// Output:
	// d
	// <nil>
}
