package discover

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// UnlistedError is the error of a part of a listing: the rest of it is complete.
type UnlistedError struct {
	Paths []string // absolute and clean, of files or directories: all names of what may hold databases
	Err   error    // why
}

func (e *UnlistedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *UnlistedError) Unwrap() error { return e.Err }

// SameIDError is the reason why a file was not listed whose ID another one has.
type SameIDError struct {
	ID    string
	Paths [2]string // of the file that was listed, and of the other
}

func (e *SameIDError) Error() string {
	return fmt.Sprintf("%q and %q both have the ID %q; capture more of the path in one of the patterns", e.Paths[0], e.Paths[1], e.ID)
}

// Extent is what a listing did not cover. The zero value is nothing. Not safe for
// concurrent use while it is added to.
type Extent struct {
	All   bool // nothing is certain
	paths map[string]struct{}
}

// Add takes in an error of the listing: known says that it is about no more than
// what is at the paths or below one.
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

// Below reports whether path is one that was not covered, or below one.
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
