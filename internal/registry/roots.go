package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// Root is a directory below which a discoverer looks. Which directory it is, is remembered
// from one process to the next: at a start, nothing else can distinguish a volume that was
// emptied from one that is not mounted.
type Root struct {
	Path string

	id    fsid.ID   // of the directory in which databases were last found; zero: unknown
	known bool      // id was seen in this process, and not only remembered
	away  bool      // another directory is at the path
	since time.Time // when it was first seen that another directory is there
}

// Away reports whether another directory is at the root's path, and since when.
func (r *Root) Away() (since time.Time, away bool) { return r.since, r.away }

// Stands reports whether a directory that was seen at the path may be the root.
func (r *Root) Stands(id fsid.ID) bool {
	if r.known {
		return id.Dev == r.id.Dev
	}
	return r.id.IsZero() || id == r.id
}

// Roots has all roots. The list does not change once it is made; the caller locks what is
// in it.
type Roots []*Root

// Of returns the innermost root that a path is below; nil if there is none.
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

// rootsRecord is what is remembered of the roots between processes.
type rootsRecord struct {
	Format int                   `json:"format"`
	Roots  map[string]rootRecord `json:"roots"`
}

type rootRecord struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

const rootsFormat = 1

// Recall sets which directories the roots were from what Record returned in another process.
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

// Record encodes which directories the roots are, for Recall in another process.
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

// See is called with the directory that is at the root's path now. same reports whether it is
// the root. Otherwise may reports whether it may become the root: no other directory was
// known, or it is on the same file system as one seen in this process. If both are false,
// the databases in it decide; see Inhabitants.
func (r *Root) See(now fsid.ID) (same, may bool) {
	if now == r.id {
		r.away, r.known = false, true
		return true, true
	}
	return false, r.id.IsZero() || r.known && now.Dev == r.id.Dev
}

// Accept makes a directory the root.
func (r *Root) Accept(now fsid.ID) { r.id, r.known, r.away = now, true, false }

// Reject records that another directory is at the root's path. It reports whether that was
// not known before.
func (r *Root) Reject(at time.Time) (news bool) {
	if r.away {
		return false
	}
	r.away, r.since = true, at
	return true
}

// Inhabitants returns how many databases were known in a root before this scan, and the
// paths of those that the scan has listed. If at least half of them are there, the volume
// is the old one with another device number, or a copy of it. A single file may have been
// left below the mount point of a volume that is not mounted.
func (r *Registry[V]) Inhabitants(all Roots, root *Root, scan uint32) (here []string, known int) {
	for v := range r.byID.All() {
		e := r.entryOf(v)
		if e.File.IsZero() || all.Of(e.Path) != root || e.recall == recallNone && !root.known {
			continue // it was never seen before this scan
		}
		known++
		if e.seen == scan {
			here = append(here, e.Path)
		}
	}
	return here, known
}
