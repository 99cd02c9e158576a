package multidb_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestAMissingFileIsRestoredOnceByAcquire(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 2)
	f := start(t, root, multidb.WithReplica(rep))
	const id = "project0/db0"
	for i := range 5 {
		f.insert(id, fmt.Sprint("v", i))
		f.sync(id)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	// Another machine, with nothing but the replica.
	empty := t.TempDir()
	g := start(t, empty, multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
	rep.ResetOperations()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			h, err := g.m.Acquire(t.Context(), id)
			if err != nil {
				t.Error(err)
				return
			}
			defer h.Release()
			var n int
			if err := h.DB().QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 8 {
				t.Errorf("%d rows, %v", n, err)
			}
		})
	}
	wg.Wait()
	reads, lists := map[string]int{}, 0
	for _, op := range rep.Operations() {
		switch op.Op {
		case multidbtest.OpList:
			lists++
		case multidbtest.OpOpen:
			reads[fmt.Sprint(op.Level, op.Min, op.Max)]++
		}
	}
	for file, n := range reads {
		if n > 1 {
			t.Errorf("file %s was read %d times", file, n)
		}
	}
	if lists != 1 || len(reads) == 0 {
		t.Errorf("%d listings, %d files read", lists, len(reads))
	}
	g.insert(id, "here")
	g.sync(id)
	if got := fmt.Sprint(g.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 v0 v1 v2 v3 v4 here]" {
		t.Errorf("restored %v", got)
	}
	if n := g.m.Stats().Resyncs; n != 0 {
		t.Errorf("%d resyncs after a restore that is the replica's state", n)
	}
	if entries, _ := filepath.Glob(filepath.Join(empty, "project0/databases/.multidb*")); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestAMissingTenantOfOneFileIsRestoredInThreeRequests: the listing, the file, metadata.json.
func TestAMissingTenantOfOneFileIsRestoredInThreeRequests(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 1)
	const id = "project0/db0"
	f := start(t, root, multidb.WithReplica(rep))
	f.sync(id)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	g := start(t, t.TempDir(), multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
	rep.ResetOperations()
	before := rep.RequestStats()
	h, err := g.m.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	after := rep.RequestStats()
	if lists, gets, all := after.List-before.List, after.Get-before.Get, after.Total()-before.Total(); lists != 1 || gets != 2 || all != 3 {
		t.Errorf("%d requests, %d LISTs, %d GETs: %v", all, lists, gets, rep.Operations())
	}
	var n int
	if err := h.DB().QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 3 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// TestAnEvictedTenantIsBroughtBackInThreeRequests, whoever else waits for it: that nobody has
// gone on, or the listing, then the file and metadata.json.
func TestAnEvictedTenantIsBroughtBackInThreeRequests(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxDisk(1<<40))
	const id = "project0/db0"
	f.sync(id)
	for range 2 { // also of a file that was brought back
		if err := f.m.Evict(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(f.root, "project0/databases/db0.db")); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("its file is there: %v", err)
		}
		rep.ResetOperations()
		before := rep.RequestStats()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				h, err := f.m.Acquire(t.Context(), id)
				if err != nil {
					t.Error(err)
					return
				}
				h.Release()
			})
		}
		wg.Wait()
		after := rep.RequestStats()
		if all := after.Total() - before.Total(); all != 3 {
			t.Errorf("%d requests: %v", all, rep.Operations())
		}
	}
}

func TestATenantThatWentIsRestoredInFourRequestsWithoutAListing(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(rep), multidb.WithRestoreOnOpen(),
		multidb.WithHotDuration(100*time.Millisecond), multidb.WithPromotion(0, 0))
	const id = "project0/db0"
	for i := range 10 {
		f.insert(id, fmt.Sprint("v", i))
		f.sync(id)
	}
	for st, err := f.m.Status(id); err != nil || st.Tier != multidb.Cold; st, err = f.m.Status(id) {
		<-time.After(10 * time.Millisecond) // it may have been cold between two writes
	}
	path := filepath.Join(f.root, "project0/databases/db0.db")
	for _, s := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + s)
	}
	f.events.wait(t, "removed", func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved && ev.ID == id })
	before := rep.RequestStats()
	h, err := f.m.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	after := rep.RequestStats()
	var n int
	if err := h.DB().QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 13 {
		t.Errorf("%d rows, %v", n, err)
	}
	h.Release()
	if lists, all := after.List-before.List, after.Total()-before.Total(); lists != 0 || all > 4 {
		t.Errorf("%d requests, %d of them listings: %v", all, lists, rep.Operations())
	}
}

// TestATenantThatTheCatalogKnowsIsRestoredInFourRequests: what the catalog knows may
// be of any age, so one of them is a listing.
func TestATenantThatTheCatalogKnowsIsRestoredInFourRequests(t *testing.T) {
	rep := multidbtest.NewReplica()
	root, state := newTree(t, 1, 2), t.TempDir()
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithRestoreOnOpen(), multidb.WithStateDir(state),
		multidb.WithHotDuration(100 * time.Millisecond), multidb.WithPromotion(0, 0)}
	f := start(t, root, opts...)
	const id = "project0/db0"
	for i := range 10 {
		f.insert(id, fmt.Sprint("v", i))
		f.sync(id)
	}
	f.status(id, "cold", cold)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	// Gone while nobody looked: it is the next run that finds out.
	path := filepath.Join(root, "project0/databases/db0.db")
	for _, s := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + s); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	rep.ResetOperations()
	g := start(t, root, opts...)
	h, err := g.m.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	var asked []multidbtest.Operation
	lists := 0
	for _, op := range rep.Operations() {
		if op.Prefix == id && op.Op != multidbtest.OpInit {
			asked = append(asked, op)
		}
		if op.Prefix == id && op.Op == multidbtest.OpList {
			lists++
		}
	}
	if len(asked) > 4 || lists != 1 {
		t.Errorf("%d requests: %v", len(asked), asked)
	}
	var n int
	if err := h.DB().QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 13 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestANewTenantIsMadeWhereTheReplicaHasNothing(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithRestoreOnOpen())
	h, err := f.m.Acquire(t.Context(), "project0/new")
	if err != nil {
		t.Fatal(err)
	}
	h.Release()
}

func TestAReplicaThatDoesNotAnswerFailsTheOpenAndMakesNoEmptyFile(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
	f.sync("project0/db0")
	down := errors.New("down")
	fault := rep.Inject(multidbtest.Fault{Err: down})
	if _, err := f.m.Acquire(t.Context(), "project0/other"); !errors.Is(err, down) {
		t.Fatalf("acquire: %v", err)
	}
	if _, err := os.Stat(filepath.Join(f.root, "project0/databases/other.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
	if _, err := f.m.Status("project0/other"); !errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("status: %v", err)
	}
	fault.Clear()
}

// TestWhoBroughtADatabaseBackAndWasKilledGoesOnWithIt: the restore ended with a compacted file,
// which does not say who wrote last, and what was committed since was not shipped.
func TestWhoBroughtADatabaseBackAndWasKilledGoesOnWithIt(t *testing.T) {
	rep := multidbtest.NewReplica()
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithMaxDisk(1 << 40)}
	const id = "project0/db0"
	f := start(t, newTree(t, 1, 1), opts...)
	for i := range 5 {
		f.insert(id, fmt.Sprint("v", i))
		f.sync(id)
	}
	if err := f.m.Evict(t.Context(), id); err != nil { // which compacts all of it
		t.Fatal(err)
	}
	compacted := 0
	for _, file := range rep.Files(id) {
		if file.Level > 0 {
			compacted++
		}
	}
	if compacted == 0 {
		t.Fatal("nothing is compacted")
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	// Another machine goes on, cannot ship what it commits, and is killed.
	root := t.TempDir()
	g := start(t, root, append(opts, multidb.WithRestoreOnOpen(), multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour))...)
	g.readAll(id)
	g.sync(id)
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: multidbtest.ErrInjected})
	g.insert(id, "not shipped")
	_ = g.close()
	rep.ClearFaults()
	g = start(t, root, append(opts, multidb.WithRestoreOnOpen())...)
	g.sync(id)
	if got := fmt.Sprint(g.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 v0 v1 v2 v3 v4 not shipped]" {
		t.Errorf("restored %s", got)
	}
}
