package ship

import (
	"errors"
	"testing"

	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// TestAWALThatAReaderKeepsFromBeingCutIsShippedAsItIs: giving it up failed, so
// nothing of it is gone.
func TestAWALThatAReaderKeepsFromBeingCutIsShippedAsItIs(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	h := history{}
	r.insert(1, 100)
	reader, err := foreign(t, r.path).Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	r.insert(2, 100)
	if err := r.s.Relieve(t.Context(), r.db); !errors.Is(err, sqlitedb.ErrBusy) {
		t.Fatalf("relieve beside a reader: %v", err)
	}
	if res := r.ship(RuleSame); res.Txns != 3 {
		t.Errorf("shipped %+v, want three transactions", res)
	}
	h.note(r)
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	r.insert(1, 100)
	if err := r.s.Relieve(t.Context(), r.db); err != nil {
		t.Fatal(err)
	}
	r.ship(RuleResync)
	h.note(r)
	h.check(r)
	r.contiguous()
}
