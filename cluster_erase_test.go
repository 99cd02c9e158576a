package multidb_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// joinedLater is a cluster whose databases were made at a, before b came: those that b owns have no file there.
func joinedLater(t *testing.T) (c *clusterRig, b *multidb.Manager, ids []multidb.ID) {
	t.Helper()
	c = newCluster(t)
	c.start("a")
	c.settled()
	ids = someTenants(20)
	for _, id := range ids {
		c.put(id, "first")
	}
	b = c.start("b")
	c.settled()
	return c, b, ids
}

// halfErased is a cluster of a and b, where b has died with an erasure that a fault had stopped.
func halfErased(t *testing.T, fault multidbtest.Fault) (c *clusterRig, ids []multidb.ID, id multidb.ID) {
	t.Helper()
	c, b, ids := joinedLater(t)
	id = c.owned("b", ids)[0]
	fault.Err = errCutOff
	c.views["b"].Inject(fault)
	if _, err := b.Erase(t.Context(), id); !errors.Is(err, errCutOff) {
		t.Fatal(err)
	}
	<-c.die("b")
	c.settled()
	return c, ids, id
}

func TestAnErasureThatWasBegunByANodeThatDiedIsEndedByTheNextOne(t *testing.T) {
	for _, fault := range []multidbtest.Op{multidbtest.OpDelete, multidbtest.OpDeleteAll} {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, ids, id := halfErased(t, multidbtest.Fault{Op: fault})
				<-time.After(30 * time.Second)
				if n := len(c.rep.Files(string(id))); n > 0 {
					t.Errorf("its prefix has %d files", n)
				}
				if md := c.rep.Metadata(string(id)); md != nil {
					t.Errorf("its tombstone is there: %s", md)
				}
				c.knows(slices.DeleteFunc(ids, func(of multidb.ID) bool { return of == id }))
				c.closeAll()
			})
		})
	}
}

func TestWhatWasMadeAnewIsNotErasedByTheNodeThatHadBegunTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ids, id := halfErased(t, multidbtest.Fault{Op: multidbtest.OpDelete})
		<-time.After(30 * time.Second)
		c.put(id, "anew") // which only the log has
		c.start("b")
		c.settled()
		<-time.After(30 * time.Second)
		if n := c.rows(id); n != 1 {
			t.Errorf("it has %d rows", n)
		}
		c.knows(ids)
		c.closeAll()
	})
}

// TestAnErasureOfWhichNothingWasWrittenDoesNotGoOnWhenAnotherNodeHadTheDatabase, where its users have gone on.
func TestAnErasureOfWhichNothingWasWrittenDoesNotGoOnWhenAnotherNodeHadTheDatabase(t *testing.T) {
	for name, fault := range map[string]multidbtest.Fault{
		"page":      {Op: multidbtest.OpCreateObject, Match: func(op multidbtest.Operation) bool { return strings.HasPrefix(op.Object, "tenants/") }},
		"tombstone": {Op: multidbtest.OpWriteMetadata},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, ids, id := halfErased(t, fault)
				c.knows(ids)
				c.put(id, "second")
				c.start("b")
				c.settled()
				<-time.After(30 * time.Second)
				if n := c.rows(id); n != 2 {
					t.Errorf("it has %d rows", n)
				}
				c.put(id, "third")
				c.knows(ids)
				c.closeAll()
			})
		})
	}
}

func TestAShardIsNotGivenAwayWhileADatabaseOfItIsErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b, ids := joinedLater(t)
		id := c.owned("b", ids)[0]
		goOn := make(chan struct{})
		c.views["b"].Inject(multidbtest.Fault{Op: multidbtest.OpWriteMetadata, Prefix: string(id), Until: goOn})
		erased, drained := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := b.Erase(t.Context(), id)
			erased <- err
		}()
		<-time.After(time.Second)
		go func() { drained <- b.Drain(t.Context()) }()
		<-time.After(20 * time.Second)
		if o, err := c.nodes["a"].Owner(t.Context(), id); err != nil || o.Node != "b" {
			t.Errorf("it is %+v, %v", o, err)
		}
		close(goOn)
		if err := <-erased; err != nil {
			t.Error(err)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		c.put(id, "anew")
		<-time.After(time.Minute)
		if n := c.rows(id); n != 1 {
			t.Errorf("it has %d rows", n)
		}
		c.closeAll()
	})
}
