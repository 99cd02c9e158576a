package multidb_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestSyncDoesNotWaitForTheFirstCopiesOfTheFleet(t *testing.T) {
	rep := multidbtest.NewReplica()
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Delay: 10 * time.Millisecond})
	f := start(t, newTree(t, 10, 30), multidb.WithReplica(rep), multidb.WithUploadConcurrency(2))
	began := time.Now()
	for _, id := range []multidb.ID{"project0/db0", "project5/db15", "project9/db29"} {
		f.sync(id)
	}
	took, copied := time.Since(began), 0
	for st := range f.m.All() {
		if !st.SyncedAt.IsZero() {
			copied++
		}
	}
	if copied > 100 {
		t.Errorf("three Syncs took %v and waited for %d of 300 first copies", took, copied)
	}
}

// TestASyncThatCloseOvertakesEnds, although nobody runs any more who could answer it.
func TestASyncThatCloseOvertakesEnds(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	f.sync("project0/db0")
	sync, err := multidb.SyncOf(f.m, "project0/db0")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := sync(ctx); !errors.Is(err, multidb.ErrClosed) {
		t.Error(err)
	}
}

func TestWithoutAReplicaAWriteKeepsADatabaseHotForHotDuration(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithHotDuration(time.Second), multidb.WithPromotion(0, 0))
	began := time.Now()
	f.insert("project0/db0", "x")
	f.events.wait(t, "cold", func(ev multidb.Event) bool { return ev.Type == multidb.EventTier && ev.To == multidb.Cold })
	if hot := time.Since(began); hot < 900*time.Millisecond {
		t.Errorf("cold %v after its write, want about 1s", hot)
	}
}

func TestRestoreLogsNothingToTheDefaultLogger(t *testing.T) {
	var buf syncBuffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&buf, nil)))
	defer slog.SetDefault(old)
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	f.sync("project0/db0")
	f.restored("project0/db0", multidb.RestoreOptions{})
	if bytes.Contains(buf.Bytes(), []byte("integrity")) {
		t.Errorf("written to the program's own log:\n%s", buf.Bytes())
	}
}
