package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
)

func shipScenario(short bool) scenario {
	return scenario{
		name: "ship", title: "ship one small commit to a replica in memory, on demand",
		sizes:   []int{500},
		multidb: ship, stock: stockShip,
		place: alone,
		rows: []row{
			{key: "cpu", what: "ship one small commit with Sync, replica and databases in memory: CPU", unit: inSeconds, bar: bar{kind: atMost, limit: 150e-6, text: "150 µs"}, stock: "cpu"},
			{key: "rate", what: "ship small commits with Sync, replica and databases in memory: in all", unit: perSecond, bar: bar{kind: atLeast, limit: 5000, text: "5,000/s"}, stock: "rate", more: true},
		},
	}
}

func liveScenario(short bool) scenario {
	return scenario{
		name: "live", title: "ship one small commit to a replica in memory, in service",
		sizes:   []int{1000},
		runs:    2,
		multidb: live, stock: stockLive,
		place: alone,
		rows: []row{
			{key: "cpu", what: "N hot, one small commit a second each, in-memory replica: CPU for each commit", unit: inSeconds,
				bar: bar{kind: atMost, limit: 150e-6, times: 5, text: "150 µs, and 5 × less than stock"}, stock: "cpu"},
			{key: "pace", what: "N hot, one small commit a second each, in-memory replica: commits made", unit: perSecond, stock: "pace", more: true},
		},
	}
}

// shipWorkers is how many callers wait for a Sync at once.
const shipWorkers = 64

// syncers is how many callers wait for the first copies of so many databases: as many as
// share an object, where there is a fleet log.
func syncers(n int) int { return min(n, 1000) }

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
	if err := m.makeHot(ctx, sp.N); err != nil {
		return nil, err
	}
	return shipRounds(ctx, sp, func(ctx context.Context) error { return m.syncAll(ctx, sp.N, shipWorkers) })
}

// makeHot writes to every database through the pool.
func (m *managed) makeHot(ctx context.Context, n int) error {
	if err := m.writeAll(ctx, n, 0); err != nil {
		return err
	}
	if s := m.Stats(); s.Hot != n {
		return fmt.Errorf("%d databases are hot, not %d", s.Hot, n)
	}
	return nil
}

// writeAll makes one commit in every database, through the pool.
func (m *managed) writeAll(ctx context.Context, n, seq int) error {
	return parallel(ctx, n, poolWriters, func(ctx context.Context, i int) error {
		return m.Do(ctx, fleetID(i), func(db *sql.DB) error { return commit(ctx, db, seq) })
	})
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

// live measures all that a Manager does while another process writes.
func live(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	return liveIn(ctx, sp, sp.Dir, multidb.WithReplica(memReplica{}))
}

// liveIn does so with the fleet in dir.
func liveIn(ctx context.Context, sp *spec, dir string, opts ...multidb.Option) (_ figures, err error) {
	m, err := startManager(ctx, dir, append(opts, multidb.WithMaxHot(sp.N))...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.syncAll(ctx, sp.N, syncers(sp.N)); err != nil {
		return nil, err
	}
	return liveLoad(ctx, sp, dir)
}

func stockLive(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	return stockLiveWith(ctx, sp, newStock(sp.Dir, sp.N, false, func(int) litestream.ReplicaClient { return newMemClient() }))
}

func stockLiveWith(ctx context.Context, sp *spec, fleet *stockFleet) (figures, error) {
	fleet.store.CompactionMonitorEnabled = false // multidb does not come to compact in this time
	if err := fleet.open(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	f, err := liveLoad(ctx, sp, sp.Dir)
	return f, errors.Join(err, fleet.close(ctx))
}

// liveLoad has another process write to each database once a second.
func liveLoad(ctx context.Context, sp *spec, dir string) (_ figures, err error) {
	const warm = 5
	rounds := pick(sp.Short, 10, 15)
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	load := job{Do: doCommit, Dir: dir, DBs: upTo(sp.N), Seq: 1, Keep: true, Rounds: warm, Over: warm * time.Second}
	if _, err := writer.do(load); err != nil {
		return nil, err
	}
	load.Seq, load.Rounds, load.Over = warm+1, rounds, time.Duration(rounds)*time.Second
	profiled, err := sp.profileLoad()
	if err != nil {
		return nil, err
	}
	cpu, began := cpuTime(), time.Now()
	_, err = writer.do(load)
	if err := errors.Join(err, profiled()); err != nil {
		return nil, err
	}
	commits := float64(rounds * sp.N)
	return figures{"cpu": (cpuTime() - cpu) / commits, "pace": commits / time.Since(began).Seconds()}, nil
}
