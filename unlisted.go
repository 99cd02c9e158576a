package multidb

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/fsid"
)

// UnlistedError is an optional error of a Discoverer: one that says which parts
// it could not list, so that the rest of the listing counts as complete. After it
// the Manager keeps every database whose Path, or the path that the Discoverer's
// Locate gives its ID, is one of Paths or below one, and lets go of what else is
// missing. It also keeps one that a DiscovererLocator does not locate, and without
// a DiscovererLocator one whose file is still there.
//
// It counts only if it is the error itself or wrapped by errors that wrap one
// other, as with fmt.Errorf and one %w; not in an errors.Join. One without Paths,
// or with a path that is not absolute, is an error like any other: nothing is let
// go of.
type UnlistedError struct {
	Paths []string // absolute and clean, of files or directories: all names of what may hold databases
	Err   error    // why
}

func (e *UnlistedError) Error() string {
	if e.Err == nil {
		return "cannot list " + strings.Join(e.Paths, ", ")
	}
	return e.Err.Error()
}

// Unwrap returns the reason.
func (e *UnlistedError) Unwrap() error { return e.Err }

// unlisted is what an error of a listing says of its extent; ok is false if it
// may be anything.
func unlisted(err error) (paths []string, ok bool) {
	for err != nil {
		if u, is := err.(*UnlistedError); is {
			relative := func(p string) bool { return !filepath.IsAbs(p) || filepath.Clean(p) != p }
			return u.Paths, len(u.Paths) > 0 && !slices.ContainsFunc(u.Paths, relative)
		}
		next, wraps := err.(interface{ Unwrap() error })
		if !wraps {
			return nil, false
		}
		err = next.Unwrap()
	}
	return nil, false
}

// pathLister is an optional power of a Discoverer: all paths that a database with
// an ID may be listed by. DiscovererLocator knows one of them.
type pathLister interface {
	pathsOf(id ID) []string
}

// extent is what the listing of a Discoverer did not cover.
type extent struct {
	d     Discoverer
	all   bool // nothing is certain
	paths map[string]struct{}
}

// add takes in an error of the listing.
func (x *extent) add(err error) {
	paths, ok := unlisted(err)
	x.all = x.all || !ok
	if x.paths == nil {
		x.paths = make(map[string]struct{})
	}
	for _, p := range paths {
		x.paths[p] = struct{}{}
	}
}

// may reports whether the database may be in what was not covered. It asks the
// Discoverer, so the lock must not be held.
func (x *extent) may(id ID, path string) bool {
	switch {
	case x.all:
		return true
	case len(x.paths) == 0:
		return false
	case x.below(path):
		return true
	}
	switch d := x.d.(type) {
	case pathLister:
		return slices.ContainsFunc(d.pathsOf(id), x.below)
	case DiscovererLocator:
		db, ok := d.Locate(id)
		return !ok || x.below(db.Path)
	}
	// It may be listed by a symlink, in a directory that cannot be read.
	return !fsid.OrZero(path).IsZero()
}

// partial reports whether what was not covered is less than everything: the root of
// the Discoverer was read.
func (x *extent) partial() bool {
	if r, ok := x.d.(DiscovererRoot); ok && r.Root() != "" && x.below(r.Root()) {
		return false
	}
	return !x.all
}

// below reports whether path is one that was not covered, or below one.
func (x *extent) below(path string) bool {
	for {
		if _, ok := x.paths[path]; ok {
			return true
		}
		up := filepath.Dir(path)
		if up == path {
			return false
		}
		path = up
	}
}

// pathsOf returns where each of the patterns has the ID.
func (g *GlobDiscoverer) pathsOf(id ID) []string {
	var paths []string
	for _, p := range g.patterns {
		if path, _, ok := p.Locate(string(id)); ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// pathsOf returns the path as the caller wrote it.
func (s *static) pathsOf(id ID) []string {
	if db, ok := s.Locate(id); ok {
		return []string{db.Path}
	}
	return nil
}

// unlistedAt is err as that of what is at the paths, and where they lead.
func unlistedAt(err error, paths ...string) error {
	var all []string
	for _, p := range paths {
		all = append(append(all, p), destinations(p)...)
	}
	for i, p := range all {
		all[i] = filepath.Clean(p)
	}
	slices.Sort(all)
	return &UnlistedError{Paths: slices.Compact(all), Err: err}
}

// destinations returns the other names of what a path stands for: where the
// symlinks in it lead, as far as they do.
func destinations(path string) (names []string) {
	for range 40 { // as many as Linux follows
		real := path
		for dir, rest := filepath.Dir(path), filepath.Base(path); dir != "/"; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
			if to, err := filepath.EvalSymlinks(dir); err == nil {
				real = filepath.Join(to, rest)
				break
			}
		}
		names = append(names, real)
		to, err := os.Readlink(real)
		if err != nil {
			return names
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(real), to)
		}
		names, path = append(names, to), to
	}
	return names
}
