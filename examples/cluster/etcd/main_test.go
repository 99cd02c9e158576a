package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/multidb-go/multidb/etcdmembership"
	"github.com/multidb-go/multidb/examples/internal/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is what a process has printed so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// find waits until the output has what is wanted, and returns the groups.
func (o *output) find(t *testing.T, ctx context.Context, want string) []string {
	t.Helper()
	for {
		if m := regexp.MustCompile(want).FindStringSubmatch(o.String()); m != nil {
			return m
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the output never has %q:\n%s", want, o)
		}
	}
}

// TestOneCommandPlaysItOnEtcd builds the example as it is in the root module, and has it build and start this one.
func TestOneCommandPlaysItOnEtcd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "cluster")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cluster")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "GOWORK=off", "PWD=")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	work := t.TempDir()
	var out output
	run := exec.CommandContext(ctx, program, "-etcd", "-tenants", "9", "-duration", "6s")
	run.Dir, run.Env = "..", append(process.Environ(), "GOWORK=off", "TMPDIR="+work)
	run.Stdout, run.Stderr = &out, &out
	run.Cancel = func() error { return run.Process.Signal(os.Interrupt) }
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()

	etcd := out.find(t, ctx, `(?m)^etcd: process (\d+), (http://\S+), built in`)
	out.find(t, ctx, "tenants write and read")
	if names := known(t, ctx, etcd[2]); !slices.Equal(names, []string{"n1", "n2", "n3"}) {
		t.Errorf("in etcd are %q", names)
	}
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		`\* kill -9 of n2, which serves \d+ tenant`, `\* all tenants are served again`, `\* n3 has its share again`,
		`through the service: +all [1-9][0-9,]* notes, of 9 tenants`, `restored from the bucket: +all [1-9][0-9,]* notes, of 9 tenants`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
	pid, err := strconv.Atoi(etcd[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("etcd, process %d, is still there", pid)
	}
	if left, err := filepath.Glob(filepath.Join(work, "multidb-cluster-*")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// known are the names of the nodes that etcd knows.
func known(t *testing.T, ctx context.Context, url string) (names []string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	resp, err := client.Get(ctx, etcdmembership.DefaultPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		names = append(names, strings.TrimPrefix(string(kv.Key), etcdmembership.DefaultPrefix))
	}
	return names
}

func TestWhatIsNotStartedByTheExampleSaysSo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "etcd")
	if text, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	text, err := exec.Command(program).CombinedOutput()
	if err == nil || !strings.Contains(string(text), "go run ./examples/cluster -etcd") {
		t.Errorf("%v: %s", err, fmt.Sprintf("%q", text))
	}
}
