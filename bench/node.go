package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
)

// nodeSpec is what a node, a process of its own, is told first.
type nodeSpec struct {
	Name string
	Dir  string // its disk
	S3   string
	N    int // tenants, which it is asked about by their number
}

// nodeAsk is a question to a node that has started.
type nodeAsk struct {
	Do      string        // one of the below
	Writers int           // of nodeWrite
	Over    time.Duration // of nodeWrite: how long
}

const (
	nodeStatus = "status"
	nodeHeap   = "heap"  // status, with what is alive on the heap, after a collection
	nodeOpen   = "open"  // commits once in each tenant that it serves
	nodeWrite  = "write" // commits in tenants that it serves, at random, as fast as it can
	nodeDrain  = "drain"
	nodeClose  = "close" // after which it answers nothing
)

// nodeAnswer is what it answers to each.
type nodeAnswer struct {
	URL       string
	Databases int // that it knows
	Served    int // shards
	Expected  int
	Free      int
	Moving    int
	Moves     int64
	Stuck     int64
	Worst     time.Duration // for how long shards of a move were without an owner
	Tenants   int           // of N that it serves; of nodeOpen and nodeWrite
	Commits   int64         // of nodeWrite
	Resident  float64
	Heap      float64
	CPU       float64
	Requests  int64
	Err       string
}

// settled: it serves what it is to serve.
func (a nodeAnswer) settled() bool {
	return a.Served > 0 && a.Served == a.Expected && a.Moving == 0 && a.Free == 0
}

// nodeRole is a node, and an application on it: a handler that commits in the tenant that the path
// names, behind multidbhttp.Router, as any service on several nodes has it.
func nodeRole(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	var sp nodeSpec
	if err := questions.Decode(&sp); err != nil {
		return err
	}
	n, err := startNode(ctx, sp)
	if err != nil {
		return errors.Join(err, answers.Encode(nodeAnswer{Err: err.Error()}))
	}
	defer func() { err = errors.Join(err, n.close(ctx)) }()
	if err := answers.Encode(n.status(false)); err != nil {
		return err
	}
	for {
		var q nodeAsk
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(n.answer(ctx, q)); err != nil {
			return err
		}
	}
}

type nodeProcess struct {
	nodeSpec
	m      *managed
	url    string
	server *http.Server
	router *multidbhttp.RouteHandler
	served chan error
	closed bool
}

func startNode(ctx context.Context, sp nodeSpec) (*nodeProcess, error) {
	if err := os.MkdirAll(fleetRoot(sp.Dir), 0o755); err != nil {
		return nil, err
	}
	// The others are told the address when the node joins, so it listens before that.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &nodeProcess{nodeSpec: sp, url: "http://" + ln.Addr().String(), served: make(chan error, 1)}
	s3 := spec{S3: sp.S3}
	n.m, err = newManager(sp.Dir, multidb.WithS3(s3.s3Config()), fleetLog(unpackDefault), multidb.WithMaxOpen(1000),
		multidb.WithCluster(multidb.ClusterConfig{Node: sp.Name, URL: n.url}), multidb.WithOpenHook(makeSchema))
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	tenant := func(r *http.Request) (multidb.ID, error) { return multidb.ID(strings.TrimPrefix(r.URL.Path, "/")), nil }
	n.router, err = multidbhttp.Router(n.m.Manager, tenant, http.HandlerFunc(n.commit), multidbhttp.RouterOptions{})
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	n.server = &http.Server{Handler: n.router, ReadHeaderTimeout: 10 * time.Second}
	go func() { n.served <- n.server.Serve(ln) }()
	if err := n.m.Start(ctx); err != nil {
		return nil, errors.Join(err, n.close(ctx))
	}
	return n, nil
}

// makeSchema makes what fill does, in a tenant that is new.
func makeSchema(ctx context.Context, _ multidb.Database, db *sql.DB) error {
	var n int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&n); err != nil || n > 0 {
		return err
	}
	_, err := db.ExecContext(ctx, `BEGIN; `+schema+`; INSERT INTO state VALUES(1, '`+markOf(0)+`'); COMMIT`)
	return err
}

func (n *nodeProcess) commitIn(ctx context.Context, id multidb.ID) error {
	return n.m.Do(ctx, id, func(db *sql.DB) error { return commit(ctx, db, 1) })
}

// commit is the handler of a request for a tenant. It may come twice, which does no harm.
func (n *nodeProcess) commit(w http.ResponseWriter, r *http.Request) {
	err := n.commitIn(r.Context(), multidb.ID(strings.TrimPrefix(r.URL.Path, "/")))
	switch {
	case err == nil:
		_, _ = io.WriteString(w, n.Name) // who does not read it has gone
	case multidbhttp.NotOwner(w, r, err):
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (n *nodeProcess) close(ctx context.Context) error {
	if n.closed {
		return nil
	}
	n.closed = true
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := n.server.Shutdown(within)
	if served := <-n.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	n.router.CloseIdleConnections()
	return errors.Join(err, n.m.stop(ctx))
}

func (n *nodeProcess) answer(ctx context.Context, q nodeAsk) nodeAnswer {
	var a nodeAnswer
	var err error
	switch q.Do {
	case nodeStatus, nodeHeap:
		err = n.m.trouble()
	case nodeOpen, nodeWrite:
		var mine []multidb.ID
		for i := range n.N {
			o, e := n.m.Owner(ctx, fleetID(i))
			if err = errors.Join(err, e); o.Self && !o.Moving {
				mine = append(mine, fleetID(i))
			}
		}
		a.Tenants = len(mine)
		if err == nil && len(mine) > 0 && q.Do == nodeOpen {
			err = parallel(ctx, len(mine), 8, func(ctx context.Context, i int) error { return n.commitIn(ctx, mine[i]) })
		} else if err == nil && len(mine) > 0 {
			a.Commits, err = n.write(ctx, mine, q)
		}
	case nodeDrain:
		within, cancel := context.WithTimeout(ctx, 5*time.Minute)
		err = n.m.Drain(within)
		cancel()
	case nodeClose:
		err = n.close(ctx)
	default:
		err = fmt.Errorf("unknown question %q", q.Do)
	}
	if q.Do != nodeClose {
		s := n.status(q.Do == nodeHeap)
		s.Tenants, s.Commits = a.Tenants, a.Commits
		a = s
	}
	if err = errors.Join(err); err != nil {
		a.Err = err.Error()
	}
	return a
}

// write commits until the time is over, and returns how often.
func (n *nodeProcess) write(ctx context.Context, mine []multidb.ID, q nodeAsk) (int64, error) {
	var commits atomic.Int64
	began := time.Now()
	err := parallel(ctx, q.Writers, q.Writers, func(ctx context.Context, w int) error {
		rnd := rand.New(rand.NewPCG(uint64(w), 5))
		for time.Since(began) < q.Over {
			if err := n.commitIn(ctx, mine[rnd.IntN(len(mine))]); err != nil {
				return err
			}
			commits.Add(1)
		}
		return nil
	})
	return commits.Load(), err
}

func (n *nodeProcess) status(heap bool) nodeAnswer {
	s, c := n.m.Stats(), n.m.Nodes()
	a := nodeAnswer{
		URL: n.url, Databases: s.Databases, Served: c.Served, Expected: c.Expected, Free: c.Free, Moving: c.Moving,
		Moves: c.Moves, Stuck: c.Stuck, Worst: c.WorstMove, CPU: cpuTime(), Requests: s.Requests.Total(),
	}
	if heap {
		a.Heap = heapBytes()
	}
	var err error
	if a.Resident, err = residentBytes(); err != nil {
		a.Err = err.Error()
	}
	return a
}

// node is a node's process, seen from a scenario.
type node struct {
	h    *helper
	name string
	url  string
}

// startNode starts one node, and waits until it serves.
func (sp *spec) startNode(ctx context.Context, name, dir string) (*node, nodeAnswer, error) {
	h, err := startHelper(ctx, roleNode)
	if err != nil {
		return nil, nodeAnswer{}, err
	}
	n := &node{h: h, name: name}
	var a nodeAnswer
	err = h.ask(nodeSpec{Name: name, Dir: dir, S3: sp.S3, N: sp.N}, &a)
	if err == nil && a.Err != "" {
		err = errors.New(a.Err)
	}
	if err != nil {
		return nil, a, errors.Join(fmt.Errorf("start node %q: %w", name, err), h.close())
	}
	n.url = a.URL
	return n, a, nil
}

func (n *node) ask(q nodeAsk) (nodeAnswer, error) {
	var a nodeAnswer
	if err := n.h.ask(q, &a); err != nil {
		return a, fmt.Errorf("node: %w", err)
	}
	if a.Err != "" {
		return a, fmt.Errorf("node: %s: %s", q.Do, a.Err)
	}
	return a, nil
}

// close ends it in order.
func (n *node) close() error {
	_, err := n.ask(nodeAsk{Do: nodeClose})
	return errors.Join(err, n.h.close())
}

// kill ends it without a word.
func (n *node) kill() error {
	if err := n.h.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = n.h.in.Close() // it is closed already
	_ = n.h.cmd.Wait() // says that it was killed
	return nil
}

// placed waits until each node serves what it is to serve.
func placed(ctx context.Context, limit time.Duration, nodes ...*node) error {
	return until(ctx, "the shards find their places", 100*time.Millisecond, limit, func() (bool, error) {
		sum := 0
		for _, n := range nodes {
			a, err := n.ask(nodeAsk{Do: nodeStatus})
			if err != nil || !a.settled() {
				return false, err
			}
			sum += a.Served
		}
		return sum == 1024, nil
	})
}
