// Package clusternode is a node of the clusters that the torture tests kill: a Manager, and a control port by which the test
// commits, reads and stops it. The program is in test/etcd, a module of its own, as etcd demands newer versions of others
// than the root module does.
package clusternode

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/multidb-go/multidb"
)

// Env is what a process that is a node is to do: a Config as JSON.
const Env = "MULTIDB_TORTURE_NODE"

// Config tells a node what it is.
type Config struct {
	Node, Root, State string
	Store             multidb.S3Config // by this node's own road
	Log               string           // the directory of the fleet log
	Etcd              string           // where its road to etcd begins; empty: the members are in the bucket
	Strict            time.Duration
	Said              string // where it notes what happened to it
}

const (
	// Beat is the heartbeat of the nodes. One counts as gone after three of them.
	Beat = 500 * time.Millisecond
	// TTL is for how long a node is a member after etcd has heard of it: the shortest one that there is.
	TTL = 2 * time.Second
)

// Stats is the answer to /stats.
type Stats struct {
	multidb.ClusterStatus
	Trouble string // ClusterStatus.Err
}

// Moved is the answer of a node that does not serve a tenant.
type Moved struct{ Node, URL string }

// Run is one  It prints its address once it serves, and ends after /close, or when its standard input
// ends, as the test is gone then. members is asked for those of the cluster, and may answer nil: they are in the bucket.
func Run(job string, members func(Config) (multidb.Membership, error)) error {
	var cfg Config
	if err := json.Unmarshal([]byte(job), &cfg); err != nil {
		return err
	}
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	said, err := os.OpenFile(cfg.Said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f, err := multidb.NewS3Replica(cfg.Store)
	if err != nil {
		return err
	}
	cluster := multidb.ClusterConfig{Node: cfg.Node, URL: "http://" + l.Addr().String(), Heartbeat: Beat, StrictOwnership: cfg.Strict, MaxMoves: 128}
	if cluster.Membership, err = members(cfg); err != nil {
		return err
	}
	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(cfg.Root+"/{{database}}.db")), multidb.WithStateDir(cfg.State), multidb.WithReplica(f),
		multidb.WithCluster(cluster),
		multidb.WithFleetLog(multidb.FleetLogConfig{Path: cfg.Log, UnpackInterval: time.Second, UnpackSize: 200 << 10, LogRetention: 3 * time.Second}),
		multidb.WithSyncInterval(50*time.Millisecond), multidb.WithColdSyncInterval(200*time.Millisecond),
		multidb.WithScanInterval(500*time.Millisecond), multidb.WithHotDuration(500*time.Millisecond), multidb.WithIdleTimeout(100*time.Millisecond),
		multidb.WithCheckpointPages(30), multidb.WithSnapshotInterval(3*time.Second), multidb.WithRetention(6*time.Second),
		multidb.WithL0Retention(2*time.Second), multidb.WithRetentionInterval(500*time.Millisecond),
		multidb.WithObserver(func(ev multidb.Event) {
			switch ev.Type {
			case multidb.EventGained, multidb.EventMoved, multidb.EventMoveStuck, multidb.EventSetAside, multidb.EventFenced, multidb.EventAdopted,
				multidb.EventFleetLogFenced, multidb.EventFleetLogTakenOver, multidb.EventFleetLogBegun, multidb.EventState:
			default:
				return
			}
			_, _ = fmt.Fprintf(said, "%s %s: %v %s %s epoch %d shards %d: %v\n", time.Now().Format("04:05.000"), cfg.Node,
				ev.Type, ev.ID, ev.Path, ev.Epoch, ev.Shards, ev.Err)
		}))
	if err != nil {
		return err
	}
	// A new node waits for a silent one of its name, and a request that is lost costs seconds.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	n := &nodeChild{m: m, closed: make(chan struct{})}
	srv := &http.Server{Handler: n.mux()}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	fmt.Println(l.Addr())
	select {
	case err := <-served:
		return err
	case <-n.closed:
		stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return srv.Shutdown(stop)
	}
}

type nodeChild struct {
	m      *multidb.Manager
	closed chan struct{}
}

func (n *nodeChild) mux() http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, fn func(ctx context.Context, q url.Values) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			answer, err := fn(r.Context(), r.URL.Query())
			code := http.StatusOK
			var elsewhere *multidb.NotOwnerError
			switch {
			case errors.As(err, &elsewhere):
				code, answer = http.StatusMisdirectedRequest, Moved{elsewhere.Owner.Node, elsewhere.Owner.URL}
			case err != nil:
				code, answer = http.StatusServiceUnavailable, err.Error()
			}
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(answer) // or whoever asked is gone
		})
	}
	handle("/put", n.put)
	handle("/get", n.get)
	handle("/owner", func(ctx context.Context, q url.Values) (any, error) {
		return n.m.Owner(ctx, multidb.ID(q.Get("id")))
	})
	handle("/drain", func(ctx context.Context, _ url.Values) (any, error) { return nil, n.m.Drain(ctx) })
	handle("/stats", func(context.Context, url.Values) (any, error) {
		s := Stats{ClusterStatus: n.m.Nodes()}
		if s.Err != nil {
			s.Trouble, s.Err = s.Err.Error(), nil
		}
		return s, nil
	})
	handle("/close", func(ctx context.Context, _ url.Values) (any, error) {
		err := n.m.Close(ctx)
		if err == nil {
			close(n.closed)
		}
		return nil, err
	})
	return mux
}

// put commits a row and has it made durable: with the handle still held, or after its release, and
// after a while in which the process may be stopped.
func (n *nodeChild) put(ctx context.Context, q url.Values) (any, error) {
	id, v := multidb.ID(q.Get("id")), q.Get("v")
	think, err := time.ParseDuration(q.Get("think"))
	if err != nil {
		return nil, err
	}
	sync := func() error {
		select {
		case <-time.After(think):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		_, err := n.m.Sync(ctx, id)
		return err
	}
	held := q.Get("held") != ""
	err = n.m.Do(ctx, id, func(db *sql.DB) error {
		err := Append(ctx, db, v, "", func() {})
		if err == nil && held {
			err = sync()
		}
		return err
	})
	if err == nil && !held {
		err = sync()
	}
	return nil, err
}

// get answers with all rows of a tenant, which belong together.
func (n *nodeChild) get(ctx context.Context, q url.Values) (rows any, err error) {
	err = n.m.Do(ctx, multidb.ID(q.Get("id")), func(db *sql.DB) (err error) {
		rows, err = Rows(ctx, db)
		return err
	})
	return rows, err
}
