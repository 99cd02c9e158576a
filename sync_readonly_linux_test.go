package multidb_test

import (
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestOnAReadOnlyFileSystemWhatHasNoLogIsShippedAndTheRestIsNamed mounts one in
// a namespace of its own, where the test runs itself again.
func TestOnAReadOnlyFileSystemWhatHasNoLogIsShippedAndTheRestIsNamed(t *testing.T) {
	const env = "MULTIDB_TEST_READONLY"
	root := os.Getenv(env)
	if root == "" {
		root = t.TempDir()
		makeDB(t, filepath.Join(root, "p/databases/still.db"), 3)
		makeLog(t, filepath.Join(root, "p/databases/a.db"))
		script := `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$1" -test.run='^` + t.Name() + `$' -test.v`
		cmd := exec.Command("unshare", "--mount", "--map-root-user", "sh", "-c", script, root, os.Args[0])
		cmd.Env = append(os.Environ(), env+"="+root)
		out, err := cmd.CombinedOutput()
		if err == nil && strings.Contains(string(out), "--- PASS: "+t.Name()) {
			return
		}
		if !strings.Contains(string(out), "=== RUN") { // no such namespaces here: permissions must do
			if os.Geteuid() == 0 {
				t.Logf("no mount namespaces, and root ignores permissions: %s", out)
				return
			}
			dir := filepath.Join(root, "p/databases")
			if err := os.Chmod(dir, 0o555); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.Chmod(dir, 0o755) }()
			checkReadOnly(t, root)
			return
		}
		t.Fatalf("%v\n%s", err, out)
	}
	checkReadOnly(t, root)
}

// makeLog makes a database of which a part is in the log, as a program that was
// killed leaves it.
func makeLog(t *testing.T, path string) {
	t.Helper()
	from := filepath.Join(t.TempDir(), "a.db")
	makeDB(t, from, 3)
	db, err := sql.Open("sqlite", from)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO t(v) VALUES('in the log')"); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(path+suffix, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func checkReadOnly(t *testing.T, root string) {
	f := start(t, root, multidb.WithDiscoverer(multidb.Glob(pattern(newTree(t, 1, 1)))),
		multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(t.TempDir()))
	f.failed("p/a", multidb.ErrReadOnly)
	if _, err := f.m.Acquire(t.Context(), "p/a"); !errors.Is(err, multidb.ErrReadOnly) {
		t.Errorf("acquire: %v", err)
	}
	if st, err := f.m.Status("p/a"); err != nil || !errors.Is(st.Err, multidb.ErrReadOnly) {
		t.Errorf("status: %v, %v", st.Err, err)
	}
	f.sync("p/still")
	if rows := f.restored("p/still", multidb.RestoreOptions{}); len(rows) != 3 {
		t.Errorf("%d rows were shipped, want 3", len(rows))
	}
	if _, err := f.m.Acquire(t.Context(), "p/still"); !errors.Is(err, multidb.ErrReadOnly) {
		t.Errorf("acquire of one without a log: %v", err)
	}
	f.insert("project0/db0", "x")
	f.sync("project0/db0")
	if err := f.close(); !errors.Is(err, multidb.ErrNotDurable) {
		t.Errorf("close: %v", err)
	}
}
