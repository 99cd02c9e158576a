package levels

import (
	"iter"

	"github.com/superfly/ltx"
)

// Kept returns the bytes that are kept of a file, nil if none are.
func (v *Inventory) Kept(level int, minTXID, maxTXID ltx.TXID) []byte {
	return v.shelf.get(key{level, minTXID, maxTXID})
}

// KeptNames calls fn with every file whose bytes are kept.
func (v *Inventory) KeptNames(fn func(level int, minTXID, maxTXID ltx.TXID)) {
	if v.shelf == nil {
		return
	}
	v.shelf.cache.mu.Lock()
	files := append([]*kept(nil), v.shelf.files...)
	v.shelf.cache.mu.Unlock()
	for _, k := range files {
		fn(int(k.level), k.min, k.max)
	}
}

// KeepOnly puts bytes into the cache and nothing into the inventory.
func (v *Inventory) KeepOnly(level int, minTXID, maxTXID ltx.TXID, data []byte) {
	v.shelf.put(key{level, minTXID, maxTXID}, data)
}

// Remove forgets a file that is no longer at the replica.
func (v *Inventory) Remove(info *ltx.FileInfo) {
	if k := keyOf(info); k.valid() {
		v.levels[k.level].remove(k.min, k.max)
		v.removeStray(k)
		v.shelf.drop(k)
	}
}

// All yields all files by level, then in TXID order. The inventory must not be
// changed meanwhile.
func (v *Inventory) All() iter.Seq[*ltx.FileInfo] {
	return func(yield func(*ltx.FileInfo) bool) {
		for level := range v.levels {
			for info := range v.Files(level) {
				if !yield(info) {
					return
				}
			}
		}
	}
}

// Bytes is the size of all files at the replica, in bytes.
func (v *Inventory) Bytes() int64 {
	var n int64
	for level := range v.levels {
		n += size(v.levels[level].files)
	}
	return n
}
