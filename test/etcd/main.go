// Command etcd is what the torture tests of a cluster start: its nodes, and the etcd that some have their members in. It is a
// module of its own, as etcd demands newer versions of others than the root module does (see go.work).
package main

import (
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
	"github.com/multidb-go/multidb/test/torture/clusternode"
)

func main() {
	var err error
	if job := os.Getenv(clusternode.Env); job != "" {
		err = clusternode.Run(job, members)
	} else if len(os.Args) == 4 {
		err = serve(os.Args[1], os.Args[2], os.Args[3])
	} else {
		err = fmt.Errorf("want %s, or a directory and two addresses", clusternode.Env)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

// members are those in etcd, by the node's own road, or nil: they are in the bucket. The client ends with the process.
func members(cfg clusternode.Config) (multidb.Membership, error) {
	if cfg.Etcd == "" {
		return nil, nil
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{cfg.Etcd}, Logger: zap.NewNop(), DialTimeout: time.Second,
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: time.Second})
	if err != nil {
		return nil, err
	}
	return etcdmembership.New(client, etcdmembership.Config{TTL: clusternode.TTL})
}

// serve is an etcd with one member, which says "ready" when it serves, and ends when its standard input does.
func serve(dir, clients, peers string) error {
	listen, peer := url.URL{Scheme: "http", Host: clients}, url.URL{Scheme: "http", Host: peers}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{listen}, []url.URL{listen}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.TickMs, cfg.ElectionMs = 20, 200 // so that leases may be short
	cfg.UnsafeNoFsync = true             // the machine goes on when the process is killed
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
