package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// randomSeedEnv chooses the seed of TestNoVerbLosesWhatWasSynced, and randomTimeEnv for how long
// it goes on with further ones, as "10m".
const (
	randomSeedEnv = "MULTIDB_LIFECYCLE_SEED"
	randomTimeEnv = "MULTIDB_LIFECYCLE_TIME"
)

// TestNoVerbLosesWhatWasSynced has goroutines do at random what can be done to databases,
// through restarts and on a disk that holds a few of them. Whatever comes, each database has
// what it was promised, and nothing of another one.
func TestNoVerbLosesWhatWasSynced(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if s := os.Getenv(randomSeedEnv); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	var until time.Time
	if s := os.Getenv(randomTimeEnv); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		until = time.Now().Add(d)
	}
	for {
		for _, log := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed %d, log %v", seed, log), func(t *testing.T) { newTown(t, seed, log).live() })
		}
		if seed++; t.Failed() || !time.Now().Before(until) {
			return
		}
	}
}

const (
	townIDs     = 20
	townWorkers = 8
	townSteps   = 35 // of each worker
	townPatient = time.Minute
)

// steps is townSteps, and fewer where the race detector makes them slow.
func steps() int {
	if testing.Short() {
		return townSteps / 3
	}
	return townSteps
}

// dweller is what is known of an ID.
type dweller struct {
	verb sync.RWMutex // held for what changes what the ID is; for reading by who uses it

	mu      sync.Mutex
	there   bool
	removed bool
	must    []string        // was synced
	may     map[string]bool // was perhaps committed
}

type town struct {
	t    *testing.T
	rng  *rand.Rand
	root string
	opts []multidb.Option
	ids  []multidb.ID
	of   map[multidb.ID]*dweller

	mu sync.Mutex
	f  *fleet

	saidMu sync.Mutex
	said   []string // what was done, for a failure
}

func (w *town) say(format string, args ...any) {
	w.saidMu.Lock()
	defer w.saidMu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

// fail fails the test, and prints what was done to the databases that a failure names.
func (w *town) fail(id multidb.ID, format string, args ...any) {
	w.t.Helper()
	w.t.Errorf(format, args...)
	w.saidMu.Lock()
	defer w.saidMu.Unlock()
	for _, line := range w.said {
		if strings.Contains(line, string(id)+" ") || strings.HasPrefix(line, "restart") {
			w.t.Log(line)
		}
	}
}

func newTown(t *testing.T, seed uint64, log bool) *town {
	w := &town{t: t, rng: rand.New(rand.NewPCG(seed, 1)), root: newTree(t, 1, 0), of: map[multidb.ID]*dweller{}}
	w.opts = []multidb.Option{
		multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxDisk(40 << 10), multidb.WithMaxOpen(6), withTable(),
		multidb.WithStateDir(t.TempDir()),
	}
	if log {
		w.opts = append(w.opts, multidb.WithFleetLog(multidb.FleetLogConfig{}))
	}
	for i := range townIDs {
		id := multidb.ID(fmt.Sprintf("project0/t%d", i))
		w.ids, w.of[id] = append(w.ids, id), &dweller{may: map[string]bool{}}
	}
	w.f = start(t, w.root, w.opts...)
	return w
}

func (w *town) manager() *multidb.Manager {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.f.m
}

// restart closes the Manager in the midst of what the others do.
func (w *town) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.f.close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
	w.f = start(w.t, w.root, w.opts...)
	w.say("restart")
}

func (w *town) live() {
	var wg sync.WaitGroup
	for i := range townWorkers {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), uint64(i)))
		wg.Go(func() {
			for n := range steps() {
				w.step(rng, fmt.Sprintf("%d.%d", i, n))
			}
		})
	}
	wg.Wait()
	for range 2 {
		for _, id := range w.ids {
			w.look(id)
		}
		w.restart()
	}
}

func (w *town) step(rng *rand.Rand, name string) {
	id := w.ids[rng.IntN(len(w.ids))]
	switch n := rng.IntN(100); {
	case n < 40:
		w.write(id, name)
	case n < 55:
		w.look(id)
	case n < 65:
		w.evict(id)
	case n < 72:
		w.remove(id)
	case n < 80:
		w.undelete(id)
	case n < 86:
		w.rename(id, w.ids[rng.IntN(len(w.ids))])
	case n < 91:
		w.fork(id, w.ids[rng.IntN(len(w.ids))])
	case n < 95:
		w.erase(id)
	case n < 98:
		w.each()
	default:
		w.restart()
	}
}

// passing are errors that say nothing of a database: the Manager was closed, or Run is at it.
func passing(err error) bool {
	return errors.Is(err, multidb.ErrClosed) || errors.Is(err, multidb.ErrNotStarted) || errors.Is(err, context.Canceled)
}

// try calls do until it is clear what it did. tried: an earlier attempt may have done it.
func (w *town) try(what string, do func(ctx context.Context, m *multidb.Manager) error) (tried bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), townPatient)
	defer cancel()
	for {
		err = do(ctx, w.manager())
		w.say("%s : %v", what, err)
		if !passing(err) && !errors.Is(err, multidb.ErrInUse) || ctx.Err() != nil {
			break
		}
		tried = true
	}
	if ctx.Err() != nil {
		w.t.Errorf("%s never ends: %v", what, err)
	}
	return tried, err
}

func (w *town) write(id multidb.ID, v string) {
	d := w.of[id]
	d.verb.RLock()
	defer d.verb.RUnlock()
	d.mu.Lock()
	removed := d.removed
	d.may[v], d.there = true, d.there || !removed
	d.mu.Unlock()
	inserted := false
	_, err := w.try(fmt.Sprintf("a commit to %s", id), func(ctx context.Context, m *multidb.Manager) error {
		if !inserted {
			if err := m.Do(ctx, id, func(db *sql.DB) error {
				_, err := db.ExecContext(ctx, "INSERT INTO t(v) VALUES(?)", v)
				return err
			}); err != nil {
				return err
			}
			inserted = true
		}
		_, err := m.Sync(ctx, id)
		return err
	})
	switch {
	case removed && errors.Is(err, multidb.ErrRemoved):
	case err != nil || removed:
		w.fail(id, "write to %s (removed: %v): %v", id, removed, err)
	default:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.must = append(d.must, v)
	}
}

func (w *town) look(id multidb.ID) {
	d := w.of[id]
	d.verb.RLock()
	defer d.verb.RUnlock()
	d.mu.Lock()
	must, removed := slices.Clone(d.must), d.removed
	d.there = d.there || !removed
	d.mu.Unlock()
	var got []string
	_, err := w.try(fmt.Sprintf("a look at %s", id), func(ctx context.Context, m *multidb.Manager) error {
		got = nil
		return m.Do(ctx, id, func(db *sql.DB) error {
			rs, err := db.QueryContext(ctx, "SELECT v FROM t")
			if err != nil {
				return err
			}
			defer rs.Close()
			for rs.Next() {
				var v string
				if err := rs.Scan(&v); err != nil {
					return err
				}
				got = append(got, v)
			}
			return rs.Err()
		})
	})
	if removed && errors.Is(err, multidb.ErrRemoved) {
		return
	} else if err != nil || removed {
		w.fail(id, "read %s (removed: %v): %v", id, removed, err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range must {
		if !slices.Contains(got, v) {
			w.fail(id, "%s lacks %s: it has %v, and was promised %v", id, v, got, must)
		}
	}
	for _, v := range got {
		if !d.may[v] {
			w.fail(id, "%s has %s, which is not its own", id, v)
		}
	}
}

func (w *town) evict(id multidb.ID) {
	err := w.manager().Evict(context.Background(), id)
	w.say("evict %s : %v", id, err)
	if err != nil && !passing(err) && !errors.Is(err, multidb.ErrInUse) && !errors.Is(err, multidb.ErrNotFound) && !errors.Is(err, multidb.ErrRemoved) && !errors.Is(err, multidb.ErrNoBackup) {
		w.fail(id, "evict %s: %v", id, err)
	}
}

func (w *town) remove(id multidb.ID) {
	d := w.of[id]
	d.verb.Lock()
	defer d.verb.Unlock()
	_, err := w.try(fmt.Sprintf("a removal of %s", id), func(ctx context.Context, m *multidb.Manager) error {
		return m.Remove(ctx, id)
	})
	switch {
	case err == nil && (d.there || d.removed):
		d.removed, d.there = true, false
	case errors.Is(err, multidb.ErrNotFound) && !d.there && !d.removed:
	default:
		w.fail(id, "remove %s (there: %v, removed: %v): %v", id, d.there, d.removed, err)
	}
}

func (w *town) undelete(id multidb.ID) {
	d := w.of[id]
	d.verb.Lock()
	defer d.verb.Unlock()
	if !d.removed {
		return
	}
	_, err := w.try(fmt.Sprintf("bringing back %s", id), func(ctx context.Context, m *multidb.Manager) error {
		err := m.Undelete(ctx, id)
		if _, known := m.Status(id); errors.Is(err, multidb.ErrInUse) && known == nil {
			return nil // an earlier attempt has
		}
		return err
	})
	if err != nil {
		w.fail(id, "undelete %s: %v", id, err)
		return
	}
	d.removed, d.there = false, true
}

func (w *town) erase(id multidb.ID) {
	d := w.of[id]
	d.verb.Lock()
	defer d.verb.Unlock()
	_, err := w.try(fmt.Sprintf("an erasure of %s", id), func(ctx context.Context, m *multidb.Manager) error {
		_, err := m.Erase(ctx, id)
		return err
	})
	if err != nil {
		w.fail(id, "erase %s: %v", id, err)
		return
	}
	d.removed, d.there, d.must, d.may = false, false, nil, map[string]bool{}
}

// pair locks two IDs, always in the same order.
func (w *town) pair(src, dst multidb.ID) (unlock func()) {
	a, b := w.of[min(src, dst)], w.of[max(src, dst)]
	a.verb.Lock()
	b.verb.Lock()
	return func() { b.verb.Unlock(); a.verb.Unlock() }
}

func (w *town) rename(src, dst multidb.ID) {
	if src == dst {
		return
	}
	defer w.pair(src, dst)()
	from, to := w.of[src], w.of[dst]
	if !from.there || len(from.must) == 0 {
		return
	}
	free := !to.there && !to.removed
	tried, err := w.try(fmt.Sprintf("a renaming of %s to %s", src, dst), func(ctx context.Context, m *multidb.Manager) error {
		return m.Rename(ctx, src, dst)
	})
	switch {
	case free && (err == nil || tried && (errors.Is(err, multidb.ErrNotFound) || errors.Is(err, multidb.ErrExists))):
		to.there, to.must, to.may = true, from.must, from.may
		from.there, from.must, from.may = false, nil, map[string]bool{}
	case !free && (errors.Is(err, multidb.ErrExists) || errors.Is(err, multidb.ErrRemoved)):
	default:
		w.fail(src, "rename %s to %s (free: %v): %v", src, dst, free, err)
	}
}

func (w *town) fork(src, dst multidb.ID) {
	if src == dst {
		return
	}
	defer w.pair(src, dst)()
	from, to := w.of[src], w.of[dst]
	if len(from.must) == 0 {
		return
	}
	free := !to.there && !to.removed
	tried, err := w.try(fmt.Sprintf("a fork of %s to %s", src, dst), func(ctx context.Context, m *multidb.Manager) error {
		return m.Fork(ctx, src, dst, multidb.ForkOptions{})
	})
	switch {
	case free && (err == nil || tried && errors.Is(err, multidb.ErrExists)):
		to.there, to.must, to.may = true, slices.Clone(from.must), map[string]bool{}
		for v := range from.may {
			to.may[v] = true
		}
	case !free && (errors.Is(err, multidb.ErrExists) || errors.Is(err, multidb.ErrRemoved)):
	default:
		w.fail(src, "fork %s to %s (free: %v): %v", src, dst, free, err)
	}
}

func (w *town) each() {
	err := w.manager().Each(context.Background(), multidb.EachOptions{Parallel: 2}, func(ctx context.Context, _ multidb.ID, db *sql.DB) error {
		var n int
		return db.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&n)
	})
	var e *multidb.EachError
	if errors.As(err, &e) {
		for _, f := range e.Failed {
			if !passing(f) && !errors.Is(f, multidb.ErrInUse) && !errors.Is(f, multidb.ErrRemoved) {
				w.t.Errorf("each: %v", f)
			}
		}
	} else if err != nil && !passing(err) {
		w.t.Errorf("each: %v", err)
	}
}
