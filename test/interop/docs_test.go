//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/markdown"
)

// litestream03 is the last release that writes the old layout.
const litestream03 = "github.com/benbjohnson/litestream/cmd/litestream@v0.3.13"

// TestEveryCommandOfTheGuidesRuns runs the sh blocks of each guide in their order,
// in one shell, in an empty directory but for the checkout that they speak of. A
// yaml block with a file's name on its first line is that file from there on.
func TestEveryCommandOfTheGuidesRuns(t *testing.T) {
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, guide := range []string{"OPERATIONS.md", "MIGRATING.md"} {
		t.Run(guide, func(t *testing.T) {
			doc, err := os.ReadFile(filepath.Join(repo, "docs", guide))
			if err != nil {
				t.Fatal(err)
			}
			runGuide(t, repo, string(doc))
		})
	}
}

func runGuide(t *testing.T, repo, doc string) {
	t.Helper()
	blocks, err := markdown.Blocks(doc)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	commands := 0
	for _, b := range blocks {
		switch {
		case b.Lang == "yaml" && b.File() != "":
			fmt.Fprintf(&script, "cat > %s <<'THE-END'\n%sTHE-END\n", b.File(), b.Text)
		case b.Lang == "sh":
			commands++
			fmt.Fprintf(&script, "echo; echo '--- line %d' >&2\nset -x\n%sset +x\n", b.Line, b.Text)
		}
	}
	if commands < 3 {
		t.Fatalf("%d blocks of commands", commands)
	}

	dir := t.TempDir()
	if err := os.Symlink(repo, filepath.Join(dir, "multidb")); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "programs")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program(t, "MULTIDB_LITESTREAM"), filepath.Join(bin, "litestream")); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(doc, "litestream-0.3") {
		buildOldLitestream(t, bin)
	}

	// With AWS_CA_BUNDLE set, stock litestream does not start.
	env := slices.DeleteFunc(environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "AWS_CA_BUNDLE=") || strings.HasPrefix(kv, "MULTIDB_") || strings.HasPrefix(kv, "PATH=")
	})
	env = append(env, "PATH="+bin+":"+os.Getenv("PATH"), "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"VERSITYGW="+program(t, "MULTIDB_VERSITYGW"), "VERSITYGW_DIR="+filepath.Join(dir, "versitygw"))
	t.Cleanup(func() {
		stop := exec.Command(filepath.Join(repo, "examples/with_s3/setup_versitygw.sh"), "clean")
		stop.Env = env
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir, cmd.Env = dir, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// A group of its own: what the shell left in the background ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err = cmd.Run()
	if cmd.Process != nil {
		if e := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); e != nil && !errors.Is(e, syscall.ESRCH) {
			t.Error(e)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out.String()))
	}
	t.Log(tail(out.String()))
}

// tail is the end of what the shell said.
func tail(s string) string { return s[max(0, len(s)-16<<10):] }

func buildOldLitestream(t *testing.T, bin string) {
	t.Helper()
	dir := t.TempDir()
	run(t, 10*time.Minute, append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod"), "", "go", "install", litestream03)
	if err := os.Rename(filepath.Join(dir, "litestream"), filepath.Join(bin, "litestream-0.3")); err != nil {
		t.Fatal(err)
	}
}
