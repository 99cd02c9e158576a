package multidb_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/multidb-go/multidb"
)

// TestARestoreGetsEachTransactionThatTheFleetLogStillHas, though the prefix has them as one
// file: the owner's, anybody's from the replica alone, and after Close.
func TestARestoreGetsEachTransactionThatTheFleetLogStillHas(t *testing.T) {
	root, replica, state := t.TempDir(), t.TempDir(), t.TempDir()
	m := logged(t, root, replica, state)
	const id = multidb.ID("t0")
	var at []multidb.TXID
	for range 6 {
		insert(t, m, id)
		pos, err := m.Sync(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, pos.TXID)
	}
	rep, err := multidb.NewFileReplica(replica, "litestream/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	db := multidb.Database{ID: id, Vars: []multidb.Var{{Name: "tenant", Value: string(id)}}}
	check := func(what string, restore func(multidb.RestoreOptions) error) {
		t.Helper()
		for i, txid := range at {
			out := filepath.Join(t.TempDir(), "out.db")
			if err := restore(multidb.RestoreOptions{OutputPath: out, TXID: txid}); err != nil {
				t.Errorf("%s: transaction %s: %v", what, txid, err)
			} else if n := rowsOf(t, out); n != i+1 {
				t.Errorf("%s: transaction %s has %d rows, want %d", what, txid, n, i+1)
			}
		}
	}
	owner := func(opt multidb.RestoreOptions) error { return m.Restore(t.Context(), id, opt) }
	anybody := func(opt multidb.RestoreOptions) error { return multidb.RestoreFrom(t.Context(), rep, db, opt) }
	check("not unpacked", owner)
	if err := m.Unpack(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	check("unpacked", owner)
	check("from the replica", anybody)
	if err := m.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("closed", anybody)
}
