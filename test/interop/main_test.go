//go:build interop

package interop

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is the path of a program that the environment names.
func program(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s is not set: run these tests by `make interop`", variable)
	}
	if _, err := exec.LookPath(path); err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return path
}

// environ is the environment without the variables that would decide which S3
// is talked to, and as whom. AWS_CA_BUNDLE stays: our code must live with it.
func environ(extra ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return !strings.HasPrefix(kv, "AWS_CA_BUNDLE=") &&
			(strings.HasPrefix(kv, "AWS_") || strings.HasPrefix(kv, "LITESTREAM_"))
	})
	return append(env, extra...)
}

// run runs a program to its end, for at most limit, and returns what it wrote to
// stdout and stderr. The test fails if the program does.
func run(t *testing.T, limit time.Duration, env []string, stdin, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out.Bytes())
	}
	return out.String()
}
