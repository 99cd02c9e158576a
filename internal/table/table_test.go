package table

import (
	"math/rand/v2"
	"testing"
)

type value struct{ key, n int }

// few makes hashes collide.
func few(k int) uint64 { return uint64(k%5) | uint64(k%3)<<56 }

func newTable(hash func(int) uint64) *Table[int, value] {
	return New(func(v *value) int { return v.key }, hash, func(a, b int) bool { return a == b })
}

func TestATableHoldsWhatAMapHolds(t *testing.T) {
	for name, hash := range map[string]func(int) uint64{
		"good hash": func(k int) uint64 { return uint64(k) * 0x9e3779b97f4a7c15 },
		"bad hash":  few,
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			got, want := newTable(hash), map[int]*value{}
			for step := range 20_000 {
				k := rng.IntN(300)
				switch rng.IntN(5) {
				case 0, 1:
					v := &value{k, step}
					got.Put(v)
					want[k] = v
				case 2, 3:
					got.Delete(k)
					delete(want, k)
				}
				if v := got.Get(k); v != want[k] {
					t.Fatalf("step %d: Get(%d) = %v, want %v", step, k, v, want[k])
				}
				if got.Len() != len(want) {
					t.Fatalf("step %d: %d values, want %d", step, got.Len(), len(want))
				}
			}
			seen := map[int]bool{}
			for v := range got.All() {
				if want[v.key] != v || seen[v.key] {
					t.Errorf("All yields %v, want %v once", v, want[v.key])
				}
				seen[v.key] = true
			}
			if len(seen) != len(want) {
				t.Errorf("All yields %d values, want %d", len(seen), len(want))
			}
			for k := range 300 {
				if got.Get(k) != want[k] {
					t.Errorf("Get(%d) = %v, want %v", k, got.Get(k), want[k])
				}
			}
		})
	}
}

func TestAnEmptyTableHasNothing(t *testing.T) {
	table := newTable(few)
	table.Delete(1)
	if v := table.Get(1); v != nil || table.Len() != 0 {
		t.Errorf("an empty table has %v, Len %d", v, table.Len())
	}
	for v := range table.All() {
		t.Errorf("an empty table yields %v", v)
	}
}

func TestAllEndsWhenItIsToldTo(t *testing.T) {
	table := newTable(few)
	for k := range 10 {
		table.Put(&value{key: k})
	}
	n := 0
	for range table.All() {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d values after a break", n)
	}
}
