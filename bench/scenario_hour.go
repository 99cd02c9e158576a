package main

import (
	"context"
	"errors"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
)

func hourScenario(short bool) scenario {
	return scenario{
		name: "hour", title: "requests and bytes of an active tenant in an hour",
		sizes:   []int{5},
		runs:    1,
		multidb: hour, stock: stockHour, stockRuns: 1,
		place: withS3,
		rows: []row{
			{key: "commits", what: "an active tenant's hour, run faster: commits", unit: count, stock: "commits"},
			{key: "put", what: "an active tenant's hour: PUTs", unit: count, stock: "put"},
			{key: "get", what: "an active tenant's hour: GETs", unit: count, stock: "get"},
			{key: "list", what: "an active tenant's hour: LISTs", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}, stock: "list"},
			{key: "delete", what: "an active tenant's hour: DELETEs", unit: count, stock: "delete"},
			{key: "out", what: "an active tenant's hour: bytes uploaded", unit: inBytes, stock: "out"},
			{key: "in", what: "an active tenant's hour: bytes downloaded", unit: inBytes, stock: "in"},
		},
	}
}

// hourFaster is how many times faster than in life the hour is run: every
// interval and every pause is so many times shorter.
func hourFaster(sp *spec) time.Duration {
	return pick(sp.Short, 120*time.Nanosecond, 60*time.Nanosecond)
}

func hour(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.RAM, sp.N, 0); err != nil {
		return nil, err
	}
	faster := hourFaster(sp)
	m, err := startManager(ctx, sp.RAM, multidb.WithS3(sp.s3Config()),
		multidb.WithSyncInterval(time.Second/faster), multidb.WithColdSyncInterval(30*time.Second/faster),
		multidb.WithL0Retention(5*time.Minute/faster), multidb.WithRetention(24*time.Hour/faster),
		multidb.WithRetentionInterval(time.Hour/faster), multidb.WithSnapshotInterval(24*time.Hour/faster))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.makeHot(ctx, sp.N); err != nil { // as an active tenant is
		return nil, err
	}
	if err := m.syncAll(ctx, sp.N, sp.N); err != nil {
		return nil, err
	}
	return activeHour(ctx, sp)
}

func stockHour(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.RAM, sp.N, 0); err != nil {
		return nil, err
	}
	faster := hourFaster(sp)
	fleet := &stockFleet{}
	for i := range sp.N {
		db := litestream.NewDB(fleetPath(sp.RAM, i))
		db.MonitorInterval = litestream.DefaultMonitorInterval / faster
		db.CheckpointInterval = litestream.DefaultCheckpointInterval / faster
		db.Replica = litestream.NewReplicaWithClient(db, sp.stockS3(i))
		db.Replica.SyncInterval = litestream.DefaultSyncInterval / faster
		fleet.dbs = append(fleet.dbs, db)
	}
	var levels litestream.CompactionLevels
	for _, l := range litestream.DefaultCompactionLevels {
		levels = append(levels, &litestream.CompactionLevel{Level: l.Level, Interval: l.Interval / faster})
	}
	fleet.store = litestream.NewStore(fleet.dbs, levels)
	fleet.store.SetL0Retention(litestream.DefaultL0Retention / faster)
	fleet.store.L0RetentionCheckInterval = litestream.DefaultL0RetentionCheckInterval / faster
	fleet.store.SnapshotInterval = litestream.DefaultSnapshotInterval / faster
	fleet.store.SnapshotRetention = litestream.DefaultSnapshotRetention / faster
	if err := fleet.open(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	f, err := activeHour(ctx, sp)
	return f, errors.Join(err, fleet.close(ctx))
}

// activeHour has another process commit once a second in each tenant.
func activeHour(ctx context.Context, sp *spec) (_ figures, err error) {
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	before, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	rounds := int(time.Hour / time.Second)
	times, err := writer.do(job{Do: doCommit, Dir: sp.RAM, DBs: upTo(sp.N), Seq: 1, Keep: true, Rounds: rounds, Over: time.Hour / hourFaster(sp)})
	if err != nil {
		return nil, err
	}
	after, err := sp.control().stats(ctx)
	d, n := after.minus(before), float64(sp.N)
	return figures{
		"commits": float64(len(times)) / n,
		"put":     float64(d.Put) / n, "get": float64(d.Get+d.Head) / n, "list": float64(d.List) / n, "delete": float64(d.Delete) / n,
		"out": float64(d.BytesIn) / n, "in": float64(d.BytesOut) / n,
	}, err
}
