package multidb_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestNoMachineLosesWhatAnotherPromised lets two or three machines, which sleep, die,
// forget, are copied and restored from backups, share one replica prefix in virtual
// time. Whatever they do, the newest restore succeeds, is a state that some machine
// had at a commit, and has every commit for which a Sync returned nil, unless an
// operator chose another history. A seed decides the operations; which goroutine is
// first within one moment it does not.
//
// It has been seen red without each of these: Confirm and confirmLate
// (internal/ship/confirm.go), the grace of level 0 (internal/levels/retain.go), the
// sessions and the detection of a copy (internal/catalog/session.go), who is fenced
// and who is untouched (internal/ship/verify.go).
func TestNoMachineLosesWhatAnotherPromised(t *testing.T) {
	t.Parallel()
	var total livesTally
	eachSeed(t, 40, &total, func(t *testing.T, seed uint64, dir string) {
		w := newLives(t, seed, dir)
		w.live()
		total.add(&w.tally)
	})
	if total.lives >= 10 && total.fences == 0 {
		t.Error("no machine was ever fenced, as far as the model knows: it does not get what the goroutines find out")
	}
}

// livesTally counts what was done.
type livesTally struct {
	mu                                                sync.Mutex
	lives, commits, promised, sleeps, kills, rolled   int
	clones, lostStates, lostAll, oldFiles             int
	takeovers, adoptions, handovers, fences, restores int
	starts, ghosts, behinds                           int
	virtual                                           time.Duration
}

func (a *livesTally) counts() []*int {
	return []*int{&a.lives, &a.commits, &a.promised, &a.sleeps, &a.kills, &a.rolled, &a.clones, &a.lostStates, &a.lostAll,
		&a.oldFiles, &a.takeovers, &a.adoptions, &a.handovers, &a.fences, &a.restores, &a.starts, &a.ghosts, &a.behinds}
}

func (a *livesTally) add(b *livesTally) {
	a.mu.Lock()
	defer a.mu.Unlock()
	to, from := a.counts(), b.counts()
	for i := range to {
		*to[i] += *from[i]
	}
	a.virtual += b.virtual
}

func (a *livesTally) String() string {
	return fmt.Sprintf("%d lives: %d commits, %d syncs promised, %d starts, %d sleeps, %d kills, %d old catalogs, %d late requests of the dead, "+
		"%d clones, %d lost states, %d lost machines, %d old files, %d takeovers, %d adoptions, %d hand-overs, %d fences, %d brought up to date, "+
		"%d restores compared, %v of virtual time",
		a.lives, a.commits, a.promised, a.starts, a.sleeps, a.kills, a.rolled, a.ghosts,
		a.clones, a.lostStates, a.lostAll, a.oldFiles, a.takeovers, a.adoptions, a.handovers, a.fences, a.behinds,
		a.restores, a.virtual.Round(time.Minute))
}

// lifeLimits is what all machines of one life have in common.
type lifeLimits struct {
	machines                          int
	grace                             time.Duration
	sync, cold, scan, hot, idle       time.Duration
	l0, retention, interval, snapshot time.Duration
	pages                             int
	latency                           time.Duration
	restoreOpen, unknown              bool
	padding                           int
}

func randomLife(rng *rand.Rand) lifeLimits {
	pick := func(ds ...time.Duration) time.Duration { return ds[rng.IntN(len(ds))] }
	l := lifeLimits{
		machines: 2 + rng.IntN(2), grace: pick(10*time.Second, time.Minute, 5*time.Minute),
		sync: pick(200*time.Millisecond, time.Second, 3*time.Second), cold: pick(3*time.Second, 10*time.Second),
		scan: pick(5*time.Second, 30*time.Second), hot: pick(2*time.Second, 5*time.Second, 20*time.Second, time.Minute),
		idle: pick(0, time.Second, 10*time.Second),
		l0:   pick(time.Second, 5*time.Second, 30*time.Second), retention: pick(5*time.Second, 30*time.Second, 5*time.Minute),
		interval: pick(2*time.Second, 10*time.Second, time.Minute), snapshot: pick(20*time.Second, 2*time.Minute, 24*time.Hour),
		pages: []int{4, 20, 1000}[rng.IntN(3)], latency: pick(time.Millisecond, 50*time.Millisecond, 500*time.Millisecond),
		restoreOpen: rng.IntN(2) == 0, padding: []int{10, 60, 400}[rng.IntN(3)],
	}
	if rng.IntN(10) == 0 { // it is promised only to a fleet without a second writer
		l.unknown, l.machines = true, 1
	}
	return l
}

const sharedID = multidb.ID("p0/d0")

// lives is one history of some machines and their store.
type lives struct {
	findings

	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	limits lifeLimits
	dir    string
	boot   func() time.Duration
	stamps *stamps
	rep    *multidbtest.Replica
	boxes  []*box
	outs   int
	joined sync.WaitGroup
	tally  livesTally

	mu    sync.Mutex
	trace []string
	n     int                // the last number given away
	known map[uint64]content // every state that some machine had at a commit
	gates []*gate

	promised map[int]string // values, and who promised them
	given    map[int]bool   // values that an operator's choice may have given up
}

// box is one machine.
type box struct {
	w           *lives
	i           int
	root, state string
	path        string

	m     *multidb.Manager // nil: down
	gate  *gate
	lease multidb.Handle // the last one, which a failure releases

	content content         // of the file, as it was last seen
	exists  bool            // the file does
	unsure  bool            // something may have replaced it since
	chosen  bool            // and with an operator's consent
	had     map[uint64]bool // the states that the file had since the state directory is its own
	took    bool            // a TakeOver without a result may yet have its effect
	fenced  bool
	old     []backup
	catalog []fileSet // of the state directory: catalog.db and its log
}

// backup is a copy of the tenant's file with what it held.
type backup struct {
	files   fileSet
	content content
}

func newLives(t *testing.T, seed uint64, dir string) *lives {
	rng := rand.New(rand.NewPCG(seed, 21))
	w := &lives{t: t, seed: seed, rng: rng, limits: randomLife(rng), dir: dir, boot: virtualBoot(), stamps: newStamps(),
		rep: multidbtest.NewReplica(), known: map[uint64]content{}, promised: map[int]string{}, given: map[int]bool{}}
	for i := range w.limits.machines {
		w.addBox(i)
	}
	return w
}

func (w *lives) addBox(i int) *box {
	b := &box{w: w, i: i, root: filepath.Join(w.dir, fmt.Sprint("m", i), "data"), state: filepath.Join(w.dir, fmt.Sprint("m", i), "state"), had: map[uint64]bool{}}
	b.path = filepath.Join(b.root, string(sharedID)+".db")
	b.makeDirs()
	w.boxes = append(w.boxes, b)
	return b
}

func (b *box) makeDirs() {
	if err := os.MkdirAll(filepath.Dir(b.path), 0o755); err != nil {
		b.w.fail("%v", err)
	}
}

func (w *lives) log(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (b *box) log(format string, args ...any) {
	b.w.log("m%d: %s", b.i, fmt.Sprintf(format, args...))
}

func (w *lives) fail(format string, args ...any) {
	w.t.Helper()
	w.mu.Lock()
	trace := slices.Clone(w.trace)
	gates := slices.Clone(w.gates)
	w.mu.Unlock()
	w.t.Errorf("seed %d, %+v\n%s\n%s", w.seed, w.limits,
		strings.Join(trace[max(0, len(trace)-150):], "\n"), fmt.Sprintf(format, args...))
	// The bubble can end only when everything in it has.
	for _, g := range gates {
		g.kill(0)
	}
	for _, b := range w.boxes {
		if b.m != nil {
			b.lease.Release()
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			_ = b.m.Close(ctx)
			cancel()
		}
	}
	for _, g := range gates {
		g.flying.Wait()
	}
	w.t.FailNow()
}

func (w *lives) lookAtFiles() {
	for _, b := range w.boxes {
		_, _ = w.stamps.stat(b.path)
		_, _ = w.stamps.stat(b.path + "-wal")
	}
}

// settle waits until everything in the bubble waits for the clock.
func (w *lives) settle() {
	synctest.Wait()
	w.lookAtFiles()
	w.takeIn()
}

// pass lets the clock go on.
func (w *lives) pass(d time.Duration) {
	w.tally.virtual += d
	beat := min(max(d/20, time.Second), 20*time.Second)
	for d > 0 {
		w.settle()
		time.Sleep(min(d, beat))
		d -= beat
	}
	w.settle()
}

// upTo is a random duration, of any order of magnitude from a second on.
func (w *lives) upTo(d time.Duration) time.Duration {
	top := time.Second << w.rng.IntN(16)
	return time.Second + time.Duration(w.rng.Int64N(int64(min(top, d))))
}

// start gives a machine a Manager.
func (b *box) start() {
	w, l := b.w, b.w.limits
	b.gate = newGate(rand.New(rand.NewPCG(w.rng.Uint64(), 22)), l.latency, 10*l.grace, b.log)
	w.mu.Lock()
	w.gates = append(w.gates, b.gate)
	w.mu.Unlock()
	opts := []multidb.Option{
		multidb.WithDiscoverer(&listing{glob: multidb.Glob(filepath.Join(b.root, "{{project}}/{{database}}.db"))}),
		multidb.WithReplica(&gated{w.rep, b.gate}), multidb.WithStateDir(b.state),
		multidb.WithBoot(w.boot, l.grace), multidb.WithWatch(false), multidb.WithStat(w.stamps.stat),
		multidb.WithRand(jitterOf(w.rng.Uint64())),
		multidb.WithSyncInterval(l.sync), multidb.WithColdSyncInterval(l.cold), multidb.WithScanInterval(l.scan),
		multidb.WithHotDuration(l.hot), multidb.WithIdleTimeout(l.idle), multidb.WithMaxConns(2),
		multidb.WithRetention(l.retention), multidb.WithRetentionInterval(l.interval), multidb.WithL0Retention(l.l0),
		multidb.WithSnapshotInterval(l.snapshot), multidb.WithCheckpointPages(l.pages),
		multidb.WithObserver(b.observe),
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error { return b.w.born(ctx, db) }),
	}
	if l.restoreOpen || b.i >= l.machines {
		opts = append(opts, multidb.WithRestoreOnOpen())
	}
	if l.unknown {
		opts = append(opts, multidb.WithTakeover(multidb.TakeoverUnknown))
	}
	m, err := multidb.New(opts...)
	if err != nil {
		w.fail("new: %v", err)
	}
	if err := m.Start(w.t.Context()); err != nil {
		w.fail("m%d: start: %v", b.i, err)
	}
	b.m, b.fenced = m, false
	w.tally.starts++
	b.log("starts")
}

// jitterOf is a source of its own, as the Manager's goroutines draw from it.
func jitterOf(seed uint64) func() float64 { return (*world)(nil).jitter(seed) }

func (b *box) observe(ev multidb.Event) {
	switch ev.Type {
	case multidb.EventFenced:
		b.w.later(func() { b.w.tally.fences++ })
	case multidb.EventAdopted:
		if strings.HasSuffix(ev.Path, "-behind") {
			b.w.later(func() { b.w.tally.behinds++ })
		}
	case multidb.EventTier, multidb.EventAdded:
		return
	}
	b.log("event %v, txid %d: %v", ev.Type, ev.TXID, ev.Err)
}

// live is one history.
func (w *lives) live() {
	w.tally.lives = 1
	w.boxes[0].start()
	for range 3 { // so that there is a history to fight over
		w.boxes[0].write(true)
		w.pass(w.upTo(5 * time.Second))
	}
	for _, b := range w.boxes[1:] {
		if w.rng.IntN(2) == 0 {
			b.start()
		}
	}
	for range 40 + w.rng.IntN(50) {
		w.operate()
		switch k := w.rng.IntN(20); {
		case k < 5: // at once
		case k < 9:
			w.settle()
		case k < 13:
			w.pass(time.Duration(w.rng.IntN(800)) * time.Millisecond)
		case k < 18:
			w.pass(w.upTo(10 * time.Second))
		default:
			w.pass(w.upTo(2 * w.limits.grace))
		}
		if w.rng.IntN(3) == 0 {
			w.check()
		}
	}
	w.end()
}
