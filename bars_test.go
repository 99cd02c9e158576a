package multidb_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// What must not grow: bytes, allocations, requests, descriptors. How long things
// take is measured in bench, not here.

// TestAColdDatabaseTakesFewBytes compares fleets of two sizes that a catalog
// knows and that were shipped, so that what a Manager costs by itself is in neither.
func TestAColdDatabaseTakesFewBytes(t *testing.T) {
	const few, many, bar = 200, 2200, 700
	var cost [2]uint64
	var goroutines, fds [2]int
	for i, n := range []int{few, many} {
		root := newTree(t, 1, n)
		rep := multidbtest.NewReplica()
		opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithPromotion(0, 0), multidb.WithColdSyncInterval(time.Second)}
		f := start(t, root, opts...)
		for k := range n {
			f.sync(multidb.ID(fmt.Sprintf("project0/db%d", k)))
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		requests, before := rep.RequestStats().Total(), heap()
		m, err := multidb.New(append(opts, multidb.WithDiscoverer(multidb.Glob(pattern(root))))...)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a fleet at rest", func() bool { s := m.Stats(); return s.Cold == n && s.Running == 0 })
		cost[i], goroutines[i], fds[i] = heap()-before, runtime.NumGoroutine(), descriptors(t)
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := rep.RequestStats().Total() - requests; n != 0 {
			t.Errorf("%d requests of a fleet that the catalog knows", n)
		}
	}
	each := (cost[1] - cost[0]) / (many - few)
	t.Logf("%d bytes each", each)
	if each > bar && !raceEnabled {
		t.Errorf("one more cold database takes %d bytes of heap, want at most %d", each, bar)
	}
	if d := goroutines[1] - goroutines[0]; d > 5 {
		t.Errorf("%d goroutines more for %d databases more", d, many-few)
	}
	if d := fds[1] - fds[0]; d > 5 {
		t.Errorf("%d descriptors more for %d databases more", d, many-few)
	}
}

func TestLeasingAnOpenDatabaseAllocatesNothing(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour), multidb.WithScanInterval(time.Hour))
	const id = "project0/db0"
	keep, err := f.m.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Release()
	f.sync(id)
	eventually(t, "a fleet at rest", func() bool { return f.m.Stats().Running == 0 })
	ctx := context.Background()
	if n := testing.AllocsPerRun(2000, func() {
		h, err := f.m.Acquire(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		h.Release()
	}); n != 0 && !raceEnabled { // which allocates by itself
		t.Errorf("%v allocations for an Acquire and a Release", n)
	}
}

// TestASyncOfManyCallersIsTwoUploadsAtMost: one may be under way when the others
// call, and one takes all of them.
func TestASyncOfManyCallersIsTwoUploadsAtMost(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	const id, callers = "project0/db0", 500
	f.sync(id)
	for i := range 5 {
		f.insert(id, fmt.Sprint(i))
		rep.ResetOperations()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				if _, err := f.m.Sync(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		puts := 0
		for _, op := range rep.Operations() {
			if op.Op == multidbtest.OpWrite {
				puts++
			}
		}
		if puts > 2 {
			t.Errorf("%d uploads for %d callers", puts, callers)
		}
	}
}
