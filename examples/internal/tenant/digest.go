package tenant

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Digest stands for the logical content of a database: its schema and every
// row of every table. Two databases with one content have equal digests, however
// their pages are arranged.
type Digest struct {
	Tables int
	Rows   int
	Schema [sha256.Size]byte
	Data   [sha256.Size]byte
}

// Diff says what differs from other; empty if nothing does.
func (d Digest) Diff(other Digest) string {
	switch {
	case d.Schema != other.Schema:
		return "schema differs"
	case d.Rows != other.Rows:
		return fmt.Sprintf("%d rows, not %d", other.Rows, d.Rows)
	case d.Data != other.Data:
		return "rows differ"
	}
	return ""
}

// Digested runs integrity_check on a database and returns its digest, both of
// one state, whatever is written meanwhile.
func Digested(ctx context.Context, db *sql.DB) (d Digest, err error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	var check string
	if err := tx.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&check); err != nil {
		return d, err
	}
	if check != "ok" {
		return d, fmt.Errorf("integrity_check: %s", check)
	}
	_, d.Schema, err = hashRows(ctx, tx, "SELECT type, name, tbl_name, sql FROM sqlite_schema")
	if err != nil {
		return d, err
	}
	names, err := tables(ctx, tx)
	if err != nil {
		return d, err
	}
	all := sha256.New()
	for _, name := range names {
		n, sum, err := hashRows(ctx, tx, `SELECT * FROM "`+strings.ReplaceAll(name, `"`, `""`)+`"`)
		if err != nil {
			return d, fmt.Errorf("table %s: %w", name, err)
		}
		d.Rows += n
		all.Write(sum[:])
	}
	d.Tables = len(names)
	all.Sum(d.Data[:0])
	return d, nil
}

func tables(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// hashRows hashes every row and then the sorted hashes, so that the order in
// which SQLite returns them does not count.
func hashRows(ctx context.Context, tx *sql.Tx, query string) (n int, sum [sha256.Size]byte, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return 0, sum, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return 0, sum, err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var hashes [][sha256.Size]byte
	var row bytes.Buffer
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return 0, sum, err
		}
		row.Reset()
		for _, v := range values {
			_, _ = fmt.Fprintf(&row, "%T %#v,", v, v) // type and exact value
		}
		hashes = append(hashes, sha256.Sum256(row.Bytes()))
	}
	if err := rows.Err(); err != nil {
		return 0, sum, err
	}
	slices.SortFunc(hashes, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	all := sha256.New()
	for _, h := range hashes {
		all.Write(h[:])
	}
	all.Sum(sum[:0])
	return len(hashes), sum, nil
}

// DigestedFile is Digested of a file outside the pool.
func DigestedFile(ctx context.Context, path string) (d Digest, err error) {
	db, err := Open(path)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return Digested(ctx, db)
}
