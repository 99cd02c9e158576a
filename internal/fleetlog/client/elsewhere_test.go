package client

import (
	"context"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
)

// TestALogIsNotFinishedBeforeTheOwnersOfItsShardsHaveUnpackedIt, or erased: another life has read it too, and is to
// unpack nothing of it.
func TestALogIsNotFinishedBeforeTheOwnersOfItsShardsHaveUnpackedIt(t *testing.T) {
	w := newWorld(t)
	erased, unpacked := w.tenant("litestream/a"), w.tenant("litestream/b")
	erased.ship(2)
	unpacked.ship(3)
	w.close()
	w.begin(2)
	if err := w.log.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	logs, err := journal.Read(t.Context(), w.objects, journal.Reading{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	other := New(Config{Journal: w.journal, Objects: w.objects, UnpackInterval: time.Minute, Now: func() time.Time { return now }})
	other.TakeIn(journal.Taken{Logs: logs, Ours: map[int]bool{}})
	clients := func(prefix string) (litestream.ReplicaClient, error) { return w.store.Client(prefix), nil }
	look := func(holds bool) {
		t.Helper()
		if err := other.Look(t.Context(), clients); err != nil {
			t.Fatal(err)
		}
		if other.holds(1) != holds {
			t.Errorf("it holds the log: %v, want %v; %v", !holds, holds, other.elsewhere)
		}
		if tails := other.Tails(); len(tails) > 0 {
			t.Errorf("it would unpack %v", tails)
		}
	}
	look(true)
	now = now.Add(time.Hour)
	look(true) // neither is done
	if _, err := w.log.Unpack(t.Context(), unpacked.prefix, w.store.Client(unpacked.prefix), true); err != nil {
		t.Fatal(err)
	}
	look(true)
	if _, err := w.log.Erase(t.Context(), erased.prefix); err != nil {
		t.Fatal(err)
	}
	look(false)
	if got := w.level0(erased.prefix); got != "" {
		t.Errorf("the erased prefix has %s", got)
	}
	other.TakeIn(journal.Taken{Logs: logs, Ours: map[int]bool{}})
	if other.Over(1); other.holds(1) {
		t.Error("it holds a log that another process has finished")
	}
}

// TestQuietWaitsForWhoUnpacks: whoever gets the shard then may erase the prefix, to which nothing may be written any more.
func TestQuietWaitsForWhoUnpacks(t *testing.T) {
	w := newWorld(t)
	release, err := w.log.share(t.Context(), "litestream/a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.log.Quiet(ctx, func(prefix string) bool { return prefix == "litestream/a" }); err == nil {
		t.Error("it did not wait")
	}
	if err := w.log.Quiet(ctx, func(prefix string) bool { return prefix == "litestream/b" }); err != nil {
		t.Errorf("another prefix: %v", err)
	}
	release()
	if err := w.log.Quiet(t.Context(), func(string) bool { return true }); err != nil {
		t.Error(err)
	}
}
