package client

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
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
	other.TakeIn(journal.Taken{Epochs: []uint64{1}, Logs: logs, Ours: map[int]bool{}})
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
	other.TakeIn(journal.Taken{Epochs: []uint64{1}, Logs: logs, Ours: map[int]bool{}})
	if other.Over(1); other.holds(1) {
		t.Error("it holds a log that another process has finished")
	}
}

// TestWhatIsKnownToBeDoneDoesNotComeBackWithItsShard: the log that has it may be finished at that moment.
func TestWhatIsKnownToBeDoneDoesNotComeBackWithItsShard(t *testing.T) {
	w := newWorld(t)
	done, left := w.tenant("litestream/a"), w.tenant("litestream/b")
	done.ship(2)
	left.ship(3)
	logs, err := journal.Read(t.Context(), w.objects, journal.Reading{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	other := New(Config{Objects: w.objects, Now: func() time.Time { return now }})
	other.TakeIn(journal.Taken{Epochs: []uint64{1}, Logs: logs, Ours: map[int]bool{}})
	if _, err := w.log.Unpack(t.Context(), done.prefix, w.store.Client(done.prefix), true); err != nil {
		t.Fatal(err)
	}
	if err := other.Look(t.Context(), func(prefix string) (litestream.ReplicaClient, error) { return w.store.Client(prefix), nil }); err != nil {
		t.Fatal(err)
	}
	other.TakeIn(journal.Taken{Epochs: []uint64{2}, Known: logs, Ours: map[int]bool{format.Shard(done.prefix): true, format.Shard(left.prefix): true}})
	if got := other.Prefixes(); !slices.Equal(got, []string{left.prefix}) || !other.holds(1) {
		t.Errorf("it unpacks %v, and holds the log: %v; want what nobody has unpacked", got, other.holds(1))
	}
	if got := len(other.tail(left.prefix)); got != len(w.log.tail(left.prefix)) {
		t.Errorf("%d files of that, want %d", got, len(w.log.tail(left.prefix)))
	}
}

// TestALogIsNotFinishedWhileItIsTakenOver: at that moment nobody knows what it has.
func TestALogIsNotFinishedWhileItIsTakenOver(t *testing.T) {
	w := newWorld(t)
	w.close()
	node := func(id byte, took func(journal.Ended)) *journal.Journal {
		j := journal.New(journal.Config{Store: w.objects, Life: format.ID{id}, Node: "test", Share: true, Interval: time.Millisecond, TookOver: took})
		t.Cleanup(j.Stop)
		return j
	}
	dead := node(2, nil)
	written := make(chan error, 1)
	file := format.File{Record: format.Record{Prefix: "litestream/a", Min: 1, Max: 1, Size: 1}, Data: []byte{1}}
	if err := dead.Append(t.Context(), file, func(_ journal.Place, err error) { written <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	var log *Log
	heir := node(3, func(journal.Ended) {
		if err := log.FinishFormer(t.Context()); err != nil { // as who unpacks former logs does at any time
			t.Error(err)
		}
	})
	log = New(Config{Journal: heir, Objects: w.objects})
	if err := log.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken, err := heir.TakeOver(t.Context(), dead.Stats().Epoch)
	if err != nil {
		t.Fatal(err)
	}
	log.TakeIn(taken)
	if got := heir.Former(); len(got) != 1 || !log.holds(got[0]) {
		t.Errorf("the logs that are not finished are %v", got)
	}
	left, err := ReadTenant(t.Context(), w.objects, "litestream/a", false)
	if err != nil {
		t.Fatal(err)
	}
	if len(left.Tails()) != 1 {
		t.Error("what was acknowledged is gone")
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
