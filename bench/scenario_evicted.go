package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
)

func evictedScenario(short bool) scenario {
	return scenario{
		name: "evicted-acquire", title: "Acquire of tenants of 100 KB whose files are not on this disk",
		sizes:   []int{pick(short, 100, 500)},
		multidb: evictedAcquire,
		place:   withS3,
		rows: []row{
			{key: "p50", what: "Acquire of a tenant of 100 KB that only the replica has, p50", unit: inSeconds, bar: bar{kind: atMost, limit: 15e-3, text: "15 ms"}},
			{key: "p99", what: "Acquire of a tenant of 100 KB that only the replica has, p99", unit: inSeconds},
			{key: "requests", what: "Acquire of a tenant that only the replica has: requests", unit: count, bar: bar{kind: atMost, limit: 3, text: "3: LIST, the file, metadata.json"}},
		},
	}
}

const evictedSize = 100 << 10

func evictedAcquire(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, evictedSize); err != nil {
		return nil, err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(m.syncAll(ctx, sp.N, 16), m.stop(ctx)); err != nil {
		return nil, err
	}
	for _, dir := range []string{fleetRoot(sp.Dir), filepath.Join(sp.Dir, "state")} {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(fleetRoot(sp.Dir), 0o755); err != nil {
		return nil, err
	}
	if m, err = startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), multidb.WithRestoreOnOpen()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	// The first one connects, and makes what all share.
	if err := m.Do(ctx, fleetID(0), func(*sql.DB) error { return nil }); err != nil {
		return nil, err
	}
	before, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	profiled, err := sp.profileLoad()
	if err != nil {
		return nil, err
	}
	times := make([]float64, 0, sp.N)
	for i := 1; i < sp.N; i++ {
		began := time.Now()
		h, err := m.Acquire(ctx, fleetID(i))
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began).Seconds())
		h.Release()
	}
	if err := profiled(); err != nil {
		return nil, err
	}
	after, err := sp.control().stats(ctx)
	d := after.minus(before)
	return figures{
		"p50": quantile(times, 0.5), "p99": quantile(times, 0.99),
		"requests": float64(d.total()) / float64(len(times)),
	}, err
}
