package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/multidb-go/multidb"
)

func foreignScenario(short bool) scenario {
	return scenario{
		name: "foreign", title: "another process writes one cold tenant of N",
		sizes:   pick(short, []int{1000, 10000}, []int{1000, 10000, 100000}),
		runs:    2,
		multidb: foreignWrite, stock: stockForeign, stockSize: 1000, stockRuns: 1,
		place: inWorld,
		rows: []row{
			{key: "p50", what: "another process writes a cold tenant: at the replica after, p50 (stock: all N open)", unit: inSeconds, stock: "p50"},
			{key: "p99", what: "another process writes a cold tenant: p99", unit: inSeconds, bar: bar{kind: atMost, limit: 1.5, text: "1.5 s"}, stock: "p99"},
		},
	}
}

// foreignPace is the time between two tenants being written.
const foreignPace = 30 * time.Millisecond

func foreignWrite(ctx context.Context, sp *spec) (figures, error) {
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()))
	if err != nil {
		return nil, err
	}
	err = m.settled(ctx, 5*time.Minute)
	var f figures
	if err == nil {
		f, err = writeTenants(ctx, sp)
	}
	return f, errors.Join(err, m.stop(ctx))
}

func stockForeign(ctx context.Context, sp *spec) (figures, error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	fleet := sp.stockOnS3(sp.Dir, sp.N, false)
	err := fleet.open(ctx)
	var f figures
	if err == nil {
		f, err = writeTenants(ctx, sp)
	}
	return f, errors.Join(err, fleet.close(ctx))
}

// writeTenants has another process open a tenant, write one row and close it, one
// tenant after the other, and sees when each arrives.
func writeTenants(ctx context.Context, sp *spec) (_ figures, err error) {
	writes := pick(sp.Short, 100, 200)
	// Every repetition has tenants of its own: those of the last are not cold yet.
	order := rand.New(rand.NewPCG(1, 2)).Perm(sp.N)
	dbs := order[sp.Run*writes%sp.N:]
	dbs = dbs[:min(writes, len(dbs))]

	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	if err := sp.control().record(ctx); err != nil {
		return nil, err
	}
	seq := 1 + sp.Run
	times, err := writer.do(job{Do: doCommit, Dir: sp.Dir, DBs: dbs, Seq: seq, Over: time.Duration(len(dbs)) * foreignPace})
	if err != nil {
		return nil, err
	}
	commits := map[int][]int64{}
	for k, i := range dbs {
		commits[i] = []int64{times[k]}
	}
	lag, err := arrivals(ctx, sp, commits, seq, 0)
	return figures{"p50": quantile(lag, 0.5), "p99": quantile(lag, 0.99)}, err
}

// arrivals waits for the commits to arrive, and returns how long each took.
func arrivals(ctx context.Context, sp *spec, commits map[int][]int64, first int, skip int64) ([]float64, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		if err := pause(ctx, 3*time.Second); err != nil {
			return nil, err
		}
		arrived, err := sp.control().seqs(ctx)
		if err != nil {
			return nil, err
		}
		lag, err := lags(commits, first, arrived, skip)
		if err == nil || time.Now().After(deadline) {
			return lag, err
		}
	}
}
