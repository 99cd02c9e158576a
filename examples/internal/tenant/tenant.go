// Package tenant makes the databases that the examples replicate, writes to
// them at random, and compares them.
package tenant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
	_ "modernc.org/sqlite" // the driver that multidb uses, as it must be
)

// Tree is a directory of projects, each with databases:
// <Root>/project0/databases/db0.db.
type Tree struct {
	Root     string
	Projects int
	Each     int // databases per project
}

// Pattern finds the tree's databases.
func (t Tree) Pattern() string {
	return filepath.Join(t.Root, "{{project}}/databases/{{database}}.db")
}

// Len is the number of databases.
func (t Tree) Len() int { return t.Projects * t.Each }

// ID is the database's, of 0 to Len-1, as Pattern gives it.
func (t Tree) ID(i int) multidb.ID {
	return multidb.ID(fmt.Sprintf("project%d/db%d", i/t.Each, i%t.Each))
}

// Path is where the database is.
func (t Tree) Path(i int) string {
	return filepath.Join(t.Root, fmt.Sprintf("project%d/databases/db%d.db", i/t.Each, i%t.Each))
}

// Create makes the databases that do not exist yet, with a few rows each.
func (t Tree) Create(ctx context.Context, rnd *rand.Rand) error {
	for i := range t.Len() {
		if err := Create(ctx, t.Path(i), rnd); err != nil {
			return err
		}
	}
	return nil
}

const schema = `
CREATE TABLE IF NOT EXISTS note(
	id      INTEGER PRIMARY KEY,
	author  TEXT NOT NULL,
	body    TEXT NOT NULL,
	score   REAL,
	file    BLOB,
	created INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS note_author ON note(author, created)`

// Create makes a database in WAL mode, closed when it returns, unless the file
// exists.
func Create(ctx context.Context, path string, rnd *rand.Rand) (err error) {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	db, err := Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, q := range []string{"PRAGMA journal_mode=wal", schema} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("create %s: %w", path, err)
		}
	}
	_, err = Write(ctx, db, rnd)
	return err
}

// Open opens a database file outside the pool. Not for one that another SQLite
// library of this process has open.
func Open(path string) (*sql.DB, error) {
	u := url.URL{Path: path}
	return sql.Open("sqlite", "file:"+u.EscapedPath()+"?_pragma=busy_timeout(5000)")
}

// Write commits one transaction of inserts, updates and deletes, and returns
// how many rows it touched.
func Write(ctx context.Context, db *sql.DB, rnd *rand.Rand) (rows int64, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := tx.Rollback(); !errors.Is(e, sql.ErrTxDone) {
			err = errors.Join(err, e)
		}
	}()
	exec := func(query string, args ...any) error {
		res, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		rows += n
		return err
	}
	for range 1 + rnd.IntN(10) {
		var file []byte
		if rnd.IntN(4) == 0 {
			file = make([]byte, rnd.IntN(3000))
			for i := range file {
				file[i] = byte(rnd.Uint32())
			}
		}
		err := exec("INSERT INTO note(author, body, score, file, created) VALUES(?, ?, ?, ?, ?)",
			fmt.Sprintf("user%d", rnd.IntN(20)), fmt.Sprintf("note %x", rnd.Uint64()), rnd.NormFloat64(), file, time.Now().UnixNano())
		if err != nil {
			return rows, err
		}
	}
	if err := exec("UPDATE note SET score = score + 1 WHERE author = ?", fmt.Sprintf("user%d", rnd.IntN(20))); err != nil {
		return rows, err
	}
	if rnd.IntN(3) == 0 {
		if err := exec("DELETE FROM note WHERE id IN (SELECT id FROM note ORDER BY random() LIMIT 2)"); err != nil {
			return rows, err
		}
	}
	return rows, tx.Commit()
}
