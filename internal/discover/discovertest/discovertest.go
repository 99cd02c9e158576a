// Package discovertest has what the tests of listings share: those of internal/discover
// and those of its face, multidb.Discoverer. It imports testing, so only tests may import
// it. It writes below the directories that it is given, and has no state and no locks.
package discovertest

import (
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Must ends the test if err is not nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// MakeFiles creates empty files below root; a name that ends in / is a directory.
func MakeFiles(t testing.TB, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			Must(t, os.MkdirAll(path, 0o755))
			continue
		}
		Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		Must(t, os.WriteFile(path, nil, 0o600))
	}
}

// Collect collects a listing, sorted by ID.
func Collect[T any](seq iter.Seq2[T, error], id func(T) string) (listed []T, errs []error) {
	for v, err := range seq {
		if err != nil {
			errs = append(errs, err)
		} else {
			listed = append(listed, v)
		}
	}
	slices.SortFunc(listed, func(a, b T) int { return strings.Compare(id(a), id(b)) })
	return listed, errs
}

// Want collects a listing and wants these IDs, sorted, and no error.
func Want[T any](t testing.TB, seq iter.Seq2[T, error], id func(T) string, want ...string) []T {
	t.Helper()
	listed, errs := Collect(seq, id)
	if len(errs) > 0 {
		t.Errorf("errors: %v", errs)
	}
	WantIDs(t, listed, id, want...)
	return listed
}

// WantIDs wants these IDs, in this order.
func WantIDs[T any](t testing.TB, listed []T, id func(T) string, want ...string) {
	t.Helper()
	got := []string{}
	for _, v := range listed {
		got = append(got, id(v))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
