package multidb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb/internal/survey"
)

func TestOnlyAnErrorThatNamesPathsSaysWhatWasNotListed(t *testing.T) {
	part := &UnlistedError{Paths: []string{"/a"}, Err: syscall.EIO}
	for _, tt := range []struct {
		name string
		err  error
		ok   bool
	}{
		{"itself", part, true},
		{"wrapped twice", fmt.Errorf("x: %w", fmt.Errorf("y: %w", part)), true},
		{"an error of a database", &Error{Op: "discover", ID: "a", Err: part}, true},
		{"joined with another, which may be of anything", errors.Join(part, syscall.EIO), false},
		{"two of them in one text", fmt.Errorf("%w, %w", part, syscall.EIO), false},
		{"no path", &UnlistedError{Err: syscall.EIO}, false},
		{"a relative path", &UnlistedError{Paths: []string{"/a", "b"}, Err: syscall.EIO}, false},
		{"a path that is not clean", &UnlistedError{Paths: []string{"/a/"}, Err: syscall.EIO}, false},
		{"another error", syscall.EIO, false},
	} {
		if paths, ok := unlisted(tt.err); ok != tt.ok || ok && !slices.Equal(paths, part.Paths) {
			t.Errorf("%s: %v, %v", tt.name, paths, ok)
		}
	}
	if !errors.Is(part, syscall.EIO) {
		t.Error("it does not wrap its reason")
	}
}

// located is a Discoverer that locates some IDs.
type located map[ID]string

func (d located) Discover(context.Context) iter.Seq2[Database, error] {
	return func(func(Database, error) bool) {}
}

func (d located) Locate(id ID) (Database, bool) {
	path, ok := d[id]
	return Database{ID: id, Path: path}, ok
}

func TestADatabaseIsKeptByEachOfItsNames(t *testing.T) {
	glob := Glob("/data/*/*.db", "/link/*/x/*.db")
	for _, tt := range []struct {
		d    Discoverer
		id   ID
		path string
		part string
		want bool
	}{
		{glob, "p/a", "/data/p/a.db", "/data/p/a.db", true},
		{glob, "p/a", "/data/p/a.db", "/data/p", true},
		{glob, "p/a", "/data/p/a.db", "/data", true},
		{glob, "p/a", "/data/p/a.db", "/", true},
		{glob, "p/a", "/data/p/a.db", "/data/p/a", false},
		{glob, "p/a", "/data/p/a.db", "/data/q", false},
		{glob, "p/a", "/volume/a.db", "/data/p/a.db", true},    // a symlink
		{glob, "p/a", "/volume/a.db", "/link/p", true},         // by the second pattern
		{glob, "p/a", "/volume/a.db", "/volume", true},         // where it leads
		{glob, "p/a", "/volume/a.db", "/other", false},         // somewhere else
		{located{"a": "/data/a"}, "a", "/v/a", "/data", true},  // a Discoverer of somebody else
		{located{"a": "/data/a"}, "a", "/v/a", "/else", false}, //
		{located{}, "a", "/v/a", "/else", true},                // that does not know it any more
	} {
		x := survey.NewExtent(surveyedOf(tt.d))
		x.Note(&UnlistedError{Paths: []string{tt.part}})
		if got := x.May(string(tt.id), tt.path); got != tt.want {
			t.Errorf("%s at %s, without %s: %v, want %v", tt.id, tt.path, tt.part, got, tt.want)
		}
		x.Note(syscall.EIO)
		if !x.May(string(tt.id), tt.path) {
			t.Errorf("%s: not kept when anything may be missing", tt.id)
		}
	}
}

func TestADatabaseWhoseNamesNobodyKnowsIsKeptWhileItsFileIsThere(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, "a.db")
	x := survey.NewExtent(surveyedOf(struct{ Discoverer }{})) // it cannot locate
	x.Note(&UnlistedError{Paths: []string{"/else"}})
	for name, want := range map[string]bool{"a.db": true, "b.db": false} {
		if got := x.May("a", filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
