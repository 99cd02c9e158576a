package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

// cliEnv names the stock litestream CLI. `make attack` and `make torture` set it.
const cliEnv = "MULTIDB_LITESTREAM"

// restorer restores one prefix by two programs in turns: ours, and the stock
// CLI, or litestream's library where the environment names no CLI. For one
// goroutine. Of what is only in a fleet log the others know nothing, so it restores by
// ours alone.
type restorer struct {
	place   place
	db      multidb.Database
	factory multidb.ReplicaFactory
	client  litestream.ReplicaClient // of the prefix alone
	config  string                   // of the CLI; empty: there is none
	next    int
}

// turns counts who restored, over all tests of the process.
var turns struct {
	mu sync.Mutex
	by map[string]int
}

func took(name string) {
	turns.mu.Lock()
	defer turns.mu.Unlock()
	if turns.by == nil {
		turns.by = map[string]int{}
	}
	turns.by[name]++
}

// turnsTaken tells who restored so far.
func turnsTaken() string {
	turns.mu.Lock()
	defer turns.mu.Unlock()
	return fmt.Sprint(turns.by)
}

func newRestorer(t testing.TB, p place, name string) *restorer {
	t.Helper()
	r := &restorer{place: p, factory: p.factory(t), client: place{dir: p.dir, url: p.url}.client(t, name), db: p.database(name)}
	if idle, ok := r.factory.(interface{ CloseIdleConnections() }); ok {
		t.Cleanup(idle.CloseIdleConnections)
	}
	if p.log {
		return r
	}
	if os.Getenv(cliEnv) == "" {
		t.Logf("%s is not set: litestream's library restores in place of its CLI", cliEnv)
		return r
	}
	replica := map[string]any{"type": "file", "path": filepath.Join(p.dir, name)}
	if p.url != "" {
		replica = map[string]any{"type": "s3", "endpoint": p.url, "bucket": bucket, "path": "t/" + name,
			"region": "us-east-1", "access-key-id": "key", "secret-access-key": "secret", "force-path-style": true}
	}
	// JSON is YAML.
	b, err := json.Marshal(map[string]any{"dbs": []any{map[string]any{"path": r.db.Path, "replica": replica}}})
	if err != nil {
		t.Fatal(err)
	}
	r.config = filepath.Join(t.TempDir(), "litestream.yml")
	if err := os.WriteFile(r.config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// merged reports whether a transaction has no file of its own any more, because the log that had it was taken
// over and is finished since: the prefix has it as a part of a longer file. Without a log none goes so.
func (r *restorer) merged(t testing.TB, txid ltx.TXID) bool {
	t.Helper()
	if !r.place.log {
		return false
	}
	files, err := r.files()
	if err != nil {
		t.Errorf("list again: %v", err)
		return false
	}
	within := false
	for _, f := range files {
		if f.MaxTXID == txid {
			return false
		}
		within = within || f.MinTXID <= txid && txid < f.MaxTXID
	}
	return within
}

// files is every file of the prefix and of the log.
func (r *restorer) files() ([]*ltx.FileInfo, error) {
	if !r.place.log {
		return listFiles(r.client)
	}
	f, err := multidb.ReadFleetLog(r.factory, logDir) // as it is now
	if err != nil {
		return nil, err
	}
	client, err := f.ReplicaClient(r.db)
	if err != nil {
		return nil, err
	}
	return listFiles(client)
}

// restore makes a file of one TXID (0: the newest) in a new directory under
// dir, which is the caller's to remove.
func (r *restorer) restore(dir string, txid ltx.TXID) (string, error) {
	if r.next++; r.place.log {
		r.next = 1
	}
	if r.next%2 == 0 && r.config == "" {
		took("library")
		return restoreFile(r.client, dir, txid)
	}
	sub, err := os.MkdirTemp(dir, "restore-*")
	if err != nil {
		return "", err
	}
	by, out := "multidb", filepath.Join(sub, "db")
	if r.next%2 == 0 {
		by, err = "CLI", r.cli(out, txid)
	} else {
		f := r.factory
		if r.place.log { // which is as it was when it was first read
			if f, err = multidb.ReadFleetLog(f, logDir); err != nil {
				return "", err
			}
		}
		err = multidb.RestoreFrom(context.Background(), f, r.db, multidb.RestoreOptions{OutputPath: out, TXID: txid})
	}
	took(by)
	if err != nil {
		return "", errors.Join(fmt.Errorf("restore of TXID %s by %s: %w", txid, by, err), os.RemoveAll(sub))
	}
	return out, nil
}

// cli restores with the stock CLI.
func (r *restorer) cli(out string, txid ltx.TXID) error {
	args := []string{"restore", "-config", r.config, "-no-expand-env", "-o", out}
	if txid != 0 {
		args = append(args, "-txid", txid.String())
	}
	cmd := exec.Command(os.Getenv(cliEnv), append(args, r.db.Path)...)
	// With AWS_CA_BUNDLE set the CLI does not start.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "AWS_CA_BUNDLE=") })
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}
