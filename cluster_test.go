package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// cluster is nodes that share a replica and a membership, each with a disk of its own.
type clusterRig struct {
	t       *testing.T
	rep     *multidbtest.Replica
	views   map[string]*multidbtest.Replica
	members *multidbtest.Membership
	dirs    map[string]string
	nodes   map[string]*multidb.Manager
	bucket  bool // keeps the members
	config  func(*multidb.ClusterConfig)
	observe func(node string, ev multidb.Event)
	opts    []multidb.Option
	// Of one node: the replica over its view, how it finds files, and more options.
	store    func(node string) multidb.ReplicaFactory
	discover func(*multidb.GlobDiscoverer) multidb.Discoverer
	each     func(node string) []multidb.Option
}

func newCluster(t *testing.T, opts ...multidb.Option) *clusterRig {
	return &clusterRig{
		t: t, rep: multidbtest.NewReplica(), views: map[string]*multidbtest.Replica{}, members: multidbtest.NewMembership(),
		dirs: map[string]string{}, nodes: map[string]*multidb.Manager{}, opts: opts,
	}
}

// open makes a node, which is not started.
func (c *clusterRig) open(name string) *multidb.Manager {
	c.t.Helper()
	dir := c.dirs[name]
	if dir == "" {
		dir = c.t.TempDir()
		c.dirs[name] = dir
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if c.views[name] == nil {
		c.views[name] = c.rep.View()
	}
	cfg := multidb.ClusterConfig{Node: name, URL: "http://" + name + ".test", Membership: c.members}
	if c.bucket {
		cfg.Membership = nil
	}
	if c.config != nil {
		c.config(&cfg)
	}
	observe := func(ev multidb.Event) {
		if c.observe != nil {
			c.observe(name, ev)
		}
	}
	glob := multidb.Glob(filepath.Join(dir, "data/{{project}}/{{database}}.db"))
	found, replica := multidb.Discoverer(glob), multidb.ReplicaFactory(c.views[name])
	if c.discover != nil {
		found = c.discover(glob)
	}
	if c.store != nil {
		replica = c.store(name)
	}
	opts := append([]multidb.Option{
		multidb.WithDiscoverer(found), multidb.WithReplica(replica), multidb.WithCluster(cfg), multidb.WithObserver(observe),
	}, c.opts...)
	if c.each != nil {
		opts = append(opts, c.each(name)...)
	}
	m, err := multidb.New(opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// start starts a node.
func (c *clusterRig) start(name string) *multidb.Manager {
	c.t.Helper()
	m := c.open(name)
	if err := m.Start(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[name] = m
	return m
}

func (c *clusterRig) close(name string) {
	c.t.Helper()
	m := c.nodes[name]
	delete(c.nodes, name)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
}

func (c *clusterRig) closeAll() {
	c.t.Helper()
	for name := range c.nodes {
		c.close(name)
	}
}

// settled waits until each of the nodes serves what it is to have.
func (c *clusterRig) settled() {
	c.t.Helper()
	for began := time.Now(); ; {
		whole, sum := true, 0
		for _, m := range c.nodes {
			s := m.Nodes()
			sum += s.Served
			whole = whole && s.Served == s.Expected && s.Moving == 0
		}
		if whole && sum == 1024 {
			return
		}
		if time.Since(began) > 10*time.Minute {
			for name, m := range c.nodes {
				c.t.Logf("%s: %+v", name, m.Nodes())
			}
			c.t.Fatal("the shards did not find their places")
		}
		<-time.After(100 * time.Millisecond)
	}
}

// on calls fn with the node that serves a database, wherever that is.
func (c *clusterRig) on(id multidb.ID, fn func(m *multidb.Manager, db *sql.DB) error) error {
	var err error
	for range 300 { // 30 s
		for _, m := range c.nodes {
			h, e := m.Acquire(c.t.Context(), id)
			if errors.Is(e, multidb.ErrNotOwner) {
				err = e
				continue
			} else if e != nil {
				return e
			}
			err = fn(m, h.DB())
			h.Release()
			return err
		}
		<-time.After(100 * time.Millisecond)
	}
	return err
}

// put commits a row, and has it made durable.
func (c *clusterRig) put(id multidb.ID, row string) {
	c.t.Helper()
	if err := c.on(id, func(m *multidb.Manager, db *sql.DB) error {
		if _, err := db.Exec("CREATE TABLE IF NOT EXISTS t (row TEXT PRIMARY KEY)"); err != nil {
			return err
		}
		if _, err := db.Exec("INSERT INTO t VALUES (?)", row); err != nil {
			return err
		}
		_, err := m.Sync(c.t.Context(), id)
		return err
	}); err != nil {
		c.t.Fatalf("put %s into %s: %v", row, id, err)
	}
}

// rows are those of a database, wherever it is served.
func (c *clusterRig) rows(id multidb.ID) (n int) {
	c.t.Helper()
	if err := c.on(id, func(_ *multidb.Manager, db *sql.DB) error {
		return db.QueryRow("SELECT count(*) FROM t").Scan(&n)
	}); err != nil {
		c.t.Fatalf("rows of %s: %v", id, err)
	}
	return n
}

func someTenants(n int) (ids []multidb.ID) {
	for i := range n {
		ids = append(ids, multidb.ID(fmt.Sprintf("p/t%d", i)))
	}
	return ids
}

func TestANodeThatJoinsGetsItsShareAndTheTenantsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		c.settled()
		ids := someTenants(12)
		for _, id := range ids {
			c.put(id, "first")
		}
		c.start("b")
		c.settled()
		if a, b := c.nodes["a"].Nodes().Served, c.nodes["b"].Nodes().Served; a < 400 || b < 400 {
			t.Errorf("%d and %d shards, want about half of them each", a, b)
		}
		owners := map[string]int{}
		for _, id := range ids {
			c.put(id, "second")
			if n := c.rows(id); n != 2 {
				t.Errorf("%s has %d rows, want 2", id, n)
			}
			for name, m := range c.nodes {
				o, err := m.Owner(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if o.Self {
					owners[name]++
					continue
				}
				_, err = m.Acquire(t.Context(), id)
				var elsewhere *multidb.NotOwnerError
				if !errors.As(err, &elsewhere) || elsewhere.Owner.Node == name || elsewhere.Owner.URL != "http://"+elsewhere.Owner.Node+".test" {
					t.Errorf("acquired at %s: %v", name, err)
				}
				if _, err := m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrNotOwner) {
					t.Errorf("synced at %s: %v", name, err)
				}
			}
		}
		if len(owners) != 2 {
			t.Errorf("owners of %d tenants: %v", len(ids), owners)
		}
		c.closeAll()
	})
}

func TestATenantOfANodeThatWentIsServedByAnotherOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for _, name := range []string{"a", "b", "c"} {
			c.start(name)
		}
		c.settled()
		ids := someTenants(20)
		for _, id := range ids {
			c.put(id, "first")
		}
		if err := c.nodes["b"].Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := c.nodes["b"].Nodes().Served; n != 0 {
			t.Errorf("a drained node serves %d shards", n)
		}
		c.close("b")
		for _, id := range ids {
			c.put(id, "second")
		}
		c.close("a") // without Drain: its shards are free at once
		for _, id := range ids {
			c.put(id, "third")
			if n := c.rows(id); n != 3 {
				t.Errorf("%s has %d rows, want 3", id, n)
			}
		}
		c.start("a")
		c.start("b")
		c.settled()
		for _, id := range ids {
			if n := c.rows(id); n != 3 {
				t.Errorf("%s has %d rows, want 3", id, n)
			}
		}
		c.closeAll()
	})
}

// die ends a node as a crash does, as far as the others can tell: nothing of it reaches the
// bucket any more. Its files are as they are. ended is closed when nothing of it runs any more.
func (c *clusterRig) die(name string) (ended <-chan struct{}) {
	c.t.Helper()
	m := c.nodes[name]
	delete(c.nodes, name)
	c.views[name].Inject(multidbtest.Fault{Err: errCutOff})
	delete(c.views, name)
	if !c.bucket {
		c.members.Kill(name)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = m.Close(ctx) // what it could not ship is for the others to have promised, or not
	}()
	return done
}

var errCutOff = errors.New("this node is dead")

func TestTheTenantsOfADeadNodeAreServedByAnotherWithAllThatWasPromised(t *testing.T) {
	for _, bucket := range []bool{false, true} {
		t.Run(map[bool]string{false: "members in memory", true: "members in the bucket"}[bucket], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.bucket = bucket
				for _, name := range []string{"a", "b", "c"} {
					c.start(name)
				}
				c.settled()
				ids := someTenants(20)
				for _, id := range ids {
					c.put(id, "first")
				}
				for _, id := range ids { // most are in the log alone
					c.put(id, "second")
				}
				began := time.Now()
				ended := c.die("b")
				for _, id := range ids {
					if n := c.rows(id); n != 2 {
						t.Errorf("%s has %d rows, want 2", id, n)
					}
				}
				gap := time.Since(began)
				if gap > 15*time.Second {
					t.Errorf("it took %v until all were served", gap)
				}
				t.Logf("all are served after %v", gap)
				<-ended
				for _, id := range ids {
					c.put(id, "third")
				}
				c.start("b")
				c.settled()
				for _, id := range ids {
					c.put(id, "fourth")
					if n := c.rows(id); n != 4 {
						t.Errorf("%s has %d rows, want 4", id, n)
					}
				}
				c.closeAll()
			})
		})
	}
}

func TestATakeOverWhoseAnswerIsLostLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		c.start("b")
		c.settled()
		ids := someTenants(12)
		for _, row := range []string{"first", "second"} {
			for _, id := range ids {
				c.put(id, row)
			}
		}
		lost := c.views["b"].Inject(multidbtest.Fault{Op: multidbtest.OpCreateObject, LostAnswer: true, Times: 1, Match: func(op multidbtest.Operation) bool {
			return strings.Contains(op.Object, "map/")
		}})
		ended := c.die("a")
		for _, id := range ids {
			c.put(id, "third")
			if n := c.rows(id); n != 3 {
				t.Errorf("%s has %d rows, want 3", id, n)
			}
		}
		if lost.Hits() != 1 {
			t.Errorf("%d answers were lost, want that to the take-over's map", lost.Hits())
		}
		<-ended
		c.closeAll()
	})
}

func TestANodeThatWasOnlySlowIsFencedAndItsCommitsAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for _, name := range []string{"a", "b"} {
			c.start(name)
		}
		c.settled()
		ids := someTenants(10)
		for _, id := range ids {
			c.put(id, "first")
		}
		b := c.nodes["b"]
		var its []multidb.ID
		for _, id := range ids {
			if o, err := b.Owner(t.Context(), id); err != nil {
				t.Fatal(err)
			} else if o.Self {
				its = append(its, id)
			}
		}
		if len(its) == 0 {
			t.Fatal("b has no tenant")
		}
		c.members.Partition("b")
		cut := c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		for _, id := range its { // what b promises to nobody
			if err := b.Do(t.Context(), id, func(db *sql.DB) error {
				_, err := db.Exec("INSERT INTO t VALUES ('lost')")
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		delete(c.nodes, "b")
		for _, id := range ids {
			c.put(id, "second")
		}
		cut.Clear()
		c.members.Heal("b")
		for _, id := range its {
			if _, err := b.Sync(t.Context(), id); !errors.Is(err, multidb.ErrFenced) && !errors.Is(err, multidb.ErrNotOwner) {
				t.Errorf("a fenced node synced %s: %v", id, err)
			}
		}
		c.nodes["b"] = b
		for _, id := range ids {
			if n := c.rows(id); n != 2 {
				t.Errorf("%s has %d rows, want 2", id, n)
			}
		}
		c.settled()
		for _, id := range ids {
			c.put(id, "third")
			if n := c.rows(id); n != 3 {
				t.Errorf("%s has %d rows, want 3", id, n)
			}
		}
		c.closeAll()
	})
}

func TestANodeThatIsNotLikeTheOthersDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		defer c.closeAll()
		c.views["b"] = c.rep.View(multidbtest.WithPathTemplate("elsewhere/{{project}}/{{database}}"))
		err := c.open("b").Start(t.Context())
		if !errors.Is(err, multidb.ErrClusterSettings) || !strings.Contains(err.Error(), "elsewhere/PROJECT/DATABASE") || !strings.Contains(err.Error(), `"ID"`) {
			t.Errorf("another template: %v", err)
		}
		delete(c.views, "b")
		c.start("b")
	})
}

func TestOfTwoNodesWithOneNameTheSecondDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		c.settled()
		c.put("p/t0", "first")
		dir := c.dirs["a"]
		c.dirs["a"] = t.TempDir() // another machine
		if err := c.open("a").Start(t.Context()); !errors.Is(err, multidb.ErrNameTaken) {
			t.Errorf("another node of the name: %v", err)
		}
		c.dirs["a"] = dir
		c.put("p/t0", "second")
		c.close("a")
		c.start("a") // and the same one again
		c.settled()
		if n := c.rows("p/t0"); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
		c.closeAll()
	})
}

func TestAClusterThatCannotBeIsRefusedByNew(t *testing.T) {
	dir := t.TempDir()
	hoarder, err := multidb.NewS3Replica(multidb.S3Config{Bucket: "b", Path: "{{project}}/{{database}}", Region: "us-east-1", NoDelete: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  multidb.ClusterConfig
		rep  multidb.ReplicaFactory
		want string
	}{
		{multidb.ClusterConfig{}, multidbtest.NewReplica(), "Node"},
		{multidb.ClusterConfig{Node: "a b"}, multidbtest.NewReplica(), "Node"},
		{multidb.ClusterConfig{Node: "a", URL: "10.0.0.7:8080"}, multidbtest.NewReplica(), "URL"},
		{multidb.ClusterConfig{Node: "a", Heartbeat: -1}, multidbtest.NewReplica(), "Heartbeat"},
		{multidb.ClusterConfig{Node: "a", MaxMoves: 1025}, multidbtest.NewReplica(), "MaxMoves"},
		{multidb.ClusterConfig{Node: "a"}, nil, "no replica"},
		{multidb.ClusterConfig{Node: "a"}, hoarder, "NoDelete"},
	} {
		opts := []multidb.Option{multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{project}}/{{database}}.db"))), multidb.WithCluster(c.cfg)}
		if c.rep != nil {
			opts = append(opts, multidb.WithReplica(c.rep))
		}
		if _, err := multidb.New(opts...); !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v; want one about %s", c.cfg, err, c.want)
		}
	}
}

func TestWithoutAClusterAManagerOwnsEverythingAndDrainsNothing(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	if o, err := f.m.Owner(t.Context(), "project0/db0"); err != nil || !o.Self || o.Node != "" {
		t.Errorf("%+v, %v", o, err)
	}
	if err := f.m.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if s := f.m.Nodes(); len(s.Nodes) != 0 || s.Served != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAHeldHandlePutsTheMoveOffAndKeepsItsTenantUsable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		c.settled()
		ids := someTenants(8)
		handles := map[multidb.ID]multidb.Handle{}
		for _, id := range ids {
			c.put(id, "first")
			h, err := a.Acquire(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			handles[id] = h
		}
		b := c.start("b")
		<-time.After(2 * time.Minute)
		if s := a.Nodes(); s.Stuck == 0 || s.Served == s.Expected {
			t.Errorf("nothing was in the way: %+v", s)
		}
		moved := 0
		for _, id := range ids {
			if _, err := handles[id].DB().Exec("INSERT INTO t VALUES ('second')"); err != nil {
				t.Error(err)
			}
			if _, err := a.Sync(t.Context(), id); err != nil {
				t.Error(err)
			}
			handles[id].Release()
		}
		c.settled()
		for _, id := range ids {
			if o, err := b.Owner(t.Context(), id); err != nil {
				t.Error(err)
			} else if o.Self {
				moved++
			}
			if n := c.rows(id); n != 2 {
				t.Errorf("%s has %d rows, want 2", id, n)
			}
		}
		if moved == 0 {
			t.Error("no tenant moved")
		}
		c.closeAll()
	})
}

func TestAStrictOwnerThatIsCutOffServesNobodyUntilItKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.config = func(cfg *multidb.ClusterConfig) { cfg.StrictOwnership = 5 * time.Second }
		a := c.start("a")
		c.settled()
		c.put("p/t0", "first")
		cut := c.views["a"].Inject(multidbtest.Fault{Err: errCutOff})
		<-time.After(4 * time.Second)
		read := func() error {
			return a.Do(t.Context(), "p/t0", func(db *sql.DB) error {
				var n int
				return db.QueryRow("SELECT count(*) FROM t").Scan(&n)
			})
		}
		if err := read(); err != nil {
			t.Errorf("within the time: %v", err)
		}
		<-time.After(5 * time.Second)
		var elsewhere *multidb.NotOwnerError
		if err := read(); !errors.As(err, &elsewhere) || elsewhere.Owner.Node != "" {
			t.Errorf("after it: %v", err)
		}
		if o, err := a.Owner(t.Context(), "p/t0"); err != nil || o.Self {
			t.Errorf("%+v, %v", o, err)
		}
		cut.Clear()
		if err := read(); err != nil {
			t.Errorf("and when the bucket is there again: %v", err)
		}
		c.closeAll()
	})
}

// ownedBy returns an ID that a node owns and nobody has used.
func (c *clusterRig) ownedBy(node string) multidb.ID {
	c.t.Helper()
	for i := range 1000 {
		id := multidb.ID(fmt.Sprintf("new/%d", i))
		if o, err := c.nodes[node].Owner(c.t.Context(), id); err != nil {
			c.t.Fatal(err)
		} else if o.Self {
			return id
		}
	}
	c.t.Fatalf("%s owns nothing", node)
	return ""
}

func TestATenantsLifeIsLedAtItsOwner(t *testing.T) {
	// Not in virtual time: a file is deleted only when its stamps have come of age.
	c := newCluster(t)
	c.config = func(cfg *multidb.ClusterConfig) { cfg.Heartbeat, cfg.MaxMoves = 100*time.Millisecond, 256 }
	defer c.closeAll()
	c.observe = func(node string, ev multidb.Event) {
		if ev.Type == multidb.EventMoveStuck {
			t.Logf("%s: %v", node, ev.Err)
		}
	}
	a, b := c.start("a"), c.start("b")
	c.settled()
	ctx := t.Context()
	src := multidb.ID("p/t0")
	c.put(src, "first")
	c.put(src, "second") // in the log alone
	owner, other, name := a, b, "b"
	if o, err := b.Owner(ctx, src); err != nil {
		t.Fatal(err)
	} else if o.Self {
		owner, other, name = b, a, "a"
	}
	dst := c.ownedBy(name)
	if err := owner.Fork(ctx, src, dst, multidb.ForkOptions{}); !errors.Is(err, multidb.ErrNotOwner) {
		t.Errorf("forked where the copy is not served: %v", err)
	}
	if err := other.Fork(ctx, src, dst, multidb.ForkOptions{}); err != nil {
		t.Fatalf("fork of another node's database: %v", err)
	}
	c.put(src, "third")
	if n := c.rows(dst); n != 2 {
		t.Errorf("the copy has %d rows, want 2", n)
	}
	if err := owner.Rename(ctx, src, c.ownedBy(name)); !errors.Is(err, multidb.ErrNotOwner) {
		t.Errorf("renamed to another node's: %v", err)
	}
	if err := other.Remove(ctx, src); !errors.Is(err, multidb.ErrNotOwner) {
		t.Errorf("removed at another node: %v", err)
	}
	if err := owner.Remove(ctx, src); err != nil {
		t.Error(err)
	}
	refused := func(m *multidb.Manager) {
		t.Helper()
		h, err := m.Acquire(ctx, src)
		if !errors.Is(err, multidb.ErrRemoved) {
			t.Errorf("acquired after it was removed: %v", err)
		}
		h.Release()
	}
	refused(owner)
	drain, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := owner.Drain(drain); err != nil {
		t.Fatal(err)
	}
	refused(other)
	if err := other.Undelete(ctx, src); err != nil {
		t.Error(err)
	}
	if n := c.rows(src); n != 3 {
		t.Errorf("%d rows after it was undeleted, want 3", n)
	}
	e, err := other.Erase(ctx, src)
	if err != nil || len(e.Left) > 0 {
		t.Errorf("%+v, %v", e, err)
	}
	if ok, err := other.Exists(ctx, src); err != nil || ok {
		t.Errorf("it exists after it was erased: %v, %v", ok, err)
	}
	c.put(src, "anew")
	if n := c.rows(src); n != 1 {
		t.Errorf("%d rows of the one that was made anew, want 1", n)
	}
}

func TestASyncOfWhatWasCommittedBeforeANodeWasTakenOverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.closeAll()
		c.start("a")
		b := c.start("b")
		c.settled()
		id := c.ownedBy("b")
		c.put(id, "first")
		old, err := b.Acquire(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		c.members.Partition("b")
		cut := c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		delete(c.nodes, "b")
		c.put(id, "second") // at a
		cut.Clear()
		c.members.Heal("b")
		c.nodes["b"] = b
		<-time.After(time.Minute)
		c.settled()
		if n := c.rows(id); n != 2 { // which opens it at b
			t.Fatalf("%d rows, want 2", n)
		}
		if _, err := old.DB().Exec("INSERT INTO t VALUES ('nowhere')"); err != nil {
			t.Logf("a commit through the old handle: %v", err)
		}
		for range 2 {
			if _, err := b.Sync(t.Context(), id); !errors.Is(err, multidb.ErrFenced) {
				t.Errorf("synced while a handle from before is out: %v", err)
			}
		}
		old.Release()
		if _, err := b.Sync(t.Context(), id); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("synced for whoever has just released it: %v", err)
		}
		if _, err := b.Sync(t.Context(), id); err != nil {
			t.Errorf("and after that: %v", err)
		}
		c.put(id, "third")
	})
}

func TestATenantThatAnotherNodeRemovedIsPutBackWhereItsFileIsFromBefore(t *testing.T) {
	// Not in virtual time: a file is deleted only when its stamps have come of age.
	c := newCluster(t)
	c.config = func(cfg *multidb.ClusterConfig) { cfg.Heartbeat, cfg.MaxMoves = 100*time.Millisecond, 1024 }
	defer c.closeAll()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.start("a")
	c.settled()
	id := multidb.ID("p/t0")
	c.put(id, "first")
	b := c.start("b")
	if err := c.nodes["a"].Drain(ctx); err != nil { // its file stays
		t.Fatal(err)
	}
	c.put(id, "second")
	if err := b.Remove(ctx, id); err != nil {
		t.Fatal(err)
	}
	c.close("a")
	a := c.start("a")
	if err := b.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	c.close("b")
	c.settled()
	h, err := a.Acquire(ctx, id)
	if h.Release(); !errors.Is(err, multidb.ErrRemoved) {
		t.Errorf("acquired after another node removed it: %v", err)
	}
	if err := a.Undelete(ctx, id); err != nil {
		t.Errorf("put back where a file of before is: %v", err)
	}
	if n := c.rows(id); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	if err := a.Undelete(ctx, id); !errors.Is(err, multidb.ErrInUse) {
		t.Errorf("put back a second time: %v", err)
	}
}
