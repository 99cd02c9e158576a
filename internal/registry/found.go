package registry

import (
	"errors"
	"fmt"

	"github.com/multidb-go/multidb/internal/fsid"
)

// Found is a file that a listing has.
type Found struct {
	ID, Path string
	Sight
	Source int    // the discoverer
	Scan   uint32 // the scan that it belongs to
	// Last: there is no end of a scan to come, at which databases are let go of that
	// only the catalog has.
	Last bool
}

// Listed notes that a database is listed, and returns it, if it is known with this ID
// at this path; nil otherwise.
func (r *Registry[V]) Listed(f Found) *V {
	v := r.byID.Get(f.ID)
	if v == nil || r.entryOf(v).Path != f.Path {
		return nil
	}
	e := r.entryOf(v)
	e.seen, e.source = f.Scan, int16(f.Source)
	// The database whose file was listed by another name is kept, for as long as an
	// Acquire of that name is about to be refused.
	if twin := r.byFile.Get(f.File); e.Held > 0 && !f.File.IsZero() && twin != nil && twin != v {
		r.entryOf(twin).seen = f.Scan
	}
	return v
}

// Question is what has to be looked at before it can be decided about a file.
type Question[V any] struct {
	// Rival has the ID, at another path: does a file stand there? Twin has the file,
	// by another name: does it stand there still? Nil: there is none.
	Rival, Twin *V
	again       bool // it was refused before, as it is
}

// Ask says what has to be looked at to decide about a file that is not known; ok is
// false if nothing is to be decided.
func (r *Registry[V]) Ask(f Found) (q Question[V], ok bool) {
	old, again := r.refusals[f.ID]
	again = again && old.path == f.Path && old.sight.same(f.Sight)
	if again {
		old.seen = f.Scan
		r.refusals[f.ID] = old
		if !errors.Is(old.err, ErrConflict) { // which may be over
			return q, false
		}
	} else {
		delete(r.refusals, f.ID)
	}
	if r.Listed(f) != nil { // the pool made it known meanwhile, and may have it open
		return q, false
	}
	return Question[V]{Rival: r.byID.Get(f.ID), Twin: r.byFile.Get(f.File), again: again}, true
}

// Decision is what becomes of a file that was found.
type Decision[V any] struct {
	// Add: it is a new database. Moved had its ID, and is to be removed before; nil: it
	// was nobody's. Unread: its first bytes are to be read before it is opened.
	Add    bool
	Moved  *V
	Unread bool
	// Refused is why it is not, where that is news.
	Refused error
	// Later: ask again at the end of the scan. Changed: what was known has changed
	// since Ask, so that another scan is needed.
	Later, Changed bool
}

// Decide decides about a file that was found. rival and twin are the files that stand
// at the paths of Question's, zero if there is none.
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
		// A listing has one name of each file. The one that is known stays, though it be
		// the other.
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
		// One that was renamed may be open, and is a database.
		d = Decision[V]{Add: true, Moved: q.Rival, Unread: q.Twin == nil && f.Size > 0}
	}
	return d
}

// Unlisted returns the databases of a discoverer that a scan has not listed and that
// are not busy, and the IDs and paths of files that were refused.
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

// ForgetRefusals forgets files of a discoverer that were refused, unless they were
// listed by the scan meanwhile.
func (r *Registry[V]) ForgetRefusals(ids map[string]string, source int, scan uint32) {
	for id := range ids {
		if f := r.refusals[id]; f.source == source && f.seen != scan {
			delete(r.refusals, id)
		}
	}
}
