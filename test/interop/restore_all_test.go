//go:build interop

package interop

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// TestRestoreAllGetsAThousandTenantsBackOnAnEmptyMachine uses the binary alone:
// no configuration, no state, only the name of the bucket and credentials.
func TestRestoreAllGetsAThousandTenantsBackOnAnEmptyMachine(t *testing.T) {
	const projects, databases = 50, 20
	g, root := startGateway(t), t.TempDir()
	paths := map[string]string{} // by ID
	for i := range projects {
		for j := range databases {
			project, database := fmt.Sprint("project", i), fmt.Sprint("db", j)
			path := databasePath(root, project, database)
			makeTenant(t, path, project+"/"+database, 5+(i*databases+j)%40)
			paths[project+"/"+database] = path
		}
	}
	g.shipFleet(t, root)

	dir := t.TempDir()
	binary := filepath.Join(dir, "multidb")
	run(t, 10*time.Minute, os.Environ(), "", "go", "build", "-C", "../..", "-o", binary, "./cmd/multidb")
	env := environ("AWS_ACCESS_KEY_ID="+g.accessKey, "AWS_SECRET_ACCESS_KEY="+g.secretKey, "AWS_REGION="+g.region,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	for _, place := range []struct{ name, path string }{
		{"the bucket alone", ""}, {"the template of its paths", "litestream/{{project}}/{{database}}"},
	} {
		out := filepath.Join(dir, "restored", place.name)
		args := []string{"restore-all", "-bucket", g.bucket, "-endpoint", g.endpoint, "-o", out}
		if place.path != "" {
			args = append(args, "-path", place.path)
		}
		begin := time.Now()
		said := run(t, 10*time.Minute, env, "", binary, args...)
		took := time.Since(begin)
		t.Logf("given %s: %d tenants in %v: %.0f a second", place.name, len(paths), took.Round(time.Millisecond), float64(len(paths))/took.Seconds())
		for id, path := range paths {
			requireSame(t, path, filepath.Join(out, id+".db"))
		}
		if t.Failed() {
			t.Fatal(said)
		}
	}
	run(t, 10*time.Minute, env, "", binary, "verify", "-bucket", g.bucket, "-endpoint", g.endpoint, "project7/*")
}

// makeTenant writes in process: a thousand sqlite3 processes would be the test's
// longest part.
func makeTenant(t *testing.T, path, id string, rows int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`PRAGMA journal_mode = wal; PRAGMA synchronous = off;
		CREATE TABLE notes (id INTEGER PRIMARY KEY, tenant TEXT, data BLOB);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
			INSERT INTO notes (tenant, data) SELECT ?2, randomblob(200) FROM n;`, rows, id)
	if err != nil {
		t.Fatal(err)
	}
}

// shipFleet replicates everything that is there, and the changes to some of it.
func (g *gateway) shipFleet(t *testing.T, root string) {
	t.Helper()
	m := g.startManager(t, root)
	for i := range 200 {
		id := multidb.ID(fmt.Sprintf("project%d/db%d", i%50, i%20))
		err := m.Do(t.Context(), id, func(db *sql.DB) error {
			_, err := db.Exec(`INSERT INTO notes (tenant) VALUES ('later')`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// requireSame is requireEqual without another process for each.
func requireSame(t *testing.T, source, restored string) {
	t.Helper()
	want, rows := content(t, source)
	got, _ := content(t, restored)
	if rows == 0 || len(want) != len(got) {
		t.Errorf("%s: %d rows; the source has %d objects, the restored one %d", source, rows, len(want), len(got))
	}
	for key := range want {
		if want[key] != got[key] {
			t.Errorf("%s\n  source   %s: %s\n  restored %s: %s", key, source, want[key], restored, got[key])
		}
	}
}
