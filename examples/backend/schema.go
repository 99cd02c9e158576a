package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"

	"github.com/multidb-go/multidb"
)

// schema is what made a database what it is, step by step. Only add to its end. A library for
// migrations, such as goose, does as well: both get a *sql.DB.
var schema = []string{
	`CREATE TABLE account(id INTEGER PRIMARY KEY CHECK(id = 1), email TEXT NOT NULL, since TEXT NOT NULL DEFAULT current_timestamp) STRICT`,
	`CREATE TABLE payment(key TEXT PRIMARY KEY, account INTEGER NOT NULL DEFAULT 1 REFERENCES account,
		cents INTEGER NOT NULL CHECK(cents > 0), at TEXT NOT NULL DEFAULT current_timestamp) STRICT`,
	`CREATE INDEX payment_at ON payment(at)`,
}

// migrateOne brings one database up to date. It is called each time one is opened, and is done
// in one transaction: a crash leaves the database as it was.
func migrateOne(ctx context.Context, _ multidb.Database, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version == len(schema) {
		return nil
	}
	if version > len(schema) {
		return fmt.Errorf("the database has schema %d, and this program knows %d: it was opened by a newer one", version, len(schema))
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // unless it was committed
	for _, step := range schema[version:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(schema))); err != nil {
		return err
	}
	return tx.Commit()
}

// migrateAll opens every database once, which migrates it: one first, and the others if that
// went well. Called again it goes on where it was.
func migrateAll(ctx context.Context, m *multidb.Manager) error {
	opt := multidb.EachOptions{
		Name: fmt.Sprintf("schema-%d", len(schema)), Canary: 1,
		OnProgress: func(p multidb.EachProgress) {
			if p.ID == "" { // before the first
				slog.Info("backend: migrating", "customers", p.Left, "done before", p.Skipped)
				return
			}
			slog.Info("backend: migrated", "customer", p.ID, "done", p.Done, "failed", p.Failed, "left", p.Left)
		},
	}
	return m.Each(ctx, opt, func(context.Context, multidb.ID, *sql.DB) error { return nil })
}
