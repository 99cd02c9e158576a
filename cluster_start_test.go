package multidb_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestANodeStartsWhileTheBucketDoesNotAnswerAndJoinsWhenItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		c.settled()
		c.put("p/t0", "first")
		c.views["b"] = c.rep.View()
		cut := c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		b := c.start("b")
		s := b.Nodes()
		if s.Joined || !errors.Is(s.Err, errCutOff) {
			t.Errorf("started without the bucket: joined %v, %v", s.Joined, s.Err)
		}
		if ok, worst := b.Healthy(time.Minute); ok || len(worst) == 0 || !strings.Contains(worst[0].Err.Error(), "not joined") {
			t.Errorf("it is well: %v, %v", ok, worst)
		}
		if _, err := b.Acquire(t.Context(), "p/t0"); !errors.Is(err, multidb.ErrNotOwner) {
			t.Errorf("acquired there: %v", err)
		}
		cut.Clear()
		<-time.After(10 * time.Second)
		c.settled()
		if s := b.Nodes(); !s.Joined || s.Err != nil || s.Served < 400 {
			t.Errorf("when the bucket answers: joined %v, %v, %d shards", s.Joined, s.Err, s.Served)
		}
		if ok, worst := b.Healthy(time.Minute); !ok {
			t.Errorf("it is not well: %v", worst)
		}
		c.closeAll()
	})
}

func TestANodeThatTheStoreRefusesDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for _, refused := range []error{multidb.ErrAccessDenied, multidb.ErrNoBucket, multidb.ErrNoConditionalWrites} {
			c.views["a"] = c.rep.View()
			c.views["a"].Inject(multidbtest.Fault{Err: refused})
			if err := c.open("a").Start(t.Context()); !errors.Is(err, refused) {
				t.Errorf("started: %v, want %v", err, refused)
			}
		}
	})
}

func TestANodeThatIsFencedOrCutOffIsNotWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		b := c.start("b")
		c.settled()
		cut := c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		<-time.After(5 * time.Second)
		if ok, worst := b.Healthy(time.Minute); !ok {
			t.Errorf("after a failure or two: %v", worst)
		}
		<-time.After(20 * time.Second)
		if ok, worst := b.Healthy(time.Minute); ok || !strings.Contains(worst[0].Err.Error(), "cluster: ") {
			t.Errorf("cut off for 25 s: well %v, %v", ok, worst)
		}
		cut.Clear()
		<-time.After(10 * time.Second)
		if ok, worst := b.Healthy(time.Minute); !ok {
			t.Errorf("when the bucket is there again: %v", worst)
		}
		c.closeAll()
	})
}

// single is a process with a fleet log and no cluster.
func (c *clusterRig) single(view *multidbtest.Replica) *multidb.Manager {
	c.t.Helper()
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(c.t.TempDir(), "{{project}}/{{database}}.db"))), multidb.WithStateDir(c.t.TempDir()),
		multidb.WithReplica(view), multidb.WithFleetLog(multidb.FleetLogConfig{}))
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func TestASingleProcessDoesNotTakeTheTenantsOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		c.settled()
		c.put("p/t0", "first")
		m := c.single(c.rep.View())
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Do(t.Context(), "p/t1", func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE t (row)")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		_, err := m.Sync(t.Context(), "p/t1")
		if !errors.Is(err, multidb.ErrClusterSettings) || !strings.Contains(err.Error(), "cluster/settings") || !strings.Contains(err.Error(), "WithCluster") {
			t.Errorf("synced: %v", err)
		}
		if err := m.Close(t.Context()); err == nil {
			t.Error("closed, though something is not durable")
		}
		c.put("p/t0", "second")
		if s := a.Nodes(); !s.Joined || s.Served != 1024 {
			t.Errorf("the node: %+v", s)
		}
		c.closeAll()
	})
}

func TestNodesTakeOverFromASingleProcessThatLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.single(c.rep.View())
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Do(t.Context(), "p/t0", func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE t (row TEXT PRIMARY KEY); INSERT INTO t VALUES ('first')")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Sync(t.Context(), "p/t0"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.start("a")
		c.settled()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
		c.put("p/t0", "second")
		if n := c.rows("p/t0"); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
		if err := m.Do(t.Context(), "p/t0", func(db *sql.DB) error {
			_, err := db.Exec("INSERT INTO t VALUES ('third')")
			return err
		}); err != nil {
			t.Log(err)
		}
		if _, err := m.Sync(t.Context(), "p/t0"); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("the former process synced: %v", err)
		}
		_ = m.Close(t.Context()) // it is fenced
		if n := c.rows("p/t0"); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
		c.closeAll()
	})
}

func TestATenantOfAnotherClusterIsRefusedAndBothFleetLogsAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		c.settled()
		c.put("p/t0", "first")
		c.close("a")
		other := newCluster(t, multidb.WithFleetLog(multidb.FleetLogConfig{Path: "other"}))
		other.rep = c.rep
		other.start("x")
		other.settled()
		_, err := other.nodes["x"].Acquire(t.Context(), "p/t0")
		if !errors.Is(err, multidb.ErrClusterSettings) || !strings.Contains(err.Error(), "fleet") || !strings.Contains(err.Error(), "other") {
			t.Errorf("acquired: %v", err)
		}
		other.closeAll()
	})
}
