package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/multidb-go/multidb"
)

func coldScenario(short bool) scenario {
	return scenario{
		name: "cold", title: "start with N known, then N cold and idle, watched",
		sizes:   pick(short, []int{1000, 10000}, []int{1000, 10000, 100000}),
		runs:    2,
		multidb: coldFleet, stock: stockCold, stockSize: 1000, stockRuns: 1,
		place: inWorld,
		rows: []row{
			{key: "start", what: "start: until it serves", unit: inSeconds, bar: bar{kind: atMost, limit: 2, text: "2 s"}, stock: "start", scales: true},
			{key: "start-requests", what: "start: requests", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}, stock: "start-requests", scales: true},
			{key: "rss", what: "cold: resident memory of the process", unit: inBytes, bar: bar{kind: atMost, limit: 150e6, text: "150 MB"}, stock: "rss", scales: true},
			{key: "heap", what: "cold: heap per database", unit: inBytes, bar: bar{kind: atMost, limit: 700, text: "700 B"}, stock: "heap"},
			{key: "goroutines", what: "cold: goroutines", unit: count, bar: bar{kind: flat, limit: 8, text: "the same for every N"}, stock: "goroutines", scales: true},
			{key: "descriptors", what: "cold: descriptors", unit: count, bar: bar{kind: flat, limit: 8, text: "the same for every N"}, stock: "descriptors", scales: true},
			{key: "idle-cpu", what: "cold, idle, watched: CPU, of one core", unit: percent, bar: bar{kind: atMost, limit: 0.01, text: "1 %"}, stock: "idle-cpu", scales: true},
			{key: "idle-requests", what: "cold, idle, watched: requests a minute", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}, stock: "idle-requests", scales: true},
		},
	}
}

// idleTime is how long idleness is watched: one scan interval, so that the scan
// is in it.
const idleTime = 30 * time.Second

func coldFleet(ctx context.Context, sp *spec) (figures, error) {
	before := heapBytes()
	m, err := newManager(sp.Dir, multidb.WithS3(sp.s3Config()))
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := m.Start(ctx); err != nil {
		return nil, err
	}
	f := figures{"start": time.Since(began).Seconds(), "start-requests": float64(m.Stats().Requests.Total())}
	if s := m.Stats(); s.Databases != sp.N {
		return nil, errors.Join(fmt.Errorf("%d databases are known, not %d", s.Databases, sp.N), m.stop(ctx))
	}
	if err := m.settled(ctx, 5*time.Minute); err != nil {
		return nil, errors.Join(err, m.stop(ctx))
	}
	cpu, requests := cpuTime(), m.Stats().Requests.Total()
	err = pause(ctx, idleTime)
	f["idle-cpu"] = (cpuTime() - cpu) / idleTime.Seconds()
	f["idle-requests"] = float64(m.Stats().Requests.Total()-requests) * time.Minute.Seconds() / idleTime.Seconds()
	if s := m.Stats(); s.Cold != sp.N {
		err = errors.Join(err, fmt.Errorf("%d databases are cold, not %d", s.Cold, sp.N))
	}
	err = errors.Join(err, f.process(sp.N, before))
	return f, errors.Join(err, m.stop(ctx))
}

// process adds what this process has: memory, heap per database since before,
// goroutines, descriptors.
func (f figures) process(n int, before float64) (err error) {
	if f["rss"], err = residentBytes(); err != nil {
		return err
	}
	if f["descriptors"], _, err = descriptors(""); err != nil {
		return err
	}
	f["goroutines"] = float64(runtime.NumGoroutine())
	f["heap"] = (heapBytes() - before) / float64(n)
	return nil
}

// stockCold opens databases that were replicated before, and leaves them alone.
// Litestream has no cold ones.
func stockCold(ctx context.Context, sp *spec) (figures, error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	first := sp.stockOnS3(sp.Dir, sp.N, true)
	if err := errors.Join(first.open(ctx), first.close(ctx)); err != nil {
		return nil, err
	}
	first = nil
	requests, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	before := heapBytes()
	began := time.Now()
	fleet := sp.stockOnS3(sp.Dir, sp.N, false)
	if err := fleet.open(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	f := figures{"start": time.Since(began).Seconds()}
	started, err := sp.control().stats(ctx)
	if err == nil {
		err = pause(ctx, 5*time.Second) // the last syncs
	}
	f["start-requests"] = float64(started.minus(requests).total())
	idle, e := sp.control().stats(ctx)
	err = errors.Join(err, e)
	cpu := cpuTime()
	err = errors.Join(err, pause(ctx, idleTime))
	f["idle-cpu"] = (cpuTime() - cpu) / idleTime.Seconds()
	after, e := sp.control().stats(ctx)
	f["idle-requests"] = float64(after.minus(idle).total()) * time.Minute.Seconds() / idleTime.Seconds()
	err = errors.Join(err, e, f.process(sp.N, before))
	return f, errors.Join(err, fleet.close(ctx))
}
