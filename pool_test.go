package multidb_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestAnAcquireThatWaitsInVainForgetsNoDatabase: an ID that Acquire was first to
// know has a file all the same. Red without noteFile in ensureFile.
func TestAnAcquireThatWaitsInVainForgetsNoDatabase(t *testing.T) {
	root := t.TempDir()
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxOpen(1),
		multidb.WithScanInterval(time.Hour), multidb.WithWatch(false))
	makeDB(t, root+"/p/databases/a.db", 1) // no scan has seen it
	f.insert("p/a", "x")
	h, err := f.m.Acquire(t.Context(), "p/b")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := f.m.Acquire(ctx, "p/a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with every place taken: %v", err)
	}
	f.sync("p/a")
	if f.events.has(multidb.EventRemoved) {
		t.Error("it was forgotten")
	}
}

// TestAFileThatIsKnownToBeMissingIsNotWrittenTo: a handle that was leased when
// the file vanished is closed before the next lease, though no run comes between.
// Red without the Evict in hold.
func TestAFileThatIsKnownToBeMissingIsNotWrittenTo(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithScanInterval(time.Hour), multidb.WithWatch(false), multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour))
	const id = "project0/db0"
	h, err := f.m.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.DB().Exec("INSERT INTO t(v) VALUES('x')"); err != nil {
		t.Fatal(err)
	}
	f.sync(id)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(f.root, id[:8], "databases", id[9:]+".db"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrMissing) {
		t.Errorf("a Sync: %v", err)
	}
	h.Release()
	h, err = f.m.Acquire(t.Context(), id)
	if !errors.Is(err, multidb.ErrMissing) {
		t.Errorf("the next lease: %v", err)
	}
	h.Release()
}
