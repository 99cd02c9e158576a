package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// A fleet is n databases below <dir>/data, 1,000 in each project's directory.
const perProject = 1000

func fleetRoot(dir string) string { return filepath.Join(dir, "data") }

func fleetPattern(dir string) string {
	return fleetRoot(dir) + "/{{project}}/databases/{{database}}.db"
}

func fleetID(i int) multidb.ID {
	return multidb.ID(fmt.Sprintf("project%d/db%d", i/perProject, i))
}

func fleetPath(dir string, i int) string {
	return filepath.Join(fleetRoot(dir), fmt.Sprintf("project%d", i/perProject), "databases", fmt.Sprintf("db%d.db", i))
}

// A database has one row that says how often it was written, in a form that can
// be found in its pages, and a log that grows.
const (
	schema  = `CREATE TABLE state(id INTEGER PRIMARY KEY, v TEXT NOT NULL); CREATE TABLE log(id INTEGER PRIMARY KEY, v BLOB NOT NULL)`
	marker  = "seq="
	digits  = 10
	oneRow  = `INSERT INTO log(v) VALUES(randomblob(100))`
	setMark = `UPDATE state SET v=? WHERE id=1`
)

// rowBytes is what a row of the log takes in its page.
const rowBytes = 106

func markOf(seq int) string { return fmt.Sprintf("%s%0*d", marker, digits, seq) }

// commit is one small commit: two pages or three.
func commit(ctx context.Context, db *sql.DB, seq int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, setMark, markOf(seq))
	if err == nil {
		_, err = tx.ExecContext(ctx, oneRow)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// openApp opens a database as some application would, in WAL mode.
func openApp(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// template makes a database of about so many bytes, in rows that do not
// compress, and returns its file.
func template(dir string, size int) (_ []byte, err error) {
	tmp, err := os.MkdirTemp(dir, "template-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	path := filepath.Join(tmp, "template.db")
	db, err := openApp(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fill(db, size), db.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func fill(db *sql.DB, size int) error {
	if _, err := db.Exec(schema); err != nil {
		return err
	}
	if _, err := db.Exec(`INSERT INTO state VALUES(1, ?)`, markOf(0)); err != nil {
		return err
	}
	if size == 0 {
		return nil
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	for n := 0; n < size; n += rowBytes {
		if _, err := tx.Exec(oneRow); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// newFleet makes n databases of one template. They look as if nobody had
// written to them for hours, or they would all be hot.
func newFleet(ctx context.Context, dir string, n, size int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	image, err := template(dir, size)
	if err != nil {
		return err
	}
	old := time.Now().Add(-3 * time.Hour)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := makeOne(fleetPath(dir, i), image, i%perProject == 0); err != nil {
			return err
		}
		if err := os.Chtimes(fleetPath(dir, i), old, old); err != nil {
			return err
		}
	}
	return nil
}

func makeOne(path string, image []byte, mkdir bool) error {
	if mkdir {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(path, image, 0o644)
}
