package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/multidb-go/multidb"
)

// logged is a Manager with a fleet log over a file replica.
func logged(t *testing.T, root, replica, state string) *multidb.Manager {
	t.Helper()
	rep, err := multidb.NewFileReplica(replica, "litestream/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{tenant}}.db"))), multidb.WithReplica(rep),
		multidb.WithStateDir(state), multidb.WithFleetLog(multidb.FleetLogConfig{Path: "fleet"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// filesBelow counts the files below a directory whose path contains a text.
func filesBelow(t *testing.T, dir, text string) (n int) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, text) {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func insert(t *testing.T, m *multidb.Manager, id multidb.ID) {
	t.Helper()
	if err := m.Do(t.Context(), id, func(db *sql.DB) error {
		_, err := db.Exec("CREATE TABLE IF NOT EXISTS t(v); INSERT INTO t VALUES(1)")
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestTenantsShareTheObjectsOfAFleetLog and their prefixes are whole after Close.
func TestTenantsShareTheObjectsOfAFleetLog(t *testing.T) {
	t.Parallel()
	root, replica, state := t.TempDir(), t.TempDir(), t.TempDir()
	const tenants, rounds = 50, 4
	for life := range 2 {
		m := logged(t, root, replica, state)
		for range rounds {
			var wg sync.WaitGroup
			for i := range tenants {
				wg.Go(func() {
					id := multidb.ID(fmt.Sprint("t", i))
					insert(t, m, id)
					if pos, err := m.Sync(t.Context(), id); err != nil || pos.TXID == 0 {
						t.Errorf("sync of %s: %+v, %v", id, pos, err)
					}
				})
			}
			wg.Wait()
		}
		for i := range 5 { // restored while nothing of this life is unpacked
			out := filepath.Join(t.TempDir(), "out.db")
			if err := m.Restore(t.Context(), multidb.ID(fmt.Sprint("t", i)), multidb.RestoreOptions{OutputPath: out}); err != nil {
				t.Fatal(err)
			}
			if n := rowsOf(t, out); n != rounds*(life+1) {
				t.Errorf("life %d: %d rows of %d, from the log", life, n, rounds*(life+1))
			}
		}
		if n := filesBelow(t, filepath.Join(replica, "fleet"), ""); n > 60 {
			t.Errorf("life %d: %d objects for %d commits", life, n, tenants*rounds)
		}
		if err := m.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		rep, err := multidb.NewFileReplica(replica, "litestream/{{tenant}}")
		if err != nil {
			t.Fatal(err)
		}
		for i := range tenants {
			id := multidb.ID(fmt.Sprint("t", i))
			out := filepath.Join(t.TempDir(), "out.db")
			if err := multidb.RestoreFrom(t.Context(), rep, multidb.Database{ID: id, Vars: []multidb.Var{{Name: "tenant", Value: string(id)}}},
				multidb.RestoreOptions{OutputPath: out}); err != nil {
				t.Fatal(err)
			}
			if n := rowsOf(t, out); n != rounds*(life+1) {
				t.Errorf("life %d: %s has %d rows of %d", life, id, n, rounds*(life+1))
			}
		}
	}
}

// rowsOf counts the rows of a database file.
func rowsOf(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.QueryRow("SELECT count(*) FROM t").Scan(&n), db.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}
