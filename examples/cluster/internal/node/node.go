// Package node is one node of the example: a process with a Manager and a small service. Two programs have it:
// examples/cluster, where the bucket says who the nodes are, and examples/cluster/etcd.
package node

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/bucket"
	"github.com/multidb-go/multidb/examples/internal/cli"
	"github.com/multidb-go/multidb/multidbhttp"
)

// What the process that starts the nodes has to know.
const (
	Command   = "node"           // the first argument of a program that is a node
	SecretEnv = "CLUSTER_SECRET" // what the nodes' Routers share
	Ready     = "ready "         // and the URL: what a node says when it serves
	Leaving   = "leaving"        // what it says when it is about to end, and has no tenants any more
	StopLimit = shutdownLimit + closeLimit

	DefaultHeartbeat = 3 * time.Second // of multidb.ClusterConfig
)

const (
	drainLimit    = 30 * time.Second
	shutdownLimit = 10 * time.Second
	closeLimit    = 15 * time.Second
)

// Config is what the parent process tells a node.
type Config struct {
	Name      string
	Dir       string
	In        Place
	Heartbeat time.Duration
	Etcd      string // where etcd is; empty: the members are in the bucket
}

// Args are the arguments of the node's process.
func (c Config) Args() []string {
	return []string{Command, "-name", c.Name, "-dir", c.Dir, "-path", c.In.Path, "-heartbeat", c.Heartbeat.String(), "-etcd", c.Etcd}
}

// Place is where in the bucket the fleet is.
type Place struct{ Path string }

// Template is that of the tenants' prefixes.
func (p Place) Template() string { return p.Path + "/tenants/{{tenant}}/" }

// Log is the directory of the fleet log.
func (p Place) Log() string { return p.Path + "/fleet" }

// Members returns who the nodes are, and what ends that after the Manager was closed. A nil Membership is that in the bucket.
type Members func(Config) (multidb.Membership, func() error, error)

// InBucket has the nodes find each other in the bucket, which needs nothing else.
func InBucket(Config) (multidb.Membership, func() error, error) {
	return nil, func() error { return nil }, nil
}

// Main is the main function of a node. SIGTERM drains it, as a deploy does, and ends it. The end of its standard
// input ends it as it is: that comes also when its parent has died. Ctrl-C at a terminal goes to all
// processes, and what is to be done then the parent decides.
func Main(args []string, members Members) int {
	var c Config
	fs := flag.NewFlagSet("cluster "+Command, flag.ContinueOnError)
	fs.StringVar(&c.Name, "name", "", "the node's name")
	fs.StringVar(&c.Dir, "dir", "", "its directory")
	fs.StringVar(&c.In.Path, "path", "", "where in the bucket the fleet is")
	fs.DurationVar(&c.Heartbeat, "heartbeat", DefaultHeartbeat, "how often it says that it is alive")
	fs.StringVar(&c.Etcd, "etcd", "", "where etcd is, which says who the nodes are")
	if code, done := cli.Parse(fs, args, os.Stderr); done {
		return code
	}
	signal.Ignore(os.Interrupt, syscall.SIGHUP)
	deploy, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	end, stop := context.WithCancel(context.Background())
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", c.Name))
	if err := serve(end, deploy, c, members, os.Stdout); err != nil && end.Err() == nil {
		slog.Error("it ends", "err", err)
		return cli.Failed
	}
	return cli.OK
}

// serve serves until end or deploy is done.
func serve(end, deploy context.Context, c Config, members Members, out io.Writer) (err error) {
	store, err := bucket.Open(os.Getenv)
	if err != nil {
		return err
	}
	replica, err := store.Replica(end, c.In.Template())
	if err != nil {
		return err
	}
	defer replica.CloseIdleConnections()
	// The others are told the address when the node joins, so it listens before that.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	nodes, done, err := members(c)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, done()) }()
	m, err := open(c, url, nodes, replica)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s := &Service{Manager: m, Node: c.Name}
	router, err := multidbhttp.Router(m, TenantOf, s.Handler(), multidbhttp.RouterOptions{Secret: os.Getenv(SecretEnv)})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: router, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer func() { // requests end, then what they wrote is shipped
		err = errors.Join(err, within(shutdownLimit, server.Shutdown))
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		router.CloseIdleConnections()
		err = errors.Join(err, cli.Close(m, closeLimit))
	}()
	if err := m.Start(end); err != nil {
		return err
	}
	say(out, Ready+url)
	select {
	case err := <-failed:
		failed <- err
		return nil
	case <-end.Done():
		return nil
	case <-deploy.Done():
		// Requests are served on, and passed on once their tenant has gone.
		if err := within(drainLimit, m.Drain); err != nil {
			return err
		}
		// The load balancer has to leave it out before it ends, or some requests meet the end of a connection. And the
		// others look every heartbeat at who has what: until then they may pass requests on to this node, which
		// knows where these belong.
		say(out, Leaving)
		_ = cli.Sleep(end, c.Heartbeat*5/4)
		return nil
	}
}

// open makes a node's Manager. Whether the tenants of this fleet are on its disk makes no difference:
// they are brought from the bucket.
func open(c Config, url string, nodes multidb.Membership, replica multidb.ReplicaFactory) (*multidb.Manager, error) {
	data := filepath.Join(c.Dir, "data")
	if err := os.MkdirAll(data, 0o750); err != nil {
		return nil, err
	}
	return multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(data, "{{tenant}}.db"))),
		multidb.WithStateDir(filepath.Join(c.Dir, "state")),
		multidb.WithReplica(replica),
		multidb.WithFleetLog(multidb.FleetLogConfig{Path: c.In.Log()}),
		multidb.WithCluster(multidb.ClusterConfig{Node: c.Name, URL: url, Heartbeat: c.Heartbeat, Membership: nodes}),
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			_, err := db.ExecContext(ctx, Schema)
			return err
		}),
		multidb.WithLogger(slog.Default()),
	)
}

func within(limit time.Duration, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("it did not stop within %s", limit))
	defer cancel()
	return stop(ctx)
}

func say(w io.Writer, line string) { _, _ = fmt.Fprintln(w, line) }
