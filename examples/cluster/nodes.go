package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/examples/cluster/internal/node"
	"github.com/multidb-go/multidb/examples/internal/cli"
)

// nodes are the processes. Safe for concurrent use as far as addresses goes.
type nodes struct {
	all     []*nodeProcess
	program string // that is a node
	env     []string
	client  *http.Client // for what is asked of the nodes themselves

	mu   sync.Mutex
	urls []string // by node; of one that was killed, the last one; "": it has left
}

// nodeProcess is one node, now or again and again.
type nodeProcess struct {
	node.Config
	cmd   *exec.Cmd
	stdin interface{ Close() error }
	ended chan struct{} // closed when it has
	asked bool          // to end
}

func newNodes(o options, dir string, in node.Place, bucketEnv []string) (*nodes, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &nodes{
		program: program,
		env:     append(append(os.Environ(), bucketEnv...), node.SecretEnv+"="+rand.Text()),
		client:  &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}},
		urls:    make([]string, o.nodes),
	}
	for i := range o.nodes {
		name := fmt.Sprintf("n%d", i+1)
		n.all = append(n.all, &nodeProcess{Config: node.Config{Name: name, Dir: filepath.Join(dir, name), In: in, Heartbeat: o.heartbeat()}})
	}
	return n, nil
}

// in has the nodes find each other in etcd.
func (n *nodes) in(e *etcd) {
	n.program = e.program
	for _, p := range n.all {
		p.Etcd = e.url
	}
}

// start starts a node and returns when it serves.
func (n *nodes) start(ctx context.Context, i int) error {
	p := n.all[i]
	if err := os.MkdirAll(p.Dir, 0o750); err != nil {
		return err
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has it
	cmd := exec.Command(n.program, p.Args()...)
	serves := make(chan string, 1)
	said := &lines{each: func(line string) {
		if url, ok := strings.CutPrefix(line, node.Ready); ok {
			serves <- url
		} else if line == node.Leaving {
			n.address(i, "")
		}
	}}
	cmd.Env, cmd.Stdout, cmd.Stderr = n.env, said, log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.stdin, p.ended, p.asked = cmd, stdin, make(chan struct{}), false
	go func() {
		_ = cmd.Wait() // the state of the process says it
		close(p.ended)
	}()
	select {
	case url := <-serves:
		n.address(i, url)
		return nil
	case <-p.ended:
		return p.broken()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lines calls each with every line that is written to it.
type lines struct {
	begun []byte
	each  func(line string)
}

func (l *lines) Write(b []byte) (int, error) {
	l.begun = append(l.begun, b...)
	for {
		line, rest, whole := bytes.Cut(l.begun, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		l.each(string(line))
		l.begun = rest
	}
}

func (p *nodeProcess) log() string { return p.Dir + ".log" }

// broken is the error of a node that has ended and should not have.
func (p *nodeProcess) broken() error {
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s has ended (%s); its log ends with: %s", p.Name, p.cmd.ProcessState, lines[len(lines)-1])
}

// check returns an error if a node has ended of which nobody has asked it.
func (n *nodes) check() error {
	var errs []error
	for _, p := range n.all {
		if p.hasEnded() && !p.asked {
			errs = append(errs, p.broken())
		}
	}
	return errors.Join(errs...)
}

func (p *nodeProcess) hasEnded() bool {
	if p.cmd == nil {
		return true
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill ends a node as the loss of its machine does.
func (n *nodes) kill(i int) error {
	p := n.all[i]
	p.asked = true
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// drain has a node give its tenants to the others and end.
func (n *nodes) drain(ctx context.Context, i int) error {
	p := n.all[i]
	p.asked = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return p.broken()
	}
	return nil
}

// stop ends all nodes that run.
func (n *nodes) stop() error {
	var errs []error
	for _, p := range n.all {
		if !p.hasEnded() {
			p.asked = true
			if err := p.stdin.Close(); !errors.Is(err, os.ErrClosed) { // else it has just ended
				errs = append(errs, err)
			}
		}
	}
	limit := time.After(node.StopLimit)
	for _, p := range n.all {
		if p.hasEnded() {
			continue
		}
		select {
		case <-p.ended:
		case <-limit:
			errs = append(errs, fmt.Errorf("%s has not ended within %s, and was killed", p.Name, node.StopLimit), p.cmd.Process.Kill())
			<-p.ended
		}
	}
	n.client.CloseIdleConnections()
	return errors.Join(errs...)
}

func (n *nodes) address(i int, url string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.urls[i] = url
}

// addresses are the URLs that a load balancer has: also that of a node that has just died, and not
// that of one that has said that it leaves.
func (n *nodes) addresses() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.urls...)
}

// status asks a node.
func (n *nodes) status(ctx context.Context, i int) (s node.Status, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.addresses()[i]+"/node", nil)
	if err != nil {
		return s, err
	}
	resp, err := n.client.Do(r)
	if err != nil {
		return s, err
	}
	defer func() { _ = resp.Body.Close() }()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

const poll = 100 * time.Millisecond

// settled returns when each node has the shards that it is to have.
func (n *nodes) settled(ctx context.Context) error {
	return n.until(ctx, "the nodes have not divided the tenants among them", func() bool {
		sum := 0
		for i := range n.all {
			s, err := n.status(ctx, i)
			if err != nil || s.Shards != s.Expected || s.Moving > 0 || s.Free > 0 {
				return false
			}
			sum += s.Shards
		}
		return sum == shards
	})
}

// shards is how many a fleet has.
const shards = 1024

// patience is how long anything may take that takes seconds.
const patience = time.Minute

// until returns when done does, or with what has not come about.
func (n *nodes) until(ctx context.Context, what string, done func() bool) error {
	for began := time.Now(); !done(); {
		if err := n.check(); err != nil {
			return err
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%s within %s", what, patience)
		}
		if err := cli.Sleep(ctx, poll); err != nil {
			return err
		}
	}
	return nil
}
