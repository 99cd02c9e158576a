package volume

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// root is a directory below which a discoverer looks. What it was is remembered
// between the runs of a program: at a start nothing else tells a volume that was
// emptied from one that is not mounted.
type root struct {
	path string

	id    fsid.ID   // what it was when databases were last found in it; zero: unknown
	known bool      // id was seen in this process, not only remembered
	away  bool      // another directory stands at its path
	since time.Time // when it was first seen away
}

// stands reports whether a directory that was seen at the path may be the root.
func (r *root) stands(id fsid.ID) bool {
	if r.known {
		return id.Dev == r.id.Dev
	}
	return r.id.IsZero() || id == r.id
}

// roots are all of them. The list does not change once it is made; what is in it is
// locked by the caller.
type roots []*root

// of returns the innermost root of a path; nil if there is none.
func (all roots) of(path string) (best *root) {
	for _, r := range all {
		if within(path, r.path) && (best == nil || len(r.path) > len(best.path)) {
			best = r
		}
	}
	return best
}

// within reports whether a path is dir or lies below it.
func within(path, dir string) bool {
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

// recall takes what the roots were from what record returned in another run.
func (all roots) recall(b []byte) error {
	var rec rootsRecord
	if err := json.Unmarshal(b, &rec); err != nil {
		return err
	}
	if rec.Format != rootsFormat {
		return fmt.Errorf("format %d; this version reads %d", rec.Format, rootsFormat)
	}
	for _, r := range all {
		if was, ok := rec.Roots[r.path]; ok {
			r.id = fsid.ID(was)
		}
	}
	return nil
}

// record returns what recall is to know in another run.
func (all roots) record() ([]byte, error) {
	rec := rootsRecord{Format: rootsFormat, Roots: map[string]rootRecord{}}
	for _, r := range all {
		if !r.id.IsZero() {
			rec.Roots[r.path] = rootRecord(r.id)
		}
	}
	b, err := json.MarshalIndent(rec, "", "  ")
	return append(b, '\n'), err
}

// see takes what stands at the root's path now. It reports whether the root is what it
// was (same), or may be taken for it (may): no other one was known, or it is the same
// file system in the life of one process. Otherwise its databases decide.
func (r *root) see(now fsid.ID) (same, may bool) {
	if now == r.id {
		r.away, r.known = false, true
		return true, true
	}
	return false, r.id.IsZero() || r.known && now.Dev == r.id.Dev
}

// accept makes a directory the root.
func (r *root) accept(now fsid.ID) { r.id, r.known, r.away = now, true, false }

// reject notes that another directory stands in the root's place. It reports whether
// that is news.
func (r *root) reject(at time.Time) (news bool) {
	if r.away {
		return false
	}
	r.away, r.since = true, at
	return true
}
