// Command etcd is the node of examples/cluster that finds the others in etcd, and an etcd for it. `go run ./examples/cluster -etcd` builds
// and starts both. It is a module of its own, so that nobody else depends on etcd.
package main

import (
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/etcdmembership"
	"github.com/multidb-go/multidb/examples/cluster/internal/node"
	"github.com/multidb-go/multidb/examples/internal/cli"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == node.Command {
		os.Exit(node.Main(os.Args[2:], members))
	}
	if len(os.Args) > 1 && os.Args[1] == "etcd" {
		os.Exit(server(os.Args[2:]))
	}
	fmt.Fprintln(os.Stderr, "this is started by: go run ./examples/cluster -etcd")
	os.Exit(cli.Failed)
}

// members are those that etcd has. A real etcd wants TLS, and has three endpoints.
func members(c node.Config) (multidb.Membership, func() error, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{c.Etcd}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, nil, err
	}
	// The lease lasts as long in relation to the heartbeat as by default.
	ttl := max(2*time.Second, (c.Heartbeat * etcdmembership.DefaultTTL / node.DefaultHeartbeat).Round(time.Second))
	m, err := etcdmembership.New(client, etcdmembership.Config{TTL: ttl})
	if err != nil {
		return nil, nil, err
	}
	return m, client.Close, nil
}

// server is an etcd on loopback. It ends when its standard input does, as that of a node.
func server(args []string) int {
	cfg := embed.NewConfig()
	fs := flag.NewFlagSet("cluster etcd", flag.ContinueOnError)
	fs.StringVar(&cfg.Dir, "dir", "", "where it keeps its data")
	if code, done := cli.Parse(fs, args, os.Stderr); done {
		return code
	}
	any := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{any}, []url.URL{any}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{any}, []url.URL{any}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.LogLevel = "error"
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start etcd:", err)
		return cli.Failed
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return cli.Failed
	}
	fmt.Printf("%shttp://%s\n", node.Ready, etcd.Clients[0].Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return cli.OK
}
