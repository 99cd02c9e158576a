package multidb_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/fsid"
)

// TestAJoinAsksTheReplicaNothingOfTenantsAtRest: of a node that was started anew, which has compared none of them with the
// replica, so that a Sync of each would. Those that another process has written to meanwhile move with what it wrote.
func TestAJoinAsksTheReplicaNothingOfTenantsAtRest(t *testing.T) {
	c := newCluster(t, multidb.WithWatch(false), multidb.WithScanInterval(time.Hour), multidb.WithPromotion(0, 0), multidb.WithHotDuration(time.Second))
	c.config = func(cfg *multidb.ClusterConfig) { cfg.Heartbeat = 100 * time.Millisecond }
	c.start("a")
	c.settled()
	ids := someTenants(40)
	for _, id := range ids {
		c.put(id, "first")
	}
	eventually(t, "all are cold", func() bool { return c.nodes["a"].Stats().Cold == len(ids) })
	c.close("a")
	c.start("a")
	c.settled()

	written := map[string]bool{}
	for _, id := range ids[:10] {
		db, err := sql.Open("sqlite", filepath.Join(c.dirs["a"], "data", string(id)+".db"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("INSERT INTO t VALUES ('second')"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		written[string(id)] = true
	}
	asked := func() (of []string) {
		for _, op := range c.views["a"].Operations() {
			if strings.HasPrefix(op.Prefix, "p/t") && !written[op.Prefix] {
				of = append(of, op.String())
			}
		}
		return of
	}
	c.views["a"].ResetOperations()
	c.start("b")
	c.settled()
	// A run that is in progress just then makes one of them one that is not at rest.
	if of := asked(); len(of) > len(ids)/10 {
		t.Errorf("%d requests are for %d tenants at rest, such as %s", len(of), len(ids)-len(written), of[0])
	}
	moved := map[bool]int{} // by whether it was written
	for _, id := range ids {
		o, err := c.nodes["b"].Owner(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if o.Self {
			moved[written[string(id)]]++
		}
		want := 1
		if written[string(id)] {
			want = 2
		}
		if n := c.rows(id); n != want {
			t.Errorf("%s has %d rows, want %d", id, n, want)
		}
	}
	if moved[true] == 0 || moved[false] == 0 {
		t.Errorf("%d that were written and %d at rest have moved", moved[true], moved[false])
	}
	c.closeAll()
}

// TestANodeWithASlowDiskStartsHoweverLongItLooksAtItsFiles: what bounds a request would end it, each time anew.
func TestANodeWithASlowDiskStartsHoweverLongItLooksAtItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		c := newCluster(t, multidb.WithWatch(false), multidb.WithScanInterval(24*time.Hour), multidb.WithStat(func(path string) (fsid.Fingerprint, error) {
			if slow.Load() {
				<-time.After(time.Second)
			}
			return fsid.Stat(path)
		}))
		c.start("a")
		c.settled()
		ids := someTenants(40)
		for _, id := range ids {
			c.put(id, "first")
		}
		c.close("a")
		slow.Store(true)
		began := time.Now()
		c.start("a")
		c.settled()
		if took := time.Since(began); took < 35*time.Second {
			t.Errorf("it took %v, which shows nothing", took)
		}
		slow.Store(false)
		for _, id := range ids {
			if n := c.rows(id); n != 1 {
				t.Errorf("%s has %d rows, want 1", id, n)
			}
		}
		c.closeAll()
	})
}
