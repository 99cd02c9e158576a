package fleet

import (
	"fmt"
	"slices"
	"testing"

	"github.com/multidb-go/multidb/internal/registry"
)

// newNode is a rig that serves some shards, beside other nodes.
func newNode(t *testing.T, shards ...int) *rig {
	t.Helper()
	r := newRig(t, func(cfg *Config) { cfg.Shared, cfg.Detached = true, func(string) {} })
	r.Serve(shards, true)
	return r
}

// recall makes a database of a shard known.
func (r *rig) recall(t *testing.T, id string, shard int) *Entry {
	t.Helper()
	r.Recall(Recalled{Database: registry.Database{ID: id, Path: "/data/" + id}, Prefix: Prefix{Path: "replica/" + id, Shard: shard}, LastWrite: r.now, Looked: true})
	e := r.Get(id)
	if e == nil {
		t.Fatalf("%s is not known", id)
	}
	return e
}

func TestTheDatabasesOfAShardAreThoseThatAreKnown(t *testing.T) {
	r := newNode(t, 3, 4)
	var of [Shards][]*Entry
	for i := range 5 {
		shard := 3 + i%2
		of[shard] = append(of[shard], r.recall(t, fmt.Sprint("t", i), shard))
	}
	gone := of[3][1]
	r.Detach(gone)
	of[3] = slices.Delete(of[3], 1, 2)
	for shard := range 6 {
		if got := r.OfShard(shard); !slices.Equal(got, of[shard]) {
			t.Errorf("of shard %d it is %v, want %v", shard, got, of[shard])
		}
	}
	back := r.recall(t, gone.ID(), 3)
	if got := r.OfShard(3); !slices.Contains(got, back) || slices.Contains(got, gone) {
		t.Errorf("when %s is back, it is %v", gone.ID(), got)
	}
}

// TestDatabasesThatComeAndGoLeaveNothing: also of shards that nobody asks about.
func TestDatabasesThatComeAndGoLeaveNothing(t *testing.T) {
	r := newNode(t, 7)
	stays := r.recall(t, "stays", 7)
	for range 3 * fewGone {
		r.Detach(r.recall(t, "comes and goes", 7))
	}
	if n := len(r.shards.known[7]); n > fewGone+1 {
		t.Errorf("%d are kept of one that is known", n)
	}
	if got := r.OfShard(7); !slices.Equal(got, []*Entry{stays}) {
		t.Errorf("it is %v", got)
	}
}

func TestAShardIsBusyWhileOneOfItsDatabasesIsLeased(t *testing.T) {
	r := newNode(t, 1, 2)
	e := r.recall(t, "a", 1)
	r.recall(t, "b", 2)
	if r.Busy(1) || r.Busy(2) || r.Busy(9) {
		t.Error("one is busy at rest")
	}
	r.Leased(e)
	if !r.Busy(1) || r.Busy(2) {
		t.Errorf("with a lease in shard 1, busy are: 1 %v, 2 %v", r.Busy(1), r.Busy(2))
	}
}
