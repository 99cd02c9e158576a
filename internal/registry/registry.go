// Package registry says which databases are known: by their ID, their file and their
// place at the replica; which files were refused, and why; on which volumes they stand;
// and what a listing that found a file, or did not, means.
//
// It is pure: it has no lock and does no I/O. Its caller locks it, looks at files where
// a question says so, and comes back with the answers.
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

// ErrNotFound: nobody knows the database.
var ErrNotFound = errors.New("database not found")

// ErrConflict: the prefix, the ID or the file is another database's.
var ErrConflict = replicate.ErrConflict

// FromCatalog is the source of what no discoverer has listed since the start.
const FromCatalog = -1

// Entry is what the registry knows of one database. Only the registry changes it, but
// for the fields that say so.
type Entry struct {
	Identity
	File fsid.ID // zero until the file exists

	// Refused is why it is not replicated, for good. The caller sets it, but where
	// Clash is set.
	Refused error
	Held    int32 // the caller's: how many are about to open it

	// The order of what follows keeps an entry small: there may be 100,000.
	seen    uint32 // the last scan that listed it
	source  int16  // which discoverer it is of; FromCatalog until one lists it
	Clash   bool   // Refused because the prefix is another's
	Removed bool   // it is known no more
	Unread  bool   // its first bytes are to be read before it is opened
	away    bool   // its volume was not there at the last scan
	volume  uint8  // on which it stands; see volumes
	recall  recall
}

// Source is the discoverer that listed it last.
func (e *Entry) Source() int { return int(e.source) }

// Registry is who is known. V is what the caller keeps of a database: each has an
// Entry.
type Registry[V any] struct {
	entryOf  func(*V) *Entry
	byID     *table.Table[string, V]
	byFile   *table.Table[fsid.ID, V]
	byPrefix *table.Table[Prefix, V]
	schemes  Schemes
	clashes  int // entries refused because of another's prefix
	refusals map[string]refusal
	volumes  volumes
	scans    uint32
}

// refusal is a file that was taken for no database.
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
	Main time.Time // its modification time, without that of its log
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
	}
}

// Get returns the database with an ID; nil if none is known.
func (r *Registry[V]) Get(id string) *V { return r.byID.Get(id) }

// ByFile returns the database whose file it is; nil if none is known.
func (r *Registry[V]) ByFile(file fsid.ID) *V { return r.byFile.Get(file) }

// All returns the databases, in no order. It must not be changed meanwhile.
func (r *Registry[V]) All() iter.Seq[*V] { return r.byID.All() }

// Len is how many are known.
func (r *Registry[V]) Len() int { return r.byID.Len() }

// Kept is how much is kept by database, in all tables.
func (r *Registry[V]) Kept() int {
	return r.byID.Len() + r.byFile.Len() + r.byPrefix.Len() + len(r.refusals)
}

// RefusalsLen is how many files are refused.
func (r *Registry[V]) RefusalsLen() int { return len(r.refusals) }

// WhyNot is why an ID is not that of a known database.
func (r *Registry[V]) WhyNot(id string) error {
	if f, ok := r.refusals[id]; ok {
		return f.err
	}
	return ErrNotFound
}

// Refused reports whether a file with the ID was refused, and why.
func (r *Registry[V]) Refused(id string) (err error, ok bool) {
	f, ok := r.refusals[id]
	return f.err, ok
}

// NextScan begins a scan and returns its number.
func (r *Registry[V]) NextScan() uint32 {
	r.scans++
	return r.scans
}

// Scan is the number of the scan that began last.
func (r *Registry[V]) Scan() uint32 { return r.scans }

// Add makes a database known, whose Identity the caller has set. Where the prefix is
// another's it is refused: Refused says whose. prefixErr is why it has none.
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
			e.Clash, e.Refused = true, fmt.Errorf("%w: %s is the prefix of %q", ErrConflict, prefix, r.entryOf(owner).ID)
			r.clashes++
		} else {
			r.byPrefix.Put(v)
		}
	}
}

// Schemes are what the identities of the databases have in common.
func (r *Registry[V]) Schemes() *Schemes { return &r.schemes }

// SetFile notes which file a database is of; zero: none that is known. Where the file
// was another's, it is this one's from here on.
func (r *Registry[V]) SetFile(v *V, file fsid.ID) {
	e := r.entryOf(v)
	if !e.File.IsZero() && r.byFile.Get(e.File) == v {
		r.byFile.Delete(e.File)
	}
	if e.File = file; !file.IsZero() {
		r.byFile.Put(v)
	}
}

// ShareFile notes a file that stays another's.
func (r *Registry[V]) ShareFile(v *V, file fsid.ID) { r.entryOf(v).File = file }

// ForgetFile forgets whose a file is, if it is this one's.
func (r *Registry[V]) ForgetFile(v *V, file fsid.ID) {
	if r.byFile.Get(file) == v {
		r.byFile.Delete(file)
	}
}

// Remove forgets a database. heir is one that was refused its prefix, and has it from
// here on; nil: there is none.
func (r *Registry[V]) Remove(v *V) (heir *V) {
	e := r.entryOf(v)
	e.Removed = true
	r.byID.Delete(e.ID)
	r.ForgetFile(v, e.File) // whose file it was stays known to who is about to open it
	if e.Clash {
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
		if o := r.entryOf(other); o.Clash && o.Prefix().equal(at) {
			o.Clash, o.Refused = false, nil
			r.clashes--
			r.byPrefix.Put(other)
			return other
		}
	}
	return nil
}

// Refuse notes that a file is no database, as it was seen.
func (r *Registry[V]) Refuse(id, path string, sight Sight, source int, err error) {
	r.refusals[id] = refusal{source: source, seen: r.scans, path: path, sight: sight, err: err}
}
