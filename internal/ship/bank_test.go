package ship

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/superfly/ltx"
)

// The bank is a database whose every committed state can be told from any other
// content: the balances sum up to a constant, the counter counts the rows of
// the journal, and it only ever rises.
const (
	bankAccounts = 16
	bankTotal    = bankAccounts * 1000
)

var bankSchema = []string{
	"CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER, pad BLOB)",
	"CREATE TABLE counter(n INTEGER, pad BLOB)",
	"CREATE TABLE journal(n INTEGER PRIMARY KEY, pad BLOB)",
	"INSERT INTO counter VALUES(0, NULL)",
	fmt.Sprintf("INSERT INTO account SELECT value, 1000, randomblob(200) FROM json_each('[%s]')", ids(bankAccounts)),
}

func ids(n int) string {
	s := "1"
	for i := 2; i <= n; i++ {
		s += fmt.Sprintf(",%d", i)
	}
	return s
}

// transfer is the statements of one transaction of the bank, without its BEGIN
// and COMMIT.
func transfer(from, to, amount, pad int) []string {
	return []string{
		fmt.Sprintf("UPDATE account SET balance = balance - %d, pad = randomblob(%d) WHERE id = %d", amount, pad, from),
		"UPDATE counter SET n = n + 1",
		fmt.Sprintf("INSERT INTO journal SELECT n, randomblob(%d) FROM counter", pad),
		fmt.Sprintf("UPDATE account SET balance = balance + %d WHERE id = %d", amount, to),
	}
}

// bankCount checks the invariants and returns the counter.
func bankCount(db *sql.DB) (n int, err error) {
	var sum, rows, maxRow int
	var check string
	err = db.QueryRow(`SELECT (SELECT n FROM counter), (SELECT sum(balance) FROM account),
		(SELECT count(*) FROM journal), (SELECT ifnull(max(n), 0) FROM journal)`).Scan(&n, &sum, &rows, &maxRow)
	if err != nil {
		return 0, err
	}
	if err := db.QueryRow("PRAGMA quick_check").Scan(&check); err != nil {
		return 0, err
	}
	if sum != bankTotal || rows != n || maxRow != n || check != "ok" {
		return 0, fmt.Errorf("counter %d, sum %d, %d rows up to %d, check %q", n, sum, rows, maxRow, check)
	}
	return n, nil
}

// bankSane applies the replica's files one by one and checks that each state is
// one that the source had at a commit, and none older than the one before. The
// last one is restored by stock litestream and must be the source.
func bankSane(t *testing.T, r *rig) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "replay.db")
	last := -1
	for txid := ltx.TXID(1); txid <= r.db.State.TXID; txid++ {
		applyFile(t, out, r.client, txid)
		db, err := sql.Open("sqlite", "file:"+out+"?mode=ro&immutable=1")
		if err != nil {
			t.Fatal(err)
		}
		n, err := bankCount(db)
		r.close(db)
		if err != nil {
			t.Fatalf("transaction %s: %v", txid, err)
		}
		if n < last {
			t.Fatalf("transaction %s counts %d, the one before %d", txid, n, last)
		}
		last = n
	}
	r.same()
	src := foreign(t, r.path)
	defer r.close(src)
	if n, err := bankCount(src); err != nil || n != last {
		t.Fatalf("the source counts %d, the replica %d (%v)", n, last, err)
	}
	t.Logf("%d transactions shipped as %d files", last, r.db.State.TXID)
}

// applyFile writes a level-0 file's pages to a database file.
func applyFile(t testing.TB, path string, c *memClient, txid ltx.TXID) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rc, err := c.OpenLTXFile(context.Background(), 0, txid, txid, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	dec := ltx.NewDecoder(rc)
	if err := dec.DecodeHeader(); err != nil {
		t.Fatal(err)
	}
	h := dec.Header()
	page := make([]byte, h.PageSize)
	for {
		var ph ltx.PageHeader
		if err := dec.DecodePage(&ph, page); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(page, int64(ph.Pgno-1)*int64(h.PageSize)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(h.Commit) * int64(h.PageSize)); err != nil {
		t.Fatal(err)
	}
}

// pollUntil ships without a pause until the writers are done, with a seal, a
// checkpoint or a snapshot now and then, and then what is left.
func pollUntil(t *testing.T, r *rig, done <-chan struct{}, each func()) {
	t.Helper()
	var rules [RuleResync + 1]int
	stop := false
	for i := 1; !stop; i++ {
		select {
		case <-done:
			stop = true
		default:
		}
		var res Result
		var err error
		switch {
		case stop || i%20 != 0:
			res, err = r.s.Step(t.Context(), r.db)
		case i%160 == 0:
			res, err = r.s.Snapshot(t.Context(), r.db)
		case i%60 == 0:
			var s Sealed
			s, err = r.s.Seal(t.Context(), r.db)
			res = s.Result
		default:
			var s Sealed
			s, err = r.s.Checkpoint(t.Context(), r.db)
			res = s.Result
		}
		if errors.Is(err, sqlitedb.ErrBusy) || errors.Is(err, ErrUnsettled) {
			continue // the writers were in the way; nothing moved
		} else if err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
		rules[res.Rule]++
		each()
	}
	drain(t, r.s, r.db)
	t.Logf("rules taken, R1 to R4: %v", rules[1:])
}
