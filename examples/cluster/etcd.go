package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/multidb-go/multidb/examples/cluster/internal/node"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// etcd is a process with one, and the program that is it.
type etcd struct {
	program string
	url     string
	cmd     *exec.Cmd
	stdin   io.Closer
	ended   chan struct{} // closed when it has
}

// startEtcd builds the program of etcd and of nodes that know it, and starts an etcd.
func startEtcd(ctx context.Context, dir string, out io.Writer) (*etcd, error) {
	began := time.Now()
	say(out, "go build examples/cluster/etcd, which takes a minute the first time\n")
	program, err := buildEtcd(ctx, dir)
	if err != nil {
		return nil, err
	}
	built := time.Since(began)
	e := &etcd{program: program, cmd: exec.Command(program, "etcd", "-dir", filepath.Join(dir, "etcd")), ended: make(chan struct{})}
	serves := make(chan string, 1)
	log := &strings.Builder{}
	e.cmd.Stderr = log
	e.cmd.Stdout = &lines{each: func(line string) {
		if url, ok := strings.CutPrefix(line, node.Ready); ok {
			serves <- url
		}
	}}
	if e.stdin, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = e.cmd.Wait() // the state of the process says it
		close(e.ended)
	}()
	select {
	case e.url = <-serves:
		say(out, "etcd: process %d, %s, built in %s\n", e.cmd.Process.Pid, e.url, term.Duration(built))
		return e, nil
	case <-e.ended:
		return nil, fmt.Errorf("etcd has ended (%s): %s", e.cmd.ProcessState, strings.TrimSpace(log.String()))
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), e.stop())
	}
}

// buildEtcd returns the path of the program. It is a module of its own, so that this one does not depend on etcd.
func buildEtcd(ctx context.Context, dir string) (string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/multidb-go/multidb/examples/cluster")
	found, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("-etcd builds examples/cluster/etcd, for which this has to run within a clone of multidb, beside the go command: %w%s", err, said(err))
	}
	program := filepath.Join(dir, "with-etcd")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir = filepath.Join(strings.TrimSpace(string(found)), "etcd")
	build.Env = append(os.Environ(), "GOWORK=off", "PWD="+build.Dir) // go.work has no etcd, as the root is not to have what etcd needs
	if text, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(ctx.Err(), fmt.Errorf("build examples/cluster/etcd: %w: %s", err, strings.TrimSpace(string(text))))
	}
	return program, nil
}

// said is what a program has said of its failure.
func said(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return ""
	}
	return ": " + strings.TrimSpace(string(exit.Stderr))
}

// stop ends etcd. The nodes have ended before.
func (e *etcd) stop() error {
	if err := e.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	select {
	case <-e.ended:
		return nil
	case <-time.After(node.StopLimit):
		err := fmt.Errorf("etcd has not ended within %s, and was killed", node.StopLimit)
		err = errors.Join(err, e.cmd.Process.Kill())
		<-e.ended
		return err
	}
}
