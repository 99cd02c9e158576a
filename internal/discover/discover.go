// Package discover finds database files: by patterns or by a fixed list, in whole
// listings and by watching between them. It reads directories and asks stat about
// files, and never opens a file: closing a descriptor of a database would drop
// the locks that SQLite has on it in this process.
//
// A Glob is safe for concurrent use. Each listing has state of its own. The watches
// that follow which directories a listing reads are guarded by a lock, which is
// never held while anything is read or reported.
package discover

import (
	"context"
	"iter"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/pattern"
	"github.com/multidb-go/multidb/internal/watch"
)

// File is a database file of a listing.
type File struct {
	ID      string    // by its pattern
	Path    string    // of the real file
	Rel     string    // the path that matched, below the root of its pattern
	Index   int       // of its pattern, or of its Entry
	ModTime time.Time // of the file or of its WAL, the later one

	// What the listing saw of the file, which saves another look.
	File fsid.ID
	Size int64
	Main time.Time // its own ModTime, without that of its WAL
}

// Glob lists and watches the files that match patterns. The zero value has none.
type Glob struct {
	patterns []*pattern.Pattern
	excluded string
	watches  *globWatches // changes; has its own lock
	open     func(path string) (directory, error)

	// Notifications opens the source of the system's notifications. Tests set another
	// one before the first use.
	Notifications func() (watch.Source, error)
}

// NewGlob returns a Glob of patterns.
func NewGlob(patterns []*pattern.Pattern) Glob {
	return Glob{patterns: patterns, watches: &globWatches{}, open: openDirectory, Notifications: watch.Open}
}

// Excluding returns a Glob of the same patterns that never enters a directory.
func (g *Glob) Excluding(dir string) Glob {
	c := *g
	c.excluded, c.watches = dir, &globWatches{}
	return c
}

// List lists the files that exist now. An error is an *UnlistedError for a part that
// was not listed; after any other, the listing as a whole is uncertain.
func (g *Glob) List(ctx context.Context) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) { newWalk(ctx, g, yield).run() }
}

// Paths returns the path that an ID has under each of the patterns.
func (g *Glob) Paths(id string) []string {
	var paths []string
	for _, p := range g.patterns {
		if path, _, ok := p.Locate(id); ok {
			paths = append(paths, path)
		}
	}
	return paths
}
