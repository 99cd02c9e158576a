package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// known are the databases that a node knows, as All has them.
func known(m *multidb.Manager) (ids []multidb.ID) {
	for s := range m.All() {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

// knows waits until the nodes know these databases, each of them one of its own.
func (c *clusterRig) knows(want []multidb.ID) {
	c.t.Helper()
	want = slices.Sorted(slices.Values(want))
	for began := time.Now(); ; {
		var all []multidb.ID
		for _, m := range c.nodes {
			all = append(all, known(m)...)
		}
		slices.Sort(all)
		if slices.Equal(all, want) {
			return
		}
		if time.Since(began) > time.Minute {
			c.t.Fatalf("the nodes know %d databases:\n%q\nwant %d:\n%q", len(all), all, len(want), want)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// everywhere is what a node finds in the whole cluster, with who serves it.
func everywhere(t *testing.T, m *multidb.Manager) map[multidb.ID]multidb.Placed {
	t.Helper()
	all := map[multidb.ID]multidb.Placed{}
	for p, err := range m.Everywhere(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[p.ID]; twice {
			t.Errorf("%s is there twice", p.ID)
		}
		all[p.ID] = p
	}
	return all
}

func TestANodeKnowsTheDatabasesOfTheShardsThatItTakesIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		c.settled()
		ids := someTenants(30)
		for _, id := range ids {
			c.put(id, "first")
		}
		c.start("b")
		c.start("c")
		c.settled()
		c.knows(ids)
		for name, m := range c.nodes {
			all := everywhere(t, m)
			if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, slices.Sorted(slices.Values(ids))) {
				t.Errorf("%s finds %q everywhere", name, got)
			}
			for id, p := range all {
				if o, err := m.Owner(t.Context(), id); err != nil || o != p.Owner || o.Node == "" || o.Self != (o.Node == name) {
					t.Errorf("%s says that %s is at %+v, and that its owner is %+v, %v", name, id, p.Owner, o, err)
				}
			}
			for _, id := range known(m) { // nobody has opened it here
				if _, err := m.Sync(t.Context(), id); err != nil {
					t.Errorf("sync %s at %s: %v", id, name, err)
				}
			}
			if err := m.SyncAll(t.Context()); err != nil {
				t.Errorf("sync all at %s: %v", name, err)
			}
		}
		now, err := c.nodes["b"].NodesNow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range now.Nodes {
			if n.Name == "a" && n.LastObject == 0 || (n.LastObject == 0) != n.LastObjectAt.IsZero() {
				t.Errorf("the newest object of %s: %d, %v", n.Name, n.LastObject, n.LastObjectAt)
			}
		}
		done := map[multidb.ID]int{}
		for _, m := range c.nodes {
			if err := m.Each(t.Context(), multidb.EachOptions{Parallel: 1}, func(ctx context.Context, id multidb.ID, db *sql.DB) error {
				done[id]++
				_, err := db.ExecContext(ctx, "INSERT INTO t VALUES ('each')")
				return err
			}); err != nil {
				t.Error(err)
			}
		}
		for _, id := range ids {
			if done[id] != 1 || c.rows(id) != 2 {
				t.Errorf("%s was done %d times, and has %d rows", id, done[id], c.rows(id))
			}
		}
		c.closeAll()
	})
}

func TestADatabaseThatItsNodeHadNoTimeToNameIsKnownFromItsLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		c.start("b")
		c.settled()
		ids := someTenants(20)
		for _, id := range ids {
			c.put(id, "first")
		}
		ended := c.die("a") // less than a heartbeat after the first commits
		c.settled()
		c.knows(ids)
		for _, id := range ids {
			if n := c.rows(id); n != 1 {
				t.Errorf("%s has %d rows, want 1", id, n)
			}
		}
		<-ended
		c.closeAll()
	})
}

func TestDatabasesThatNoPageNamesAreNamedByTheNodeThatKnowsThem(t *testing.T) {
	t.Parallel()
	c := hurried(t)
	c.start("a")
	c.settled()
	ids := someTenants(10)
	for _, id := range ids {
		c.put(id, "first")
	}
	c.close("a")
	c.unnamed() // as when it was no node yet
	c.start("a")
	c.settled()
	c.start("b")
	c.settled()
	c.knows(ids)
	c.closeAll()
}

// unnamed deletes the pages that name the databases.
func (c *clusterRig) unnamed() {
	c.t.Helper()
	objects, err := c.rep.Objects("fleet")
	if err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for o, err := range objects.List(c.t.Context(), "tenants/", "") {
		if err == nil {
			n++
			err = objects.Delete(c.t.Context(), o.Name)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	if n == 0 {
		c.t.Fatal("there were no pages")
	}
}

// hurried is a cluster in real time, with files that age as those of a disk do.
func hurried(t *testing.T, opts ...multidb.Option) *clusterRig {
	c := newCluster(t, opts...)
	c.config = func(cfg *multidb.ClusterConfig) { cfg.Heartbeat = 200 * time.Millisecond }
	return c
}

func TestARemovedDatabaseIsUndeletedAtWhateverNodeServesIt(t *testing.T) {
	t.Parallel()
	c := hurried(t, multidb.WithRemovedRetention(48*time.Hour))
	c.start("a")
	c.settled()
	ids := someTenants(6)
	for _, id := range ids {
		c.put(id, "first")
	}
	for _, id := range ids {
		if err := c.nodes["a"].Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	b := c.start("b")
	if err := c.nodes["a"].Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.close("a")
	c.removed(b, ids)
	for id, p := range everywhere(t, b) {
		if p.RemovedAt.IsZero() || p.EraseAfter.Sub(p.RemovedAt) != 48*time.Hour {
			t.Errorf("%s is %+v", id, p)
		}
	}
	if _, err := b.Acquire(t.Context(), ids[0]); !errors.Is(err, multidb.ErrRemoved) {
		t.Errorf("acquire a removed one: %v", err)
	}
	if err := b.Undelete(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	c.put(ids[0], "second")
	// The node that removed it has that in its state directory still.
	a := c.start("a")
	c.settled()
	if err := b.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.close("b")
	c.settled()
	c.knows(ids[:1])
	c.removed(a, ids[1:])
	if n := c.rows(ids[0]); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	c.closeAll()
}

// removed waits until a node knows that these databases were removed, and no others.
func (c *clusterRig) removed(m *multidb.Manager, want []multidb.ID) {
	c.t.Helper()
	for began := time.Now(); ; {
		var ids []multidb.ID
		for r := range m.Removed() {
			ids = append(ids, r.ID)
		}
		if slices.Equal(ids, want) {
			return
		}
		if time.Since(began) > time.Minute {
			c.t.Fatalf("removed are %q, want %q", ids, want)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestADatabaseThatWasErasedAtOneNodeIsMadeAnewAtAnother(t *testing.T) {
	t.Parallel()
	c := hurried(t)
	c.start("a")
	c.settled()
	ids := someTenants(4)
	for _, id := range ids {
		c.put(id, "first")
	}
	for _, id := range ids {
		if _, err := c.nodes["a"].Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	c.start("b")
	if err := c.nodes["a"].Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.close("a")
	c.knows(nil)
	for _, id := range ids {
		c.put(id, "second")
		if n := c.rows(id); n != 1 {
			t.Errorf("%s has %d rows, want 1", id, n)
		}
	}
	c.closeAll()
}

func TestWithoutAClusterEverywhereIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(fmt.Sprintf("%s/{{project}}/{{database}}.db", dir))))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range m.Everywhere(t.Context()) {
			if !errors.Is(err, multidb.ErrNotStarted) {
				t.Errorf("before Start: %v", err)
			}
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		h, err := m.Acquire(t.Context(), "p/t")
		if err != nil {
			t.Fatal(err)
		}
		h.Release()
		if all := everywhere(t, m); len(all) != 1 || !all["p/t"].Owner.Self {
			t.Errorf("everywhere: %v", all)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestADatabaseThatAnotherNodeHasErasedDoesNotComeBackWithTheFileOfBefore(t *testing.T) {
	t.Parallel()
	c := hurried(t, multidb.WithHotDuration(time.Second))
	a := c.start("a")
	c.settled()
	ids := someTenants(4)
	for _, id := range ids {
		c.put(id, "first")
	}
	eventually(t, "all are cold, and their files sealed", func() bool { return a.Stats().Cold == len(ids) })
	b := c.start("b")
	drain := func(m *multidb.Manager, name string) {
		t.Helper()
		if err := m.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.close(name)
	}
	drain(a, "a")
	for _, id := range ids {
		if _, err := b.Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	c.start("a")
	drain(b, "b")
	c.settled()
	for _, id := range ids {
		c.put(id, "second")
		if n := c.rows(id); n != 1 {
			t.Errorf("%s has %d rows, want 1", id, n)
		}
	}
	c.closeAll()
}

// leftInALog is a cluster whose only node has died, with the second commit of each tenant in its log alone.
func leftInALog(t *testing.T) (c *clusterRig, ids []multidb.ID, ended <-chan struct{}) {
	t.Helper()
	c = newCluster(t)
	c.start("a")
	c.settled()
	ids = someTenants(8)
	for _, id := range ids {
		c.put(id, "first")
	}
	<-time.After(10 * time.Minute) // they are in their prefixes, and named
	for _, id := range ids {
		c.put(id, "second")
	}
	return c, ids, c.die("a")
}

func TestADatabaseWhoseNewestCommitsAreInTheLogOfADeadNodeKeepsThemAtARenaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ids, ended := leftInALog(t)
		b := c.open("b")
		var away []*multidbtest.Injection
		for _, id := range ids { // so that nothing is unpacked
			away = append(away, c.views["b"].Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: string(id), Err: errCutOff}))
		}
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.nodes["b"] = b
		c.settled()
		c.knows(ids)
		for i, id := range ids {
			to := multidb.ID(fmt.Sprintf("q/t%d", i))
			if err := b.Rename(t.Context(), id, to); !errors.Is(err, errCutOff) {
				t.Errorf("rename %s without its newest commit: %v", id, err)
			}
			away[i].Clear()
			if err := b.Rename(t.Context(), id, to); err != nil {
				t.Error(err)
			}
			if n := c.rows(to); n != 2 {
				t.Errorf("%s has %d rows, want 2", to, n)
			}
		}
		<-ended
		c.closeAll()
	})
}

func TestTheLogOfADeadNodeIsFinishedThoughNobodyOpensItsDatabases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ids, ended := leftInALog(t)
		b := c.start("b")
		c.settled()
		c.knows(ids)
		<-ended
		<-time.After(time.Hour)
		for _, n := range b.Nodes().Nodes {
			if n.Ended || n.Name != "b" {
				t.Errorf("an hour later there is still %+v", n)
			}
		}
		for _, id := range ids {
			if err := b.Unpack(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		c.closeAll()
	})
}
