//go:build interop

package interop

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// fleetLog has nothing unpacked before the end, unless somebody asks for it.
var fleetLog = multidb.WithFleetLog(multidb.FleetLogConfig{Path: "logs", UnpackInterval: time.Hour})

const tenants = 4

// tenant is the ID and the path of one of the tenants under a root.
func tenant(root string, i int) (multidb.ID, string) {
	database := fmt.Sprint("db", i)
	return multidb.ID("project0/" + database), databasePath(root, "project0", database)
}

// TestStockLitestreamRestoresEachTenantAfterTheEndOfALog, and after each unpacking by order.
func TestStockLitestreamRestoresEachTenantAfterTheEndOfALog(t *testing.T) {
	g, root := startGateway(t), t.TempDir()
	for i := range tenants {
		id, path := tenant(root, i)
		makeTenant(t, path, string(id), 40)
	}
	state := filepath.Join(t.TempDir(), "state")
	for life := range 3 {
		m := g.resumeManager(t, root, state, fleetLog)
		for range 4 {
			for i := range tenants {
				id, _ := tenant(root, i)
				if err := m.Do(t.Context(), id, func(db *sql.DB) error {
					_, err := db.Exec(`INSERT INTO notes (tenant, data) VALUES ('later', randomblob(5000)); DELETE FROM notes WHERE id % 17 = 3`)
					return err
				}); err != nil {
					t.Fatal(err)
				}
				if _, err := m.Sync(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		id, path := tenant(root, life)
		if err := m.Unpack(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		requireEqual(t, path, g.stockRestore(t, "litestream/"+string(id)))
		if life == 1 { // by another program, which takes out pages
			_, path := tenant(root, 0)
			sqlite3(t, path, "DELETE FROM notes WHERE id % 3 = 0; VACUUM;")
		}
		closeManager(t, m)
		for i := range tenants {
			id, path := tenant(root, i)
			requireEqual(t, path, g.stockRestore(t, "litestream/"+string(id)))
		}
		if t.Failed() {
			t.Fatalf("in life %d", life)
		}
	}
}

// TestTheCommandUnpacksWhatAKilledProcessLeftInItsLog: before it, stock litestream does not
// find all that the source has; after it, all that was promised.
func TestTheCommandUnpacksWhatAKilledProcessLeftInItsLog(t *testing.T) {
	g, root, dir := startGateway(t), t.TempDir(), t.TempDir()
	for i := range tenants {
		id, path := tenant(root, i)
		makeTenant(t, path, string(id), 40)
	}
	binary := filepath.Join(dir, "multidb")
	run(t, 10*time.Minute, os.Environ(), "", "go", "build", "-C", "../..", "-o", binary, "./cmd/multidb")
	env := environ("AWS_ACCESS_KEY_ID="+g.accessKey, "AWS_SECRET_ACCESS_KEY="+g.secretKey, "AWS_REGION="+g.region,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	type object = map[string]any
	// JSON is YAML.
	text, err := json.Marshal(object{"multi-db": object{
		"patterns": []string{databasePath(root, "{{project}}", "{{database}}")}, "state-dir": filepath.Join(dir, "state"),
		"replica-template": object{"type": "s3", "bucket": g.bucket, "path": "litestream/{{project}}/{{database}}", "endpoint": g.endpoint, "region": g.region, "force-path-style": true, "sync-interval": "50ms"},
		"fleet-log":        object{"path": "logs", "unpack-interval": "1h"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "multidb.yml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "replicate", "-config", config)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill := func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // how it ended is known
		}
	}
	defer kill()
	factory, err := multidb.NewS3Replica(g.s3())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(factory.CloseIdleConnections)
	// newest restores a tenant from its prefix and the log.
	newest := func(i int) string {
		f, err := multidb.ReadFleetLog(factory, "logs")
		if err != nil {
			t.Fatal(err)
		}
		id, _ := tenant(root, i)
		db := multidb.Database{ID: id, Vars: []multidb.Var{{Name: "project", Value: "project0"}, {Name: "database", Value: fmt.Sprint("db", i)}}}
		out := filepath.Join(t.TempDir(), "restored.db")
		if multidb.RestoreFrom(t.Context(), f, db, multidb.RestoreOptions{OutputPath: out}) != nil {
			return "" // it has nothing yet
		}
		return out
	}
	for i := range tenants {
		_, path := tenant(root, i)
		for range 3 {
			sqlite3(t, path, "INSERT INTO notes (tenant, data) VALUES ('later', randomblob(3000));")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range tenants {
		_, path := tenant(root, i)
		for want := sqlite3(t, path, "SELECT count(*) FROM notes"); ; {
			if at := newest(i); at != "" && sqlite3(t, at, "SELECT count(*) FROM notes") == want {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				kill()
				t.Fatalf("%s is not in the log\n%s", path, out.Bytes())
			}
		}
	}
	kill()
	if id, _ := tenant(root, 0); stockFinds(t, g, "litestream/"+string(id)) {
		t.Error("the prefix has a backup before anything was unpacked: the test shows nothing")
	}
	run(t, time.Minute, env, "", binary, "unpack", "-config", config, "-all")
	for i := range tenants {
		id, path := tenant(root, i)
		requireEqual(t, path, g.stockRestore(t, "litestream/"+string(id)))
	}
	for i := range tenants { // and the stock command goes on from there
		id, path := tenant(root, i)
		sqlite3(t, path, "INSERT INTO notes (tenant, data) VALUES ('stock', randomblob(3000));")
		g.litestream(t, path, "litestream/"+string(id), "replicate", "-once")
		requireEqual(t, path, g.stockRestore(t, "litestream/"+string(id)))
	}
}

// stockFinds reports whether the stock CLI restores a prefix at all.
func stockFinds(t *testing.T, g *gateway, prefix string) bool {
	t.Helper()
	env, args := g.litestreamArgs(t, "/nowhere/source.db", prefix, "restore", "-o", filepath.Join(t.TempDir(), "restored.db"))
	cmd := exec.CommandContext(t.Context(), program(t, "MULTIDB_LITESTREAM"), args...)
	cmd.Env = env
	return cmd.Run() == nil
}
