package multidb_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestAColdTenantThatAnotherProgramOpensWritesAndClosesCostsFewBytes also after
// a restart: the hashes of its pages are kept while it is cold.
func TestAColdTenantThatAnotherProgramOpensWritesAndClosesCostsFewBytes(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := t.TempDir()
	path := filepath.Join(root, "p/databases/d.db")
	makeDB(t, path, 1)
	exec := func(q string) {
		t.Helper()
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<1000) SELECT randomblob(1000) AS b FROM n")
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithHotDuration(100 * time.Millisecond), multidb.WithPromotion(0, 0)}
	f := start(t, root, opts...)
	f.sync("p/d")
	for round := range 4 {
		if round == 2 {
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
			f = start(t, root, opts...)
		}
		before := rep.RequestStats().BytesOut
		exec(fmt.Sprintf("INSERT INTO t(v) VALUES('round%d')", round))
		f.sync("p/d")
		if n := rep.RequestStats().BytesOut - before; n > 16<<10 {
			t.Errorf("round %d: %d bytes for one row", round, n)
		}
	}
	if got := fmt.Sprint(f.restored("p/d", multidb.RestoreOptions{})); got != "[0 round0 round1 round2 round3]" {
		t.Errorf("restored %v", got)
	}
}
