package roster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/roster"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/multidbtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bucket is the bucket as one node reaches it.
type bucket struct {
	store.Objects
	mu       sync.Mutex
	requests map[string]int
	before   func(op, name string) error // instead of the request, if it is an error
	after    func(op, name string) error // instead of the answer
}

func (b *bucket) count(op, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests[op]++
	if b.before != nil {
		return b.before(op, name)
	}
	return nil
}

func (b *bucket) Create(ctx context.Context, name string, data []byte) error {
	if err := b.count("create", name); err != nil {
		return err
	}
	err := b.Objects.Create(ctx, name, data)
	if err == nil && b.after != nil {
		err = b.after("create", name)
	}
	return err
}

func (b *bucket) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	if err := b.count("open", name); err != nil {
		return nil, err
	}
	rc, err := b.Objects.Open(ctx, name, offset, size)
	if err == nil && b.after != nil {
		if err := b.after("open", name); err != nil {
			return nil, errors.Join(err, rc.Close())
		}
	}
	return rc, err
}

var errNo = errors.New("the store says no")

// node is a Roster with what it was told.
type node struct {
	*roster.Roster
	way   *bucket
	found map[string]roster.Tenant
	fails int // how often Found fails from now on
}

func objects(t *testing.T) store.Objects {
	t.Helper()
	o, err := multidbtest.NewReplica().Objects("fleet")
	if err != nil {
		t.Fatal(err)
	}
	return inner{o}
}

// inner is an object store as the inner packages know it.
type inner struct{ multidb.ObjectStore }

func (o inner) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		for info, err := range o.ObjectStore.List(ctx, prefix, after) {
			if !yield(store.ObjectInfo(info), err) {
				return
			}
		}
	}
}

func newNode(objects store.Objects) *node {
	n := &node{way: &bucket{Objects: objects, requests: map[string]int{}}, found: map[string]roster.Tenant{}}
	n.Roster = roster.New(roster.Config{
		Objects: n.way, Pause: time.Second, Again: 2 * time.Second,
		Shard: func(db registry.Database) (int, bool) { return shardOf(db.ID) },
		Found: func(_ context.Context, pages []*roster.Page) error {
			if n.fails--; n.fails >= 0 {
				return errNo
			}
			for _, p := range pages {
				for _, t := range p.Tenants {
					n.found[t.ID] = t
				}
			}
			return nil
		},
	})
	return n
}

// shardOf has IDs such as "7/name" in shard 7.
func shardOf(id string) (shard int, ok bool) {
	_, err := fmt.Sscanf(id, "%d/", &shard)
	return shard, err == nil
}

func db(id string) registry.Database { return registry.Database{ID: id} }

func everything(int) bool { return true }

// ids are those that the pages name.
func ids(t *testing.T, objects store.Objects) (all []string) {
	t.Helper()
	for p, err := range roster.All(t.Context(), objects, nil) {
		if err != nil {
			t.Fatal(err)
		}
		for _, tenant := range p.Tenants {
			all = append(all, tenant.ID)
		}
	}
	slices.Sort(all)
	return all
}

func want(t *testing.T, objects store.Objects, want ...string) {
	t.Helper()
	if got := ids(t, objects); !slices.Equal(got, want) {
		t.Fatalf("the pages name %q, want %q", got, want)
	}
}

func flush(t *testing.T, n *node) {
	t.Helper()
	if err := n.Flush(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
}

func TestWhatANodeNamesTheNextOneFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := objects(t)
		a := newNode(dir)
		at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
		for _, id := range []string{"3/x", "3/a", "7/b", "\xff\xfe without a shard", "3/\xff\xfe no UTF-8"} {
			a.Note(db(id))
		}
		a.Removed(db("3/x"), at, at.Add(time.Hour))
		flush(t, a)
		b := newNode(dir)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx) }()
		b.Load([]int{3, 4, 7})
		if err := b.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if len(b.found) != 4 || b.found["3/x"].Removed.IsZero() || !b.found["3/x"].EraseAfter.Equal(at.Add(time.Hour)) {
			t.Errorf("found %+v", b.found)
		}
		if n := b.way.requests["open"]; n != 2 {
			t.Errorf("%d pages were read, want 2", n)
		}
		// What is named already costs nothing.
		b.Note(db("3/a"))
		<-time.After(time.Minute)
		if n := b.way.requests["create"]; n != 0 {
			t.Errorf("%d pages were written, want none", n)
		}
		b.Note(db("7/c"))
		b.Erased(db("3/a"))
		<-time.After(time.Minute)
		want(t, dir, "3/x", "3/\xff\xfe no UTF-8", "7/b", "7/c")
		cancel()
		<-ended
	})
}

func TestAPageThatAnotherNodeWritesMeanwhileKeepsWhatBothSay(t *testing.T) {
	dir := objects(t)
	a, b := newNode(dir), newNode(dir)
	a.Note(db("1/a"))
	flush(t, a)
	b.Note(db("1/b"))
	b.way.before = func(op, name string) error { // between what b has read and what it writes
		if op == "create" {
			b.way.before = nil
			a.Note(db("1/c"))
			flush(t, a)
		}
		return nil
	}
	flush(t, b)
	want(t, dir, "1/a", "1/b", "1/c")
	a.Erased(db("1/b")) // by a page that a knows, and that is old
	flush(t, a)
	want(t, dir, "1/a", "1/c")
}

func TestALostAnswerIsLookedUp(t *testing.T) {
	dir := objects(t)
	a := newNode(dir)
	a.Note(db("1/a"))
	a.way.after = func(op, name string) error { return errNo }
	if err := a.Flush(t.Context(), everything); !errors.Is(err, errNo) {
		t.Fatalf("flush: %v", err)
	}
	a.way.after = nil
	if !a.Dirty(1) {
		t.Error("nothing is left to be written, as far as it knows")
	}
	flush(t, a)
	if n := a.way.requests["create"]; n != 1 || a.Dirty(1) {
		t.Errorf("%d pages were written, want 1", n)
	}
	want(t, dir, "1/a")
}

func TestWhatIsSaidWhileAPageIsWrittenIsWrittenNext(t *testing.T) {
	dir := objects(t)
	a := newNode(dir)
	a.Note(db("1/a"))
	a.way.before = func(op, name string) error {
		if op == "create" {
			a.way.before = nil
			a.Erased(db("1/a"))
			if !a.Dirty(1) {
				t.Error("nothing is to be written")
			}
		}
		return nil
	}
	flush(t, a)
	want(t, dir, "1/a")
	flush(t, a)
	want(t, dir)
}

func TestAPageThatIsReadWhileTheNextIsWrittenIsNotTakenForTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := objects(t)
		a := newNode(dir)
		a.Note(db("1/a"))
		flush(t, a)
		b := newNode(dir)
		b.way.after = func(op, name string) error {
			if op == "open" {
				b.way.after = nil
				b.Note(db("1/b"))
				flush(t, b)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx) }()
		b.Load([]int{1})
		if err := b.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		want(t, dir, "1/a", "1/b")
		b.Erased(db("1/b"))
		<-time.After(time.Minute)
		want(t, dir, "1/a")
		cancel()
		<-ended
	})
}

func TestALatePageIsVoid(t *testing.T) {
	dir := objects(t)
	late := newNode(dir)
	late.Note(db("1/late"))
	var put func() error
	late.way.before = func(op, name string) error {
		if op != "create" {
			return nil
		}
		if !strings.HasSuffix(name, "0001") {
			return errNo
		}
		put = func() error {
			return dir.Create(context.Background(), name, []byte(`{"format":1,"shard":1,"tenants":[{"id":"1/late"}]}`))
		}
		return errNo // as far as it knows
	}
	if err := late.Flush(t.Context(), everything); !errors.Is(err, errNo) {
		t.Fatalf("flush: %v", err)
	}
	a := newNode(dir)
	for _, id := range []string{"1/a", "1/b", "1/c"} {
		a.Note(db(id))
		flush(t, a)
	}
	if err := put(); err != nil { // its number is free again
		t.Fatal(err)
	}
	want(t, dir, "1/a", "1/b", "1/c")
}

func TestANodeThatWasTakenOverNamesNothingMore(t *testing.T) {
	dir := objects(t)
	a := newNode(dir)
	a.Load([]int{1})
	a.Note(db("1/a"))
	if !a.Dirty(1) {
		t.Error("it has nothing to write")
	}
	a.Note(db("1/b"))
	a.Leave([]int{1}, true)
	flush(t, a)
	want(t, dir)
	// One that gave the shard away does.
	b := newNode(dir)
	b.Load([]int{1})
	b.Note(db("1/b"))
	b.Leave([]int{1}, false)
	flush(t, b)
	want(t, dir, "1/b")
}

func TestWhatCannotBeReadIsTriedAgainAndNeverReplaced(t *testing.T) {
	for name, page := range map[string]string{
		"a newer format":  `{"format":2,"shard":1,"tenants":[]}`,
		"damaged":         `{"format":1,"shard":1,"ten`,
		"another shard's": `{"format":1,"shard":2,"tenants":[{"id":"1/x"}]}`,
		"nameless":        `{"format":1,"shard":1,"tenants":[{}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := objects(t)
			if err := dir.Create(t.Context(), "tenants/0001/0000000000000001", []byte(page)); err != nil {
				t.Fatal(err)
			}
			a := newNode(dir)
			a.Note(db("1/a"))
			if err := a.Flush(t.Context(), everything); err == nil || !strings.Contains(err.Error(), "tenants/0001/0000000000000001") {
				t.Errorf("flush: %v", err)
			}
			if n := a.way.requests["create"]; n != 0 {
				t.Errorf("%d pages were written over it", n)
			}
			for _, err := range roster.All(t.Context(), dir, nil) {
				if err == nil {
					t.Error("it was read")
				}
			}
		})
	}
}

func TestPagesAreReadAgainUntilTheirDatabasesAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := objects(t)
		a := newNode(dir)
		a.Note(db("1/a"))
		flush(t, a)
		b := newNode(dir)
		b.fails = 2
		refused := 2
		b.way.before = func(op, name string) error {
			if refused--; refused >= 0 {
				return errNo
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx) }()
		b.Load([]int{1})
		short, stop := context.WithTimeout(ctx, time.Second)
		if err := b.Wait(short); !errors.Is(err, context.DeadlineExceeded) || b.Settled() {
			t.Errorf("wait: %v", err)
		}
		stop()
		if err := b.Wait(ctx); err != nil || len(b.found) != 1 || !b.Settled() {
			t.Errorf("wait: %v, found %v", err, b.found)
		}
		// One whose file went is there again.
		delete(b.found, "1/a")
		b.Again(db("1/a"))
		b.Again(db("1/unknown"))
		<-time.After(time.Minute)
		if len(b.found) != 1 {
			t.Errorf("found %v", b.found)
		}
		cancel()
		<-ended
	})
}

// Nodes write the pages of a few shards at once, through a store that says no and loses answers.
// What each said last of a database, which is its own, the pages say in the end.
func TestNothingThatNodesSayGetsLost(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		synctest.Test(t, func(t *testing.T) { randomNodes(t, rng) })
	}
}

func randomNodes(t *testing.T, rng *rand.Rand) {
	dir := objects(t)
	var mu sync.Mutex
	trouble := true
	roll := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return trouble && rng.IntN(n) == 0
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	said := map[string]bool{}
	var nodes []*node
	for range 3 {
		n := newNode(dir)
		n.way.before = func(string, string) error {
			if roll(5) {
				return errNo
			}
			return nil
		}
		n.way.after = func(string, string) error {
			if roll(5) {
				return errNo
			}
			return nil
		}
		n.Load([]int{0, 1, 2}) // as each thinks of itself
		running.Go(func() { n.Run(ctx) })
		nodes = append(nodes, n)
	}
	for range 200 {
		mu.Lock()
		i, shard, name, gone, pause := rng.IntN(3), rng.IntN(3), rng.IntN(4), rng.IntN(3) == 0, time.Duration(rng.IntN(900))*time.Millisecond
		mu.Unlock()
		id := fmt.Sprintf("%d/%d of node %d", shard, name, i)
		if said[id] = !gone; gone {
			nodes[i].Erased(db(id))
		} else {
			nodes[i].Note(db(id))
		}
		<-time.After(pause)
	}
	mu.Lock()
	trouble = false
	mu.Unlock()
	<-time.After(time.Minute)
	var all []string
	for id, in := range said {
		if in {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	want(t, dir, all...)
	cancel()
	running.Wait()
}
