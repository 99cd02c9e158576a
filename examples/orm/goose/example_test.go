// Package goose_test shows goose over a whole fleet. A Provider belongs to one database, so it is
// made for each; its API without a global dialect is safe for many at a time.
//
// The open hook brings up to date what is opened, Each what nobody opens: both run
// the same function, and what is up to date costs one query.
package goose_test

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
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var files embed.FS

func migrate(ctx context.Context, db *sql.DB) error {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx) // do not Close p: it would close the tenant's database
	return err
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-goose-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{tenant}}.db"))),
		multidb.WithReplica(multidbtest.NewReplica()), // yours: multidb.WithS3
	)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(ctx); err != nil {
		log.Fatal(err)
	}

	for _, id := range []multidb.ID{"acme", "globex", "initech"} {
		if err := m.Do(ctx, id, func(*sql.DB) error { return nil }); err != nil { // makes it
			log.Fatal(err)
		}
	}
	// A program has this in WithOpenHook too, for what is made or restored later.
	err = m.Each(ctx, multidb.EachOptions{Name: "00002_authors"}, func(ctx context.Context, _ multidb.ID, db *sql.DB) error {
		return migrate(ctx, db)
	})
	if err != nil { // *multidb.EachError says which; the next call with the name tries those again
		log.Fatal(err)
	}
	err = m.Do(ctx, "globex", func(db *sql.DB) error {
		if _, err := db.ExecContext(ctx, "INSERT INTO invoices (title, author) VALUES ('ink', 'Ada')"); err != nil {
			return err
		}
		var version int
		err := db.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&version)
		fmt.Println("version", version)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Close(ctx); err != nil { // all of it is in the replica
		log.Fatal(err)
	}
	// Output:
	// version 2
}
