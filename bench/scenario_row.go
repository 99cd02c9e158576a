package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
)

func rowScenario(short bool) scenario {
	return scenario{
		name: "row", title: "one row is written to a 4 MB tenant by a process that opens, writes and closes",
		sizes:   []int{5},
		runs:    2,
		multidb: oneRowWritten, stock: stockOneRow,
		place: withS3,
		rows: []row{
			{key: "bytes", what: "a cold 4 MB tenant gets one row from a process that opens and closes it: uploaded", unit: inBytes, bar: bar{kind: atMost, limit: 16384, text: "16 KB"}, stock: "bytes"},
			{key: "worst", what: "a cold 4 MB tenant gets one row: the most of N", unit: inBytes, bar: bar{kind: atMost, limit: 16384, text: "16 KB"}, stock: "worst"},
		},
	}
}

const rowSize = 4 << 20

func oneRowWritten(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, rowSize); err != nil {
		return nil, err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), multidb.WithHotDuration(time.Second))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.syncAll(ctx, sp.N, sp.N); err != nil {
		return nil, err
	}
	return rows(ctx, sp, func(ctx context.Context, i int) error {
		_, err := m.Sync(ctx, fleetID(i))
		return err
	}, func(ctx context.Context) error {
		return until(ctx, "demotions", 100*time.Millisecond, time.Minute, func() (bool, error) {
			s := m.Stats()
			return s.Cold == sp.N && s.Running == 0, m.trouble()
		})
	})
}

// stockOneRow keeps the databases closed, as cold ones have to be, and opens one
// when it was written.
func stockOneRow(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, rowSize); err != nil {
		return nil, err
	}
	fleet := sp.stockOnS3(sp.Dir, sp.N, true)
	if err := errors.Join(fleet.open(ctx), fleet.close(ctx)); err != nil {
		return nil, err
	}
	fleet = sp.stockOnS3(sp.Dir, sp.N, true)
	return rows(ctx, sp, func(ctx context.Context, i int) error {
		db := fleet.dbs[i]
		if err := db.Open(); err != nil {
			return err
		}
		return errors.Join(db.SyncAndWait(ctx), db.Close(ctx))
	}, func(context.Context) error { return nil })
}

// rows writes one row to each tenant and measures what syncing it uploads. quiet
// waits until all are cold.
func rows(ctx context.Context, sp *spec, sync func(ctx context.Context, i int) error, quiet func(context.Context) error) (_ figures, err error) {
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	var bytes []float64
	// The first round is not counted: after it everything is as in the middle of
	// a life.
	for round := range 2 {
		for i := range sp.N {
			if err := quiet(ctx); err != nil {
				return nil, err
			}
			before, err := sp.control().stats(ctx)
			if err != nil {
				return nil, err
			}
			if _, err := writer.do(job{Do: doCommit, Dir: sp.Dir, DBs: []int{i}, Seq: round + 1}); err != nil {
				return nil, err
			}
			if err := sync(ctx, i); err != nil {
				return nil, err
			}
			after, err := sp.control().stats(ctx)
			if err != nil {
				return nil, err
			}
			uploaded := after.minus(before).BytesIn
			if uploaded == 0 {
				return nil, fmt.Errorf("nothing was uploaded for database %d", i)
			}
			if round > 0 {
				bytes = append(bytes, float64(uploaded))
			}
		}
	}
	return figures{"bytes": quantile(bytes, 0.5), "worst": quantile(bytes, 1)}, nil
}
