package clusternode

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// NoHead is the head of a history without a row.
const NoHead = "-"

// Querier is a connection, or several.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Append adds a row to a history in one transaction, and calls soon just before its commit. Without a head it is what
// follows from the rows that the transaction sees: another request may still be at work of which nobody waits
// for the answer any more.
func Append(ctx context.Context, db *sql.DB, v, head string, soon func()) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS chain(k INTEGER PRIMARY KEY, v TEXT, head TEXT);
		CREATE TABLE IF NOT EXISTS page(k INTEGER PRIMARY KEY, v TEXT, pad TEXT)`); err != nil {
		return err
	}
	if head == "" {
		before, err := lastHead(ctx, tx)
		if err != nil {
			return err
		}
		head = Next(before, v)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO chain(v, head) VALUES(?, ?)", v, head); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO page SELECT max(k) % 16, ?1, ?2 FROM chain`, v, padOf(v)); err != nil {
		return err
	}
	soon()
	return tx.Commit()
}

// Next is the head after a row.
func Next(before, v string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(before+"/"+v)))[:20]
}

func padOf(v string) string { return strings.Repeat(v+";", 200) }

// Read returns the length and the head of the history that a database holds,
// and an error unless all of it belongs together.
func Read(ctx context.Context, db Querier) (n int, head string, err error) {
	head = NoHead
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'chain'").Scan(&tables); err != nil || tables == 0 {
		return 0, head, err
	}
	rows, err := db.QueryContext(ctx, "SELECT k, v, head FROM chain ORDER BY k")
	if err != nil {
		return 0, head, err
	}
	defer func() { _ = rows.Close() }() // Err says what it would
	pages, last := map[int]string{}, "none"
	for rows.Next() {
		var k int
		var v, h string
		if err := rows.Scan(&k, &v, &h); err != nil {
			return n, head, err
		}
		n++
		if head = Next(head, v); h != head || k != n {
			return n, head, fmt.Errorf("row %d (%s) does not follow from the rows before it, the last of which is %s", k, v, last)
		}
		pages[k%16], last = v, v
	}
	if err := rows.Err(); err != nil {
		return n, head, err
	}
	more, err := db.QueryContext(ctx, "SELECT k, v, pad FROM page")
	if err != nil {
		return n, head, err
	}
	defer func() { _ = more.Close() }()
	for more.Next() {
		var k int
		var v, pad string
		if err := more.Scan(&k, &v, &pad); err != nil {
			return n, head, err
		}
		if pages[k] != v || pad != padOf(v) {
			return n, head, fmt.Errorf("page %d is of %s, the history's last there is %s", k, v, pages[k])
		}
		delete(pages, k)
	}
	if len(pages) > 0 {
		return n, head, fmt.Errorf("pages are missing: %v", pages)
	}
	return n, head, more.Err()
}

// lastHead is the head of a history, which may be empty.
func lastHead(ctx context.Context, db Querier) (head string, err error) {
	err = db.QueryRowContext(ctx, "SELECT head FROM chain ORDER BY k DESC LIMIT 1").Scan(&head)
	if errors.Is(err, sql.ErrNoRows) {
		return NoHead, nil
	}
	return head, err
}

// Rows are the rows of a history, in order; an error unless they belong together.
func Rows(ctx context.Context, db Querier) (all []string, err error) {
	if n, _, err := Read(ctx, db); err != nil || n == 0 {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT v FROM chain ORDER BY k")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err says what it would
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
