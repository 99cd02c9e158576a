package torture

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// ledger is an application whose whole content follows from the number of its
// last transaction, so that a restored database proves by itself which commit
// it is, and that it is all of it.
type ledger struct {
	seed uint64 // of this database
}

// keep is how many rows stay: the rest is deleted, which frees pages.
const keep = 120

func (l ledger) payload(k int) []byte {
	rng := rand.New(rand.NewPCG(l.seed, uint64(k)))
	n := rng.IntN(1500)
	switch rng.IntN(300) {
	case 0:
		n = 1_300_000 // more than the shipper's buffer
	case 1, 2, 3, 4, 5, 6:
		n = 60_000 // more than the page cache: spills
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// firstLarge is the first transaction that is more than the shipper's buffer.
func (l ledger) firstLarge() int {
	for k := 1; ; k++ {
		if len(l.payload(k)) > 1_000_000 {
			return k
		}
	}
}

func (l ledger) chain(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d", l.seed, n))
	return hex.EncodeToString(sum[:])
}

// ledgerSchema is part of transaction 1.
var ledgerSchema = []string{
	"CREATE TABLE log(k INTEGER PRIMARY KEY, v BLOB, size INT)",
	"CREATE INDEX log_size ON log(size)",
	"CREATE TABLE wide(a TEXT PRIMARY KEY, b) WITHOUT ROWID",
	"CREATE TABLE head(id INTEGER PRIMARY KEY, n INT, chain TEXT)",
}

// apply makes transaction k. It leaves no transaction open.
func (l ledger) apply(ctx context.Context, c querier, k int, commit bool) (err error) {
	exec := func(q string, args ...any) {
		if err == nil {
			if _, err = c.ExecContext(ctx, q, args...); err != nil {
				err = fmt.Errorf("transaction %d: %s: %w", k, q, err)
			}
		}
	}
	exec("PRAGMA cache_size = 5")
	exec("BEGIN IMMEDIATE")
	if err != nil {
		return err
	}
	if k == 1 {
		for _, q := range ledgerSchema {
			exec(q)
		}
	}
	v := l.payload(k)
	exec("INSERT INTO log VALUES(?, ?, ?)", k, v, len(v))
	exec("DELETE FROM log WHERE k <= ?", k-keep)
	exec("INSERT OR REPLACE INTO wide VALUES(?, ?)", fmt.Sprint(k%40), k)
	exec("INSERT OR REPLACE INTO head VALUES(1, ?, ?)", k, l.chain(k))
	if commit {
		exec("COMMIT")
	} else {
		exec("ROLLBACK")
	}
	if err != nil {
		_, _ = c.ExecContext(ctx, "ROLLBACK")
	}
	return err
}

// last is the number of the last transaction; 0 before the first.
func (l ledger) last(ctx context.Context, c querier) (n int, err error) {
	var tables int
	if err := c.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'head'").Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	err = c.QueryRowContext(ctx, "SELECT n FROM head").Scan(&n)
	return n, err
}

// verify returns the number of the last transaction, and an error unless the
// content is exactly what that transaction left.
func (l ledger) verify(ctx context.Context, c querier) (int, error) {
	n, err := l.last(ctx, c)
	if err != nil || n == 0 {
		return 0, err
	}
	var chain string
	if err := c.QueryRowContext(ctx, "SELECT chain FROM head").Scan(&chain); err != nil {
		return n, err
	}
	if chain != l.chain(n) {
		return n, fmt.Errorf("transaction %d has a wrong chain", n)
	}
	rows, err := c.QueryContext(ctx, "SELECT k, v, size FROM log ORDER BY k")
	if err != nil {
		return n, err
	}
	defer rows.Close()
	want := max(1, n-keep+1)
	for ; rows.Next(); want++ {
		var k, size int
		var v []byte
		if err := rows.Scan(&k, &v, &size); err != nil {
			return n, err
		}
		if k != want {
			return n, fmt.Errorf("at transaction %d row %d stands where row %d belongs", n, k, want)
		}
		if string(v) != string(l.payload(k)) || size != len(v) {
			return n, fmt.Errorf("at transaction %d row %d has a wrong content", n, k)
		}
	}
	if err := rows.Err(); err != nil {
		return n, err
	}
	if want != n+1 {
		return n, fmt.Errorf("at transaction %d the rows end at %d", n, want-1)
	}
	for k := max(1, n-39); k <= n; k++ {
		var b int
		if err := c.QueryRowContext(ctx, "SELECT b FROM wide WHERE a = ?", fmt.Sprint(k%40)).Scan(&b); err != nil || b != k {
			return n, fmt.Errorf("at transaction %d the other table has %d for %d: %v", n, b, k, err)
		}
	}
	return n, nil
}

// verifyFile is verify for a file that nobody uses, and that has no WAL.
func (l ledger) verifyFile(t testing.TB, path string) (int, error) {
	db := openDB(t, path, "immutable=1")
	defer db.Close()
	if err := integrity(db); err != nil {
		return 0, err
	}
	return l.verify(context.Background(), db)
}

// verifyCopy is verify for a database and its WAL as a crash left them, without
// touching them.
func (l ledger) verifyCopy(t testing.TB, path string) (int, error) {
	dir, err := os.MkdirTemp(t.TempDir(), "copy-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "db")
	if err := copyDB(path, copied); err != nil {
		return 0, err
	}
	db := openDB(t, copied, "")
	defer db.Close()
	if err := integrity(db); err != nil {
		return 0, fmt.Errorf("the application's own database: %w", err)
	}
	return l.verify(context.Background(), db)
}

// copyDB copies a database, its WAL and its journal, as far as they exist.
func copyDB(from, to string) error {
	for _, suffix := range []string{"", "-wal", "-journal"} {
		b, err := os.ReadFile(from + suffix)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.WriteFile(to+suffix, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
