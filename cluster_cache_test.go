package multidb_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// asides are the files that nodes have set aside, by ID, as their events say.
type asides struct {
	mu sync.Mutex
	by map[multidb.ID]string
}

func (c *clusterRig) watchAsides() *asides {
	a := &asides{by: map[multidb.ID]string{}}
	c.observe = func(_ string, ev multidb.Event) {
		if ev.Type == multidb.EventSetAside {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.by[ev.ID] = ev.Path
		}
	}
	return a
}

func (a *asides) of(id multidb.ID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[id]
}

func (a *asides) all() (ids []multidb.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.by {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (c *clusterRig) fileOf(node string, id multidb.ID) string {
	return filepath.Join(c.dirs[node], "data", string(id)+".db")
}

// kept are the files in the directories of what a node has set aside.
func (c *clusterRig) kept(node string) []string {
	c.t.Helper()
	all, err := filepath.Glob(filepath.Join(c.dirs[node], "data/*/.multidb-kept/*"))
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

// owned are those of the tenants that a node serves.
func (c *clusterRig) owned(node string, ids []multidb.ID) (its []multidb.ID) {
	c.t.Helper()
	for _, id := range ids {
		if o, err := c.nodes[node].Owner(c.t.Context(), id); err != nil {
			c.t.Fatal(err)
		} else if o.Self {
			its = append(its, id)
		}
	}
	return its
}

// rowsAt are the rows of a file.
func rowsAt(t *testing.T, path string) (all []string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer db.Close()
	rows, err := db.Query("SELECT row FROM t")
	if err != nil {
		t.Error(err)
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			t.Error(err)
		}
		all = append(all, row)
	}
	return all
}

// unpromised commits a row at a node that cannot reach the bucket.
func (c *clusterRig) unpromised(m *multidb.Manager, id multidb.ID) {
	c.t.Helper()
	if err := m.Do(c.t.Context(), id, func(db *sql.DB) error {
		_, err := db.Exec("INSERT INTO t VALUES ('unpromised')")
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
}

func TestTheFilesOfANodeThatDiedAreUsedAgainUnlessTheyHaveWhatNobodyPromised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		aside := c.watchAsides()
		for _, name := range []string{"a", "b"} {
			c.start(name)
		}
		c.settled()
		ids := someTenants(24)
		for _, row := range []string{"first", "second"} {
			for _, id := range ids {
				c.put(id, row)
			}
		}
		its := c.owned("b", ids)
		if len(its) < 6 {
			t.Fatalf("b has %v", its)
		}
		more, lags, lagsAndMore := its[0], its[1], its[2] // the others are the newest state
		b := c.nodes["b"]
		c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		c.unpromised(b, more)
		c.unpromised(b, lagsAndMore)
		ended := c.die("b")
		<-ended
		c.put(lags, "third")
		c.put(lagsAndMore, "third")
		for _, id := range its { // without what b has promised to nobody
			want := 2
			if id == lags || id == lagsAndMore {
				want = 3
			}
			if n := c.rows(id); n != want {
				t.Errorf("%s has %d rows at a, want %d", id, n, want)
			}
		}
		files := map[multidb.ID]os.FileInfo{}
		for _, id := range its {
			fi, err := os.Stat(c.fileOf("b", id))
			if err != nil {
				t.Fatal(err)
			}
			files[id] = fi
		}
		c.start("b")
		c.settled()
		<-time.After(10 * time.Second)
		if got, want := aside.all(), []multidb.ID{more, lagsAndMore}; !slices.Equal(got, want) {
			t.Errorf("set aside before anybody opened them: %v, want %v", got, want)
		}
		for _, id := range its {
			want, same := 2, true
			if id == lags || id == lagsAndMore {
				want, same = 3, false
			} else if id == more {
				same = false
			}
			if n := c.rows(id); n != want {
				t.Errorf("%s has %d rows, want %d", id, n, want)
			}
			if o, err := c.nodes["b"].Owner(t.Context(), id); err != nil || !o.Self {
				t.Fatalf("b does not serve %s: %+v, %v", id, o, err)
			}
			fi, err := os.Stat(c.fileOf("b", id))
			if err != nil || os.SameFile(fi, files[id]) != same {
				t.Errorf("%s: its former file is used: %v, want %v; %v", id, err == nil && os.SameFile(fi, files[id]), same, err)
			}
			c.put(id, "last")
		}
		for _, id := range []multidb.ID{more, lagsAndMore} {
			if got := rowsAt(t, aside.of(id)); !slices.Contains(got, "unpromised") {
				t.Errorf("the file of %s that was set aside has %v", id, got)
			}
		}
		if kept := c.kept("b"); len(kept) != 2 {
			t.Errorf("kept beside the databases: %v", kept)
		}
		c.closeAll()
	})
}

func TestTheFilesOfANodeThatWasTakenOverWhileItSleptAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		aside := c.watchAsides()
		for _, name := range []string{"a", "b"} {
			c.start(name)
		}
		c.settled()
		ids := someTenants(16)
		for _, id := range ids {
			c.put(id, "first")
		}
		b, its := c.nodes["b"], c.owned("b", ids)
		c.members.Partition("b")
		cut := c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		delete(c.nodes, "b")
		c.put(its[0], "second")
		cut.Clear()
		c.members.Heal("b")
		c.nodes["b"] = b
		<-time.After(time.Minute)
		c.settled()
		for _, id := range its {
			_, _ = b.Sync(t.Context(), id) // who waits since then is told that the node was taken over
			want := 1
			if id == its[0] {
				want = 2
			}
			if n := c.rows(id); n != want {
				t.Errorf("%s has %d rows, want %d", id, n, want)
			}
			c.put(id, "last")
		}
		if got := aside.all(); len(got) > 0 || len(c.kept("b")) > 0 {
			t.Errorf("set aside: %v; kept: %v", got, c.kept("b"))
		}
		c.closeAll()
	})
}

func TestATenantThatWasErasedWhileItsNodeWasDeadDoesNotComeBackWithItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		aside := c.watchAsides()
		a := c.start("a")
		c.start("b")
		c.settled()
		id := c.ownedBy("b")
		c.put(id, "first")
		<-c.die("b")
		c.rows(id) // a has it
		if err := a.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		c.start("b")
		c.settled()
		<-time.After(10 * time.Second)
		c.put(id, "anew")
		if n := c.rows(id); n != 1 {
			t.Errorf("%d rows, want the one of the tenant that was made anew", n)
		}
		if o, err := c.nodes["b"].Owner(t.Context(), id); err != nil || !o.Self {
			t.Fatalf("b does not serve it: %+v, %v", o, err)
		}
		if aside.of(id) == "" {
			t.Error("the former file is nowhere")
		}
		c.closeAll()
	})
}

// TestWhatANodeHasNotDecidedAboutWhenItDiesIsNotItsOwnAfterThat: its next life owns the shards at
// once, and would ship what others have served the tenant without.
func TestWhatANodeHasNotDecidedAboutWhenItDiesIsNotItsOwnAfterThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		aside := c.watchAsides()
		c.start("a")
		b := c.start("b")
		c.settled()
		id := c.ownedBy("b")
		c.put(id, "first")
		c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		c.unpromised(b, id)
		<-c.die("b")
		if n := c.rows(id); n != 1 {
			t.Errorf("%d rows at a, want 1", n)
		}
		c.views["b"] = c.rep.View() // the log and the map answer, the tenant's prefix does not
		c.views["b"].Inject(multidbtest.Fault{Op: multidbtest.OpList, Err: errCutOff})
		c.start("b")
		c.settled()
		<-time.After(10 * time.Second)
		if got := aside.all(); len(got) > 0 {
			t.Fatalf("set aside without a look at the replica: %v", got)
		}
		held := c.views["a"].Inject(multidbtest.Fault{Err: errCutOff}) // it takes nothing over meanwhile
		c.members.Kill("b")
		m := c.nodes["b"]
		delete(c.nodes, "b")
		c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		_ = m.Close(t.Context()) // dead
		delete(c.views, "b")
		c.start("b")
		if n := c.nodes["b"].Nodes().TakeOvers; n != 0 || len(c.owned("b", []multidb.ID{id})) != 1 {
			t.Fatalf("it is not its own next life that has it: %+v", c.nodes["b"].Nodes())
		}
		<-time.After(10 * time.Second)
		held.Clear()
		c.settled()
		if n := c.rows(id); n != 1 {
			t.Errorf("%d rows, want 1: others have served it without the unpromised one", n)
		}
		if aside.of(id) == "" {
			t.Error("what was not promised is nowhere")
		}
		c.closeAll()
	})
}

func TestWhatANodeHasSetAsideIsDeletedAfterTheRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, multidb.WithRemovedRetention(3*time.Hour))
		aside := c.watchAsides()
		c.start("a")
		b := c.start("b")
		c.settled()
		id := c.ownedBy("b")
		c.put(id, "first")
		c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		c.unpromised(b, id)
		<-c.die("b")
		c.rows(id)
		other := filepath.Join(filepath.Dir(c.fileOf("b", id)), ".multidb-kept", "somebody's")
		if err := os.MkdirAll(filepath.Dir(other), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.start("b")
		c.settled()
		<-time.After(10 * time.Second)
		path := aside.of(id)
		if _, err := os.Stat(path); path == "" || err != nil {
			t.Fatalf("set aside: %q, %v", path, err)
		}
		c.close("b") // it is remembered
		c.start("b")
		<-time.After(2 * time.Hour)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("after two hours: %v", err)
		}
		<-time.After(2*time.Hour + 10*time.Minute)
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("after four hours: %v", err)
		}
		if _, err := os.Stat(other); err != nil {
			t.Errorf("another file there: %v", err)
		}
		c.closeAll()
	})
}

func TestWhatOneNodeErasesTheOthersForgetToo(t *testing.T) {
	t.Parallel()
	c := hurried(t, multidb.WithHotDuration(time.Second))
	aside := c.watchAsides()
	a := c.start("a")
	c.settled()
	ids := someTenants(30)
	for _, id := range ids {
		c.put(id, "first")
	}
	eventually(t, "all are cold, and their files sealed", func() bool { return a.Stats().Cold == len(ids) })
	gone := map[multidb.ID]bool{}
	for _, id := range ids[:15] {
		if err := a.Evict(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		gone[id] = true
	}
	b := c.start("b")
	c.settled()
	c.knows(ids)
	its := c.owned("b", ids)
	evicted := slices.IndexFunc(its, func(id multidb.ID) bool { return gone[id] })
	its = slices.DeleteFunc(its, func(id multidb.ID) bool { return gone[id] && id != its[evicted] })
	if evicted < 0 || len(its) < 5 {
		t.Fatalf("b has %v", its)
	}
	its[0], its[evicted] = its[evicted], its[0]
	erased, removed, changed, stays := its[1], its[2], its[3], its[4:]
	kept := filepath.Join(filepath.Dir(c.fileOf("a", erased)), ".multidb-kept", filepath.Base(c.fileOf("a", erased))+"-of-before")
	if err := errors.Join(os.MkdirAll(filepath.Dir(kept), 0o700), os.WriteFile(kept, []byte("x"), 0o600),
		os.WriteFile(c.fileOf("a", changed)+"-wal", []byte("commits of somebody"), 0o600)); err != nil {
		t.Fatal(err)
	}
	forget := func(want int) {
		t.Helper()
		if n, err := multidb.ForgetErased(t.Context(), a); err != nil || n != want {
			t.Errorf("%d were forgotten, want %d; %v", n, want, err)
		}
	}
	there := func(path string, want bool) {
		t.Helper()
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v", path, err)
		}
	}
	forget(0)
	if err := b.Remove(t.Context(), removed); err != nil {
		t.Fatal(err)
	}
	for _, id := range []multidb.ID{its[0], erased, changed} {
		if _, err := b.Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	unnamed := func(n int) { // the pages say so a little later
		t.Helper()
		eventually(t, "the pages do not name what was erased", func() bool {
			return len(everywhere(t, b)) == len(ids)-n
		})
	}
	unnamed(3)
	cut := c.views["a"].Inject(multidbtest.Fault{Op: multidbtest.OpList, Prefix: string(erased), Err: errCutOff})
	if n, err := multidb.ForgetErased(t.Context(), a); n != 1 || !errors.Is(err, errCutOff) {
		t.Errorf("%d were forgotten while one could not be asked about, want the evicted one: %v", n, err)
	}
	cut.Clear()
	there(c.fileOf("a", erased), true)
	forget(2) // what has commits of its own is looked at for the second time
	there(c.fileOf("a", erased), false)
	there(kept, false)
	there(c.fileOf("a", changed), false)
	there(c.fileOf("a", removed), true) // it can be undeleted
	for _, id := range stays {
		there(c.fileOf("a", id), true)
	}
	if got := aside.all(); !slices.Equal(got, []multidb.ID{changed}) {
		t.Errorf("set aside: %v, want %v", got, changed)
	}
	there(aside.of(changed), true)
	if _, err := b.Erase(t.Context(), removed); err != nil {
		t.Fatal(err)
	}
	unnamed(4)
	forget(1)
	forget(0)
	there(c.fileOf("a", removed), false)
	there(aside.of(changed), true) // until the retention ends
	if err := b.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.close("b")
	c.settled()
	c.knows(slices.DeleteFunc(ids, func(id multidb.ID) bool { return slices.Contains(its[:4], id) }))
	for _, id := range append(stays, its[:4]...) {
		c.put(id, "last")
		want := 1
		if slices.Contains(stays, id) {
			want = 2
		}
		if n := c.rows(id); n != want {
			t.Errorf("%s has %d rows, want %d", id, n, want)
		}
	}
	c.closeAll()
}

// TestWhatWasErasedDoesNotComeBackWithTheLogOfANodeThatHadIt before.
func TestWhatWasErasedDoesNotComeBackWithTheLogOfANodeThatHadIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b, ids := joinedLater(t)
		its := c.owned("b", ids)
		for _, id := range its {
			if _, err := b.Erase(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		ended := c.die("a")
		c.settled()
		<-ended
		<-time.After(20 * time.Minute)
		left := slices.DeleteFunc(slices.Clone(ids), func(id multidb.ID) bool { return slices.Contains(its, id) })
		c.knows(left)
		for _, id := range its {
			if n := len(c.rep.Files(string(id))); n > 0 {
				t.Errorf("%s was erased, and its prefix has %d files", id, n)
			}
		}
		for _, id := range left {
			if n := c.rows(id); n != 1 {
				t.Errorf("%s has %d rows", id, n)
			}
		}
		c.closeAll()
	})
}

// finished are the logs of which nothing is left.
type finished struct {
	mu     sync.Mutex
	epochs []uint64
}

func (c *clusterRig) watchFinished() *finished {
	f := new(finished)
	c.observe = func(_ string, ev multidb.Event) {
		if ev.Type == multidb.EventFleetLogFinished {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.epochs = append(f.epochs, ev.Epoch)
		}
	}
	return f
}

func (f *finished) has(epoch uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.epochs, epoch)
}

// TestWhatADeadNodeHasLeftIsUnpackedAlsoWhereTheFileIsOfAnEarlierTime: no run ships anything from such a file, and
// nobody opens it.
func TestWhatADeadNodeHasLeftIsUnpackedAlsoWhereTheFileIsOfAnEarlierTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		finished := c.watchFinished()
		c.start("a")
		c.settled()
		ids := someTenants(20)
		for _, id := range ids {
			c.put(id, "first")
		}
		c.start("b")
		c.settled()
		for _, id := range c.owned("b", ids) {
			c.put(id, "second")
		}
		ended := c.die("b")
		c.settled()
		<-ended
		<-time.After(time.Minute)
		if !finished.has(2) {
			t.Error("the log of the dead node is not finished")
		}
		c.closeAll()
	})
}

// TestANodeThatWasFencedWhileItUnpackedDoesSoAgainInItsNextLife: what it unpacks then is not what it knew before.
func TestANodeThatWasFencedWhileItUnpackedDoesSoAgainInItsNextLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		finished := c.watchFinished()
		c.start("a")
		b := c.start("b")
		c.settled()
		ids := someTenants(20)
		for _, id := range ids {
			c.put(id, "first")
		}
		full := c.views["b"].Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: errCutOff}) // its log goes on
		<-c.die("a")
		c.settled()
		c.start("c")
		c.members.Partition("b")
		cut := c.views["b"].Inject(multidbtest.Fault{Err: errCutOff})
		delete(c.nodes, "b")
		c.settled()
		full.Clear()
		cut.Clear()
		c.members.Heal("b")
		<-time.After(30 * time.Second) // it finds out, and begins another life
		c.nodes["b"] = b
		c.settled()
		for _, id := range ids {
			if _, err := b.Sync(t.Context(), id); err != nil && !errors.Is(err, multidb.ErrFenced) && !errors.Is(err, multidb.ErrNotOwner) {
				t.Error(err) // whoever syncs first is told that b was fenced
			}
			c.put(id, "second")
		}
		<-c.die("c")
		c.settled()
		<-time.After(time.Minute)
		if !finished.has(3) {
			t.Errorf("of the logs that have ended are finished %v, but not that of the node that died last", finished.epochs)
		}
		c.closeAll()
	})
}
