package fleet

import (
	"github.com/multidb-go/multidb/internal/fsid"
)

// Volume is the device on which a database is, as far as it is known.
func (f *Fleet) Volume(e *Entry) (dev uint64, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Volume(e)
}

// LacksVolume reports whether SetVolume has something to note.
func (f *Fleet) LacksVolume(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.LacksVolume(e)
}

// SetVolume notes on which device a database is.
func (f *Fleet) SetVolume(e *Entry, dev uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reg.SetVolume(e, dev)
}

// ConfirmVolume notes that a database that the catalog had is there: file, in a
// directory on dev.
func (f *Fleet) ConfirmVolume(e *Entry, file fsid.ID, dev uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reg.ConfirmVolume(e, file, dev)
}

// Inhabitants returns how many of the databases that are in a directory were known before
// this scan, and the paths of those that it has listed; see registry.Inhabitants. in must
// not block.
func (f *Fleet) Inhabitants(in func(path string) bool, recalledOnly bool, scan uint32) (here []string, known int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Inhabitants(in, recalledOnly, scan)
}
