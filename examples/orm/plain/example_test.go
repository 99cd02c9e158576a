// Package plain_test shows migrations without a library: numbered files of SQL, and
// user_version of each database, which says how many of them it has. Each file and its number
// are one transaction, so a file is applied as a whole or not at all.
package plain_test

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

//go:embed migrations/*.sql
var files embed.FS

// migrate applies what a database does not have yet.
func migrate(ctx context.Context, db *sql.DB) error {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(names) {
		return fmt.Errorf("its schema has version %d, this program knows %d: it is older than the database", version, len(names))
	}
	for i := version; i < len(names); i++ {
		if err := apply(ctx, db, names[i], i+1); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
	}
	return nil
}

func apply(ctx context.Context, db *sql.DB, name string, version int) error {
	text, err := files.ReadFile(name)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // unless it was committed
	if _, err := tx.ExecContext(ctx, string(text)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
		return err
	}
	return tx.Commit()
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-plain-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{tenant}}.db"))),
		multidb.WithReplica(multidbtest.NewReplica()), // yours: multidb.WithS3
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			return migrate(ctx, db)
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(ctx); err != nil {
		log.Fatal(err)
	}

	err = m.Do(ctx, "acme", func(db *sql.DB) error {
		var version int
		err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
		fmt.Println("acme has version", version)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// The hook migrates what is opened. This opens the others, a few at a time.
	err = m.Each(ctx, multidb.EachOptions{Name: "0002-authors"}, func(context.Context, multidb.ID, *sql.DB) error { return nil })
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Close(ctx); err != nil { // all of it is in the replica
		log.Fatal(err)
	}
	// Output:
	// acme has version 2
}
