package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// Root is a directory below which a discoverer looks. What it was is remembered
// between the runs of a program: at a start nothing else tells a volume that was
// emptied from one that is not mounted.
type Root struct {
	Path string

	id    fsid.ID   // what it was when databases were last found in it; zero: unknown
	known bool      // id was seen in this process, not only remembered
	away  bool      // another directory stands at its path
	since time.Time // when it was first seen away
}

// Away reports whether another directory stands in its place, and since when.
func (r *Root) Away() (since time.Time, away bool) { return r.since, r.away }

// Stands reports whether a directory that was seen at the path may be the root.
func (r *Root) Stands(id fsid.ID) bool {
	if r.known {
		return id.Dev == r.id.Dev
	}
	return r.id.IsZero() || id == r.id
}

// Roots are all of them. The list does not change once it is made; what is in it is
// locked by the caller.
type Roots []*Root

// Of returns the innermost root of a path; nil if there is none.
func (all Roots) Of(path string) (best *Root) {
	for _, r := range all {
		if Within(path, r.Path) && (best == nil || len(r.Path) > len(best.Path)) {
			best = r
		}
	}
	return best
}

// Within reports whether a path is dir or lies below it.
func Within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// rootsRecord is what is remembered of the roots.
type rootsRecord struct {
	Format int                   `json:"format"`
	Roots  map[string]rootRecord `json:"roots"`
}

type rootRecord struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

const rootsFormat = 1

// Recall takes what the roots were from what Record returned in another run.
func (all Roots) Recall(b []byte) error {
	var rec rootsRecord
	if err := json.Unmarshal(b, &rec); err != nil {
		return err
	}
	if rec.Format != rootsFormat {
		return fmt.Errorf("format %d; this version reads %d", rec.Format, rootsFormat)
	}
	for _, r := range all {
		if was, ok := rec.Roots[r.Path]; ok {
			r.id = fsid.ID(was)
		}
	}
	return nil
}

// Record returns what Recall is to know in another run.
func (all Roots) Record() ([]byte, error) {
	rec := rootsRecord{Format: rootsFormat, Roots: map[string]rootRecord{}}
	for _, r := range all {
		if !r.id.IsZero() {
			rec.Roots[r.Path] = rootRecord(r.id)
		}
	}
	b, err := json.MarshalIndent(rec, "", "  ")
	return append(b, '\n'), err
}

// See takes what stands at the root's path now. It reports whether the root is what it
// was (same), or may be taken for it (may): no other one was known, or it is the same
// file system in the life of one process. Otherwise its databases decide.
func (r *Root) See(now fsid.ID) (same, may bool) {
	if now == r.id {
		r.away, r.known = false, true
		return true, true
	}
	return false, r.id.IsZero() || r.known && now.Dev == r.id.Dev
}

// Accept makes a directory the root.
func (r *Root) Accept(now fsid.ID) { r.id, r.known, r.away = now, true, false }

// Reject notes that another directory stands in the root's place. It reports whether
// that is news.
func (r *Root) Reject(at time.Time) (news bool) {
	if r.away {
		return false
	}
	r.away, r.since = true, at
	return true
}

// Inhabitants returns how many databases were known in a root before this scan, and the
// paths of those that it has listed: if at least half of them are there the volume is
// the old one under another number, or a copy. One file alone may be a leftover below a
// mount point.
func (r *Registry[V]) Inhabitants(all Roots, root *Root, scan uint32) (here []string, known int) {
	for v := range r.byID.All() {
		e := r.entryOf(v)
		if e.File.IsZero() || all.Of(e.Path) != root || e.recall == recallNone && !root.known {
			continue // it was never seen before
		}
		known++
		if e.seen == scan {
			here = append(here, e.Path)
		}
	}
	return here, known
}
