package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
)

func syncScenario(short bool) scenario {
	return scenario{
		name: "sync", title: "Sync of one tenant by 500 callers at once",
		sizes:   []int{1},
		multidb: sync500,
		place:   withS3,
		rows: []row{
			{key: "puts", what: "Sync of one tenant by 500 callers at once: PUTs, the most of 20 times", unit: count, bar: bar{kind: atMost, limit: 2, text: "2"}},
			{key: "took", what: "Sync of one tenant by 500 callers at once: until all have returned, p50", unit: inSeconds},
		},
	}
}

func sync500(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	const callers, times = 500, 20
	id := fleetID(0)
	if _, err := m.Sync(ctx, id); err != nil {
		return nil, err
	}
	var most int64
	var took []float64
	for k := range times {
		if err := m.Do(ctx, id, func(db *sql.DB) error { return commit(ctx, db, k+1) }); err != nil {
			return nil, err
		}
		before, began := m.Stats().Requests, time.Now()
		if err := parallel(ctx, callers, callers, func(ctx context.Context, _ int) error {
			_, err := m.Sync(ctx, id)
			return err
		}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began).Seconds())
		puts := m.Stats().Requests.Put - before.Put
		if puts == 0 {
			return nil, fmt.Errorf("nothing was written for commit %d", k+1)
		}
		most = max(most, puts)
	}
	return figures{"puts": float64(most), "took": quantile(took, 0.5)}, nil
}
