package volume

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// root is a directory below which a discoverer looks. Which directory it is, is remembered
// from one process to the next: at a start, nothing else can distinguish a volume that was
// emptied from one that is not mounted.
type root struct {
	path string

	id    fsid.ID   // of the directory in which databases were last found; zero: unknown
	known bool      // id was seen in this process, and not only remembered
	away  bool      // another directory is at the path
	since time.Time // when it was first seen that another directory is there
}

// stands reports whether a directory that was seen at the path may be the root.
func (r *root) stands(id fsid.ID) bool {
	if r.known {
		return id.Dev == r.id.Dev
	}
	return r.id.IsZero() || id == r.id
}

// roots has all roots. The list does not change once it is made; the caller locks what is
// in it.
type roots []*root

// of returns the innermost root that a path is below; nil if there is none.
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

// recall sets which directories the roots were from what record returned in another process.
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

// record encodes which directories the roots are, for recall in another process.
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

// see is called with the directory that is at the root's path now. same reports whether it is
// the root. Otherwise may reports whether it may become the root: no other directory was
// known, or it is on the same file system as one seen in this process. If both are false,
// the databases in it decide.
func (r *root) see(now fsid.ID) (same, may bool) {
	if now == r.id {
		r.away, r.known = false, true
		return true, true
	}
	return false, r.id.IsZero() || r.known && now.Dev == r.id.Dev
}

// accept makes a directory the root.
func (r *root) accept(now fsid.ID) { r.id, r.known, r.away = now, true, false }

// reject records that another directory is at the root's path. It reports whether that was
// not known before.
func (r *root) reject(at time.Time) (news bool) {
	if r.away {
		return false
	}
	r.away, r.since = true, at
	return true
}
