package levels_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/levels"
)

// remembering is a tenant with a cache.
func remembering(t testing.TB, c *levels.Cache) *tenant {
	d := newTenant(t, 1)
	d.v.UseCache(c)
	return d
}

// wantKept checks that what is kept is what the bucket holds, byte for byte.
func (d *tenant) wantKept() (n int) {
	d.t.Helper()
	d.v.KeptNames(func(level int, minTXID, maxTXID ltx.TXID) {
		n++
		o, ok := d.b.objects[name{level, minTXID, maxTXID}]
		if !ok || !bytes.Equal(o.data, d.v.Kept(level, minTXID, maxTXID)) {
			d.t.Fatalf("level %d %s-%s is kept, but is not what is stored (there: %v)\n%s", level, minTXID, maxTXID, ok, d.dump())
		}
	})
	return n
}

func TestFreshFilesAreCompactedWithoutReadingThem(t *testing.T) {
	d := remembering(t, levels.NewCache(1<<20))
	p := levels.Policy{L0Files: 10, Fanout: 4}
	puts := 0
	for range 40 {
		for range 10 {
			d.commits(1)
		}
		rep := d.compact(p, false)
		puts += rep.Compactions
		if rep.BytesRead != 0 {
			t.Fatalf("%d bytes read", rep.BytesRead)
		}
	}
	if gets := d.b.gets.Load(); gets != 0 || d.b.lists != 0 || d.b.puts != puts || d.b.deletes != 0 {
		t.Errorf("%d GETs, %d LISTs, %d PUTs for %d compactions, %d deletions", gets, d.b.lists, d.b.puts, puts, d.b.deletes)
	}
	if puts != 40+10+2 {
		t.Errorf("%d compactions of 400 files", puts)
	}
	if n := d.wantKept(); n == 0 || n > 8 {
		t.Errorf("%d files kept when all but a few are compacted", n)
	}
	d.wantLatest()
	d.wantSame()
}

func TestOnlyWhatTheCacheDroppedIsRead(t *testing.T) {
	d := remembering(t, levels.NewCache(8<<10))
	d.commits(60)
	kept := d.wantKept()
	if kept == 0 || kept == 60 {
		t.Fatalf("%d of 60 kept: the test shows nothing", kept)
	}
	for txid := ltx.TXID(1); txid <= 60; txid++ {
		if has := d.v.Kept(0, txid, txid) != nil; has != (txid > ltx.TXID(60-kept)) {
			t.Errorf("transaction %d kept: %v; of %d kept it should be the last ones", txid, has, kept)
		}
	}
	rep := d.compact(levels.Policy{}, false)
	if gets := d.b.gets.Load(); gets != int64(60-kept) || rep.FilesRead != 60 {
		t.Errorf("%d GETs with %d of %d files kept", gets, kept, rep.FilesRead)
	}
	d.wantLatest()
	d.wantSame()
}

func TestBytesThatMayNotBeWhatIsStoredAreNeverUsed(t *testing.T) {
	setup := func(t *testing.T) *tenant {
		d := remembering(t, levels.NewCache(1<<20))
		d.commits(4)
		if d.wantKept() != 4 {
			t.Fatal("not all are kept")
		}
		return d
	}
	info := func(d *tenant, txid ltx.TXID) *ltx.FileInfo {
		o := d.b.objects[name{0, txid, txid}]
		return &o.info
	}
	for what, change := range map[string]func(d *tenant){
		"a write that failed":       func(d *tenant) { d.v.MarkStray(0, 3, 3); d.v.Add(info(d, 3)) },
		"a file found at the store": func(d *tenant) { d.v.Add(info(d, 3)) },
		"a file written unseen":     func(d *tenant) { d.v.Wrote(info(d, 3), nil) },
		"half of the bytes":         func(d *tenant) { d.v.Wrote(info(d, 3), []byte("half")) },
		"a listing":                 func(d *tenant) { d.v.Reset(d.b.infos()) },
		"a listing without it": func(d *tenant) {
			all := d.b.infos()
			d.v.Reset(nil)
			if n := d.wantKept(); n != 0 {
				t.Errorf("%d files kept of none", n)
			}
			d.v.Reset(all)
		},
		"a database given up":        func(d *tenant) { d.v.DropCached() },
		"a file gone and there anew": func(d *tenant) { d.v.Remove(info(d, 3)); d.v.Add(info(d, 3)) },
		"another encoding": func(d *tenant) {
			if err := d.v.UnmarshalBinary(encode(t, d.v)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := setup(t)
			change(d)
			if d.v.Kept(0, 3, 3) != nil {
				t.Fatal("still kept")
			}
			d.compact(levels.Policy{}, true)
			if d.b.gets.Load() == 0 {
				t.Error("nothing was read from the store")
			}
			d.wantKept()
			d.wantLatest()
		})
	}
}

func TestACompactionThatFailedKeepsNothingOfItsOutput(t *testing.T) {
	for _, fault := range []error{errBefore, errAfter} {
		d := remembering(t, levels.NewCache(1<<20))
		d.commits(5)
		d.b.fault = failOn("put", fault)
		if _, err := levels.Compact(ctx, d.b, d.v, levels.Policy{}, true, nil); !errors.Is(err, fault) {
			t.Fatalf("error %v", err)
		}
		if d.v.Kept(1, 1, 5) != nil {
			t.Errorf("%v: the bytes of a file in doubt are kept", fault)
		}
		d.b.fault = nil
		d.compact(levels.Policy{}, true)
		want := int64(0)
		if errors.Is(fault, errAfter) {
			want = 1 // it is there: compared, and not kept
		}
		if gets := d.b.gets.Load(); gets != want || (d.v.Kept(1, 1, 5) == nil) != (want == 1) {
			t.Errorf("%v: %d GETs for the second attempt, output kept: %v", fault, gets, d.v.Kept(1, 1, 5) != nil)
		}
		d.wantKept()
		d.wantLatest()
	}
}

func TestARandomCacheStaysWithinItsBoundAndTrue(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	const limit, fleet = 200_000, 20
	c := levels.NewCache(limit)
	type file struct {
		level int
		txid  ltx.TXID
	}
	vs := make([]*levels.Inventory, fleet)
	want := make([]map[file][]byte, fleet) // what was written last, kept or not
	fresh := func(i int) {
		vs[i] = new(levels.Inventory)
		vs[i].UseCache(c)
		want[i] = map[file][]byte{}
	}
	for i := range vs {
		fresh(i)
	}
	kept, dropped := 0, 0
	for step := range 20_000 {
		i := rng.IntN(fleet)
		f := file{rng.IntN(3), ltx.TXID(1 + rng.IntN(100))}
		info := &ltx.FileInfo{Level: f.level, MinTXID: f.txid, MaxTXID: f.txid}
		switch n := rng.IntN(100); {
		case n < 70:
			size := rng.IntN(600)
			if rng.IntN(50) == 0 {
				size = rng.IntN(100_000)
			}
			data := make([]byte, size)
			for j := range data {
				data[j] = byte(rng.Uint32())
			}
			info.Size = int64(size)
			vs[i].Wrote(info, data)
			want[i][f] = bytes.Clone(data)
			if size > 0 {
				data[0] ^= 1 // the caller's buffer is its own again
			}
		case n < 80:
			vs[i].MarkStray(f.level, f.txid, f.txid)
			delete(want[i], f)
		case n < 90:
			vs[i].Add(info)
			delete(want[i], f)
		case n < 91:
			vs[i].DropCached()
			want[i] = map[file][]byte{}
		case n < 92:
			vs[i].DropCached()
			fresh(i)
		}
		if size := c.Size(); size > limit || size < 0 {
			t.Fatalf("step %d: %d bytes", step, size)
		}
		if got := vs[i].Kept(f.level, f.txid, f.txid); got == nil {
			dropped++
		} else if kept++; !bytes.Equal(got, want[i][f]) {
			t.Fatalf("step %d: other bytes are kept than were written", step)
		}
	}
	t.Logf("%d answers kept, %d not", kept, dropped)
	if kept < 1000 || dropped < 1000 {
		t.Error("one of them hardly ever happened")
	}
	for _, v := range vs {
		v.DropCached()
	}
	if size := c.Size(); size != 0 {
		t.Errorf("%d bytes of nothing", size)
	}
}

// TestTheCacheTakesNoMoreMemoryThanItsBound fills it with tiny files, whose
// overhead is most of what they take, and with others.
func TestTheCacheTakesNoMoreMemoryThanItsBound(t *testing.T) {
	const limit, fleet = 8 << 20, 500
	slack := int64(50)
	if raceEnabled { // which rounds the smallest allocations up
		slack = 20
	}
	for _, size := range []int{1, 30, 300, 1100, 5000, 33_000, 60_000} {
		c := levels.NewCache(limit)
		vs := make([]*levels.Inventory, fleet)
		data := bytes.Repeat([]byte("x"), size)
		for i := range vs {
			vs[i] = new(levels.Inventory)
			vs[i].UseCache(c)
		}
		before := heapNow()
		const files = 200_000
		for n := range min(files, 4*limit/size) {
			txid := ltx.TXID(1 + n/fleet)
			// Not through Wrote: the inventories' own memory is not the cache's.
			vs[n%fleet].KeepOnly(0, txid, txid, data)
		}
		got := int64(heapNow() - before)
		if used := c.Size(); used < limit*9/10 || got > limit+limit/slack {
			t.Errorf("files of %d bytes: %d bytes of heap, %d by its own account, bound %d", size, got, used, limit)
		} else {
			t.Logf("files of %d bytes: %d bytes of heap, %d by its own account", size, got, used)
		}
		runtime.KeepAlive(vs)
	}
}

func heapNow() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestWhatRetentionDeletesLeavesTheCache(t *testing.T) {
	d := remembering(t, levels.NewCache(1<<20))
	d.commits(5)
	d.snapshot()
	d.now = d.now.Add(levels.DefaultRetention + time.Hour)
	d.commits(1)
	if rep := d.retain(levels.Policy{}); rep.Deleted != 5 {
		t.Fatalf("report %+v", rep)
	}
	if n := d.wantKept(); n != 2 { // the snapshot, and the file that is left
		t.Errorf("%d files kept", n)
	}
	d.wantLatest()
}
