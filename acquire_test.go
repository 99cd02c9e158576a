package multidb_test

import (
	"context"
	"errors"
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
