package multidb_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// reads returns the reads of LTX files in the log of operations.
func reads(rep *multidbtest.Replica) (out []multidbtest.Operation) {
	for _, op := range rep.Operations() {
		if op.Op == multidbtest.OpOpen {
			out = append(out, op)
		}
	}
	return out
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(5*time.Millisecond), time.NewTimer(20*time.Second)
	defer tick.Stop()
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

func TestADatabaseThatGoesColdReadsNothingAndLeavesTheCache(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(rep),
		multidb.WithHotDuration(300*time.Millisecond), multidb.WithPromotion(0, 0))
	const id = "project0/db0"
	f.sync(id) // while it is cold: of that nothing stays in memory
	eventually(t, "an empty cache of a fleet that is cold", func() bool { return multidb.CacheBytes(f.m) == 0 })
	for i := range 5 {
		f.insert(id, fmt.Sprint("v", i))
		f.sync(id)
	}
	if multidb.CacheBytes(f.m) == 0 {
		t.Error("five files are uploaded and nothing is in the cache")
	}
	f.events.wait(t, "cold", func(ev multidb.Event) bool {
		return ev.ID == id && ev.Type == multidb.EventTier && ev.To == multidb.Cold
	})
	eventually(t, "an empty cache", func() bool { return multidb.CacheBytes(f.m) == 0 })
	if ops := reads(rep); len(ops) != 1 || ops[0].Max != 1 {
		t.Errorf("the last compaction read %v, want the first file alone", ops)
	}
	levels := map[int]int{}
	for _, info := range rep.Files(id) {
		levels[info.Level]++
	}
	if levels[1] != 1 {
		t.Errorf("files by level: %v; want one of level 1", levels)
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 v0 v1 v2 v3 v4]" {
		t.Errorf("restored %v", got)
	}
}

func TestAFileOfALostAnswerIsReadFromTheReplica(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep),
		multidb.WithHotDuration(300*time.Millisecond), multidb.WithPromotion(0, 0))
	const id = "project0/db0"
	f.sync(id)
	for i := range 4 {
		if i == 2 {
			rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, LostAnswer: true, Times: 1})
		}
		f.insert(id, fmt.Sprint("v", i))
		for {
			if _, err := f.m.Sync(t.Context(), id); err == nil {
				break
			} else if !errors.Is(err, multidbtest.ErrInjected) {
				t.Fatal(err)
			}
		}
	}
	f.events.wait(t, "cold", func(ev multidb.Event) bool { return ev.Type == multidb.EventTier && ev.To == multidb.Cold })
	byTXID := map[multidb.TXID]int{}
	for _, op := range reads(rep) {
		byTXID[op.Max]++
	}
	// Once to find out what became of it, and once to compact it. The first file
	// was shipped while the database was cold.
	if len(byTXID) != 2 || byTXID[1] != 1 || byTXID[4] != 2 {
		t.Errorf("reads by transaction: %v; want 1 of the first and 2 of the one whose answer was lost, 4", byTXID)
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 v0 v1 v2 v3]" {
		t.Errorf("restored %v", got)
	}
}

func TestAFencedOrRemovedDatabaseLeavesTheCache(t *testing.T) {
	const id = "project0/db0"
	first, second := fencedBySecond(t, multidbtest.NewReplica(), id)
	eventually(t, "an empty cache of the one that is fenced", func() bool { return multidb.CacheBytes(first.m) == 0 })

	if multidb.CacheBytes(second.m) == 0 {
		t.Fatal("nothing in the cache of the other")
	}
	if err := os.Remove(second.path()); err != nil {
		t.Fatal(err)
	}
	second.events.wait(t, "removed", func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved })
	eventually(t, "an empty cache of the one that is gone", func() bool { return multidb.CacheBytes(second.m) == 0 })
}

func TestARestartCompactsFromTheReplicaAlone(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 1)
	const id = "project0/db0"
	f := start(t, root, multidb.WithReplica(rep), multidb.WithPromotion(0, 0))
	for i := range 3 {
		f.insert(id, fmt.Sprint("v", i))
		f.sync(id)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if n := multidb.CacheBytes(f.m); n != 0 {
		t.Errorf("%d bytes in the cache of a closed Manager", n)
	}
	rep.ResetOperations()
	before := len(rep.Files(id))
	g := start(t, root, multidb.WithReplica(rep),
		multidb.WithHotDuration(300*time.Millisecond), multidb.WithPromotion(0, 0))
	g.sync(id) // it was not sealed, so the start looks at it; what is shipped by that is not kept
	eventually(t, "the end of that", func() bool { return g.m.Stats().Running == 0 })
	g.insert(id, "after")
	g.sync(id)
	g.events.wait(t, "cold", func(ev multidb.Event) bool { return ev.Type == multidb.EventTier && ev.To == multidb.Cold })
	if n := len(reads(rep)); n != before+1 { // the last one twice: whose it is, and for the compaction
		t.Errorf("%d files read, want the %d of before the restart, one twice, and not the new one", n, before)
	}
	if got := fmt.Sprint(g.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 v0 v1 v2 after]" {
		t.Errorf("restored %v", got)
	}
}
