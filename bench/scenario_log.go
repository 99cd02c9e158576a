package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
)

// fleetLog is the option that the scenarios named log-… are about.
func fleetLog(unpack time.Duration) multidb.Option {
	return multidb.WithFleetLog(multidb.FleetLogConfig{Path: logPath, UnpackInterval: unpack})
}

// unpackDefault leaves the interval to the Manager.
const unpackDefault = 0

// requests adds requests by kind, and by kind and class.
func (f figures) requests(before string, d s3Stats) {
	f[before+"put"], f[before+"get"], f[before+"list"] = float64(d.Put), float64(d.Get+d.Head), float64(d.List)
	f[before+"delete"] = float64(d.Delete)
	for what, n := range d.By {
		f[before+what] = float64(n)
	}
}

func logRequestsScenario(short bool) scenario {
	return scenario{
		name: "log-requests", title: "fleet log: requests of N tenants with a commit a second each",
		sizes:   pick(short, []int{100}, []int{1000}),
		runs:    1,
		multidb: logRequests,
		place:   withS3,
		rows: []row{
			{key: "commits", what: "log, N tenants, unpacked once a second instead: commits measured", unit: count},
			{key: "unpackings", what: "log: unpackings of each tenant measured", unit: plain},
			{key: "per-interval", what: "log: PUTs of the log in each sync interval", unit: plain, bar: bar{kind: atMost, limit: 1, text: "1"}},
			{key: "per-unpacking", what: "log: PUTs below the prefix for each unpacking, compactions too", unit: plain},
			{key: "put-5m", what: "log, N tenants, unpacked every 5 min: PUTs an hour", unit: count, bar: logRequestsBar(short, 16000, 4840, "16,000")},
			{key: "put-3h", what: "log, N tenants, unpacked every 3 h: PUTs an hour", unit: count, bar: logRequestsBar(short, 4200, 3660, "4,200")},
			{key: "list-5m", what: "log, every 5 min: LISTs an hour", unit: count},
			{key: "get-5m", what: "log, every 5 min: GETs an hour", unit: count},
			{key: "put-without", what: "without a log, N tenants: PUTs an hour, one a commit at least", unit: count},
		},
	}
}

// logRequestsBar is for 1,000 tenants; the short form has 100, for which it is so much less.
func logRequestsBar(short bool, full, fewer float64, text string) bar {
	if short {
		return bar{kind: atMost, limit: fewer, text: "for 1,000: " + text}
	}
	return bar{kind: atMost, limit: full, text: text}
}

// logRequests has an hour's unpackings in a minute. An hour of 1,000 tenants that commit
// once a second cannot be run faster than it is, but its requests can be taken apart: the
// log costs so many in each sync interval, whoever has committed in it, and a tenant costs
// so many in each unpacking, whatever is in it, of which every 60 are compacted. So each
// tenant commits once a second and is unpacked as often, for more than 60 times, and
//
//	requests an hour = log's per interval × 3,600 + tenants × (prefix's per unpacking × unpackings an hour + 1/24)
//
// where the last is the snapshot of each day. What grows with the commits between two
// unpackings is not in it: bytes, and what the log reads of itself because its memory is
// full (see log-hot).
func logRequests(ctx context.Context, sp *spec) (_ figures, err error) {
	const unpack = 700 * time.Millisecond // at each commit then
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), fleetLog(unpack), multidb.WithMaxHot(sp.N),
		multidb.WithSyncInterval(logRequestsSync))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.syncAll(ctx, sp.N, syncers(sp.N)); err != nil {
		return nil, err
	}
	load := func(seq, rounds int) (s3Stats, time.Duration, error) {
		before, err := sp.control().stats(ctx)
		if err != nil {
			return before, 0, err
		}
		began := time.Now()
		_, err = writer.do(job{Do: doCommit, Dir: sp.Dir, DBs: upTo(sp.N), Seq: seq, Keep: true, Rounds: rounds, Over: time.Duration(rounds) * time.Second})
		took := time.Since(began)
		if err != nil {
			return before, took, err
		}
		after, err := sp.control().stats(ctx)
		return after.minus(before), took, errors.Join(err, m.trouble())
	}
	const warm = 4 // they become hot, and have the first unpacking and a metadata.json behind them
	if _, _, err := load(1, warm); err != nil {
		return nil, err
	}
	rounds := pick(sp.Short, 15, 66)
	d, took, err := load(warm+1, rounds)
	if err != nil {
		return nil, err
	}
	n, f := float64(sp.N), figures{"commits": float64(rounds * sp.N)}
	f.requests("", d)
	var unpacked, prefix, lists, gets float64
	for what, k := range d.By {
		switch kind, class, _ := strings.Cut(what, " "); {
		case class == "log" || class == "map" || class == "large" || class == "other":
		case kind == "put":
			prefix += float64(k)
			if class == "level 0" {
				unpacked += float64(k)
			}
		case kind == "list":
			lists += float64(k)
		case kind == "get" || kind == "head":
			gets += float64(k)
		}
	}
	if unpacked == 0 {
		return nil, fmt.Errorf("nothing was unpacked in %v", took)
	}
	f["unpackings"] = unpacked / n
	f["per-interval"] = f["put log"] / (took.Seconds() / logRequestsSync.Seconds())
	f["per-unpacking"] = prefix / unpacked
	f["put-5m"] = putsAnHour(n, f["per-interval"], f["per-unpacking"], 12)
	f["put-3h"] = putsAnHour(n, f["per-interval"], f["per-unpacking"], 1./3)
	f["list-5m"], f["get-5m"] = n*lists/unpacked*12, n*gets/unpacked*12
	f["put-without"] = n * intervalsAnHour
	return f, nil
}

// intervalsAnHour is how many sync intervals of the default an hour has.
const intervalsAnHour = 3600

// putsAnHour is the formula of logRequests.
func putsAnHour(tenants, perInterval, perUnpacking, unpackings float64) float64 {
	return perInterval*intervalsAnHour + tenants*(perUnpacking*unpackings+1./24)
}

// logRequestsSync is shorter than a second so that a commit is unpacked before the next.
const logRequestsSync = 200 * time.Millisecond

func logHotScenario(short bool) scenario {
	rows := hotRows("by another process, fleet log")
	for i := range rows {
		if rows[i].key == "cpu" {
			rows[i].bar = bar{kind: atMost, limit: 1, text: "100 %"}
		}
	}
	return scenario{
		name: "log-hot", title: "fleet log: N hot, one commit a second each, by another process",
		sizes: pick(short, []int{500}, []int{10000}),
		runs:  1,
		multidb: func(ctx context.Context, sp *spec) (figures, error) {
			return hotForeignWith(ctx, sp, fleetLog(unpackDefault))
		},
		place: withS3, rows: rows,
	}
}

func logLiveScenario(bool) scenario {
	return scenario{
		name: "log-live", title: "fleet log: one small commit in service, S3",
		sizes: []int{1000},
		runs:  2,
		multidb: func(ctx context.Context, sp *spec) (figures, error) {
			return logLive(ctx, sp, func(name string) multidb.Option {
				cfg := sp.s3Config()
				cfg.Path = name + "/{{project}}-{{database}}"
				return multidb.WithS3(cfg)
			})
		},
		stock: stockLiveS3, stockRuns: 1,
		place: withS3,
		rows:  logLiveRows("S3"),
	}
}

func logMemoryScenario(bool) scenario {
	return scenario{
		name: "log-memory", title: "fleet log: one small commit in service, in-memory replica",
		sizes: []int{1000},
		runs:  2,
		multidb: func(ctx context.Context, sp *spec) (figures, error) {
			return logLive(ctx, sp, func(string) multidb.Option { return multidb.WithReplica(memReplica{}) })
		},
		stock: stockLive, stockRuns: 1,
		place: alone,
		rows:  logLiveRows("in-memory replica"),
	}
}

func logLiveRows(where string) []row {
	return []row{
		{key: "off", what: "N hot, one small commit a second each, " + where + ", no log: CPU for each commit", unit: inSeconds, stock: "cpu"},
		{key: "cpu", what: "N hot, " + where + ", fleet log: CPU for each commit", unit: inSeconds,
			bar: bar{kind: atMost, limit: 90e-6, times: 8, text: "90 µs, and 8 × less than stock"}, stock: "cpu"},
		{key: "ratio", what: "N hot, " + where + ": CPU with a fleet log against without", unit: plain},
		{key: "pace", what: "N hot, " + where + ", fleet log: commits made", unit: perSecond, stock: "pace", more: true},
	}
}

func stockLiveS3(ctx context.Context, sp *spec) (figures, error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	return stockLiveWith(ctx, sp, sp.stockOnS3(sp.Dir, sp.N, false))
}

// logLive measures without a log, then with one.
func logLive(ctx context.Context, sp *spec, replica func(name string) multidb.Option) (figures, error) {
	measure := func(name string, opts ...multidb.Option) (figures, error) {
		dir := filepath.Join(sp.Dir, name)
		if err := newFleet(ctx, dir, sp.N, 0); err != nil {
			return nil, err
		}
		f, err := liveIn(ctx, sp, dir, append(opts, replica(name))...)
		return f, errors.Join(err, os.RemoveAll(dir))
	}
	off, err := measure("off")
	if err != nil {
		return nil, err
	}
	on, err := measure("on", fleetLog(unpackDefault))
	if err != nil {
		return nil, err
	}
	on["off"], on["ratio"] = off["cpu"], on["cpu"]/off["cpu"]
	return on, nil
}

func logCreatedScenario(short bool) scenario {
	return scenario{
		name: "log-created", title: "fleet log: many databases are created in a burst",
		sizes: pick(short, []int{500}, []int{10000}),
		runs:  1,
		multidb: func(ctx context.Context, sp *spec) (figures, error) {
			return createdWith(ctx, sp, fleetLog(unpackDefault))
		},
		place: withS3,
		rows: []row{
			{key: "took", what: "log, N created by another process (bar: 1,000 a second): it took", unit: inSeconds},
			{key: "after", what: "log, N created: all in S3 so long after the last", unit: inSeconds, bar: bar{kind: atMost, limit: 3, text: "3 s"}},
			{key: "put", what: "log, N created: PUTs until then", unit: count, bar: bar{kind: atMost, limit: 200, text: "200"}},
			{key: "list", what: "log, N created: LISTs until then", unit: count},
			{key: "cpu", what: "log, N created: CPU for each, multidb alone", unit: inSeconds},
		},
	}
}

func logSyncScenario(bool) scenario {
	return scenario{
		name: "log-sync", title: "fleet log: Sync of 500 tenants at once",
		sizes:   []int{500},
		runs:    1,
		multidb: logSync,
		place:   withS3,
		rows: []row{
			{key: "most", what: "log, Sync of N tenants at once: PUTs, the most of 20 times", unit: count, bar: bar{kind: atMost, limit: 4, text: "4"}},
			{key: "p50", what: "log, Sync of N tenants at once: until all have returned, p50", unit: inSeconds},
			{key: "slowest", what: "log, Sync of N tenants at once: until all have returned, the slowest of 20 times", unit: inSeconds, bar: bar{kind: atMost, limit: 0.4, text: "400 ms"}},
		},
	}
}

// logSync has a commit in every tenant that nothing but Sync ships: the sync interval is
// longer than it takes.
func logSync(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), fleetLog(time.Hour),
		multidb.WithSyncInterval(30*time.Second), multidb.WithMaxOpen(sp.N))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if err := m.syncAll(ctx, sp.N, sp.N); err != nil {
		return nil, err
	}
	const times = 20
	f := figures{}
	var took []float64
	for k := range times {
		if err := m.writeAll(ctx, sp.N, k+1); err != nil {
			return nil, err
		}
		before, err := sp.control().stats(ctx)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := m.syncAll(ctx, sp.N, sp.N); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began).Seconds())
		after, err := sp.control().stats(ctx)
		if err != nil {
			return nil, err
		}
		d := after.minus(before)
		if d.Put == 0 {
			return nil, fmt.Errorf("nothing was written for commit %d", k+1)
		}
		for what, n := range d.By {
			f[what] = max(f[what], float64(n))
		}
		f["most"] = max(f["most"], float64(d.Put))
	}
	f["p50"], f["slowest"] = quantile(took, 0.5), quantile(took, 1)
	return f, nil
}

func logRestoreScenario(bool) scenario {
	return scenario{
		name: "log-restore", title: "fleet log: restore of a tenant with 300 objects that are not unpacked",
		sizes:   []int{1},
		runs:    1,
		multidb: logRestore,
		place:   withS3,
		rows: []row{
			{key: "objects", what: "log, restore of a tenant: objects that are not unpacked", unit: count},
			{key: "took", what: "log, restore: it took", unit: inSeconds, bar: bar{kind: atMost, limit: 1, text: "1 s"}},
			{key: "list", what: "log, restore: LISTs", unit: count},
			{key: "get", what: "log, restore: GETs", unit: count},
		},
	}
}

// logRestore reads everything from the bucket, while the Manager that wrote it serves.
func logRestore(ctx context.Context, sp *spec) (_ figures, err error) {
	const objects = 300
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), fleetLog(time.Hour),
		multidb.WithSyncInterval(20*time.Millisecond), multidb.WithHotDuration(time.Hour))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	id := fleetID(0)
	for k := range objects {
		if err := m.Do(ctx, id, func(db *sql.DB) error { return commit(ctx, db, k+1) }); err != nil {
			return nil, err
		}
		if _, err := m.Sync(ctx, id); err != nil {
			return nil, err
		}
	}
	before, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	out := filepath.Join(sp.Dir, "restored.db")
	began := time.Now()
	if err := m.Restore(ctx, id, multidb.RestoreOptions{OutputPath: out}); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	if n := before.By["put level 0"]; n > 0 {
		return nil, fmt.Errorf("%d files were unpacked", n)
	}
	f := figures{"took": took.Seconds(), "objects": float64(before.By["put log"])}
	f.requests("", after.minus(before))
	return f, errors.Join(checkSeq(ctx, out, objects), os.Remove(out))
}

func logThroughputScenario(bool) scenario {
	return scenario{
		name: "log-throughput", title: "fleet log: write throughput through the pool, on against off",
		sizes: []int{50},
		runs:  2,
		multidb: func(ctx context.Context, sp *spec) (figures, error) {
			return throughputWith(ctx, sp, fleetLog(unpackDefault))
		},
		place: alone,
		rows: []row{
			{key: "off", what: "commits through the pool, 4 writers, replication off", unit: perSecond},
			{key: "on", what: "commits through the pool, fleet log (in memory)", unit: perSecond, more: true},
			{key: "ratio", what: "write throughput, fleet log against off", unit: plain, bar: bar{kind: atLeast, limit: 0.9, text: "0.9"}},
		},
	}
}

func logStartScenario(short bool) scenario {
	return scenario{
		name: "log-start", title: "fleet log: start with N known",
		sizes:   pick(short, []int{5000}, []int{100000}),
		runs:    1,
		multidb: logStart,
		place:   inWorld,
		rows: []row{
			{key: "start", what: "log, start with N known: until it serves", unit: inSeconds, bar: bar{kind: atMost, limit: 2, text: "2 s"}},
			{key: "start-requests", what: "log, start with N known: requests", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}},
			{key: "settled-requests", what: "log, start with N known: requests until it is settled", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}},
			{key: "first-requests", what: "log, start with N known: requests of the first write", unit: count},
		},
	}
}

// logStart starts twice: the first life leaves a log, which the second has to find.
func logStart(ctx context.Context, sp *spec) (figures, error) {
	opts := []multidb.Option{multidb.WithS3(sp.s3Config()), fleetLog(unpackDefault)}
	write := func(m *managed, i int) error {
		err := m.Do(ctx, fleetID(i), func(db *sql.DB) error { return commit(ctx, db, 1) })
		if err == nil {
			_, err = m.Sync(ctx, fleetID(i))
		}
		return err
	}
	first, err := startManager(ctx, sp.Dir, opts...)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(write(first, 0), first.stop(ctx)); err != nil {
		return nil, err
	}
	before, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	m, err := startManager(ctx, sp.Dir, opts...)
	if err != nil {
		return nil, err
	}
	f := figures{"start": time.Since(began).Seconds()}
	count := func(key string) error {
		st, e := sp.control().stats(ctx)
		f[key] = float64(st.total() - before.total())
		return e
	}
	err = count("start-requests")
	if s := m.Stats(); s.Databases != sp.N {
		err = errors.Join(err, fmt.Errorf("%d databases are known, not %d", s.Databases, sp.N))
	}
	err = errors.Join(err, m.settled(ctx, 5*time.Minute), count("settled-requests"))
	if err == nil {
		err = errors.Join(write(m, 1), count("first-requests"))
		f["first-requests"] -= f["settled-requests"]
	}
	return f, errors.Join(err, m.stop(ctx))
}
