package client

import (
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
)

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
