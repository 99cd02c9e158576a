package fleet

import (
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
)

// Volume is the device on which a database stands, as far as it is known.
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

// SetVolume notes on which device a database stands.
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

// SetRoots sets the directories below which the discoverers look.
func (f *Fleet) SetRoots(all registry.Roots) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roots = all
}

// Roots are the directories below which the discoverers look. The list does not change
// after Start; what is in it is guarded by the lock.
func (f *Fleet) Roots() registry.Roots {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roots
}

// RecallRoots takes what the roots were from what RecordRoots returned in another run.
func (f *Fleet) RecallRoots(b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roots.Recall(b)
}

// RecordRoots returns what RecallRoots is to know.
func (f *Fleet) RecordRoots() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roots.Record()
}

// SeeRoot takes what stands at a root's path now. may: it may be taken for the root.
// Otherwise here are the paths of the databases of it that this scan has listed, of the
// number that were known.
func (f *Fleet) SeeRoot(r *registry.Root, now fsid.ID, scan uint32) (same, may bool, here []string, known int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if same, may = r.See(now); !may {
		here, known = f.reg.Inhabitants(f.roots, r, scan)
	}
	return same, may, here, known
}

// AcceptRoot makes a directory the root.
func (f *Fleet) AcceptRoot(r *registry.Root, now fsid.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Accept(now)
}

// RejectRoot notes that another directory stands in the root's place, and delivers err,
// if that is news.
func (f *Fleet) RejectRoot(r *registry.Root, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Reject(f.cfg.Now()) {
		f.mu.Note(Event{Type: EventScanFailed, Path: r.Path, Err: err})
	}
}

// RootStands reports whether a directory that was seen at the root's path may be it.
func (f *Fleet) RootStands(r *registry.Root, now fsid.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.Stands(now)
}

// RootAway reports whether another directory stands in the root's place, and since when.
func (f *Fleet) RootAway(r *registry.Root) (since time.Time, away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.Away()
}
