package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheSecondNodeOfANameIsToldWhoHasIt(t *testing.T) {
	for _, bucket := range []bool{false, true} {
		for _, copied := range []bool{false, true} {
			t.Run(fmt.Sprintf("members in the bucket: %v, a copied disk: %v", bucket, copied), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t)
					c.bucket = bucket
					c.each = func(name string) []multidb.Option {
						return []multidb.Option{multidb.WithStateDir(filepath.Join(c.dirs[name], "state"))}
					}
					a := c.start("a")
					defer c.closeAll()
					c.settled()
					c.put("p/t0", "first")
					dir := c.dirs["a"]
					c.dirs["a"] = t.TempDir()
					if copied {
						diskOf(t, dir).put(t, c.dirs["a"])
						movePaths(t, dir, c.dirs["a"])
					}
					began := time.Now()
					err := c.open("a").Start(t.Context())
					if !errors.Is(err, multidb.ErrNameTaken) || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "http://a.test") {
						t.Errorf("a second node of the name: %v", err)
					}
					if took := time.Since(began); took > 15*time.Second {
						t.Errorf("it took %v to say so", took)
					}
					if _, err := a.Sync(t.Context(), "p/t0"); err != nil {
						t.Errorf("and the first one is harmed: %v", err)
					}
					c.dirs["a"] = dir
					c.put("p/t0", "second")
				})
			})
		}
	}
}

// TestNodesWhoseClocksAreDaysApartWorkTogether: nobody compares clocks of two machines, so there
// is nothing to be told either. Only the times of the commits are wrong.
func TestNodesWhoseClocksAreDaysApartWorkTogether(t *testing.T) {
	for _, bucket := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			c.bucket = bucket
			clocks := map[string]time.Duration{"a": 0, "b": 24 * time.Hour, "c": -24 * time.Hour}
			c.each = func(name string) []multidb.Option {
				clock := &setClock{}
				clock.set(clocks[name])
				return []multidb.Option{multidb.WithClock(clock.now)}
			}
			c.observe = func(node string, ev multidb.Event) {
				if ev.Type == multidb.EventFenced || ev.Type == multidb.EventFleetLogFenced {
					t.Errorf("%s: %v %v", node, ev.Type, ev.Err)
				}
			}
			for name := range clocks {
				c.start(name)
			}
			c.settled()
			ids := someTenants(6)
			for i := range 2 {
				for _, id := range ids {
					c.put(id, fmt.Sprint(i))
				}
				<-time.After(10 * time.Second)
			}
			if err := c.nodes["b"].Drain(t.Context()); err != nil {
				t.Error(err)
			}
			c.close("b")
			c.start("b")
			c.settled()
			c.observe = nil
			began := time.Now()
			ended := c.die("c")
			for _, id := range ids {
				if n := c.rows(id); n != 2 {
					t.Errorf("%s has %d rows, want 2", id, n)
				}
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v until all were served", took)
			}
			<-ended
			from, err := multidb.ReadFleetLog(c.rep.View(), "fleet")
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				out := filepath.Join(t.TempDir(), "restored.db")
				if err := multidb.RestoreFrom(t.Context(), from, multidb.Database{ID: id}, multidb.RestoreOptions{OutputPath: out}); err != nil {
					t.Errorf("restore of %s: %v", id, err)
				}
			}
			c.closeAll()
		})
	}
}

// TestANodeOverAStoreWithoutConditionalWritesDoesNotStart, also where a single process was
// allowed to: of two nodes both would be told that they own a tenant.
func TestANodeOverAStoreWithoutConditionalWritesDoesNotStart(t *testing.T) {
	ignores := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("If-None-Match")
		next.ServeHTTP(w, r)
	}
	refuses := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotImplemented)
			return
		}
		next.ServeHTTP(w, r)
	}
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){"it refuses them": refuses, "it ignores them": ignores} {
		for _, allowed := range []bool{false, true} {
			for _, members := range []multidb.Membership{nil, multidbtest.NewMembership()} {
				t.Run(fmt.Sprintf("%s, allowed: %v, members in the bucket: %v", name, allowed, members == nil), func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					r := oddS3(t, func(c *multidb.S3Config) { c.AllowUnsafeWrites = allowed }, fault)
					m, err := multidb.New(multidb.WithReplica(r), multidb.WithDiscoverer(multidb.Glob(pattern(newTree(t, 1, 1)))),
						multidb.WithCluster(multidb.ClusterConfig{Node: "a", Membership: members}))
					if err != nil {
						t.Fatal(err)
					}
					if err := m.Start(ctx); !errors.Is(err, multidb.ErrNoConditionalWrites) {
						t.Errorf("start: %v", err)
						_ = m.Close(ctx)
					}
					if ctx.Err() != nil {
						t.Error("it took until somebody gave up")
					}
				})
			}
		}
	}
}

// TestAllNodesStartWhileTheMapIsBeingChanged: at once, beside one that is giving its shards to each
// of them.
func TestAllNodesStartWhileTheMapIsBeingChanged(t *testing.T) {
	for _, bucket := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			c.bucket = bucket
			c.start("a")
			c.settled()
			ids := someTenants(6)
			for _, id := range ids {
				c.put(id, "first")
			}
			var all sync.WaitGroup
			started := map[string]*multidb.Manager{}
			for _, name := range []string{"b", "c", "d", "e"} {
				started[name] = c.open(name)
				c.views[name].Inject(multidbtest.Fault{Delay: 20 * time.Millisecond})
			}
			for name, m := range started {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if err := m.Start(ctx); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			all.Wait()
			maps.Copy(c.nodes, started)
			c.settled()
			for _, id := range ids {
				c.put(id, "second")
				if n := c.rows(id); n != 2 {
					t.Errorf("%s has %d rows, want 2", id, n)
				}
			}
			c.closeAll()
		})
	}
}

// TestCloseOfANodeThatWasTakenOverSaysSo, in the words of this package.
func TestCloseOfANodeThatWasTakenOverSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a")
		b := c.start("b")
		c.settled()
		c.put(c.ownedBy("b"), "first")
		c.members.Partition("b")
		c.views["b"].Inject(multidbtest.Fault{Delay: time.Second}) // so that it has not looked at the map since
		delete(c.nodes, "b")
		for c.nodes["a"].Nodes().Served < 1024 {
			<-time.After(10 * time.Millisecond)
		}
		if err := b.Close(t.Context()); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("closed: %v", err)
		}
		c.closeAll()
	})
}

// TestAStrictOwnerThatHasMetTheSealServesNothingOld, though it has yet to look at the map.
func TestAStrictOwnerThatHasMetTheSealServesNothingOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.config = func(cfg *multidb.ClusterConfig) { cfg.StrictOwnership, cfg.Heartbeat = 50*time.Second, 30*time.Second }
		defer c.closeAll()
		c.start("a")
		b := c.start("b")
		c.settled()
		<-time.After(31 * time.Second)
		id := c.ownedBy("b")
		c.put(id, "first")
		c.members.Partition("b")
		delete(c.nodes, "b")
		c.put(id, "second") // at a
		c.nodes["b"] = b
		if err := b.Do(t.Context(), id, func(db *sql.DB) error { _, err := db.Exec("INSERT INTO t VALUES ('lost')"); return err }); err != nil {
			t.Fatal(err) // it does not know yet
		}
		if _, err := b.Sync(t.Context(), id); !errors.Is(err, multidb.ErrFenced) {
			t.Fatalf("synced after it was taken over: %v", err)
		}
		c.members.Heal("b")
		var old bool
		err := b.Do(t.Context(), id, func(db *sql.DB) error {
			return db.QueryRow("SELECT count(*) = 0 FROM t WHERE row = 'second'").Scan(&old)
		})
		if err != nil && !errors.Is(err, multidb.ErrNotOwner) {
			t.Error(err)
		}
		if old {
			t.Error("it serves what another node has gone on with")
		}
	})
}

// TestAnOpeningFromBeforeANodeWasTakenOverIsInNobodysWay: it is still reading from the bucket when the node
// has the tenant again, and makes the file that the next one is about to make.
func TestAnOpeningFromBeforeANodeWasTakenOverIsInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.closeAll()
		c.start("a")
		c.settled()
		id := multidb.ID("p/t0")
		c.put(id, "first")
		b := c.start("b")
		c.settled()
		if err := c.nodes["a"].Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		open := func(until <-chan struct{}) (hit <-chan struct{}, ended chan error) {
			in := c.views["b"].Inject(multidbtest.Fault{Op: multidbtest.OpOpen, Prefix: string(id), Until: until, Times: 1})
			ended = make(chan error, 1)
			go func() {
				ended <- b.Do(t.Context(), id, func(db *sql.DB) error {
					var n int
					if err := db.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
						return err
					}
					if n != 2 {
						return fmt.Errorf("%d rows, want 2", n)
					}
					return nil
				})
			}()
			return in.Hit(), ended
		}
		go1, go2 := make(chan struct{}), make(chan struct{})
		hit, first := open(go1)
		<-hit
		c.close("a")
		c.start("a")
		c.members.Partition("b")
		delete(c.nodes, "b")
		c.put(id, "second") // at a
		c.members.Heal("b")
		c.nodes["b"] = b
		<-time.After(time.Minute)
		if err := c.nodes["a"].Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		hit, second := open(go2)
		<-hit
		close(go1)
		<-time.After(time.Second)
		close(go2)
		if err := <-second; err != nil {
			t.Errorf("opened while an opening from before ends: %v", err)
		}
		if err := <-first; err != nil && !errors.Is(err, multidb.ErrNotOwner) {
			t.Errorf("the opening from before: %v", err)
		}
	})
}
