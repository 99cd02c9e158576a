package levels

import (
	"bytes"
	"cmp"
	"slices"
	"sync"

	"github.com/superfly/ltx"
)

// maxKept is the size, in bytes, of the largest file that a cache keeps. A
// request costs the same whatever it reads, so a large file must not push out
// hundreds of small ones.
const maxKept = 64 << 10

// keptCost is the memory that a kept file takes besides its bytes: 80 bytes for kept and
// up to 16 for the pointer to it.
const keptCost = 96

// Cache holds the bytes of small files that were written a short while ago, so that
// compacting them needs no request. Any number of inventories share it, and it is bounded
// in bytes for all of them together; the file that was written first is dropped first. A
// nil Cache keeps nothing. Safe for concurrent use.
//
// It never has bytes of a file that does not exist: only Inventory.Wrote adds bytes, for a
// write that the replica has acknowledged, and whatever else changes that file in the
// inventory drops them.
type Cache struct {
	limit int64

	mu             sync.Mutex // innermost: nothing is called under it
	size           int64      // the sum of the files' cost
	oldest, newest *kept      // in the order of writing
}

// kept is one file. Its data is never changed.
type kept struct {
	owner      *shelf
	prev, next *kept // older, newer
	min, max   ltx.TXID
	data       []byte
	level      int8
}

// cost is the memory that the file takes.
func (k *kept) cost() int64 { return keptCost + int64(cap(k.data)) }

// shelf is the part of a cache that belongs to one inventory.
type shelf struct {
	cache *Cache
	files []*kept // sorted by level, min, max; guarded by cache.mu
}

// NewCache returns a cache that takes at most limit bytes of memory, including its own
// overhead. If limit is zero or less it returns nil.
func NewCache(limit int64) *Cache {
	if limit <= 0 {
		return nil
	}
	return &Cache{limit: limit}
}

// Size is the memory in use, in bytes.
func (c *Cache) Size() int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

func (c *Cache) unlinkLocked(k *kept) {
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		c.oldest = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		c.newest = k.prev
	}
	k.prev, k.next = nil, nil
	c.size -= k.cost()
}

func (s *shelf) searchLocked(want key) (int, bool) {
	return slices.BinarySearchFunc(s.files, want, func(f *kept, want key) int {
		return cmp.Or(cmp.Compare(int(f.level), want.level), cmp.Compare(f.min, want.min), cmp.Compare(f.max, want.max))
	})
}

// takeLocked removes a file from the shelf and from the cache.
func (s *shelf) takeLocked(i int) {
	s.cache.unlinkLocked(s.files[i])
	s.files = slices.Delete(s.files, i, i+1)
	if n := len(s.files); cap(s.files) > n+n/2+8 {
		s.files = append(make([]*kept, 0, n+n/4), s.files...)
	}
}

// put keeps a copy of a file's bytes, in place of those that are kept under its name.
func (s *shelf) put(name key, data []byte) {
	if s == nil {
		return
	}
	s.drop(name)
	if len(data) == 0 || len(data) > maxKept {
		return
	}
	c := s.cache
	k := &kept{owner: s, min: name.min, max: name.max, level: int8(name.level), data: bytes.Clone(data)}
	if k.cost() > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size += k.cost()
	for c.size > c.limit {
		old := c.oldest
		i, _ := old.owner.searchLocked(key{int(old.level), old.min, old.max})
		old.owner.takeLocked(i)
	}
	if k.prev = c.newest; k.prev != nil {
		k.prev.next = k
	} else {
		c.oldest = k
	}
	c.newest = k
	i, _ := s.searchLocked(name)
	if n := len(s.files); n == cap(s.files) {
		s.files = append(make([]*kept, 0, n+n/4+4), s.files...)
	}
	s.files = slices.Insert(s.files, i, k)
}

// get returns the bytes of a file, which must not be changed; nil if they are
// not kept.
func (s *shelf) get(name key) []byte {
	if s == nil {
		return nil
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if i, ok := s.searchLocked(name); ok {
		return s.files[i].data
	}
	return nil
}

// drop forgets a file.
func (s *shelf) drop(name key) {
	if s == nil {
		return
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if i, ok := s.searchLocked(name); ok {
		s.takeLocked(i)
	}
}

// clear forgets all files.
func (s *shelf) clear() {
	if s == nil {
		return
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	for _, k := range s.files {
		s.cache.unlinkLocked(k)
	}
	s.files = nil
}
