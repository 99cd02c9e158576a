//go:build interop

package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// litestream runs the stock CLI against the gateway, over one database whose
// replica has the given prefix, and returns its output. args are the command and
// its flags; the configuration, and with restore the database, are added.
func (g *gateway) litestream(t *testing.T, dbPath, prefix string, args ...string) string {
	t.Helper()
	env, args := g.litestreamArgs(t, dbPath, prefix, args...)
	return run(t, time.Minute, env, "", program(t, "MULTIDB_LITESTREAM"), args...)
}

// litestreamArgs is the environment and the arguments of the stock CLI.
func (g *gateway) litestreamArgs(t *testing.T, dbPath, prefix string, args ...string) (env, all []string) {
	t.Helper()
	type object = map[string]any
	// JSON is YAML, and quotes what YAML would read its own way.
	config, err := json.Marshal(object{"dbs": []object{{
		"path": dbPath,
		"replica": object{
			"type":              "s3",
			"endpoint":          g.endpoint,
			"bucket":            g.bucket,
			"path":              prefix,
			"region":            g.region,
			"access-key-id":     g.accessKey,
			"secret-access-key": g.secretKey,
			"force-path-style":  true,
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "litestream.yml")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	// With AWS_CA_BUNDLE set the CLI refuses to start: its HTTP client is not of
	// the kind that the SDK can add certificates to.
	env = slices.DeleteFunc(environ(), func(kv string) bool { return strings.HasPrefix(kv, "AWS_CA_BUNDLE=") })
	args = append(slices.Clone(args), "-config", path, "-no-expand-env")
	if args[0] == "restore" {
		args = append(args, dbPath)
	}
	return env, args
}

// stockRestore restores a prefix by the stock CLI, and returns the new file.
// flags may say which state.
func (g *gateway) stockRestore(t *testing.T, prefix string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "restored.db")
	g.litestream(t, "/nowhere/source.db", prefix, append([]string{"restore", "-o", out}, flags...)...)
	return out
}
