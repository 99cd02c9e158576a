// Package registry has the databases that are known: by their ID, by their file, and by
// their prefix at the replica. It also has the files that were refused, and why, and the
// volumes on which databases are. It decides what it means that a listing has found a
// file, or has not found one.
//
// It is pure: it has no lock and does no I/O. Its caller locks it. To decide about a file it
// may need to know what is at other paths: Ask says which, the caller looks without the
// lock, and Decide takes the answers.
package registry

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/table"
)

// ErrNotFound: no database with that ID is known.
var ErrNotFound = errors.New("database not found")

// ErrConflict: the prefix, the ID or the file is another database's.
var ErrConflict = replicate.ErrConflict

// FromCatalog is the source of a database that no discoverer has listed since the start.
const FromCatalog = -1

// Entry is what the registry knows of one database. Only the registry may change it, except
// for Identity, which the caller sets before Add, and the fields that say so.
type Entry struct {
	Identity
	File fsid.ID // zero until the file exists

	// Refused is why it is not replicated and will not be. The caller sets it, except
	// where PrefixTaken is set.
	Refused error
	Held    int32 // how many goroutines are about to open it; the caller sets it

	// The order of these fields keeps an entry small, as there may be 100,000.
	seen        uint32 // the last scan that listed it
	source      int16  // the discoverer that listed it; FromCatalog until one does
	PrefixTaken bool   // Refused because another database has the same prefix
	Removed     bool   // it is no longer known
	Unread      bool   // its first bytes have to be read before it is opened
	away        bool   // its volume was not mounted at the last scan
	volume      uint8  // the number of the volume on which it is; see volumes
	recall      recall
}

// Source is the discoverer that listed it last.
func (e *Entry) Source() int { return int(e.source) }

// Registry has all known databases. V is the caller's type for a database, which contains
// an Entry.
type Registry[V any] struct {
	entryOf  func(*V) *Entry
	byID     *table.Table[string, V]
	byFile   *table.Table[fsid.ID, V]
	byPrefix *table.Table[Prefix, V]
	schemes  Schemes
	clashes  int // number of entries with PrefixTaken
	refusals map[string]refusal
	gone     map[string]error // IDs that are not to be found or made, and why
	volumes  volumes
	scans    uint32
}

// refusal is a file that was refused: it does not become a database.
type refusal struct {
	source int
	seen   uint32
	path   string
	sight  Sight
	err    error
}

// Sight is what was seen of a file when it was listed.
type Sight struct {
	File fsid.ID
	Size int64     // of the database file
	Main time.Time // its modification time; that of the log does not count
}

func (s Sight) same(t Sight) bool {
	return s.File == t.File && s.Size == t.Size && s.Main.Equal(t.Main)
}

// New returns an empty registry.
func New[V any](entryOf func(*V) *Entry) *Registry[V] {
	seed := maphash.MakeSeed()
	return &Registry[V]{
		entryOf: entryOf,
		byID: table.New(func(v *V) string { return entryOf(v).ID },
			func(id string) uint64 { return maphash.String(seed, id) }, func(a, b string) bool { return a == b }),
		byFile: table.New(func(v *V) fsid.ID { return entryOf(v).File },
			func(id fsid.ID) uint64 { return maphash.Comparable(seed, id) }, func(a, b fsid.ID) bool { return a == b }),
		byPrefix: table.New(func(v *V) Prefix { return entryOf(v).Prefix() },
			func(p Prefix) uint64 { return p.hash(seed) }, Prefix.equal),
		refusals: map[string]refusal{},
		gone:     map[string]error{},
	}
}

// Get returns the database with an ID; nil if none is known.
func (r *Registry[V]) Get(id string) *V { return r.byID.Get(id) }

// ByFile returns the database that has a file; nil if none is known.
func (r *Registry[V]) ByFile(file fsid.ID) *V { return r.byFile.Get(file) }

// ByPrefix returns the database that has a prefix at the replica; nil if none has.
func (r *Registry[V]) ByPrefix(prefix string) *V { return r.byPrefix.Get(Prefix{head: prefix}) }

// All returns the databases, in no order. The registry must not be changed meanwhile.
func (r *Registry[V]) All() iter.Seq[*V] { return r.byID.All() }

// Len returns how many databases are known.
func (r *Registry[V]) Len() int { return r.byID.Len() }

// Kept returns how many values all tables have together. Tests use it to find a leak.
func (r *Registry[V]) Kept() int {
	return r.byID.Len() + r.byFile.Len() + r.byPrefix.Len() + len(r.refusals) + len(r.gone)
}

// RefusalsLen returns how many files are refused.
func (r *Registry[V]) RefusalsLen() int { return len(r.refusals) }

// WhyNot returns why there is no database with an ID: why its file was refused, or
// ErrNotFound.
func (r *Registry[V]) WhyNot(id string) error {
	if err := r.gone[id]; err != nil {
		return err
	}
	if f, ok := r.refusals[id]; ok {
		return f.err
	}
	return ErrNotFound
}

// Refused returns why a file with an ID was refused. ok is false if it was not.
func (r *Registry[V]) Refused(id string) (err error, ok bool) {
	if err := r.gone[id]; err != nil {
		return err, true
	}
	f, ok := r.refusals[id]
	return f.err, ok
}

// NextScan begins a scan and returns its number.
func (r *Registry[V]) NextScan() uint32 {
	r.scans++
	return r.scans
}

// Scan returns the number of the scan that began last.
func (r *Registry[V]) Scan() uint32 { return r.scans }

// Add makes a database known. The caller has set its Identity. If another database has the
// prefix, the new one is refused, and Refused says why. prefixErr is why it has no prefix;
// nil if it has one.
func (r *Registry[V]) Add(v *V, file fsid.ID, prefixErr error, source int) {
	e := r.entryOf(v)
	e.source, e.seen = int16(source), r.scans
	r.byID.Put(v)
	r.SetFile(v, file)
	prefix := e.Prefix()
	switch {
	case prefixErr != nil:
		e.Refused = prefixErr
	case prefix.is(""):
	default:
		if owner := r.byPrefix.Get(prefix); owner != nil {
			e.PrefixTaken, e.Refused = true, fmt.Errorf("%w: %s is the prefix of %q", ErrConflict, prefix, r.entryOf(owner).ID)
			r.clashes++
		} else {
			r.byPrefix.Put(v)
		}
	}
}

// Schemes returns what the identities of databases have in common, for Identify.
func (r *Registry[V]) Schemes() *Schemes { return &r.schemes }

// SetFile sets the file of a database; zero: it is not known. If another database had the
// file, ByFile returns this one from now on.
func (r *Registry[V]) SetFile(v *V, file fsid.ID) {
	e := r.entryOf(v)
	if !e.File.IsZero() && r.byFile.Get(e.File) == v {
		r.byFile.Delete(e.File)
	}
	if e.File = file; !file.IsZero() && !e.Removed { // an opening of one that went may still be under way
		r.byFile.Put(v)
	}
}

// ShareFile sets the file of a database, but ByFile goes on returning the other one that has
// it.
func (r *Registry[V]) ShareFile(v *V, file fsid.ID) { r.entryOf(v).File = file }

// ForgetFile makes ByFile no longer return this database for a file.
func (r *Registry[V]) ForgetFile(v *V, file fsid.ID) {
	if r.byFile.Get(file) == v {
		r.byFile.Delete(file)
	}
}

// Remove forgets a database. If another one was refused because it has the same prefix, it
// gets the prefix now and is returned as heir.
func (r *Registry[V]) Remove(v *V) (heir *V) {
	e := r.entryOf(v)
	e.Removed = true
	r.byID.Delete(e.ID)
	r.ForgetFile(v, e.File) // e.File stays, for whoever is about to open the database
	if e.PrefixTaken {
		r.clashes--
	}
	at := e.Prefix()
	if r.byPrefix.Get(at) != v {
		return nil
	}
	r.byPrefix.Delete(at)
	if r.clashes == 0 {
		return nil
	}
	for other := range r.byID.All() {
		if o := r.entryOf(other); o.PrefixTaken && o.Prefix().equal(at) {
			o.PrefixTaken, o.Refused = false, nil
			r.clashes--
			r.byPrefix.Put(other)
			return other
		}
	}
	return nil
}

// Gone is why an ID is neither found nor made; nil: it may be.
func (r *Registry[V]) Gone(id string) error { return r.gone[id] }

// SetGone has an ID neither found nor made, and says why; nil: it may be again.
func (r *Registry[V]) SetGone(id string, why error) {
	if why == nil {
		delete(r.gone, id)
	} else {
		r.gone[id] = why
	}
}

// Refuse records that a file was refused, and what it looked like then: if it changes, it
// is decided about again.
func (r *Registry[V]) Refuse(id, path string, sight Sight, source int, err error) {
	r.refusals[id] = refusal{source: source, seen: r.scans, path: path, sight: sight, err: err}
}
