package schedule

import (
	"fmt"
	"testing"
	"time"
	"unsafe"
)

func BenchmarkNextDone(b *testing.B) {
	const n = 100_000
	f := New[*int](Limits{MaxHot: 1000, HotDuration: 24 * time.Hour}, nil, nil)
	now := time.Now()
	for range n {
		f.Seen(f.Add(nil), now, now)
		now = now.Add(time.Microsecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		it, _, ok := f.Next(now)
		for !ok {
			now, _ = f.Wake()
			it, _, ok = f.Next(now)
		}
		f.Done(it, now, Outcome{Moved: true})
	}
	b.ReportMetric(float64(unsafe.Sizeof(Item[*int]{})), "bytes/item")
}

func BenchmarkEvents(b *testing.B) {
	const n = 100_000
	for _, ev := range []string{"Wrote", "Seen", "Request"} {
		b.Run(fmt.Sprintf("%s/%d", ev, n), func(b *testing.B) {
			f := New[*int](Limits{MaxHot: 1000, HotDuration: 24 * time.Hour, RecentModify: time.Minute}, nil, nil)
			now := time.Now()
			items := make([]*Item[*int], n)
			for i := range items {
				items[i] = f.Add(nil)
				f.Seen(items[i], now, now)
				f.Request(items[i], now)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				now = now.Add(time.Microsecond)
				it := items[i*7919%n]
				switch i++; ev {
				case "Wrote":
					f.Seen(it, now, now)
				case "Seen":
					f.Seen(it, now, now)
				case "Request":
					f.Request(it, now)
				}
			}
		})
	}
}
