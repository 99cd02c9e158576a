package conduct

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/volume"
	"github.com/superfly/ltx"
)

// TestTheCatalogIsReadOnceForAllShardsThatAreExpected: a node that comes back with 100,000 rows gets its
// shards a few at once, and the tenants of each wait while they are read.
func TestTheCatalogIsReadOnceForAllShardsThatAreExpected(t *testing.T) {
	const shards, each = 5, 4
	cat, err := catalog.Open(t.Context(), t.TempDir(), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cat.Abandon(); err != nil {
			t.Error(err)
		}
	})
	id := func(shard, i int) string { return fmt.Sprintf("%d-%d", shard, i) }
	txid := func(shard, i int) ltx.TXID { return ltx.TXID(1 + 10*shard + i) }
	for shard := range shards {
		for i := range each {
			state, err := ship.State{TXID: txid(shard, i)}.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			cat.Put(catalog.Record{ID: id(shard, i), Path: "/data/" + id(shard, i), Prefix: id(shard, i), State: state})
		}
	}
	now, looked := time.Unix(1_700_000_000, 0), 0
	f := fleet.New(fleet.Config{
		Now: func() time.Time { return now }, Boot: func() time.Duration { return 0 }, Rand: func() float64 { return 0 },
		Limits: schedule.Limits{MaxHot: 1, SyncInterval: time.Hour, ColdSyncInterval: time.Hour, HotDuration: time.Hour}, Replicated: true,
		Reasons: 1, Reason: func(error) int { return 0 }, Due: func() {}, Shared: true, Detached: func(string) {}, Deliver: func(fleet.Event) {},
	})
	c := New(Config{
		Fleet: f, Catalog: cat, Volumes: volume.New(volume.Config{}), Logs: replicate.NewLogs(time.Now), Age: &fsid.AgeClock{},
		Now: func() time.Time { return now }, Workers: 1,
		Prefix: func(db registry.Database) (at fleet.Prefix) {
			looked++
			at.Path = db.ID
			_, at.Err = fmt.Sscanf(db.ID, "%d-", &at.Shard)
			return at
		},
	})
	load := func(shards ...int) (rows int) {
		t.Helper()
		before := looked
		expected := func(s int) bool { return s < 4 }
		if err := c.LoadShards(t.Context(), shards, func(*fleet.Recalled) bool { return true }, expected); err != nil {
			t.Fatal(err)
		}
		f.Serve(shards, true)
		for _, s := range shards {
			var got []string
			for _, e := range f.OfShard(s) {
				got = append(got, e.ID())
			}
			slices.Sort(got)
			want := []string{id(s, 0), id(s, 1), id(s, 2), id(s, 3)}
			if !slices.Equal(got, want) {
				t.Errorf("of shard %d it knows %q, want %q", s, got, want)
			}
			for i := range each {
				if e := f.Get(id(s, i)); e != nil && e.Path() != "/elsewhere" && f.Status(e).TXID != txid(s, i) {
					t.Errorf("%s is at %v, want %v", e.ID(), f.Status(e).TXID, txid(s, i))
				}
			}
		}
		return looked - before
	}
	const all = shards * each
	if n := load(0); n != all+each {
		t.Errorf("at the first shard %d rows are looked at, want all and those of the shard", n)
	}
	if n := load(1, 2); n != 2*each {
		t.Errorf("at shards that were expected %d rows are looked at, want theirs", n)
	}
	// While a shard was served, its rows may have changed.
	for _, e := range f.OfShard(1) {
		f.Detach(e)
	}
	f.Serve([]int{1}, false)
	cat.Put(catalog.Record{ID: id(1, 3), Path: "/elsewhere", Prefix: id(1, 3)})
	if n := load(1); n != all+each || f.Get(id(1, 3)).Path() != "/elsewhere" {
		t.Errorf("at one that was given away meanwhile %d rows are looked at, and a file is at %s", n, f.Get(id(1, 3)).Path())
	}
	if n := load(4); n != all+each {
		t.Errorf("at one that was not expected %d rows are looked at, want all", n)
	}
	now = now.Add(keepAhead)
	if n := load(3); n != all+each {
		t.Errorf("after a while %d rows are looked at, want all", n)
	}
}
