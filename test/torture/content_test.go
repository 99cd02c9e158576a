package torture

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// querier is a *sql.DB or a *sql.Conn.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// contentHash is the oracle: a hash of all that SQL can see, in an order that
// VACUUM, the page size and the journal mode do not change. The caller makes
// sure that nobody writes meanwhile.
func contentHash(ctx context.Context, c querier) (string, error) {
	sum := sha256.New()
	dump := func(q string) ([][]string, error) {
		rows, err := c.QueryContext(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q, err)
		}
		defer rows.Close()
		cols, err := rows.Columns()
		if err != nil {
			return nil, err
		}
		var out [][]string
		vals, ptrs := make([]sql.NullString, len(cols)), make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		for rows.Next() {
			if err := rows.Scan(ptrs...); err != nil {
				return nil, err
			}
			row := make([]string, len(cols))
			for i, v := range vals {
				row[i] = v.String
				fmt.Fprintf(sum, "%t%d:%s", v.Valid, len(v.String), v.String)
			}
			out = append(out, row)
		}
		return out, rows.Err()
	}
	for _, q := range []string{"PRAGMA user_version", "PRAGMA application_id",
		"SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY 1, 2"} {
		if _, err := dump(q); err != nil {
			return "", err
		}
	}
	tables, err := dump("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'sqlite_stat%' ORDER BY 1")
	if err != nil {
		return "", err
	}
	for _, table := range tables {
		cols, err := dump(fmt.Sprintf("SELECT name FROM pragma_table_info('%s')", table[0]))
		if err != nil {
			return "", err
		}
		var list, order []string
		for i, col := range cols {
			list = append(list, fmt.Sprintf("quote(%q)", col[0]))
			order = append(order, fmt.Sprint(i+1))
		}
		if _, err := dump(fmt.Sprintf("SELECT %s FROM %q ORDER BY %s", strings.Join(list, ","), table[0], strings.Join(order, ","))); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:12]), nil
}

// openDB opens a database as any program would, on one connection. params are
// those of an SQLite URI.
func openDB(t testing.TB, path, params string) *sql.DB {
	t.Helper()
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: params}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

// foreignDB is another program's connection, at whose end SQLite checkpoints as
// it does.
func foreignDB(t testing.TB, path string) *sql.DB {
	return openDB(t, path, fmt.Sprintf("_pragma=busy_timeout(%d)", (10*time.Second).Milliseconds()))
}

// integrity is SQLite's own opinion.
func integrity(db *sql.DB) error {
	var result string
	if err := db.QueryRow("PRAGMA integrity_check(1)").Scan(&result); err != nil {
		return err
	} else if result != "ok" {
		return errors.New(result)
	}
	return nil
}

// fileHash is the content hash of a database file that nobody uses.
func fileHash(t testing.TB, path string) (string, error) {
	db := openDB(t, path, "immutable=1")
	defer db.Close()
	if err := integrity(db); err != nil {
		return "", err
	}
	return contentHash(context.Background(), db)
}
