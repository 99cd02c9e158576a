// Cluster shows three nodes that share a fleet, in about 45 seconds: one is killed and started again, another
// one is drained and started again, and all the while tenants write notes that must not be lost.
//
//	go run ./examples/cluster
//
// needs nothing else. With -etcd the nodes find each other in etcd in place of the bucket. The go command, which is needed
// then, builds the program of the nodes and of etcd from examples/cluster/etcd, a module of its own, so that
// nobody else depends on etcd.
//
// Each node is a process of its own, with a directory of its own, and a small HTTP
// service (internal/node) behind multidbhttp.Router. All have one bucket: that of an S3 server inside this
// program, or the one that LITESTREAM_S3_BUCKET names (see examples/with_s3). This process is the load balancer that knows
// nothing of tenants, and the clients: one for each tenant, which sends a request, waits for the answer and sends
// the next one, to any node. A note is answered with 200 when it is committed and Sync has returned.
//
// It prints what happens, who has served what, and for how long a tenant was without an answer; then it
// compares the notes that were answered with 200 with what the service tells and with what a restore of every
// tenant from the bucket has. The exit code is 1 if one is missing.
//
// How long the tenants of a dead node are without service follows from the heartbeat, which is
// the default of 3 seconds here: after three of them the node counts as dead. A -duration below 30
// seconds has shorter ones. On a machine that is too busy for them a node that lives is taken for dead. That
// loses nothing either, and the node begins anew.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/multidb-go/multidb/examples/cluster/internal/node"
	"github.com/multidb-go/multidb/examples/internal/bucket"
	"github.com/multidb-go/multidb/examples/internal/cli"
)

const name = "cluster"

func main() {
	if len(os.Args) > 1 && os.Args[1] == node.Command { // this program starts itself so
		os.Exit(node.Main(os.Args[2:], node.InBucket))
	}
	cli.Main(run)
}

type options struct {
	nodes    int
	tenants  int
	duration time.Duration
	dir      string
	etcd     bool
}

const (
	defaultDuration = 30 * time.Second
	mostNodes       = 16
	mostTenants     = 2000
	leastDuration   = 5 * time.Second
)

// heartbeat is that of the nodes: the default, or a shorter one for a shorter run.
func (o options) heartbeat() time.Duration {
	return min(node.DefaultHeartbeat, o.duration/time.Duration(defaultDuration/node.DefaultHeartbeat))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.IntVar(&o.nodes, "nodes", 3, "how many nodes")
	fs.IntVar(&o.tenants, "tenants", 60, "how many tenants")
	fs.DurationVar(&o.duration, "duration", defaultDuration, "how long the tenants write at least; below 30s the nodes have shorter heartbeats")
	fs.StringVar(&o.dir, "dir", "", "keep the nodes' files, their logs and what was restored in this `directory` (default: a temporary one, removed)")
	fs.BoolVar(&o.etcd, "etcd", false, "have the nodes find each other in etcd, in place of the bucket: this builds examples/cluster/etcd, and starts one etcd")
	if code, done := cli.Parse(fs, args, stderr); done {
		return code
	}
	if o.nodes < 2 || o.nodes > mostNodes || o.tenants < 1 || o.tenants > mostTenants || o.duration < leastDuration {
		return cli.Misuse(name, stderr, "-nodes must be 2 to %d, -tenants 1 to %d, -duration at least %s", mostNodes, mostTenants, leastDuration)
	}
	return cli.Exit(ctx, name, stderr, demo(ctx, o, &shared{w: stdout}))
}

// demo is one run. Whatever it started is stopped and removed when it returns.
func demo(ctx context.Context, o options, out io.Writer) (err error) {
	store, err := bucket.Open(os.Getenv)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	say(out, "%s\n", store)
	// What an earlier run has left in a bucket belongs to other nodes.
	in := node.Place{Path: "multidb-cluster/" + strings.ToLower(rand.Text()[:8])}
	replica, err := store.Replica(ctx, in.Template())
	if err != nil {
		return err
	}
	defer replica.CloseIdleConnections()
	dir, done, err := cli.Work(o.dir, "multidb-cluster-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()

	nodes, err := newNodes(o, dir, in, store.Environ())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nodes.stop()) }()
	if o.etcd {
		etcd, err := startEtcd(ctx, dir, out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, etcd.stop()) }()
		nodes.in(etcd)
	}
	p := &play{options: o, out: out, nodes: nodes, tally: newTally(o.tenants)}
	if err := p.perform(ctx); err != nil {
		return err
	}
	p.report()
	err = p.verify(ctx, replica, in, dir)
	if o.dir != "" {
		say(out, "The files of the nodes, their logs and what was restored are in %s.\n", dir)
	}
	if !store.Embedded() {
		say(out, "The backups stay in the bucket: s3://%s/%s/\n", store.Name(), in.Path)
	}
	return err
}

// shared is a Writer for several goroutines.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
