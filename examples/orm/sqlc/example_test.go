// Package sqlc_test shows sqlc on a tenant's database: what sqlc generates, in invoices/,
// takes an *sql.DB as it is. sqlc.yaml says from what; to generate it anew, run in this directory
//
//	go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate
package sqlc_test

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/orm/sqlc/invoices"
	"github.com/multidb-go/multidb/multidbtest"
)

//go:embed schema.sql
var schema string

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-sqlc-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{tenant}}.db"))),
		multidb.WithReplica(multidbtest.NewReplica()), // yours: multidb.WithS3
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			_, err := db.ExecContext(ctx, schema)
			return err
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(ctx); err != nil {
		log.Fatal(err)
	}

	err = m.Do(ctx, "acme", func(db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // unless it was committed
		for _, title := range []string{"paper", "ink"} {
			if _, err := invoices.New(tx).Create(ctx, title); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		found, err := invoices.New(db).List(ctx)
		if err != nil {
			return err
		}
		for _, i := range found {
			fmt.Println(i.ID, i.Title)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Close(ctx); err != nil { // all of it is in the replica
		log.Fatal(err)
	}
	// Output:
	// 2 ink
	// 1 paper
}
