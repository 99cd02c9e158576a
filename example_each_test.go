package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"

	"github.com/multidb-go/multidb"
)

// A schema migration over a whole fleet, in plain SQL: user_version says how far each
// database is, so that it may be called twice. With goose it is as short: in fn,
//
//	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations) // an fs.FS
//	if err == nil {
//		_, err = p.Up(ctx)
//	}
//	return err
func ExampleManager_Each() {
	m, stop := exampleManager()
	defer stop()
	for _, id := range []multidb.ID{"acme/a", "acme/b", "globex/a"} {
		exampleTouch(m, id)
	}
	schema := []string{
		"ALTER TABLE notes ADD COLUMN author TEXT",
		"CREATE INDEX notes_author ON notes(author)",
	}
	err := m.Each(context.Background(), multidb.EachOptions{Name: "notes-have-authors"}, func(ctx context.Context, _ multidb.ID, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // unless it was committed
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		for ; version < len(schema); version++ {
			if _, err := tx.ExecContext(ctx, schema[version]); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
			return err
		}
		return tx.Commit()
	})
	var some *multidb.EachError
	if errors.As(err, &some) {
		for _, e := range some.Failed {
			fmt.Println(e.ID, e.Err) // the next call with the name tries these, and those that are left
		}
	} else if err != nil {
		log.Fatal(err)
	}
	err = m.Do(context.Background(), "globex/a", func(db *sql.DB) error {
		var version int
		defer func() { fmt.Println("version", version) }()
		return db.QueryRow("PRAGMA user_version").Scan(&version)
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: version 2
}

// exampleTouch makes a database.
func exampleTouch(m *multidb.Manager, id multidb.ID) {
	if err := m.Do(context.Background(), id, func(*sql.DB) error { return nil }); err != nil {
		log.Fatal(err)
	}
}
