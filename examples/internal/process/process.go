// Package process lets a test run its example as a process of its own, which
// takes signals and has its own environment, without building it again.
package process

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const envMain = "MULTIDB_EXAMPLE_MAIN"

// Wanted reports whether this test binary was started by New, so that TestMain
// must call the example's main instead of the tests.
func Wanted() bool { return os.Getenv(envMain) != "" }

// Process is the example, running. Its temporary directory is Temp, and nothing
// of the machine's AWS configuration reaches it.
type Process struct {
	Temp   string
	Stdout Output
	Stderr Output
	cmd    *exec.Cmd
	t      *testing.T
}

// limit is how long a process may run before the test gives up on it.
const limit = 50 * time.Second

// Start runs the example with the environment variables ("NAME=value") added.
func Start(t *testing.T, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, Temp: t.TempDir()}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	p.cmd = exec.CommandContext(ctx, os.Args[0], args...)
	p.cmd.Env = append(Environ(), envMain+"=1", "TMPDIR="+p.Temp)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.Stdout, &p.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Environ is this process's environment without what names an S3 store.
func Environ() []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "LITESTREAM_") {
			out = append(out, v)
		}
	}
	none := filepath.Join(os.TempDir(), "multidb-no-such-file")
	return append(out, "AWS_CONFIG_FILE="+none, "AWS_SHARED_CREDENTIALS_FILE="+none, "AWS_EC2_METADATA_DISABLED=true")
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Wait returns the exit code, -1 if a signal ended the process.
func (p *Process) Wait() int {
	_ = p.cmd.Wait() // the code says it
	return p.cmd.ProcessState.ExitCode()
}

// Left lists what the process left in its temporary directory.
func (p *Process) Left() []string {
	p.t.Helper()
	files, err := os.ReadDir(p.Temp)
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		out = append(out, f.Name())
	}
	return out
}

// Output is what a process has written so far. Safe for concurrent use.
type Output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed at the next write
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
	return o.buf.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Await returns when the text has been written.
func (o *Output) Await(t *testing.T, text string) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		o.mu.Lock()
		found := strings.Contains(o.buf.String(), text)
		if o.more == nil {
			o.more = make(chan struct{})
		}
		more := o.more
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("%q was not written; this was:\n%s", text, o.String())
		}
	}
}
