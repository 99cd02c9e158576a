package etcdmembership_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/etcdmembership"
	"github.com/multidb-go/multidb/multidbtest"
)

var errDead = errors.New("this node is dead")

// whole is a node with all that it has, beside others over one etcd and one replica.
type whole struct {
	*multidb.Manager
	replica *multidbtest.Replica
	way     *proxy
}

func startWhole(t *testing.T, c *cluster, replica *multidbtest.Replica, name string) *whole {
	t.Helper()
	members := c.node(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := &whole{replica: replica, way: c.way(members)}
	var err error
	n.Manager, err = multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "data/{{tenant}}.db"))),
		multidb.WithStateDir(filepath.Join(dir, "state")), multidb.WithReplica(replica),
		multidb.WithCluster(multidb.ClusterConfig{Node: name, Membership: members}))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = n.Close(ctx) // of the dead one it fails
	})
	return n
}

// die ends the node as a kill does, as far as the others can tell.
func (n *whole) die() {
	n.replica.Inject(multidbtest.Fault{Err: errDead})
	n.way.set(true)
}

func (n *whole) write(ctx context.Context, id multidb.ID, row string) error {
	err := n.Do(ctx, id, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t (row TEXT); INSERT INTO t VALUES ('"+row+"')")
		return err
	})
	if err == nil {
		_, err = n.Sync(ctx, id)
	}
	return err
}

// look waits until a condition holds, of which nobody is told. It reports whether it did in time.
func look(t *testing.T, limit time.Duration, what string, ok func() bool) bool {
	t.Helper()
	tick, over := time.NewTicker(10*time.Millisecond), time.NewTimer(limit)
	defer tick.Stop()
	defer over.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-over.C:
			t.Errorf("after %v not: %s", limit, what)
			return false
		}
	}
	return true
}

// TestTheTenantsOfADeadNodeAreServedWithinTenSeconds: with the default TTL and heartbeat, the figure that
// docs/PERFORMANCE.md has of etcd (run it with -v).
func TestTheTenantsOfADeadNodeAreServedWithinTenSeconds(t *testing.T) {
	c := newCluster(newServer(t), "/gap/")
	c.ttl = etcdmembership.DefaultTTL
	replica := multidbtest.NewReplica()
	nodes := map[string]*whole{}
	for _, name := range []string{"a", "b", "c"} {
		nodes[name] = startWhole(t, c, replica.View(), name)
	}
	if !look(t, 2*time.Minute, "every shard is where it belongs", func() bool {
		sum := 0
		for _, n := range nodes {
			s := n.Nodes()
			if s.Served != s.Expected || s.Moving > 0 {
				return false
			}
			sum += s.Served
		}
		return sum == 1024
	}) {
		t.FailNow()
	}
	var of []multidb.ID // of the node that dies
	for i := 0; len(of) < 20; i++ {
		id := multidb.ID(fmt.Sprint("t", i))
		o, err := nodes["b"].Owner(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if !o.Self {
			continue
		}
		if err := nodes["b"].write(t.Context(), id, "promised"); err != nil {
			t.Fatal(err)
		}
		of = append(of, id)
	}
	began := time.Now()
	nodes["b"].die()
	gaps := make([]time.Duration, len(of))
	var wg sync.WaitGroup
	for i, id := range of {
		wg.Go(func() {
			look(t, time.Minute, fmt.Sprintf("%s is served", id), func() bool {
				rows := 0
				err := nodes[[]string{"a", "c"}[i%2]].Do(t.Context(), id, func(db *sql.DB) error {
					return db.QueryRow("SELECT count(*) FROM t").Scan(&rows)
				})
				var elsewhere *multidb.NotOwnerError
				if errors.As(err, &elsewhere) && elsewhere.Owner.Node != "" && elsewhere.Owner.Node != "b" {
					err = nodes[elsewhere.Owner.Node].Do(t.Context(), id, func(db *sql.DB) error {
						return db.QueryRow("SELECT count(*) FROM t").Scan(&rows)
					})
				}
				if err == nil && rows != 1 {
					t.Errorf("%s has %d rows, want what was promised", id, rows)
				}
				return err == nil
			})
			gaps[i] = time.Since(began)
		})
	}
	wg.Wait()
	slices.Sort(gaps)
	t.Logf("the tenants of a dead node are served after %v, and all after %v", gaps[len(gaps)/2].Round(10*time.Millisecond), gaps[len(gaps)-1].Round(10*time.Millisecond))
	if last := gaps[len(gaps)-1]; last > 10*time.Second {
		t.Errorf("the last tenant is served after %v", last)
	}
}
