package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// quiet are options with which nothing is shipped or found by itself.
func quiet(opts ...multidb.Option) []multidb.Option {
	return append([]multidb.Option{multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour),
		multidb.WithScanInterval(1000 * time.Hour), multidb.WithWatch(false)}, opts...)
}

func TestSyncAllShipsWhatAnybodyHasWrittenAndTheRestCostsNoRequest(t *testing.T) {
	databases := 100
	if testing.Short() {
		databases = 10
	}
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 20, databases), quiet(multidb.WithReplica(rep))...)
	if err := f.m.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id := range f.m.All() {
		if len(rep.Files(string(id.ID))) == 0 {
			t.Fatalf("%s is not at the replica", id.ID)
		}
	}
	if st := f.m.Stats(); st.Shipped != int64(20*databases) {
		t.Errorf("something was shipped of %d databases, want %d", st.Shipped, 20*databases)
	}
	rep.ResetOperations()
	if err := f.m.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ops := rep.Operations(); len(ops) != 0 {
		t.Errorf("when nothing has changed it made %d requests: %v", len(ops), ops[0])
	}
	f.insert("project3/db7", "by the pool")
	f.writeBeside("project4/db8", "by another process")
	if err := f.m.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	for _, op := range rep.Operations() {
		if op.Op == multidbtest.OpWrite {
			written[op.Prefix] = true
		}
	}
	if len(written) != 2 || !written["project3/db7"] || !written["project4/db8"] {
		t.Errorf("it has written to %v", written)
	}
	if got := fmt.Sprint(f.restored("project4/db8", multidb.RestoreOptions{})); got != "[0 1 2 by another process]" {
		t.Errorf("restored %v", got)
	}
}

func TestSyncAllGoesOnWhereSomeFailAndNamesThem(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 3, 50), quiet(multidb.WithReplica(rep))...)
	in := rep.Inject(multidbtest.Fault{Match: func(op multidbtest.Operation) bool { return strings.HasPrefix(op.Prefix, "project1/") }})
	err := f.m.SyncAll(t.Context())
	var all *multidb.AllError
	if !errors.As(err, &all) || all.Count != 50 || len(all.Failed) != 50 || all.Failed[0].ID != "project1/db0" || all.Op != "sync" {
		t.Fatalf("%v", err)
	}
	var one *multidb.Error
	if !errors.Is(err, multidbtest.ErrInjected) || !errors.As(err, &one) || !strings.HasPrefix(string(one.ID), "project1/") ||
		strings.Count(err.Error(), "project1/") != 3 || !strings.Contains(err.Error(), "and 47 more") {
		t.Errorf("%v", err)
	}
	for _, id := range []string{"project0/db49", "project2/db0"} {
		if len(rep.Files(id)) == 0 {
			t.Errorf("%s was not shipped", id)
		}
	}
	in.Clear()
	if err := f.m.SyncAll(t.Context()); err != nil { // whatever their back-off
		t.Fatal(err)
	}
}

func TestSyncAllThatIsEndedSaysWhatIsLeft(t *testing.T) {
	const workers = 4 // each of them may have written what is not answered yet
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 40), quiet(multidb.WithReplica(rep), multidb.WithUploadConcurrency(workers))...)
	t.Cleanup(rep.ClearFaults)
	ctx, cancel := context.WithCancelCause(t.Context())
	told := errors.New("told to")
	done := make(chan struct{})
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: "project0/db9", Hang: true})
	go func() {
		defer close(done)
		seen := map[string]bool{}
		if _, err := rep.WaitFor(t.Context(), func(op multidbtest.Operation) bool {
			if op.Op == multidbtest.OpWrite && op.Err == nil {
				seen[op.Prefix] = true
			}
			return len(seen) == 39 // all others
		}); err != nil {
			t.Error(err)
		}
		cancel(told)
	}()
	err := f.m.SyncAll(ctx)
	<-done
	var all *multidb.AllError
	if !errors.Is(err, told) || !errors.As(err, &all) || all.Count == 0 || all.Count > workers {
		t.Fatalf("%v", err)
	}
	for _, e := range all.Failed {
		if e.ID == "project0/db9" {
			return
		}
	}
	t.Errorf("the one that hangs is not named: %v", err)
}

func TestOneObjectOfAFleetLogServesAllThatSyncAllWaitsFor(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := startLogged(t, newTree(t, 4, 50), rep, time.Hour, quiet(multidb.WithUploadConcurrency(4))...)
	if err := f.m.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p := range 4 {
		for d := range 50 {
			f.insert(multidb.ID(fmt.Sprintf("project%d/db%d", p, d)), "a")
		}
	}
	rep.ResetOperations()
	if err := f.m.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	objects := 0
	for _, op := range rep.Operations() {
		if op.Op == multidbtest.OpCreateObject {
			objects++
		}
	}
	if objects == 0 || objects > 20 {
		t.Errorf("200 commits of 200 databases took %d objects", objects)
	}
	t.Logf("200 commits of 200 databases took %d objects", objects)
}

func TestSyncAllNeedsAReplicaAndAManagerThatServes(t *testing.T) {
	f := start(t, newTree(t, 1, 1))
	if err := f.m.SyncAll(t.Context()); !errors.Is(err, multidb.ErrNoReplica) {
		t.Errorf("without a replica: %v", err)
	}
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(f.root))), multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithStateDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SyncAll(t.Context()); !errors.Is(err, multidb.ErrNotStarted) {
		t.Errorf("before Start: %v", err)
	}
	if err := errors.Join(m.Start(t.Context()), m.SyncAll(t.Context()), m.Close(t.Context())); err != nil {
		t.Errorf("between Start and Close: %v", err)
	}
	if err := m.SyncAll(t.Context()); !errors.Is(err, multidb.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
