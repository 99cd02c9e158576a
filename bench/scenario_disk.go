package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/multidb-go/multidb"
)

func diskScenario(short bool) scenario {
	return scenario{
		name: "disk", title: "16 callers of random tenants of 100 KB, on a disk that a tenth of them fits on",
		sizes:   []int{pick(short, 2000, 100000)},
		runs:    1,
		multidb: smallDisk,
		place:   withS3,
		rows: []row{
			{key: "errors", what: "a small disk: errors", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}},
			{key: "lost", what: "a small disk: tenants without a committed row at the end, of 1,000", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}},
			{key: "operations", what: "a small disk: tenants used", unit: perSecond},
			{key: "hit-p50", what: "a small disk: Acquire of a tenant that is there, p50", unit: inSeconds},
			{key: "hit-p99", what: "a small disk: Acquire of a tenant that is there, p99", unit: inSeconds},
			{key: "miss-p50", what: "a small disk: Acquire of an evicted tenant, p50", unit: inSeconds},
			{key: "miss-p99", what: "a small disk: Acquire of an evicted tenant, p99", unit: inSeconds},
			{key: "evictions", what: "a small disk: evictions", unit: perSecond},
			{key: "used", what: "a small disk: most that Stats says, of the limit", unit: percent, bar: bar{kind: atMost, limit: 1, text: "100 %"}},
			{key: "du", what: "a small disk: most that is on the disk, of the limit", unit: percent, bar: bar{kind: atMost, limit: 1, text: "100 %"}},
			{key: "get", what: "a small disk: GETs for each tenant that was brought back", unit: plain},
			{key: "list", what: "a small disk: LISTs for each tenant that was brought back", unit: plain},
			{key: "put", what: "a small disk: PUTs for each tenant that was brought back", unit: plain},
			{key: "delete", what: "a small disk: DELETEs for each tenant that was brought back", unit: plain},
			{key: "cpu", what: "a small disk: cores that multidb and the callers use", unit: plain},
			{key: "rss", what: "a small disk: most memory", unit: inBytes},
		},
	}
}

const (
	diskSize    = 100 << 10 // of a tenant
	diskCallers = 16
	diskSample  = 1000 // tenants that are restored at the end

	// diskRow is a row that LZ4 makes four times smaller, as it does with rows of
	// applications: the S3 server has all of them in memory.
	diskRow = `INSERT INTO log(v) VALUES(CAST(hex(randomblob(8)) || ` +
		`'{"kind":"visit","page":"/account/settings","agent":"Mozilla/5.0 (X11; Linux x86_64)"}' AS BLOB))`
)

// diskLimit is 1 GB for 100,000 tenants.
func diskLimit(n int) int64 { return int64(n) * 10_000 }

// diskLoad is what the callers did.
type diskLoad struct {
	sp            *spec
	m             *managed
	rows          int64          // of the log of a new tenant
	begun, done   []atomic.Int64 // rows that were inserted since, by tenant
	errs          atomic.Int64
	mu            sync.Mutex
	hits, misses  []float64 // how long Acquire took, in seconds
	first         error
	used, du, rss float64 // the most that was seen
}

func smallDisk(ctx context.Context, sp *spec) (_ figures, err error) {
	limit := diskLimit(sp.N)
	l := &diskLoad{sp: sp, begun: make([]atomic.Int64, sp.N), done: make([]atomic.Int64, sp.N)}
	began := time.Now()
	if err := l.make(ctx, limit); err != nil {
		return nil, err
	}
	sp.say("%d tenants made in %.0f s\n", sp.N, time.Since(began).Seconds())
	began = time.Now()
	if l.m, err = startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), multidb.WithMaxDisk(limit)); err != nil {
		return nil, err
	}
	sp.say("started in %.1f s\n", time.Since(began).Seconds())
	f, err := l.run(ctx, limit)
	if err := errors.Join(err, l.m.stop(ctx)); err != nil {
		return nil, fmt.Errorf("%w (%v)", err, f)
	}
	began = time.Now()
	lost, err := l.verify(ctx)
	sp.say("%d tenants verified in %.0f s\n", min(diskSample, sp.N), time.Since(began).Seconds())
	f["lost"] = float64(lost)
	if err = errors.Join(err, l.first); err != nil {
		return nil, fmt.Errorf("%w (%v)", err, f)
	}
	return f, nil
}

// make makes the tenants, each of which a Manager ships and evicts: all but the last ones,
// which fill most of the disk.
func (l *diskLoad) make(ctx context.Context, limit int64) (err error) {
	image, err := l.template(l.sp.Dir)
	if err != nil {
		return err
	}
	for i := 0; i < l.sp.N; i += perProject {
		if err := os.MkdirAll(filepath.Dir(fleetPath(l.sp.Dir, i)), 0o755); err != nil {
			return err
		}
	}
	m, err := startManager(ctx, l.sp.Dir, multidb.WithS3(l.sp.s3Config()), multidb.WithMaxDisk(limit))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	stay := int(limit / int64(len(image)) * 8 / 10)
	return parallel(ctx, l.sp.N, diskCallers, func(ctx context.Context, i int) error {
		if i%(l.sp.N/20) == 0 {
			l.sp.say("making tenant %d\n", i)
		}
		if err := makeOne(fleetPath(l.sp.Dir, i), image, false); err != nil {
			return err
		}
		if err := m.Do(ctx, fleetID(i), func(*sql.DB) error { return nil }); err != nil {
			return err
		}
		if i >= l.sp.N-stay {
			_, err := m.Sync(ctx, fleetID(i))
			return err
		}
		return m.Evict(ctx, fleetID(i))
	})
}

// template makes the file of a new tenant.
func (l *diskLoad) template(dir string) (_ []byte, err error) {
	path := filepath.Join(dir, "template.db")
	db, err := openApp(path)
	if err != nil {
		return nil, err
	}
	err = fill(db, 0)
	if err == nil {
		for l.rows = 0; l.rows*(rowBytes+8) < diskSize && err == nil; l.rows++ {
			_, err = db.Exec(diskRow)
		}
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	image, err := os.ReadFile(path)
	return image, errors.Join(err, os.Remove(path))
}

// run has the callers use tenants at random.
func (l *diskLoad) run(ctx context.Context, limit int64) (figures, error) {
	load := l.sp.Load
	if load == 0 {
		load = pick(l.sp.Short, 20*time.Second, 10*time.Minute)
	}
	before, err := l.sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	profiled, err := l.sp.profileLoad()
	if err != nil {
		return nil, err
	}
	stats, cpu, began := l.m.Stats(), cpuTime(), time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := time.AfterFunc(load, cancel)
	defer over.Stop()
	var callers, watchers sync.WaitGroup
	watched := make(chan error, 2)
	watching, watchedAll := context.WithCancel(context.WithoutCancel(ctx))
	defer watchedAll()
	watchers.Go(func() { watched <- l.watchStats(watching) })
	watchers.Go(func() { watched <- l.watchDisk(watching, limit) })
	for c := range diskCallers {
		callers.Go(func() { l.call(ctx, rand.New(rand.NewPCG(14, uint64(c)))) })
	}
	callers.Wait()
	watchedAll()
	watchers.Wait()
	took := time.Since(began).Seconds()
	cpu = cpuTime() - cpu
	now := l.m.Stats()
	after, err := l.sp.control().stats(context.WithoutCancel(ctx))
	err = errors.Join(err, <-watched, <-watched, profiled())
	d, back := after.minus(before), float64(max(len(l.misses), 1))
	f := figures{
		"errors":     float64(l.errs.Load()),
		"operations": float64(len(l.hits)+len(l.misses)) / took,
		"hits":       float64(len(l.hits)), "misses": float64(len(l.misses)),
		"hit-p50": quantile(l.hits, 0.5), "hit-p99": quantile(l.hits, 0.99), "hit-max": quantile(l.hits, 1),
		"miss-p50": quantile(l.misses, 0.5), "miss-p99": quantile(l.misses, 0.99), "miss-max": quantile(l.misses, 1),
		"evictions":       float64(now.Disk.Evictions-stats.Disk.Evictions) / took,
		"evictions-given": float64(now.Disk.Failures - stats.Disk.Failures),
		"used":            l.used / float64(limit), "du": l.du / float64(limit),
		"get": float64(d.Get) / back, "list": float64(d.List) / back, "put": float64(d.Put) / back,
		"delete": float64(d.Delete) / back, "head": float64(d.Head) / back,
		"cpu": cpu / took, "cpu-s3": d.CPU / took, "rss": l.rss,
		"hot": float64(now.Hot), "transactions": float64(now.Transactions - stats.Transactions),
		"resyncs": float64(now.Resyncs - stats.Resyncs), "failures": float64(now.Failures - stats.Failures),
	}
	for what, n := range d.By {
		f["by "+what] = float64(n) / back
	}
	return f, err
}

// call uses one tenant after another until ctx ends.
func (l *diskLoad) call(ctx context.Context, r *rand.Rand) {
	work := context.WithoutCancel(ctx) // what was begun is done
	for ctx.Err() == nil {
		i := r.IntN(l.sp.N)
		if err := l.use(work, i, r.IntN(2) == 0); err != nil {
			l.errs.Add(1)
			l.mu.Lock()
			if l.first == nil {
				l.first = fmt.Errorf("%s: %w", fleetID(i), err)
				l.sp.say("%v\n", l.first)
			}
			l.mu.Unlock()
		}
	}
}

// use uses a tenant once: it inserts a row, or sees that all rows are there.
func (l *diskLoad) use(ctx context.Context, i int, insert bool) error {
	st, err := l.m.Status(fleetID(i))
	if err != nil {
		return err
	}
	began := time.Now()
	h, err := l.m.Acquire(ctx, fleetID(i))
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	defer h.Release()
	l.mu.Lock()
	if st.Resident {
		l.hits = append(l.hits, took)
	} else {
		l.misses = append(l.misses, took)
	}
	l.mu.Unlock()
	if insert {
		l.begun[i].Add(1)
		if _, err := h.DB().ExecContext(ctx, diskRow); err != nil {
			return err
		}
		l.done[i].Add(1)
		return nil
	}
	least := l.rows + l.done[i].Load()
	rows, err := countRows(ctx, h.DB())
	if most := l.rows + l.begun[i].Load(); err == nil && (rows < least || rows > most) {
		err = fmt.Errorf("it has %d rows, want %d to %d", rows, least, most)
	}
	return err
}

// countRows looks at the row that all have, and counts those of the log.
func countRows(ctx context.Context, db *sql.DB) (n int64, err error) {
	var mark string
	err = db.QueryRowContext(ctx, `SELECT (SELECT v FROM state WHERE id=1), (SELECT count(*) FROM log)`).Scan(&mark, &n)
	if err == nil && mark != markOf(0) {
		err = fmt.Errorf("its mark is %q, want %q", mark, markOf(0))
	}
	return n, err
}

// watchStats samples what the Manager says of the disk.
func (l *diskLoad) watchStats(ctx context.Context) error {
	for {
		l.used = max(l.used, float64(l.m.Stats().Disk.Used))
		if pause(ctx, 100*time.Millisecond) != nil {
			return nil
		}
	}
}

// watchDisk samples what is on the disk, and the memory.
func (l *diskLoad) watchDisk(ctx context.Context, limit int64) error {
	began := time.Now()
	for {
		du, err := diskUsage(fleetRoot(l.sp.Dir), filepath.Join(l.sp.Dir, "state", "spool"))
		if err != nil {
			return err
		}
		rss, err := residentBytes()
		if err != nil {
			return err
		}
		l.du, l.rss = max(l.du, du), max(l.rss, rss)
		s := l.m.Stats()
		l.mu.Lock()
		hits, misses := len(l.hits), len(l.misses)
		l.mu.Unlock()
		l.sp.say("%4.0f s: %d hits, %d misses, %d errors, %.1f %% on the disk, %.1f %% by Stats, %d evictions, %d given up, %d hot, %d running, %d failing, %d open, %.0f MB of memory\n",
			time.Since(began).Seconds(), hits, misses, l.errs.Load(), du/float64(limit)*100, float64(s.Disk.Used)/float64(limit)*100,
			s.Disk.Evictions, s.Disk.Failures, s.Hot, s.Running, s.Failing, s.Pool.Open, rss/1e6)
		if pause(ctx, pick(l.sp.Short || l.sp.Load > 0, time.Second, 10*time.Second)) != nil {
			return nil
		}
	}
}

// diskUsage is how many bytes all files below some directories take.
func diskUsage(dirs ...string) (sum float64, err error) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			var fi fs.FileInfo
			if err == nil && !d.IsDir() {
				fi, err = d.Info()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone meanwhile
			}
			if fi != nil {
				sum += float64(fi.Sys().(*syscall.Stat_t).Blocks) * 512
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// verify restores tenants from S3, and returns how many of them lack a row, or have one
// that nobody committed. Half of them are such as were written to.
func (l *diskLoad) verify(ctx context.Context) (lost int64, err error) {
	replica, err := multidb.NewS3Replica(l.sp.s3Config())
	if err != nil {
		return 0, err
	}
	defer replica.CloseIdleConnections()
	glob := multidb.Glob(fleetPattern(l.sp.Dir))
	var sample, others []int
	for _, i := range rand.New(rand.NewPCG(14, 14)).Perm(l.sp.N) {
		if l.done[i].Load() > 0 && len(sample) < diskSample/2 {
			sample = append(sample, i)
		} else {
			others = append(others, i)
		}
	}
	sample = append(sample, others...)[:min(diskSample, l.sp.N)]
	var bad atomic.Int64
	err = parallel(ctx, len(sample), diskCallers, func(ctx context.Context, k int) error {
		i := sample[k]
		db, _ := glob.Locate(fleetID(i))
		out := filepath.Join(l.sp.Dir, fmt.Sprintf("restored-%d.db", i))
		if err := multidb.RestoreFrom(ctx, replica, db, multidb.RestoreOptions{OutputPath: out}); err != nil {
			return err
		}
		app, err := openApp(out)
		if err != nil {
			return err
		}
		rows, err := countRows(ctx, app)
		if want := l.rows + l.done[i].Load(); err == nil && rows != want {
			bad.Add(1)
			l.sp.say("%s has %d rows, want %d\n", fleetID(i), rows, want)
		}
		return errors.Join(err, app.Close(), os.Remove(out))
	})
	return bad.Load(), err
}
