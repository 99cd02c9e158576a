package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
)

func tiersScenario(short bool) scenario {
	return scenario{
		name: "tiers", title: "promote and demote, against opening and closing a litestream.DB",
		sizes:   []int{300},
		multidb: tiers, stock: stockTiers,
		place: withS3,
		rows: []row{
			{key: "promote", what: "promote: CPU, beyond that of the commit shipped", unit: inSeconds, bar: bar{kind: atMost, limit: 0.3e-3, text: "0.3 ms"}, stock: "promote"},
			{key: "promote-requests", what: "promote: requests, beyond the commit's", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}, stock: "promote-requests"},
			{key: "demote", what: "demote: CPU", unit: inSeconds, bar: bar{kind: atMost, limit: 0.3e-3, text: "0.3 ms"}, stock: "demote"},
			{key: "demote-requests", what: "demote: requests", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}, stock: "demote-requests"},
		},
	}
}

// hotFor is how long databases stay hot here.
const hotFor = 4 * time.Second

// tiers measures a commit that ships from a cold database and one from a hot
// one: promotion is the difference. Demotion is all that happens from then on.
func tiers(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), multidb.WithWatch(false), multidb.WithScanInterval(time.Hour),
		multidb.WithMaxHot(sp.N), multidb.WithHotDuration(hotFor), multidb.WithPromotion(0, 0),
		multidb.WithMaxOpen(sp.N), multidb.WithIdleTimeout(0))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	seq := 0
	round := func() (cpu float64, err error) {
		seq++
		before := cpuTime()
		err = parallel(ctx, sp.N, shipWorkers, func(ctx context.Context, i int) error {
			if err := m.Do(ctx, fleetID(i), func(db *sql.DB) error { return commit(ctx, db, seq) }); err != nil {
				return err
			}
			_, err := m.Sync(ctx, fleetID(i))
			return err
		})
		return (cpuTime() - before) / float64(sp.N), err
	}
	cold := func() error {
		return until(ctx, "demotions", 50*time.Millisecond, time.Minute, func() (bool, error) {
			return m.Stats().Cold == sp.N, m.trouble()
		})
	}
	// The first copies, the first opening of each by the pool, and the first write
	// of this process to each prefix, before which it is listed once.
	if err := m.syncAll(ctx, sp.N, shipWorkers); err != nil {
		return nil, err
	}
	if _, err := round(); err != nil {
		return nil, err
	}
	promoted := m.Stats().Promotions
	hot, err := round()
	if err != nil {
		return nil, err
	}
	if n := m.Stats().Promotions - promoted; n != 0 {
		return nil, fmt.Errorf("%d databases were cold again before the second commit", n)
	}
	if err := cold(); err != nil {
		return nil, err
	}
	r0 := m.Stats().Requests.Total()
	promotion, err := round()
	if err != nil {
		return nil, err
	}
	r1, c1 := m.Stats().Requests.Total(), cpuTime()
	if err := cold(); err != nil {
		return nil, err
	}
	n := float64(sp.N)
	return figures{
		"promote":          promotion - hot,
		"promote-requests": float64(r1-r0)/n - 1,
		"demote":           (cpuTime() - c1) / n,
		"demote-requests":  float64(m.Stats().Requests.Total()-r1) / n,
	}, nil
}

// stockTiers opens and closes databases, of which each got one commit while it
// was closed.
func stockTiers(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	seq := 0
	write := func() error {
		seq++
		_, err := writer.do(job{Do: doCommit, Dir: sp.Dir, DBs: upTo(sp.N), Seq: seq, Keep: true})
		return err
	}
	fleet := sp.stockOnS3(sp.Dir, sp.N, true)
	if err := errors.Join(fleet.open(ctx), fleet.close(ctx), write()); err != nil {
		return nil, err
	}
	n := float64(sp.N)
	r0, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	fleet = sp.stockOnS3(sp.Dir, sp.N, true)
	c0 := cpuTime()
	if err := fleet.open(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	opened := (cpuTime() - c0) / n
	r1, err := sp.control().stats(ctx)
	err = errors.Join(err, write())
	c1 := cpuTime()
	err = errors.Join(err, fleet.sync(ctx, stockWorkers))
	hot := (cpuTime() - c1) / n
	r2, e := sp.control().stats(ctx)
	c2 := cpuTime()
	err = errors.Join(err, e, fleet.close(ctx))
	closed := (cpuTime() - c2) / n
	r3, e := sp.control().stats(ctx)
	return figures{
		"promote":          opened - hot,
		"promote-requests": float64(r1.minus(r0).total())/n - 1,
		"demote":           closed,
		"demote-requests":  float64(r3.minus(r2).total()) / n,
	}, errors.Join(err, e)
}
