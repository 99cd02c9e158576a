package multidb_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestARestartKnowsWhatItHasUnpacked: of several files one was made, which the next life
// knows by its checksum, and goes on from without shipping everything anew; also where
// another program has written meanwhile, and whether it has a log or not.
func TestARestartKnowsWhatItHasUnpacked(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		for _, files := range []int{1, 5, 40} {
			t.Run(fmt.Sprintf("direct %v, %d files", direct, files), func(t *testing.T) {
				const id = "project0/db0"
				rep, root := multidbtest.NewReplica(), newTree(t, 1, 1)
				opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(t.TempDir()), multidb.WithWatch(false)}
				log := multidb.WithFleetLog(multidb.FleetLogConfig{})
				f := start(t, root, append(opts, log)...)
				want := []string{"0", "1", "2"}
				for i := range files {
					f.insert(id, fmt.Sprint("a", i))
					f.sync(id)
					want = append(want, fmt.Sprint("a", i))
				}
				if err := f.close(); err != nil {
					t.Fatal(err)
				}
				for _, elsewhere := range []bool{false, true} {
					if elsewhere {
						db, err := sql.Open("sqlite", filepath.Join(root, "project0/databases/db0.db"))
						if err != nil {
							t.Fatal(err)
						}
						if _, err := db.ExecContext(context.Background(), "INSERT INTO t(v) VALUES('elsewhere')"); err != nil {
							t.Fatal(err)
						}
						if err := db.Close(); err != nil {
							t.Fatal(err)
						}
						want = append(want, "elsewhere")
					}
					if !direct {
						opts = append(opts, log)
					}
					g := start(t, root, opts...)
					g.insert(id, "b")
					g.sync(id)
					want = append(want, "b")
					g.wantRows("the newest restore", g.restored(id, multidb.RestoreOptions{}), want...)
					if n := g.m.Stats().Resyncs; n != 0 && !elsewhere {
						t.Errorf("%d times everything was shipped anew", n)
					}
					if err := g.close(); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}
