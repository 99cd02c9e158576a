//go:build interop

package interop

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

const (
	id     = "project0/db0"
	prefix = "litestream/" + id
)

// databasePath is where the pattern of these tests puts a database.
func databasePath(root, project, database string) string {
	return filepath.Join(root, project, "databases", database+".db")
}

// makeDatabase creates the database of id under root, in WAL mode, with rows of
// every type.
func makeDatabase(t *testing.T, root string) string {
	t.Helper()
	path := databasePath(root, "project0", "db0")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	sqlite3(t, path, `PRAGMA journal_mode = wal;
		CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, weight REAL, data BLOB);
		CREATE INDEX notes_weight ON notes (weight);
		CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
		INSERT INTO settings VALUES ('theme', 'dark'), ('limit', 7), ('nothing', NULL);`)
	write(t, path, 100)
	return path
}

// write adds rows from a process of its own, in transactions of 10 rows.
func write(t *testing.T, path string, rows int) {
	t.Helper()
	var script string
	for i := 0; i < rows; i += 10 {
		script += fmt.Sprintf(`BEGIN IMMEDIATE;
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
				INSERT INTO notes (body, weight, data) SELECT 'note ' || i, i / 3.0, randomblob(300) FROM n;
			COMMIT;`, min(10, rows-i))
	}
	sqlite3(t, path, script)
}

// startManager runs a Manager over root that replicates to the gateway. The test
// may close it early; it is closed at the latest with the test.
func (g *gateway) startManager(t *testing.T, root string) *multidb.Manager {
	t.Helper()
	return g.resumeManager(t, root, filepath.Join(t.TempDir(), "state"))
}

// s3 is where the replicas are.
func (g *gateway) s3() multidb.S3Config {
	return multidb.S3Config{
		Bucket: g.bucket, Path: "litestream/{{project}}/{{database}}/",
		Endpoint: g.endpoint, Region: g.region,
		AccessKeyID: g.accessKey, SecretAccessKey: g.secretKey,
	}
}

// resumeManager is startManager with a state directory that may have been used
// before.
func (g *gateway) resumeManager(t *testing.T, root, state string, opts ...multidb.Option) *multidb.Manager {
	t.Helper()
	m, err := multidb.New(append(opts,
		multidb.WithDiscoverer(multidb.Glob(databasePath(root, "{{project}}", "{{database}}"))),
		multidb.WithS3(g.s3()),
		multidb.WithStateDir(state),
		multidb.WithSyncInterval(20*time.Millisecond),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeManager(t, m) })
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

func closeManager(t *testing.T, m *multidb.Manager) {
	t.Helper()
	// The test's own context has ended when cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func syncNow(t *testing.T, m *multidb.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := m.Sync(ctx, id); err != nil {
		t.Fatal(err)
	}
}

func TestStockLitestreamRestoresWhatWeShippedOfTwoProcessesWriting(t *testing.T) {
	g, root := startGateway(t), t.TempDir()
	path := makeDatabase(t, root)
	m := g.startManager(t, root)
	for range 5 {
		write(t, path, 30)
		err := m.Do(t.Context(), id, func(db *sql.DB) error {
			_, err := db.Exec(`INSERT INTO notes (body) VALUES ('through the pool')`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		syncNow(t, m)
		requireEqual(t, path, g.stockRestore(t, prefix))
	}
	sqlite3(t, path, `DELETE FROM notes WHERE id % 3 = 0; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);`)
	write(t, path, 10)
	closeManager(t, m)
	requireEqual(t, path, g.stockRestore(t, prefix))
}

func TestWeRestoreWhatStockLitestreamWroteOnAnotherMachine(t *testing.T) {
	g := startGateway(t)
	path := makeDatabase(t, t.TempDir())
	for range 3 {
		g.litestream(t, path, prefix, "replicate", "-once")
		write(t, path, 50)
	}
	g.litestream(t, path, prefix, "replicate", "-once")

	m := g.startManager(t, t.TempDir())
	out := filepath.Join(t.TempDir(), "restored.db")
	if err := m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	requireEqual(t, path, out)
}

func TestADatabaseThatStockLitestreamReplicatedIsTakenOver(t *testing.T) {
	g, root := startGateway(t), t.TempDir()
	path := makeDatabase(t, root)
	g.litestream(t, path, prefix, "replicate", "-once")
	write(t, path, 50) // by nobody's leave, between the two

	m := g.startManager(t, root)
	write(t, path, 50)
	takeOver(t, m)
	syncNow(t, m)
	closeManager(t, m)
	requireEqual(t, path, g.stockRestore(t, prefix))
}

func TestADatabaseThatStockLitestreamReplicatedToTheEndGoesOn(t *testing.T) {
	g, root := startGateway(t), t.TempDir()
	path := makeDatabase(t, root)
	for range 2 { // the second one ships what the first wrote to the database
		g.litestream(t, path, prefix, "replicate", "-once")
	}
	m := g.startManager(t, root)
	syncNow(t, m) // it equals the newest state
	write(t, path, 50)
	syncNow(t, m)
	closeManager(t, m)
	requireEqual(t, path, g.stockRestore(t, prefix))
}

// takeOver says that the local file is the truth, as somebody must where another
// writer was the last and the file has commits of its own.
func takeOver(t *testing.T, m *multidb.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := m.Sync(ctx, id); !errors.Is(err, multidb.ErrFenced) {
		t.Fatalf("%v, want ErrFenced", err)
	}
	if err := m.TakeOver(ctx, id); err != nil {
		t.Fatal(err)
	}
}
