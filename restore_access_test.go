package multidb_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestARestoredDatabaseHasTheModeAndOwnerItHad(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, t.TempDir(), multidb.WithReplica(rep), multidb.WithWatch(false))
	path := f.path()
	makeDB(t, path, 3)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	if root {
		if err := os.Chown(path, 1234, 4321); err != nil {
			t.Fatal(err)
		}
	}
	f.insert(exchangedID, "x")
	f.sync(exchangedID)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	want := func(what, path string, mode fs.FileMode) {
		t.Helper()
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		uid, gid, ok := multidb.OwnerOf(fi)
		if fi.Mode() != mode || root && ok && (uid != 1234 || gid != 4321) {
			t.Errorf("%s: mode %v, owner %d:%d", what, fi.Mode(), uid, gid)
		}
	}
	g := start(t, t.TempDir(), multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
	g.insert(exchangedID, "y")
	want("restored on open", g.path(), 0o600)
	want("its log", g.path()+"-wal", 0o600)
	out := filepath.Join(t.TempDir(), "out.db")
	if err := g.m.Restore(t.Context(), exchangedID, multidb.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	want("Restore", out, 0o600)
	// The file that Adopt takes the place of was given another mode since.
	g.sync(exchangedID)
	if err := os.Chmod(g.path(), 0o640); err != nil {
		t.Fatal(err)
	}
	if kept, err := g.m.Adopt(t.Context(), exchangedID); err != nil || kept == "" {
		t.Fatal(kept, err)
	}
	want("Adopt", g.path(), 0o640)
}

func TestMetadataThatCannotBeReadMakesARestoredFilePrivate(t *testing.T) {
	rep, _ := damaged(t, func(prefix string) {
		if err := os.WriteFile(filepath.Join(prefix, "metadata.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	var warnings []string
	f := start(t, t.TempDir(), multidb.WithReplica(rep()))
	out := filepath.Join(t.TempDir(), "out.db")
	if err := f.m.Restore(t.Context(), exchangedID, multidb.RestoreOptions{OutputPath: out,
		Warn: func(w string) { warnings = append(warnings, w) }}); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(out); err != nil || fi.Mode() != 0o600 || len(warnings) != 1 {
		t.Errorf("mode %v, warnings %q, %v", fi.Mode(), warnings, err)
	}
}
