package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openTest(t *testing.T, path string, create bool) (*sql.DB, error) {
	t.Helper()
	db, err := Open(t.Context(), path, Options{BusyTimeout: 5 * time.Second, MaxConns: 4, Create: create})
	if err == nil {
		t.Cleanup(func() { _ = db.Close() })
	}
	return db, err
}

func mustOpen(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := openTest(t, path, true)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func exec(t *testing.T, db *sql.DB, q string) {
	t.Helper()
	if _, err := db.Exec(q); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// TestATransactionThatReadsBeforeItWritesWaitsForAWriter goes red without
// _txlock=immediate in Open: SQLite refuses the upgrade at once.
func TestATransactionThatReadsBeforeItWritesWaitsForAWriter(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "a.db"))
	exec(t, db, "CREATE TABLE t(v)")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	// Another writer comes before it writes, and must wait for its end.
	done := make(chan error, 1)
	go func() {
		_, err := db.Exec("INSERT INTO t VALUES(1)")
		done <- err
	}()
	if _, err := tx.Exec("INSERT INTO t VALUES(2)"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAReadOnlyTransactionTakesNoWriteLock(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "a.db"))
	exec(t, db, "CREATE TABLE t(v)")
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	exec(t, db, "INSERT INTO t VALUES(1)")
}

func TestTheWALStaysWhenTheLastConnectionClosesAndGoesWhenItMay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpen(t, path)
	exec(t, db, "CREATE TABLE t(v)")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path + "-wal")
	if err != nil || fi.Size() == 0 {
		t.Fatalf("after the pool's last close: %v, %v", fi, err)
	}
	c, err := OpenConn(t.Context(), path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM t", &n); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.DropWAL(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after DropWAL: %v", err)
	}
}

func TestErrorsSayWhatIsWrongWithAFile(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte("certainly not a database, but long enough to be read as one by somebody who does not look. certainly."), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openTest(t, text, false); !errors.Is(err, ErrNotDatabase) {
		t.Errorf("text: %v", err)
	}
	if _, err := openTest(t, filepath.Join(dir, "none.db"), false); !errors.Is(err, ErrNoFile) {
		t.Errorf("no file: %v", err)
	}
	good := filepath.Join(dir, "good.db")
	db := mustOpen(t, good)
	exec(t, db, "CREATE TABLE t(v)")
	exec(t, db, "INSERT INTO t SELECT randomblob(3000) FROM (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if warnings, err := CheckIntegrity(t.Context(), good, Full); err != nil || len(warnings) > 0 {
		t.Errorf("a good database: %q, %v", warnings, err)
	}
	if err := os.Truncate(good, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckIntegrity(t.Context(), good, Full); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a cut database: %v", err)
	}
}

func TestAPathOfAnyBytesIsOpenedAsItIs(t *testing.T) {
	for _, name := range []string{"a b.db", "100%.db", "what?mode=memory", "x#y", "q'\".db", "\xff\xfe.db", "ü"} {
		path := filepath.Join(t.TempDir(), name)
		exec(t, mustOpen(t, path), "CREATE TABLE t(v)")
		if fi, err := os.Stat(path); err != nil || fi.Size() == 0 {
			t.Errorf("%q: %v, %v", name, fi, err)
		}
	}
}

func TestPagesAreReadInOneTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpen(t, path)
	exec(t, db, "CREATE TABLE t(v)")
	exec(t, db, "INSERT INTO t VALUES(randomblob(20000))")
	c, err := OpenConn(t.Context(), path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.BeginRead(t.Context()); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		if err := c.Pages(context.Background(), func(uint32, []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := count()
	exec(t, db, "INSERT INTO t VALUES(randomblob(20000))")
	if n := count(); n != before {
		t.Errorf("%d pages, then %d in the same transaction", before, n)
	}
	c.End()
	if n := count(); n <= before {
		t.Errorf("%d pages after the transaction, %d in it", n, before)
	}
}
