package multidbhttp

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

const large = 100_000

// newLarge serves a Manager that knows so many databases, without files of them.
func newLarge(tb testing.TB) *Server {
	tb.Helper()
	dbs := make([]multidb.Database, large)
	root := tb.TempDir()
	for i := range 997 {
		if err := os.Mkdir(fmt.Sprintf("%s/%d", root, i), 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range dbs {
		if err := os.WriteFile(fmt.Sprintf("%s/%d/%d.db", root, i%997, i), nil, 0o600); err != nil {
			tb.Fatal(err)
		}
		dbs[i] = multidb.Database{ID: multidb.ID(fmt.Sprintf("project%d/db%06d", i%997, i)), Path: fmt.Sprintf("%s/%d/%d.db", root, i%997, i),
			ModTime: time.Now().Add(-100 * time.Hour)}
	}
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Static(dbs...)), multidb.WithStateDir(tb.TempDir()), multidb.WithMissingRoots(true))
	if err != nil {
		tb.Fatal(err)
	}
	if err := m.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close(context.Background()) })
	s, err := Handler(m, Options{Authenticated: true})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// What a request takes with 100,000 databases: the index, which is made at most in a tenth of
// the time, and the answers from it.
func BenchmarkAmongAHundredThousand(b *testing.B) {
	s := newLarge(b)
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			s.index.at = time.Time{}
			if _, err := s.entries(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, path := range []string{"/", "/databases", "/databases?q=db09", "/api/v1/databases?limit=1000&after=project5"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.index.at = time.Now()
				if w := ask(b, s, "GET", path); w.Code != 200 {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}
