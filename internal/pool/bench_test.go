package pool

import (
	"context"
	"strconv"
	"testing"
	"time"
)

func hotPool(tb testing.TB, keys int) (*Pool[string, int], []string) {
	p := New(Config[string, int]{
		Max:         keys,
		IdleTimeout: time.Hour,
		Open:        func(context.Context, string) (int, error) { return 0, nil },
		Close:       func(string, int) error { return nil },
	})
	tb.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	names := make([]string, keys)
	for i := range names {
		names[i] = "project0/db" + strconv.Itoa(i)
		l, err := p.Acquire(context.Background(), names[i])
		if err != nil {
			tb.Fatal(err)
		}
		l.Release()
	}
	return p, names
}

func TestLeasingAnOpenValueAllocatesNothing(t *testing.T) {
	p, names := hotPool(t, 100)
	ctx := t.Context()
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		l, err := p.Acquire(ctx, names[i%len(names)])
		if err != nil {
			t.Fatal(err)
		}
		i++
		_ = l.Value()
		l.Release()
	}); n != 0 {
		t.Errorf("%v allocations per lease, want 0", n)
	}
}

// BenchmarkLeaseOfAnOpenValue: well under 500 ns, 0 allocations.
func BenchmarkLeaseOfAnOpenValue(b *testing.B) {
	p, names := hotPool(b, 1000)
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		l, err := p.Acquire(ctx, names[i%len(names)])
		if err != nil {
			b.Fatal(err)
		}
		i++
		l.Release()
	}
}

func BenchmarkLeaseOfAnOpenValueParallel(b *testing.B) {
	p, names := hotPool(b, 1000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx := b.Context()
		for i := 0; pb.Next(); i++ {
			l, err := p.Acquire(ctx, names[i%len(names)])
			if err != nil {
				b.Fatal(err)
			}
			l.Release()
		}
	})
}

// BenchmarkLeaseInTurn opens and closes a value for every lease.
func BenchmarkLeaseInTurn(b *testing.B) {
	p := New(Config[int, int]{
		Max:   100,
		Open:  func(context.Context, int) (int, error) { return 0, nil },
		Close: func(int, int) error { return nil },
	})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l, err := p.Acquire(b.Context(), i%1000)
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
	if err := p.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
