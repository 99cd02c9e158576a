// Package gorm_test shows gorm on a tenant's database.
//
// The dialector is gorm's own, gorm.io/driver/sqlite, given the connections of multidb as
// Conn: it then opens nothing itself. It imports mattn/go-sqlite3, a second SQLite, so build
// with CGO_ENABLED=0, which leaves that out. Never open a tenant's file with a second
// SQLite in the same process: when it closes the file, the locks of the first are gone.
//
// github.com/glebarez/sqlite cannot be used: it registers a driver named "sqlite", which
// multidb's has registered, and the program panics when it starts.
package gorm_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

type Invoice struct {
	ID    uint
	Title string `gorm:"uniqueIndex"`
}

// open wraps a tenant's database. It is cheap beside a query, so it is done for each Acquire,
// not kept for longer than the Handle.
func open(db *sql.DB) (*gorm.DB, error) {
	return gorm.Open(sqlite.New(sqlite.Config{Conn: db}), &gorm.Config{TranslateError: true})
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-gorm-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{tenant}}.db"))),
		multidb.WithReplica(multidbtest.NewReplica()), // yours: multidb.WithS3
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			g, err := open(db)
			if err != nil {
				return err
			}
			return g.WithContext(ctx).AutoMigrate(&Invoice{})
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(ctx); err != nil {
		log.Fatal(err)
	}

	err = m.Do(ctx, "acme", func(db *sql.DB) error {
		g, err := open(db)
		if err != nil {
			return err
		}
		g = g.WithContext(ctx)
		err = g.Transaction(func(tx *gorm.DB) error {
			return tx.Create([]Invoice{{Title: "paper"}, {Title: "ink"}}).Error
		})
		if err != nil {
			return err
		}
		var found []Invoice
		if err := g.Order("title").Find(&found).Error; err != nil {
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
