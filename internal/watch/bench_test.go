package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// BenchmarkEvent is one notification of a busy database, through the Handler.
func BenchmarkEvent(b *testing.B) {
	s := newFake(1)
	r, stop := run(b, s)
	defer stop()
	r.more = make(chan struct{}, 1)
	names := make([]string, 2000)
	for i := range names {
		names[i] = fmt.Sprintf("/data/p%d/x.db-wal", i)
	}
	b.ReportAllocs()
	for i := range b.N {
		s.events <- fsnotify.Event{Name: names[i%len(names)], Op: fsnotify.Write}
		<-r.more
	}
}

// BenchmarkDirectory is what watching one directory takes: heap here, and about
// 1 KB in the kernel. Run it with -benchtime 1x.
func BenchmarkDirectory(b *testing.B) {
	root := b.TempDir()
	dirs := make([]string, 20_000)
	for i := range dirs {
		dirs[i] = filepath.Join(root, fmt.Sprintf("project%06d", i))
		if err := os.Mkdir(dirs[i], 0o755); err != nil {
			b.Fatal(err)
		}
	}
	bench := func(b *testing.B, sources ...Source) {
		r, stop := run(b, sources...)
		defer stop()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.ResetTimer()
		for _, dir := range dirs {
			r.w.Add(dir, false)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/float64(len(dirs)), "heap-B/dir")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(dirs)), "ns/dir")
	}
	b.Run("watched", func(b *testing.B) {
		s, err := Open()
		if err != nil {
			b.Skip(err)
		}
		bench(b, s)
	})
	b.Run("looked at", func(b *testing.B) { bench(b) })
}
