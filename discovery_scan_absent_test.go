package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestThousandsOfTenantsThatWentLeaveNothingBehind: with restore on open their replicas
// are all that is kept, in memory, in the catalog and in the state directory.
func TestThousandsOfTenantsThatWentLeaveNothingBehind(t *testing.T) {
	const tenants, stay = 2000, 3
	dir := memoryDir(t)
	root, state := filepath.Join(dir, "data"), filepath.Join(dir, "state")
	template := filepath.Join(dir, "template.db")
	makePages(t, template)
	b, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	path := func(i int) string { return filepath.Join(root, fmt.Sprintf("p%d/databases/db%d.db", i%10, i)) }
	for i := range tenants {
		if err := os.MkdirAll(filepath.Dir(path(i)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(i), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts := []multidb.Option{multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(state), multidb.WithRestoreOnOpen(),
		multidb.WithWatch(false), multidb.WithHotDuration(50 * time.Millisecond), multidb.WithPromotion(0, 0)}
	f := start(t, root, opts...)
	eventually(t, "all are shipped, and their page hashes kept", func() bool {
		if s := f.m.Stats(); s.Transactions < tenants || s.Running > 0 || s.Cold < tenants {
			return false
		}
		n, err := multidb.PageFiles(f.m)
		return err == nil && n == tenants
	})
	if n := catalogRows(t, f.m); n != tenants {
		t.Errorf("%d rows of the catalog for %d tenants", n, tenants)
	}
	for i := stay; i < tenants; i++ {
		removeDB(t, path(i))
	}
	kept := func(m *multidb.Manager, what string) {
		t.Helper()
		eventually(t, what+": they are let go of", func() bool { return m.Stats().Databases == stay && m.Stats().Running == 0 })
		if n := catalogRows(t, m); n != stay {
			t.Errorf("%s: %d rows of the catalog, want %d", what, n, stay)
		}
		if n, err := multidb.PageFiles(m); n != stay || err != nil {
			t.Errorf("%s: %d files of page hashes, %v; want %d", what, n, err, stay)
		}
		if n := multidb.PerDatabase(m); n > 4*stay {
			t.Errorf("%s: %d things are kept by database, of %d", what, n, stay)
		}
		if n := multidb.AbsentLen(m); n > multidb.MaxAbsent {
			t.Errorf("%s: %d absent ones are kept, want %d at most", what, n, multidb.MaxAbsent)
		}
	}
	kept(f.m, "after they went")
	if multidb.AbsentLen(f.m) == 0 {
		t.Error("nothing is kept that spares a restore its listing")
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}

	g := start(t, root, opts...)
	kept(g.m, "after a restart")
	if n := multidb.AbsentLen(g.m); n != 0 {
		t.Errorf("%d absent ones after a restart", n)
	}
	id := multidb.ID(fmt.Sprintf("p%d/db%d", stay%10, stay))
	g.insert(id, "back")
	g.sync(id)
	// A run writes its row after it has answered Sync.
	eventually(t, "the one that was restored on open has its row", func() bool { return catalogRows(t, g.m) == stay+1 })
	if got := len(g.restored(id, multidb.RestoreOptions{})); got != pageRows+1 {
		t.Errorf("%d rows after one was restored on open, want %d", got, pageRows+1)
	}
}

// TestATenantThatComesBackIsJudgedByWhatItHolds: its row is gone, and of its file it is
// not known whether it is the one that was, so the replica's newest file and what the
// local one holds decide.
func TestATenantThatComesBackIsJudgedByWhatItHolds(t *testing.T) {
	t.Parallel()
	const id = "project0/db0"
	for _, c := range []struct {
		name    string
		foreign bool // another machine has written last, before the tenant went
		back    func(t *testing.T, w *comeback)
		want    error  // of the first Sync
		rows    string // of the replica then
	}{
		{"restored on open", false, nil, nil, "[0 1 2 old new then]"},
		{"restored on open, another's", true, nil, nil, "[0 1 2 old new there then]"},
		{"the same file", false, func(t *testing.T, w *comeback) { w.put(w.newest) }, nil, "[0 1 2 old new then]"},
		// Whoever puts an older copy in the place of what this one wrote last means it.
		{"an older file", false, func(t *testing.T, w *comeback) { w.put(w.older) }, nil, "[0 1 2 old then]"},
		{"a newer file", false, func(t *testing.T, w *comeback) { w.put(w.newest); w.write("aside") }, nil, "[0 1 2 old new aside then]"},
		{"an older file, under what another wrote", true, func(t *testing.T, w *comeback) { w.put(w.older) }, multidb.ErrFenced, "[0 1 2 old new there]"},
		{"this one's, under what another wrote", true, func(t *testing.T, w *comeback) { w.put(w.newest) }, multidb.ErrFenced, "[0 1 2 old new there]"},
		{"the other's file", true, func(t *testing.T, w *comeback) { w.put(w.theirs) }, nil, "[0 1 2 old new there then]"},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", c.name, restart), func(t *testing.T) {
				dir := t.TempDir()
				rep := multidbtest.NewReplica()
				root := newTree(t, 1, 2)
				opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(filepath.Join(dir, "state")), multidb.WithRestoreOnOpen(), multidb.WithWatch(false)}
				w := &comeback{t: t, path: filepath.Join(root, "project0/databases/db0.db"),
					older: filepath.Join(dir, "older.db"), newest: filepath.Join(dir, "newest.db"), theirs: filepath.Join(dir, "theirs.db")}
				f := start(t, root, opts...)
				f.insert(id, "old")
				f.sync(id)
				w.copyTo(w.older)
				f.insert(id, "new")
				f.sync(id)
				w.copyTo(w.newest)
				if c.foreign {
					g := start(t, t.TempDir(), multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
					g.insert(id, "there")
					g.sync(id)
					if err := g.close(); err != nil { // which leaves no log
						t.Fatal(err)
					}
					if err := os.Rename(filepath.Join(g.root, "project0/databases/db0.db"), w.theirs); err != nil {
						t.Fatal(err)
					}
				}
				if err := f.m.Evict(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				removeDB(t, w.path)
				f.events.wait(t, "removed", func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved && ev.ID == id })
				if n := catalogRows(t, f.m); n != 1 {
					t.Errorf("%d rows of the catalog after it went, want 1", n)
				}
				if restart {
					if err := f.close(); err != nil {
						t.Fatal(err)
					}
				}
				if c.back != nil {
					c.back(t, w)
				}
				if restart {
					f = start(t, root, opts...)
				}
				if c.back != nil { // the first look at it is a run's, as nobody has opened it
					eventually(t, "it is known again", func() bool { _, err := f.m.Status(id); return err == nil })
					if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, c.want) {
						t.Fatalf("sync: %v, want %v", err, c.want)
					}
				}
				if c.want == nil {
					f.insert(id, "then")
					f.sync(id)
				}
				if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != c.rows {
					t.Errorf("the replica has %v, want %v", got, c.rows)
				}
			})
		}
	}
}

// comeback is a tenant that went, and copies of its file.
type comeback struct {
	t                           *testing.T
	path, older, newest, theirs string
}

func (w *comeback) copyTo(path string) { copyDB(w.t, w.path, path) }

// put gives a copy the tenant's name, whole.
func (w *comeback) put(path string) {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path+".part", b, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.path+".part", w.path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *comeback) write(v string) {
	w.t.Helper()
	sqlExec(w.t, w.path, "INSERT INTO t(v) VALUES('"+v+"')")
}

// copyDB copies a database through SQLite, as it may be open.
func copyDB(t *testing.T, from, to string) {
	t.Helper()
	sqlExec(t, from, "VACUUM INTO '"+to+"'")
	sqlExec(t, to, "PRAGMA journal_mode=wal")
}

func sqlExec(t *testing.T, path string, queries ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range queries {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
}

const pageRows = 20

// makePages makes a small database of so many pages that their hashes are kept.
func makePages(t *testing.T, path string) {
	t.Helper()
	sqlExec(t, path, "PRAGMA page_size=512", "PRAGMA journal_mode=wal", "CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT)",
		fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO t(v) SELECT printf('%%0400d', i) FROM n", pageRows))
}

func removeDB(t *testing.T, path string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func catalogRows(t *testing.T, m *multidb.Manager) int {
	t.Helper()
	n, err := multidb.CatalogRows(context.WithoutCancel(t.Context()), m)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
