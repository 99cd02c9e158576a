package discover

import (
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/internal/pattern"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func globOf(t testing.TB, sources ...string) *Glob {
	t.Helper()
	var patterns []*pattern.Pattern
	for _, s := range sources {
		p, err := pattern.Parse(s)
		must(t, err)
		patterns = append(patterns, p)
	}
	g := NewGlob(patterns)
	return &g
}

// makeFiles creates empty files below root; a name that ends in / is a directory.
func makeFiles(t testing.TB, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, nil, 0o600))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listing collects a listing.
func listing(seq iter.Seq2[File, error]) (files []File, errs []error) {
	for f, err := range seq {
		if err != nil {
			errs = append(errs, err)
		} else {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.ID, b.ID) })
	return files, errs
}

// wantListing lists and wants these IDs, sorted, and no error.
func wantListing(t *testing.T, g *Glob, want ...string) []File {
	t.Helper()
	files, errs := listing(g.List(t.Context()))
	if len(errs) > 0 {
		t.Errorf("errors: %v", errs)
	}
	wantIDs(t, files, want...)
	return files
}

func wantIDs(t *testing.T, files []File, want ...string) {
	t.Helper()
	got := []string{}
	for _, f := range files {
		got = append(got, f.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
