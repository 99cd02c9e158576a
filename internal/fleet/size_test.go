package fleet

import (
	"math/rand/v2"
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
)

// TestTheSumsOfTheSizesAreThoseOfTheDatabases: whatever comes and goes, is seen, is measured
// or becomes known, the running sums are what a walk over all of them finds.
func TestTheSumsOfTheSizesAreThoseOfTheDatabases(t *testing.T) {
	r := newRig(t, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []*Entry
	names := "abcdefghijklmnopqrstuvwxyz"
	for step := range 2000 {
		switch n := rnd.IntN(10); {
		case n == 0 && len(all) < len(names) || len(all) == 0:
			id := names[step%len(names):][:1]
			if r.Has(id) {
				continue
			}
			all = append(all, r.find(t, id, fsid.ID{Dev: 1, Ino: uint64(step) + 1}))
		case n == 1:
			i := rnd.IntN(len(all))
			if !r.Remove(all[i], r.NextScan(), false) {
				t.Fatal("it was not removed")
			}
			r.mu.Lock()
			r.measureLocked(all[i], &replicate.Report{WALSize: 99, Sized: true, Size: replicate.Size{Objects: 1, Bytes: 1}}) // a run that ends late
			r.mu.Unlock()
			all = append(all[:i], all[i+1:]...)
		case n < 5:
			e := all[rnd.IntN(len(all))]
			r.Listed(registry.Found{ID: e.ID(), Path: e.Path(), Sight: registry.Sight{File: fsid.ID{Dev: 1, Ino: 7}, Size: rnd.Int64N(1 << 40)}, Scan: r.Scan()}, r.now)
		default:
			rep := replicate.Report{WALSize: rnd.Int64N(1 << 30), Drained: true}
			rep.Files.Main = fsid.Fingerprint{Ino: 1, Size: rnd.Int64N(1 << 30)}
			if rnd.IntN(2) == 0 {
				rep.Sized, rep.Size = true, replicate.Size{Objects: rnd.Int64N(1000), Bytes: rnd.Int64N(1 << 35)}
			}
			r.mu.Lock()
			r.measureLocked(all[rnd.IntN(len(all))], &rep)
			r.mu.Unlock()
		}
		var want Sizes
		for _, e := range all {
			s := r.Status(e).Size
			want.Local += s.LocalBytes
			want.WAL += e.health.walSize
			want.Replica += s.ReplicaBytes
			want.Objects += s.ReplicaObjects
			if !s.ReplicaSized {
				want.Unknown++
			}
		}
		if c, _ := r.Counts(); c.Sizes != want {
			t.Fatalf("step %d: the sums are %+v, want %+v", step, c.Sizes, want)
		}
	}
}

func TestASizeOf281TBAndAMillionObjectsIsKept(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 1})
	r.mu.Lock()
	r.setLocalLocked(e, 281<<40+1, 7)
	r.setReplicaSizeLocked(e, replicate.Size{Objects: 1 << 20, Bytes: 1 << 50})
	r.mu.Unlock()
	want := Size{LocalBytes: 281<<40 + 512 + 7, ReplicaBytes: 1 << 50, ReplicaObjects: 1 << 20, ReplicaSized: true}
	if got := r.Status(e).Size; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTheLargestComeFirstAndEqualOnesByID(t *testing.T) {
	r := newRig(t, nil)
	const n = 5000
	for i := range n {
		id := "t" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		e := r.find(t, id, fsid.ID{Dev: 1, Ino: uint64(i) + 1})
		r.mu.Lock()
		r.setLocalLocked(e, int64(i*7919%n)*512, 0)
		r.mu.Unlock()
	}
	local := func(s Size) int64 { return s.LocalBytes }
	got := r.Largest(3, local)
	for i, s := range got {
		if want := int64(n-1-i) * 512; s.LocalBytes != want {
			t.Errorf("number %d has %d bytes, want %d", i, s.LocalBytes, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d, want 3", len(got))
	}
	equal := r.Largest(1<<62, func(Size) int64 { return 1 })
	for i := 1; i < len(equal); i++ {
		if equal[i-1].ID >= equal[i].ID {
			t.Fatalf("%s before %s", equal[i-1].ID, equal[i].ID)
		}
	}
	if len(equal) != n || r.Largest(0, local) != nil || r.Largest(-1, local) != nil {
		t.Errorf("all of them are %d, want %d", len(equal), n)
	}
}
