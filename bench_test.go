package multidb_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// BenchmarkStatePerDatabase reports the heap that one more database costs: hot
// ones that have been shipped, cold ones that are only known.
func BenchmarkStatePerDatabase(b *testing.B) {
	for _, tier := range []string{"hot", "cold"} {
		b.Run(tier, func(b *testing.B) {
			const n = 2000
			for b.Loop() {
				root := newTree(b, 1, n)
				opts := []multidb.Option{
					multidb.WithDiscoverer(multidb.Glob(pattern(root))),
					multidb.WithScanInterval(time.Hour), multidb.WithMaxHot(n),
				}
				if tier == "cold" {
					opts = append(opts, multidb.WithPromotion(0, 0))
				}
				rep, err := multidb.NewFileReplica(b.TempDir(), "{{project}}/{{database}}")
				if err != nil {
					b.Fatal(err)
				}
				before := heap()
				m, err := multidb.New(append(opts, multidb.WithReplica(rep))...)
				if err != nil {
					b.Fatal(err)
				}
				if err := m.Start(b.Context()); err != nil {
					b.Fatal(err)
				}
				for i := range n {
					if _, err := m.Sync(b.Context(), multidb.ID(fmt.Sprintf("project0/db%d", i))); err != nil {
						b.Fatal(err)
					}
				}
				if s := m.Stats(); tier == "hot" && s.Hot != n || tier == "cold" && s.Cold != n {
					b.Fatalf("%+v", s)
				}
				b.ReportMetric(float64(heap()-before)/n, "heap-B/db")
				if err := m.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// BenchmarkAcquireRelease leases a database that is open.
func BenchmarkAcquireRelease(b *testing.B) {
	root := newTree(b, 1, 1)
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))))
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer m.Close(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		h, err := m.Acquire(b.Context(), "project0/db0")
		if err != nil {
			b.Fatal(err)
		}
		h.Release()
	}
}
