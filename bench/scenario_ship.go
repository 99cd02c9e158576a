package main

import (
	"context"
	"errors"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
)

func shipScenario(short bool) scenario {
	return scenario{
		name: "ship", title: "ship one small commit to a replica in memory",
		sizes:   []int{500},
		multidb: ship, stock: stockShip,
		place: alone,
		rows: []row{
			{key: "cpu", what: "ship one small commit, everything in memory: CPU", unit: inSeconds, bar: bar{kind: atMost, limit: 150e-6, times: 5, text: "150 µs, 5 × less than stock"}, stock: "cpu"},
			{key: "rate", what: "ship small commits: throughput, all cores", unit: perSecond, bar: bar{kind: atLeast, limit: 5000, text: "5,000/s"}, stock: "rate", more: true},
		},
	}
}

// shipWorkers is how many callers wait for a Sync at once.
const shipWorkers = 64

// ship has another process make one commit in each database, and then measures
// Sync of each: nothing else happens meanwhile.
func ship(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.RAM, sp.N, 0); err != nil {
		return nil, err
	}
	m, err := startManager(ctx, sp.RAM, multidb.WithReplica(memReplica{}), multidb.WithWatch(false),
		multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour), multidb.WithScanInterval(time.Hour))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	return shipRounds(ctx, sp, func(ctx context.Context) error { return m.syncAll(ctx, sp.N, shipWorkers) })
}

func stockShip(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.RAM, sp.N, 0); err != nil {
		return nil, err
	}
	fleet := newStock(sp.RAM, sp.N, true, func(int) litestream.ReplicaClient { return newMemClient() })
	if err := fleet.open(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	f, err := shipRounds(ctx, sp, func(ctx context.Context) error { return fleet.sync(ctx, shipWorkers) })
	return f, errors.Join(err, fleet.close(ctx))
}

// shipRounds measures syncing one commit of every database, several times.
func shipRounds(ctx context.Context, sp *spec, sync func(context.Context) error) (_ figures, err error) {
	const warm, rounds = 2, 10
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	if err := sync(ctx); err != nil {
		return nil, err
	}
	var cpu, took float64
	for r := range warm + rounds {
		if _, err := writer.do(job{Do: doCommit, Dir: sp.RAM, DBs: upTo(sp.N), Seq: r + 1, Keep: true}); err != nil {
			return nil, err
		}
		c, began := cpuTime(), time.Now()
		if err := sync(ctx); err != nil {
			return nil, err
		}
		if r >= warm {
			cpu += cpuTime() - c
			took += time.Since(began).Seconds()
		}
	}
	commits := float64(rounds * sp.N)
	return figures{"cpu": cpu / commits, "rate": commits / took}, nil
}
