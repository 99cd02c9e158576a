package main

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

const (
	nodeCommand   = "node"
	secretEnv     = "CLUSTER_SECRET" // what the nodes' Routers share
	ready         = "ready "         // and the URL: what a node says when it serves
	leaving       = "leaving"        // what it says when it is about to end, and has no tenants any more
	drainLimit    = 30 * time.Second
	shutdownLimit = 10 * time.Second
	closeLimit    = 15 * time.Second
)

// nodeConfig is what the parent process tells a node.
type nodeConfig struct {
	name      string
	dir       string
	in        place
	heartbeat time.Duration
}

func (c nodeConfig) args() []string {
	return []string{nodeCommand, "-name", c.name, "-dir", c.dir, "-path", c.in.path, "-heartbeat", c.heartbeat.String()}
}

// nodeMain is the main function of a node. SIGTERM drains it, as a deploy does, and ends it. The end of its standard
// input ends it as it is: that comes also when its parent has died. Ctrl-C at a terminal goes to all
// processes, and what is to be done then the parent decides.
func nodeMain(args []string) int {
	var c nodeConfig
	fs := flag.NewFlagSet(name+" "+nodeCommand, flag.ContinueOnError)
	fs.StringVar(&c.name, "name", "", "the node's name")
	fs.StringVar(&c.dir, "dir", "", "its directory")
	fs.StringVar(&c.in.path, "path", "", "where in the bucket the fleet is")
	fs.DurationVar(&c.heartbeat, "heartbeat", defaultHeartbeat, "how often it says that it is alive")
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
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", c.name))
	if err := node(end, deploy, c, os.Stdout); err != nil && end.Err() == nil {
		slog.Error("it ends", "err", err)
		return cli.Failed
	}
	return cli.OK
}

// node serves until end or deploy is done.
func node(end, deploy context.Context, c nodeConfig, out io.Writer) (err error) {
	store, err := bucket.Open(os.Getenv)
	if err != nil {
		return err
	}
	replica, err := store.Replica(end, c.in.template())
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
	m, err := open(c, url, replica)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s := &service{m: m, node: c.name}
	router, err := multidbhttp.Router(m, tenantOf, s.handler(), multidbhttp.RouterOptions{Secret: os.Getenv(secretEnv)})
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
	say(out, "%s%s\n", ready, url)
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
		say(out, "%s\n", leaving)
		_ = cli.Sleep(end, c.heartbeat*5/4)
		return nil
	}
}

// open makes a node's Manager. Whether the tenants of this fleet are on its disk makes no difference:
// they are brought from the bucket.
func open(c nodeConfig, url string, replica multidb.ReplicaFactory) (*multidb.Manager, error) {
	data := filepath.Join(c.dir, "data")
	if err := os.MkdirAll(data, 0o750); err != nil {
		return nil, err
	}
	return multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(data, "{{tenant}}.db"))),
		multidb.WithStateDir(filepath.Join(c.dir, "state")),
		multidb.WithReplica(replica),
		multidb.WithFleetLog(multidb.FleetLogConfig{Path: c.in.log()}),
		multidb.WithCluster(multidb.ClusterConfig{Node: c.name, URL: url, Heartbeat: c.heartbeat}),
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			_, err := db.ExecContext(ctx, schema)
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
