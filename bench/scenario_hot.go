package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
)

// hotRows are the same for both ways to write.
func hotRows(who string) []row {
	return []row{
		{key: "p50", what: "N hot, each written once a second " + who + ", S3: lag p50", unit: inSeconds, bar: bar{kind: atMost, limit: 1, text: "1 s"}},
		{key: "p99", what: "N hot " + who + ": lag p99", unit: inSeconds, bar: bar{kind: atMost, limit: 2, text: "2 s"}},
		{key: "rss", what: "N hot " + who + ": resident memory", unit: inBytes, bar: bar{kind: atMost, limit: 300e6, text: "300 MB"}},
		{key: "descriptors", what: "N hot " + who + ": descriptors beyond the pool's", unit: count, bar: bar{kind: atMost, limit: 100, text: "100"}},
		{key: "cpu", what: "N hot " + who + ": CPU, of one core", unit: percent},
		{key: "pace", what: "N hot " + who + ": commits made", unit: perSecond},
	}
}

func hotForeignScenario(short bool) scenario {
	return scenario{
		name: "hot", title: "2,000 hot, one commit a second each, by another process",
		sizes:   []int{2000},
		runs:    2,
		multidb: hotForeign,
		place:   withS3, rows: hotRows("by another process"),
	}
}

func hotPoolScenario(short bool) scenario {
	return scenario{
		name: "hot-pool", title: "2,000 hot, one commit a second each, through the pool",
		sizes:   []int{2000},
		runs:    2,
		multidb: hotPool,
		place:   withS3, rows: hotRows("through the pool"),
	}
}

// hotLoad is how long a load lasts, and how much of it is not counted: at
// first, databases become hot.
func hotLoad(sp *spec) (load, warm time.Duration) {
	return pick(sp.Short, 15*time.Second, 25*time.Second), 5 * time.Second
}

// writerDBs is how many databases one process of the application keeps open at most: each
// is three descriptors.
const writerDBs = 4000

func hotForeign(ctx context.Context, sp *spec) (figures, error) { return hotForeignWith(ctx, sp) }

func hotForeignWith(ctx context.Context, sp *spec, opts ...multidb.Option) (_ figures, err error) {
	var apps []app
	defer func() {
		for _, a := range apps {
			err = errors.Join(err, a.close())
		}
	}()
	for range (sp.N + writerDBs - 1) / writerDBs {
		a, err := startApp(ctx)
		if err != nil {
			return nil, err
		}
		apps = append(apps, a)
	}
	dbs := make([][]int, len(apps))
	for i := range sp.N {
		dbs[i%len(apps)] = append(dbs[i%len(apps)], i)
	}
	opened := func() error {
		return parallel(ctx, len(apps), len(apps), func(_ context.Context, w int) error {
			_, err := apps[w].do(job{Do: doOpen, Dir: sp.Dir, DBs: dbs[w]})
			return err
		})
	}
	return hot(ctx, sp, opened, func(_ *managed, rounds int) (map[int][]int64, error) {
		commits := map[int][]int64{}
		var mu sync.Mutex
		err := parallel(ctx, len(apps), len(apps), func(_ context.Context, w int) error {
			times, err := apps[w].do(job{Do: doCommit, Dir: sp.Dir, DBs: dbs[w], Seq: 1, Keep: true,
				Rounds: rounds, Over: time.Duration(rounds) * time.Second})
			mu.Lock()
			defer mu.Unlock()
			for k, t := range times {
				i := dbs[w][k%len(dbs[w])]
				commits[i] = append(commits[i], t)
			}
			return err
		})
		return commits, err
	}, opts...)
}

// poolWriters is how many goroutines of the application write through the pool.
const poolWriters = 8

func hotPool(ctx context.Context, sp *spec) (figures, error) {
	return hot(ctx, sp, func() error { return nil }, func(m *managed, rounds int) (map[int][]int64, error) {
		began := time.Now()
		var mu sync.Mutex
		commits := map[int][]int64{}
		err := parallel(ctx, poolWriters, poolWriters, func(ctx context.Context, w int) error {
			for round := range rounds {
				for i := w; i < sp.N; i += poolWriters {
					due := began.Add(time.Duration(round)*time.Second + time.Second*time.Duration(i)/time.Duration(sp.N))
					if err := pause(ctx, time.Until(due)); err != nil {
						return err
					}
					if err := m.Do(ctx, fleetID(i), func(db *sql.DB) error { return commit(ctx, db, round+1) }); err != nil {
						return err
					}
					mu.Lock()
					commits[i] = append(commits[i], time.Now().UnixNano())
					mu.Unlock()
				}
			}
			return nil
		})
		return commits, err
	}, multidb.WithMaxOpen(sp.N))
}

// hot measures a Manager while write makes so many commits in every database, one
// a second, after opened has had the application open them. It returns when they were made, by database.
func hot(ctx context.Context, sp *spec, opened func() error, write func(m *managed, rounds int) (map[int][]int64, error), opts ...multidb.Option) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	opts = append(opts, multidb.WithS3(sp.s3Config()), multidb.WithMaxHot(sp.N))
	m, err := startManager(ctx, sp.Dir, opts...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.syncAll(ctx, sp.N, syncers(sp.N)); err != nil { // the first copies
		return nil, err
	}
	if err := errors.Join(opened(), sp.control().record(ctx)); err != nil {
		return nil, err
	}
	load, warm := hotLoad(sp)
	began := time.Now()
	watch := newPeaks(sp)
	profiled, err := sp.profileLoad()
	if err != nil {
		return nil, err
	}
	commits, err := write(m, int(load.Seconds()))
	took := time.Since(began)
	err = errors.Join(err, profiled())
	peaks, e := watch.end()
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	lag, err := arrivals(ctx, sp, commits, 1, began.Add(warm).UnixNano())
	if err == nil && len(lag) == 0 {
		err = fmt.Errorf("no commit was made after %v: %v for the load of %v", warm, took, load)
	}
	peaks["p50"], peaks["p99"] = quantile(lag, 0.5), quantile(lag, 0.99)
	peaks["pace"] = load.Seconds() * float64(sp.N) / took.Seconds()
	return peaks, err
}

// peaks looks at this process four times a second.
type peaks struct {
	stop chan struct{}
	done sync.WaitGroup
	f    figures
	err  error
}

func newPeaks(sp *spec) *peaks {
	p := &peaks{stop: make(chan struct{}), f: figures{}}
	began, cpu := time.Now(), cpuTime()
	p.done.Go(func() {
		t := time.NewTicker(250 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				rss, err := residentBytes()
				all, pool, err2 := descriptors(fleetRoot(sp.Dir))
				if p.err = errors.Join(p.err, err, err2); p.err != nil {
					return
				}
				p.f["rss"] = max(p.f["rss"], rss)
				p.f["descriptors"] = max(p.f["descriptors"], all-pool)
			case <-p.stop:
				p.f["cpu"] = (cpuTime() - cpu) / time.Since(began).Seconds()
				return
			}
		}
	})
	return p
}

func (p *peaks) end() (figures, error) {
	close(p.stop)
	p.done.Wait()
	return p.f, p.err
}
