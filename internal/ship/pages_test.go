package ship

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestOneRowOfAWriterThatOpensWritesAndClosesCostsAFewPages: its close deletes
// the WAL, so that nothing but a resync is left. It goes red if
// dump ships pages whose hash is known and the same.
func TestOneRowOfAWriterThatOpensWritesAndClosesCostsAFewPages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	w := foreign(t, path)
	mustExec(t, w, "PRAGMA journal_mode=wal")
	mustExec(t, w, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB, w TEXT)")
	rows := 4000
	if testing.Short() {
		rows = 600
	}
	mustExec(t, w, fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d) INSERT INTO t(v) SELECT randomblob(1000) FROM n", rows))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s, c := newShipper(t), newMemClient()
	db := &DB{Path: path, Client: c}
	first := drain(t, s, db)
	if first.Bytes < int64(rows)*1000 {
		t.Fatalf("the database is too small for this test: %d bytes shipped", first.Bytes)
	}
	for i := range 5 {
		w := foreign(t, path)
		mustExec(t, w, "INSERT INTO t(v) VALUES(randomblob(100))")
		if i == 3 {
			mustExec(t, w, "DELETE FROM t WHERE k % 100 = 7")
			mustExec(t, w, "VACUUM") // moves pages, shrinks
		}
		want := contentHash(t, w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := drain(t, s, db)
		if r.Rule != RuleResync || r.Txns != 1 {
			t.Errorf("round %d: rule %v, %d transactions", i, r.Rule, r.Txns)
		}
		if i != 3 && r.Bytes > 16<<10 {
			t.Errorf("round %d: %d bytes for one row", i, r.Bytes)
		}
		if got := restore(t, c, 0); got != want {
			t.Fatalf("round %d: restored another state", i)
		}
	}
	// Opened and closed without a change: nothing to ship.
	w = foreign(t, path)
	mustExec(t, w, "BEGIN IMMEDIATE")
	mustExec(t, w, "COMMIT")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	before := db.State.TXID
	if drain(t, s, db); db.State.TXID != before {
		t.Errorf("a transaction was shipped although nothing changed")
	}
	// Hashes survive encoding, and are of no use at another transaction.
	b, _ := db.Pages.AppendBinary(nil)
	var again Pages
	if err := again.UnmarshalBinary(b); err != nil || !again.usable(db.State) {
		t.Errorf("decoded: %v, usable %v", err, again.usable(db.State))
	}
	again.TXID++
	if again.usable(db.State) {
		t.Error("hashes of another transaction count as this one's")
	}
	b[len(b)/2] ^= 1
	if err := again.UnmarshalBinary(b); err == nil {
		t.Error("garbled hashes are decoded")
	}
}
