package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/multidb-go/multidb"
)

func evictedScenario(short bool) scenario {
	return scenario{
		name: "evicted-acquire", title: "Acquire of evicted tenants of 100 KB",
		sizes:   []int{pick(short, 100, 500)},
		multidb: evictedAcquire,
		place:   withS3,
		rows: []row{
			{key: "p50", what: "Acquire of an evicted tenant of 100 KB, p50", unit: inSeconds, bar: bar{kind: atMost, limit: 15e-3, text: "15 ms"}},
			{key: "p99", what: "Acquire of an evicted tenant of 100 KB, p99", unit: inSeconds},
			{key: "requests", what: "Acquire of an evicted tenant: requests", unit: count, bar: bar{kind: atMost, limit: 3, text: "3"}},
			{key: "p50-unchecked", what: "Acquire of an evicted tenant of 100 KB without the integrity check, p50", unit: inSeconds},
		},
	}
}

const evictedSize = 100 << 10

func evictedAcquire(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, evictedSize); err != nil {
		return nil, err
	}
	times, requests, err := evictedTimes(ctx, sp, multidb.IntegrityFull)
	if err != nil {
		return nil, err
	}
	unchecked, _, err := evictedTimes(ctx, sp, multidb.IntegrityNone)
	return figures{
		"p50": quantile(times, 0.5), "p99": quantile(times, 0.99),
		"requests":      requests,
		"p50-unchecked": quantile(unchecked, 0.5),
	}, err
}

// evictedTimes evicts all tenants, and says how long Acquire takes for each, one after the
// other, and how many requests.
func evictedTimes(ctx context.Context, sp *spec, check multidb.IntegrityCheck) (times []float64, requests float64, err error) {
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), multidb.WithMaxDisk(1<<40), multidb.WithIntegrityCheck(check))
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.syncAll(ctx, sp.N, 16); err != nil {
		return nil, 0, err
	}
	if err := parallel(ctx, sp.N, 16, func(ctx context.Context, i int) error {
		err := m.Evict(ctx, fleetID(i))
		if _, still := os.Stat(fleetPath(sp.Dir, i)); err == nil && !errors.Is(still, os.ErrNotExist) {
			err = fmt.Errorf("%s is evicted, and its file is there: %v", fleetID(i), still)
		}
		return err
	}); err != nil {
		return nil, 0, err
	}
	// The first one makes what all share.
	if err := m.Do(ctx, fleetID(0), func(*sql.DB) error { return nil }); err != nil {
		return nil, 0, err
	}
	before, err := sp.control().stats(ctx)
	if err != nil {
		return nil, 0, err
	}
	profiled, err := sp.profileLoad()
	if err != nil {
		return nil, 0, err
	}
	for i := 1; i < sp.N; i++ {
		began := time.Now()
		h, err := m.Acquire(ctx, fleetID(i))
		if err != nil {
			return nil, 0, err
		}
		times = append(times, time.Since(began).Seconds())
		h.Release()
	}
	if err := profiled(); err != nil {
		return nil, 0, err
	}
	after, err := sp.control().stats(ctx)
	return times, float64(after.minus(before).total()) / float64(len(times)), err
}
