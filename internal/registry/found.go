package registry

import (
	"errors"
	"fmt"

	"github.com/multidb-go/multidb/internal/fsid"
)

// Found is a file that a listing has found.
type Found struct {
	ID, Path string
	Sight
	Source int    // the discoverer
	Scan   uint32 // the scan to which the listing belongs
	// Last: the decision cannot wait for the end of the scan, at which databases that
	// only the catalog has are removed.
	Last bool
}

// Listed returns the database with this ID at this path, and records that this scan has
// listed it. It returns nil if none is known.
func (r *Registry[V]) Listed(f Found) *V {
	v := r.byID.Get(f.ID)
	if v == nil || r.entryOf(v).Path != f.Path {
		return nil
	}
	e := r.entryOf(v)
	e.seen, e.source = f.Scan, int16(f.Source)
	// The same file may be known by another name, which the listing does not have because
	// it has this one. That database counts as listed too, as long as an Acquire of this
	// one is in progress, which will be refused.
	if twin := r.byFile.Get(f.File); e.Held > 0 && !f.File.IsZero() && twin != nil && twin != v {
		r.entryOf(twin).seen = f.Scan
	}
	return v
}

// Question says which paths have to be looked at before it can be decided about a file.
type Question[V any] struct {
	// Rival has the same ID at another path: is there a file? Twin has the same file under
	// another path: is it still there? Nil: there is no such database.
	Rival, Twin *V
	again       bool // it was refused before, and looks the same
}

// Ask returns what has to be looked at to decide about a file that is not known. ok is
// false if there is nothing to decide.
func (r *Registry[V]) Ask(f Found) (q Question[V], ok bool) {
	if r.gone[f.ID] != nil {
		return q, false
	}
	old, again := r.refusals[f.ID]
	again = again && old.path == f.Path && old.sight.same(f.Sight)
	if again {
		old.seen = f.Scan
		r.refusals[f.ID] = old
		if !errors.Is(old.err, ErrConflict) { // a conflict may be over, anything else is not
			return q, false
		}
	} else {
		delete(r.refusals, f.ID)
	}
	if r.Listed(f) != nil { // the pool has added it meanwhile, and may have it open
		return q, false
	}
	return Question[V]{Rival: r.byID.Get(f.ID), Twin: r.byFile.Get(f.File), again: again}, true
}

// Decision says what to do about a file that was found.
type Decision[V any] struct {
	// Add: add a new database. Moved is the database that had its ID at another path and
	// has to be removed first; nil: there was none. Unread: its first bytes have to be
	// read before it is opened.
	Add    bool
	Moved  *V
	Unread bool
	// Refused is why it is not a database, unless it was refused for that before.
	Refused error
	// Later: ask again at the end of the scan. Changed: what was known has changed
	// since Ask, so that another scan is needed.
	Later, Changed bool
}

// Decide decides about a file that was found. rival and twin are the files that are now at
// the paths of the Question's Rival and Twin; zero if there is none.
func (r *Registry[V]) Decide(f Found, q Question[V], rival, twin fsid.ID) (d Decision[V]) {
	var clash error
	switch {
	case q.Rival != nil && !rival.IsZero():
		e := r.entryOf(q.Rival)
		if !f.Last && e.source == FromCatalog {
			return Decision[V]{Later: true}
		}
		clash = fmt.Errorf("%w: %s has the ID %q already", ErrConflict, e.Path, f.ID)
	case q.Twin != nil && q.Twin != q.Rival && !f.File.IsZero() && twin == f.File:
		// A listing has only one name of each file. The database keeps the name by which
		// it is known, even if the listing has the other one.
		e := r.entryOf(q.Twin)
		e.seen, e.source = f.Scan, int16(f.Source)
		clash = fmt.Errorf("%w: it is the same file as %s", ErrConflict, e.Path)
	}
	switch {
	case clash != nil:
		if !q.again {
			r.Refuse(f.ID, f.Path, f.Sight, f.Source, clash)
			d.Refused = clash
		}
	case r.byID.Get(f.ID) != q.Rival:
		d.Changed = true
	default:
		delete(r.refusals, f.ID)
		// A file that was renamed (it has a Twin) is known to be a database, and may be
		// open, so that it must not be read.
		d = Decision[V]{Add: true, Moved: q.Rival, Unread: q.Twin == nil && f.Size > 0}
	}
	return d
}

// Unlisted returns what a scan has not listed of a discoverer: the databases that are not
// busy, and the IDs and paths of files that were refused before.
func (r *Registry[V]) Unlisted(source int, scan uint32, busy func(*V) bool) (gone []*V, refused map[string]string) {
	for v := range r.byID.All() {
		if e := r.entryOf(v); e.source == int16(source) && e.seen != scan && e.Held == 0 && !busy(v) {
			gone = append(gone, v)
		}
	}
	refused = map[string]string{}
	for id, f := range r.refusals {
		if f.source == source && f.seen != scan {
			refused[id] = f.path
		}
	}
	return gone, refused
}

// SeenIn reports whether a scan has listed the database.
func (r *Registry[V]) SeenIn(v *V, scan uint32) bool { return r.entryOf(v).seen == scan }

// Saw notes that the file of a database was made just now: a scan that began before may
// have listed its directory earlier than that.
func (r *Registry[V]) Saw(v *V) { r.entryOf(v).seen = r.scans }

// ForgetRefusals forgets that files of a discoverer were refused, unless the scan has listed
// them meanwhile.
func (r *Registry[V]) ForgetRefusals(ids map[string]string, source int, scan uint32) {
	for id := range ids {
		if f := r.refusals[id]; f.source == source && f.seen != scan {
			delete(r.refusals, id)
		}
	}
}
