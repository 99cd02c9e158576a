package multidb_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestTheManagerAgreesWithItsModel drives whole Managers, on real databases and
// a replica with faults, through random histories in virtual time, and compares
// what they say and what the replica holds with a model that knows only what was
// done. A seed decides the operations; which goroutine is first within one
// moment it does not.
//
// It has been seen red without each of these:
// the state moves only after the replica's answer (internal/ship/write.go, write);
// the bound of the hot tier (internal/schedule/tier.go, activate); what Close
// names (internal/conduct/drain.go, shipAll); the records that a start loads
// (internal/conduct/record.go, Load).
func TestTheManagerAgreesWithItsModel(t *testing.T) {
	t.Parallel()
	var total tally
	eachSeed(t, 40, &total, func(t *testing.T, seed uint64, dir string) {
		w := newWorld(t, seed, dir)
		w.history()
		total.add(w.tally)
	})
}

// tally counts what was done.
type tally struct {
	mu                                                         sync.Mutex
	seeds, ops, commits, syncs, restores, starts, checks, idle int
	virtual                                                    time.Duration
}

func (a *tally) add(b *tally) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seeds++
	a.ops += b.ops
	a.commits += b.commits
	a.syncs += b.syncs
	a.restores += b.restores
	a.starts += b.starts
	a.checks += b.checks
	a.idle += b.idle
	a.virtual += b.virtual
}

func (a *tally) String() string {
	return fmt.Sprintf("%d seeds: %d operations, %d commits, %d syncs, %d restores compared, %d starts, %d checks at rest, %d idle periods, %v of virtual time",
		a.seeds, a.ops, a.commits, a.syncs, a.restores, a.starts, a.checks, a.idle, a.virtual.Round(time.Minute))
}

// limits is the configuration of a world.
type limits struct {
	sync, cold, scan, hot, recent, idle time.Duration
	retention, retentionInterval, l0    time.Duration
	grace                               time.Duration
	snapshot                            time.Duration
	accesses, maxHot, maxOpen, uploads  int
	pages                               int
	walSize                             int64
	restoreOpen                         bool
}

func randomLimits(rng *rand.Rand) limits {
	pick := func(ds ...time.Duration) time.Duration { return ds[rng.IntN(len(ds))] }
	l := limits{
		sync: pick(200*time.Millisecond, time.Second, 2*time.Second),
		cold: pick(2*time.Second, 10*time.Second, 30*time.Second),
		scan: pick(5*time.Second, 30*time.Second),
		hot:  pick(5*time.Second, 30*time.Second, 2*time.Minute), recent: pick(0, 10*time.Second, time.Minute),
		idle:      pick(0, time.Second, time.Minute),
		retention: pick(5*time.Minute, 20*time.Minute), retentionInterval: pick(time.Minute, 5*time.Minute),
		l0: pick(10*time.Second, 2*time.Minute), snapshot: pick(5*time.Minute, 24*time.Hour),
		accesses: rng.IntN(4), maxHot: 1 + rng.IntN(3), maxOpen: 1 + rng.IntN(3), uploads: 1 + rng.IntN(4),
		pages: []int{4, 40, 1000}[rng.IntN(3)], walSize: []int64{1 << 16, 64 << 20}[rng.IntN(2)],
		restoreOpen: rng.IntN(2) == 0,
		grace:       pick(10*time.Second, 5*time.Minute),
	}
	return l
}

// atRest is how long after the last event, and the end of the last fault, all is
// at the replica: a scan, the spread of what it found, the longest back-off, a
// step of a warm database, and a step right after.
func (l limits) atRest() time.Duration {
	return l.scan + 2*l.cold + 15*time.Second + 2*l.sync + time.Second
}

// world is a Manager, its surroundings, and what the model knows of them.
type world struct {
	findings

	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	limits limits
	dir    string
	trace  []string

	stamps  *stamps
	listing *listing
	rep     *multidbtest.Replica
	m       *multidb.Manager
	started multidb.RequestStats // when the Manager was

	subjects map[multidb.ID]*subject
	padding  int // bound of a row's size, in 8 bytes
	commits  int // numbers given away
	outs     int

	faults  bool      // the replica may fail
	outage  bool      // it fails whatever it is asked
	faultAt time.Time // the last moment at which it may have

	mu     sync.Mutex
	events []multidb.Event // since Start
	joined sync.WaitGroup
	tally  *tally
}

func newWorld(t *testing.T, seed uint64, dir string) *world {
	rng := rand.New(rand.NewPCG(seed, 11))
	w := &world{t: t, seed: seed, rng: rng, limits: randomLimits(rng), dir: dir,
		stamps: newStamps(), rep: multidbtest.NewReplica(), subjects: map[multidb.ID]*subject{},
		padding: []int{20, 200, 1200}[rng.IntN(3)], tally: &tally{}}
	root := filepath.Join(dir, "data")
	w.listing = &listing{glob: multidb.Glob(filepath.Join(root, "{{project}}/{{database}}.db"))}
	for p := range 2 {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprint("p", p)), 0o755); err != nil {
			t.Fatal(err)
		}
		for d := range 4 {
			id := multidb.ID(fmt.Sprintf("p%d/d%d", p, d))
			w.subjects[id] = &subject{id: id, path: filepath.Join(root, string(id)+".db"), acked: -1}
		}
	}
	return w
}

func (w *world) next() int { w.commits++; return w.commits }

// scratch is a path where nothing is.
func (w *world) scratch() string {
	w.outs++
	w.tally.restores++
	return filepath.Join(w.dir, fmt.Sprint("out", w.outs))
}

func (w *world) log(format string, args ...any) {
	w.trace = append(w.trace, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("seed %d, %+v\n%s\n%s", w.seed, w.limits,
		strings.Join(w.trace[max(0, len(w.trace)-60):], "\n"), fmt.Sprintf(format, args...))
	// The bubble can end only when everything in it has.
	w.rep.ClearFaults()
	w.releaseAll()
	if w.m != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		_ = w.m.Close(ctx)
	}
	w.t.FailNow()
}

// start makes a Manager of the same configuration and starts it.
func (w *world) start() {
	l := w.limits
	opts := []multidb.Option{
		multidb.WithDiscoverer(w.listing), multidb.WithReplica(w.rep), multidb.WithStateDir(filepath.Join(w.dir, "state")),
		multidb.WithTakeover(multidb.TakeoverUnknown), multidb.WithBoot(virtualBoot(), w.limits.grace),
		multidb.WithWatch(false), multidb.WithStat(w.stamps.stat), multidb.WithRand(w.jitter(w.rng.Uint64())),
		multidb.WithSyncInterval(l.sync), multidb.WithColdSyncInterval(l.cold), multidb.WithScanInterval(l.scan),
		multidb.WithHotDuration(l.hot), multidb.WithPromotion(l.recent, l.accesses), multidb.WithIdleTimeout(l.idle),
		multidb.WithRetention(l.retention), multidb.WithRetentionInterval(l.retentionInterval), multidb.WithL0Retention(l.l0),
		multidb.WithSnapshotInterval(l.snapshot), multidb.WithMaxHot(l.maxHot), multidb.WithMaxOpen(l.maxOpen),
		multidb.WithUploadConcurrency(l.uploads), multidb.WithCheckpointPages(l.pages), multidb.WithMaxWALSize(l.walSize),
		multidb.WithMaxConns(2), multidb.WithObserver(w.observe),
		multidb.WithOpenHook(func(ctx context.Context, db multidb.Database, c *sql.DB) error {
			return w.born(ctx, w.subjects[db.ID], c)
		}),
	}
	if l.restoreOpen {
		opts = append(opts, multidb.WithRestoreOnOpen())
	}
	m, err := multidb.New(opts...)
	if err != nil {
		w.fail("new: %v", err)
	}
	w.mu.Lock()
	w.events = nil
	w.mu.Unlock()
	w.started = w.rep.RequestStats()
	if err := m.Start(w.t.Context()); err != nil {
		w.fail("start: %v", err)
	}
	w.m = m
	w.tally.starts++
	if n := w.rep.RequestStats().List - w.started.List; n != 0 {
		w.fail("%d LIST requests at start", n)
	}
}

// virtualBoot is a clock of the bubble.
func virtualBoot() func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Since(began) + time.Hour }
}

// jitter is a source of its own, as the Manager's goroutines draw from it.
func (w *world) jitter(seed uint64) func() float64 {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 12))
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64()
	}
}

func (w *world) observe(ev multidb.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, ev)
}

// pass lets the clock go on, and looks at the files at least once in a beat so
// that their stamps are right.
func (w *world) pass(d time.Duration) {
	w.tally.virtual += d
	beat := time.Second
	if d > 10*time.Minute {
		beat = 10 * time.Second
	}
	for d > 0 {
		synctest.Wait()
		w.lookAtFiles()
		time.Sleep(min(d, beat))
		d -= beat
	}
	w.settleGoroutines()
}

func (w *world) lookAtFiles() {
	for _, s := range w.subjects {
		_, _ = w.stamps.stat(s.path)
		_, _ = w.stamps.stat(s.path + "-wal")
	}
}

// settleGoroutines waits until everything in the bubble waits for the clock.
func (w *world) settleGoroutines() {
	synctest.Wait()
	w.lookAtFiles()
	w.takeIn()
	w.always()
}

// history is one random life.
func (w *world) history() {
	for _, s := range w.sorted()[:5] {
		w.makeForeign(s)
	}
	w.start()
	for _, s := range w.subjects {
		s.moved = false // nobody had them before
	}
	for range 40 + w.rng.IntN(40) {
		w.operate()
		w.tally.ops++
		switch k := w.rng.IntN(20); {
		case k < 4: // at once
		case k < 8:
			w.settleGoroutines()
		case k < 14:
			w.pass(time.Duration(w.rng.IntN(500)) * time.Millisecond)
		case k < 18:
			w.pass(time.Duration(w.rng.IntN(6000)) * time.Millisecond)
		case k < 19:
			w.pass(time.Duration(w.rng.IntN(120)) * time.Second)
		default:
			w.rest()
		}
	}
	w.end()
}
