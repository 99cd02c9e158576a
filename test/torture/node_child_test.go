package torture

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/multidb-go/multidb"
)

// nodeEnv is what a process that is a node of a cluster is to do.
const nodeEnv = "MULTIDB_TORTURE_NODE"

// nodeConfig tells a node what it is.
type nodeConfig struct {
	Node, Root, State string
	URL               string // of the store, by this node's own road
	Strict            time.Duration
	Said              string // where it notes what happened to it
}

// The heartbeat of the nodes. A node counts as gone after three of them.
const nodeBeat = 500 * time.Millisecond

// nodeStats is the answer to /stats.
type nodeStats struct {
	multidb.ClusterStatus
	Trouble string // ClusterStatus.Err
}

// moved is the answer of a node that does not serve a tenant.
type moved struct{ Node, URL string }

// runNode is one node: a Manager, and a control port by which the test commits, reads and stops
// it. It prints its address once it serves, and ends after /close.
func runNode(job string) error {
	var cfg nodeConfig
	if err := json.Unmarshal([]byte(job), &cfg); err != nil {
		return err
	}
	said, err := os.OpenFile(cfg.Said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p := place{url: cfg.URL, log: true, timeout: time.Second}
	f, err := p.open()
	if err != nil {
		return err
	}
	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(cfg.Root+"/{{database}}.db")), multidb.WithStateDir(cfg.State), multidb.WithReplica(f),
		multidb.WithCluster(multidb.ClusterConfig{Node: cfg.Node, URL: "http://" + l.Addr().String(), Heartbeat: nodeBeat,
			StrictOwnership: cfg.Strict, MaxMoves: 128}),
		multidb.WithFleetLog(multidb.FleetLogConfig{Path: logDir, UnpackInterval: time.Second, UnpackSize: 200 << 10, LogRetention: 3 * time.Second}),
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
				code, answer = http.StatusMisdirectedRequest, moved{elsewhere.Owner.Node, elsewhere.Owner.URL}
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
		s := nodeStats{ClusterStatus: n.m.Nodes()}
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
		before, err := chainHead(ctx, db)
		if err == nil {
			err = appendChain(ctx, db, v, nextHead(before, v), func() {})
		}
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

// chainHead is the head of a history, which may be empty.
func chainHead(ctx context.Context, db querier) (head string, err error) {
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'chain'").Scan(&tables); err != nil || tables == 0 {
		return noHead, err
	}
	err = db.QueryRowContext(ctx, "SELECT head FROM chain ORDER BY k DESC LIMIT 1").Scan(&head)
	if errors.Is(err, sql.ErrNoRows) {
		return noHead, nil
	}
	return head, err
}

// get answers with all rows of a tenant, which belong together.
func (n *nodeChild) get(ctx context.Context, q url.Values) (rows any, err error) {
	err = n.m.Do(ctx, multidb.ID(q.Get("id")), func(db *sql.DB) (err error) {
		rows, err = chainRows(ctx, db)
		return err
	})
	return rows, err
}

// chainRows are the rows of a history, in order; an error unless they belong together.
func chainRows(ctx context.Context, db querier) (all []string, err error) {
	if n, _, err := readChain(ctx, db); err != nil || n == 0 {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT v FROM chain ORDER BY k")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
