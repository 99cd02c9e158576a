// Package table finds values by a key that is part of the value. A Go map stores a copy of
// each key; a Table stores nine bytes a slot. The three tables that find the databases of a
// fleet take less than a quarter of the memory of three maps, which saves about 120 bytes
// for each database, and are about as fast: see BenchmarkFind.
package table

import "iter"

// Table is a set of pointers, one for each key. It uses open addressing with linear
// probing (Knuth, The Art of Computer Programming, vol. 3, 6.4, algorithms L and
// R). The key of a value must not change while it is in the table. Not safe for
// concurrent use.
type Table[K, V any] struct {
	key   func(*V) K
	hash  func(K) uint64
	equal func(a, b K) bool
	slots []*V    // their number is a power of two; nil: the slot is free
	tags  []uint8 // some bits of each hash, so that few other values need a comparison
	n     int
}

// New returns an empty table. Keys that are equal must have the same hash, whose
// lowest and highest bits are used.
func New[K, V any](key func(*V) K, hash func(K) uint64, equal func(a, b K) bool) *Table[K, V] {
	return &Table[K, V]{key: key, hash: hash, equal: equal}
}

// Len returns the number of values.
func (t *Table[K, V]) Len() int { return t.n }

// Get returns the value with a key, nil if there is none.
func (t *Table[K, V]) Get(k K) *V {
	if t.n == 0 {
		return nil
	}
	return t.slots[t.find(k, t.hash(k))]
}

// Put adds a value. It replaces one with the same key.
func (t *Table[K, V]) Put(v *V) {
	// At most 4 of 5 slots are used, so that finding no value takes a few comparisons of
	// tags.
	if 5*(t.n+1) > 4*len(t.slots) {
		t.resize(max(8, 2*len(t.slots)))
	}
	k := t.key(v)
	h := t.hash(k)
	i := t.find(k, h)
	if t.slots[i] == nil {
		t.n++
	}
	t.slots[i], t.tags[i] = v, tag(h)
}

// Delete removes the value with a key, if there is one.
func (t *Table[K, V]) Delete(k K) {
	if t.n == 0 {
		return
	}
	i := t.find(k, t.hash(k))
	if t.slots[i] == nil {
		return
	}
	t.n--
	// Move up the values that are further back only because this slot was taken.
	mask := len(t.slots) - 1
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		home := int(t.hash(t.key(t.slots[j]))) & mask
		if (j-home)&mask >= (j-i)&mask {
			t.slots[i], t.tags[i] = t.slots[j], t.tags[j]
			i = j
		}
	}
	t.slots[i] = nil
}

// All yields every value, in no order. The table must not be changed meanwhile.
func (t *Table[K, V]) All() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		for _, v := range t.slots {
			if v != nil && !yield(v) {
				return
			}
		}
	}
}

// find returns the slot of a key, or the free one where it belongs.
func (t *Table[K, V]) find(k K, h uint64) int {
	mask, want := len(t.slots)-1, tag(h)
	i := int(h) & mask
	for ; t.slots[i] != nil; i = (i + 1) & mask {
		if t.tags[i] == want && t.equal(t.key(t.slots[i]), k) {
			break
		}
	}
	return i
}

func (t *Table[K, V]) resize(n int) {
	old := t.slots
	t.slots, t.tags = make([]*V, n), make([]uint8, n)
	for _, v := range old {
		if v == nil {
			continue
		}
		h := t.hash(t.key(v))
		i := int(h) & (n - 1)
		for t.slots[i] != nil {
			i = (i + 1) & (n - 1)
		}
		t.slots[i], t.tags[i] = v, tag(h)
	}
}

func tag(h uint64) uint8 { return uint8(h >> 56) }
