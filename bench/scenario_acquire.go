package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

func acquireScenario(short bool) scenario {
	return scenario{
		name: "acquire", title: "Acquire and Release, of an open tenant and of a cold one",
		sizes:   pick(short, []int{1000, 10000}, []int{1000, 10000, 100000}),
		runs:    2,
		multidb: acquire,
		place:   inWorld,
		rows: []row{
			{key: "open", what: "Acquire + Release of an open tenant", unit: inSeconds, bar: bar{kind: atMost, limit: 500e-9, text: "500 ns"}},
			{key: "allocs", what: "Acquire + Release of an open tenant: allocations", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}},
			{key: "cold", what: "Acquire of a cold tenant, p50", unit: inSeconds, bar: bar{kind: atMost, limit: 2e-3, text: "2 ms"}},
		},
	}
}

func acquire(ctx context.Context, sp *spec) (_ figures, err error) {
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.settled(ctx, 5*time.Minute); err != nil {
		return nil, err
	}
	// Cold ones first: fewer than the pool holds, so that none is closed for
	// another.
	times := make([]float64, 0, 200)
	order := rand.New(rand.NewPCG(3, uint64(sp.Run))).Perm(sp.N)
	for _, i := range order[:min(cap(times), sp.N)] {
		began := time.Now()
		h, err := m.Acquire(ctx, fleetID(i))
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began).Seconds())
		h.Release()
	}
	if err := m.settled(ctx, time.Minute); err != nil {
		return nil, err
	}
	id := fleetID(order[0])
	var failed error
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h, err := m.Acquire(ctx, id)
			if err != nil {
				failed = err
				return
			}
			h.Release()
		}
	})
	return figures{
		"open":   float64(r.T.Nanoseconds()) / float64(r.N) / 1e9,
		"allocs": float64(r.AllocsPerOp()),
		"cold":   quantile(times, 0.5),
	}, failed
}
