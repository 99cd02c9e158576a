// Package ent_test shows ent on a tenant's database: dialect/sql.OpenDB takes the connections
// of multidb. The rest of this directory is generated from schema/; to generate it anew, run
// in this directory
//
//	go run entgo.io/ent/cmd/ent@v0.14.5 generate ./schema
//
// Do not close the client: it would close the tenant's database.
package ent_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/orm/ent"
	"github.com/multidb-go/multidb/examples/orm/ent/invoice"
	"github.com/multidb-go/multidb/multidbtest"
)

func open(db *sql.DB) *ent.Client {
	return ent.NewClient(ent.Driver(entsql.OpenDB(dialect.SQLite, db)))
}

// migrate makes the tables.
func migrate(ctx context.Context, db *sql.DB) error { return open(db).Schema.Create(ctx) }

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-ent-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{tenant}}.db"))),
		multidb.WithReplica(multidbtest.NewReplica()), // yours: multidb.WithS3
		multidb.WithPragma("foreign_keys", "on"),      // ent's migration demands it
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
		c := open(db)
		tx, err := c.Tx(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // unless it was committed
		for _, title := range []string{"paper", "ink"} {
			if err := tx.Invoice.Create().SetTitle(title).Exec(ctx); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		found, err := c.Invoice.Query().Order(invoice.ByTitle()).All(ctx)
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
