package levels

import "github.com/superfly/ltx"

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
