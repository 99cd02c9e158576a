package discover

import (
	"iter"
	"testing"

	"github.com/multidb-go/multidb/internal/discover/discovertest"
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

var makeFiles, must = discovertest.MakeFiles, discovertest.Must

func listedID(x File) string { return x.ID }

func listing(seq iter.Seq2[File, error]) ([]File, []error) {
	return discovertest.Collect(seq, listedID)
}

// wantListing lists and wants these IDs, sorted, and no error.
func wantListing(t *testing.T, d *Glob, want ...string) []File {
	t.Helper()
	return discovertest.Want(t, d.List(t.Context()), listedID, want...)
}

func wantIDs(t *testing.T, listed []File, want ...string) {
	t.Helper()
	discovertest.WantIDs(t, listed, listedID, want...)
}
