package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime/pprof"
	"sync"
	"time"
)

// roleFlag, as the first argument, makes this program one of its helpers.
const roleFlag = "-role"

const (
	roleScenario = "scenario"
	roleS3       = "s3"
	roleWriter   = "writer"
	roleNode     = "node"
)

// spec is what a scenario's process is told.
type spec struct {
	Scenario string
	Stock    bool
	Short    bool
	N        int           // databases
	Run      int           // repetitions before this one
	Dir      string        // of its own, or the world's
	RAM      string        // a directory of its own in memory, if the machine has that
	S3       string        // URL of the server; empty: none
	Profile  string        // where to write a CPU profile; empty: nowhere
	Load     time.Duration // how long a load lasts; 0: as long as its scenario says
	Verbose  bool          // it says on stderr how far it is
}

// say tells how far a long scenario is, if that is asked for. Nobody may be listening.
func (sp *spec) say(format string, args ...any) {
	if sp.Verbose {
		_, _ = fmt.Fprintf(os.Stderr, format, args...)
	}
}

// outcome is what it answers, on its standard output.
type outcome struct {
	Figures figures
	Err     string
}

func runRole(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("no role")
	}
	isolateAWS()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // litestream logs there
	switch args[0] {
	case roleScenario:
		return scenarioRole(ctx, args[1:])
	case roleS3:
		return s3Role(os.Stdin, os.Stdout)
	case roleWriter:
		return writerRole(os.Stdin, os.Stdout)
	case roleNode:
		return nodeRole(ctx, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("unknown role %q", args[0])
}

// isolateAWS keeps the machine's own AWS configuration out of the figures.
func isolateAWS() {
	for _, name := range []string{"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	_ = os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	_ = os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}

func scenarioRole(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want one specification")
	}
	var sp spec
	if err := json.Unmarshal([]byte(args[0]), &sp); err != nil {
		return err
	}
	var out outcome
	var err error
	out.Figures, err = runScenario(ctx, &sp)
	if err != nil {
		out.Err = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func runScenario(ctx context.Context, sp *spec) (_ figures, err error) {
	fn, err := sp.runner()
	if err != nil {
		return nil, err
	}
	if sp.Profile != "" {
		f, err := os.Create(sp.Profile)
		if err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, f.Close())
		}()
	}
	return fn(ctx, sp)
}

// profileLoad has the profile be of what comes until its answer is called, and of nothing
// before and after: of a load without its preparations.
func (sp *spec) profileLoad() (func() error, error) {
	if sp.Profile == "" {
		return func() error { return nil }, nil
	}
	pprof.StopCPUProfile()
	f, err := os.Create(sp.Profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

func (sp *spec) runner() (runner, error) {
	if sp.Scenario == prepareName {
		return prepareWorld, nil
	}
	for _, sc := range scenarios(sp.Short) {
		switch {
		case sc.name != sp.Scenario:
		case sp.Stock:
			return sc.stock, nil
		default:
			return sc.multidb, nil
		}
	}
	return nil, fmt.Errorf("unknown scenario %q", sp.Scenario)
}

// runChild runs a scenario in a process of its own and returns what it measured.
func runChild(ctx context.Context, sp spec) (figures, error) {
	arg, err := json.Marshal(sp)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, roleFlag, roleScenario, string(arg))
	var said bytes.Buffer // the AWS SDK of stock warns there, of nothing
	cmd.Stderr = &said
	if sp.Verbose {
		cmd.Stderr = io.MultiWriter(&said, os.Stderr)
	}
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	var out outcome
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("answer of the scenario's process: %w", err)
	}
	if out.Err != "" {
		return nil, errors.New(out.Err)
	}
	return out.Figures, nil
}

// helper is a process that serves this one over its standard input and output,
// and ends when the input does.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder

	mu sync.Mutex // one question at a time
}

func startHelper(ctx context.Context, role string) (*helper, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, roleFlag, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &helper{cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

// ask sends a question, if there is one, and reads the answer.
func (h *helper) ask(question, answer any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if question != nil {
		if err := json.NewEncoder(h.in).Encode(question); err != nil {
			return err
		}
	}
	return h.out.Decode(answer)
}

// close ends the process and waits for it.
func (h *helper) close() error { return errors.Join(h.in.Close(), h.cmd.Wait()) }
