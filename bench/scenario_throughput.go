package main

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb"
)

func throughputScenario(short bool) scenario {
	return scenario{
		name: "throughput", title: "write throughput through the pool, replication on against off",
		sizes:   []int{50},
		runs:    2,
		multidb: throughput,
		place:   alone,
		rows: []row{
			{key: "off", what: "commits through the pool, 4 writers, replication off", unit: perSecond},
			{key: "on", what: "commits through the pool, replication on (in memory)", unit: perSecond, more: true},
			{key: "ratio", what: "write throughput, on against off", unit: plain, bar: bar{kind: atLeast, limit: 0.9, text: "0.9"}},
		},
	}
}

// throughput writes with and without a replica in turn, several times.
func throughput(ctx context.Context, sp *spec) (figures, error) {
	return throughputWith(ctx, sp)
}

func throughputWith(ctx context.Context, sp *spec, on ...multidb.Option) (figures, error) {
	const turns = 3
	var rateOn, rateOff float64
	for _, with := range []bool{false, true} {
		if err := newFleet(ctx, throughputDir(sp, with), sp.N, 0); err != nil {
			return nil, err
		}
	}
	for range turns {
		for _, with := range []bool{false, true} {
			rate, err := writeRate(ctx, sp, with, on)
			if err != nil {
				return nil, err
			}
			if with {
				rateOn += rate / turns
			} else {
				rateOff += rate / turns
			}
		}
	}
	return figures{"on": rateOn, "off": rateOff, "ratio": rateOn / rateOff}, nil
}

func throughputDir(sp *spec, with bool) string {
	if with {
		return filepath.Join(sp.Dir, "on")
	}
	return filepath.Join(sp.Dir, "off")
}

func writeRate(ctx context.Context, sp *spec, with bool, on []multidb.Option) (_ float64, err error) {
	const writers = 4
	var opts []multidb.Option
	if with {
		opts = append(on, multidb.WithReplica(memReplica{}))
	}
	m, err := startManager(ctx, throughputDir(sp, with), opts...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if with {
		err = m.syncAll(ctx, sp.N, shipWorkers)
	}
	write := func(ctx context.Context, i int) error {
		return m.Do(ctx, fleetID(i), func(db *sql.DB) error { return commit(ctx, db, 1) })
	}
	if err := errors.Join(err, parallel(ctx, sp.N, writers, write)); err != nil { // opens all
		return 0, err
	}
	load := pick(sp.Short, 2*time.Second, 3*time.Second)
	var commits atomic.Int64
	began := time.Now()
	err = parallel(ctx, writers, writers, func(ctx context.Context, w int) error {
		rnd := rand.New(rand.NewPCG(uint64(w), 3))
		for time.Since(began) < load {
			if err := write(ctx, rnd.IntN(sp.N)); err != nil {
				return err
			}
			commits.Add(1)
		}
		return nil
	})
	return float64(commits.Load()) / time.Since(began).Seconds(), err
}
