package discover

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// UnlistedError reports that part of a listing failed; the rest is complete.
type UnlistedError struct {
	Paths []string // absolute and clean: every name of the files or directories that were not listed
	Err   error    // why
}

func (e *UnlistedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *UnlistedError) Unwrap() error { return e.Err }

// SameIDError is the reason why a file was not listed: another file has its ID.
type SameIDError struct {
	ID    string
	Paths [2]string // of the file that was listed, and of the other
}

func (e *SameIDError) Error() string {
	return fmt.Sprintf("%q and %q both have the ID %q; capture more of the path in one of the patterns", e.Paths[0], e.Paths[1], e.ID)
}

// Extent is what a listing did not cover. The zero value means that it covered
// everything. Not safe for concurrent use with Add.
type Extent struct {
	All   bool // nothing is certain
	paths map[string]struct{}
}

// Add adds an error of the listing. known says that the error concerns only what is
// at the paths or below one.
func (x *Extent) Add(paths []string, known bool) {
	x.All = x.All || !known
	if x.paths == nil {
		x.paths = make(map[string]struct{})
	}
	for _, p := range paths {
		x.paths[p] = struct{}{}
	}
}

// Complete reports whether the listing covered everything.
func (x *Extent) Complete() bool { return !x.All && len(x.paths) == 0 }

// Below reports whether path was not covered, or is below a path that was not.
func (x *Extent) Below(path string) bool {
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

// unlistedAt returns err as an *UnlistedError for the paths and the places where
// they lead.
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

// destinations returns the other names of a path: where the symlinks in it lead, as
// far as they can be followed.
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
