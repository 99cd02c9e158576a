// Package bun_test shows bun on a tenant's database: bun.NewDB takes the connections of
// multidb and bun's dialect for SQLite. bun's own driver, github.com/uptrace/bun/driver/sqliteshim,
// is not needed. Do not close what bun.NewDB returns: it would close the tenant's database.
package bun_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
)

type Invoice struct {
	ID    int64  `bun:",pk,autoincrement"`
	Title string `bun:",unique,notnull"`
}

func open(db *sql.DB) *bun.DB { return bun.NewDB(db, sqlitedialect.New()) }

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-bun-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{tenant}}.db"))),
		multidb.WithReplica(multidbtest.NewReplica()), // yours: multidb.WithS3
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			_, err := open(db).NewCreateTable().Model((*Invoice)(nil)).IfNotExists().Exec(ctx)
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
		b := open(db)
		err := b.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewInsert().Model(&[]Invoice{{Title: "paper"}, {Title: "ink"}}).Exec(ctx)
			return err
		})
		if err != nil {
			return err
		}
		var found []Invoice
		if err := b.NewSelect().Model(&found).Order("title").Scan(ctx); err != nil {
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
