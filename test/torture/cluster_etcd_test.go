package torture

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// etcd is a process that keeps the members of a cluster, at one address whenever it runs.
type etcd struct {
	t              *testing.T
	bin, dir       string
	clients, peers string     // its addresses
	busy           sync.Mutex // of who does something to it
	p              *process
}

func newEtcd(t *testing.T, bin string) *etcd {
	t.Helper()
	e := &etcd{t: t, bin: bin, dir: filepath.Join(t.TempDir(), "etcd")}
	for _, addr := range []*string{&e.clients, &e.peers} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // both are open until both are chosen
		*addr = l.Addr().String()
	}
	t.Cleanup(func() {
		if e.p != nil {
			e.p.end()
		}
	})
	return e
}

// start returns when it serves.
func (e *etcd) start() error {
	for attempt := 1; ; attempt++ {
		out, in, err := os.Pipe()
		if err != nil {
			return err
		}
		e.p = newProcess(e.t, e.bin, nil, in, e.dir, e.clients, e.peers)
		_ = in.Close()
		line, err := bufio.NewReader(out).ReadString('\n')
		_ = out.Close()
		if err == nil {
			return nil
		}
		<-e.p.done
		if attempt == 5 { // where connections to its address are still being closed that is taken
			return fmt.Errorf("etcd does not start: %w: %q %s", err, line, e.p.out.String())
		}
		pause(200 * time.Millisecond)
	}
}

// hurtEtcd kills etcd and starts it again, with or without its data, or stops it for a while. Whoever has the members there
// goes on with those that it knew.
func (c *nodes) hurtEtcd(rng *rand.Rand) {
	defer c.hurt("etcd")()
	e := c.etcd
	what := pick(rng, "kill", "empty", "stop")
	c.note("etcd: %s", what)
	lasts := time.Duration(rng.IntN(rng.IntN(6000)+1)) * time.Millisecond
	if what == "stop" {
		c.sum.count("etcd stopped")
		_ = e.p.cmd.Process.Signal(syscall.SIGSTOP)
		pause(lasts)
		_ = e.p.cmd.Process.Signal(syscall.SIGCONT)
		c.note("etcd goes on")
	} else {
		c.withoutEtcd(what == "empty", lasts)
	}
}

// withoutEtcd kills etcd and starts it again after a while.
func (c *nodes) withoutEtcd(empty bool, lasts time.Duration) {
	e := c.etcd
	c.sum.count("etcd killed")
	_ = e.p.cmd.Process.Kill()
	<-e.p.done
	pause(lasts)
	if empty {
		c.sum.count("etcd emptied")
		if err := os.RemoveAll(e.dir); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := e.start(); err != nil {
		c.fail("%v", err)
		return
	}
	c.note("etcd serves again")
}
