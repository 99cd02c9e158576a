package torture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// TestEveryTXIDIsAStateOfTheSource runs a random application, in one process
// with the Manager, and restores everything that was shipped meanwhile. P1, P2,
// P3 and P5 without crashes.
func TestEveryTXIDIsAStateOfTheSource(t *testing.T) {
	var mu sync.Mutex
	restored, commits, kinds := 0, 0, map[string]int{}
	eachSeed(t, 2, 2, func(t *testing.T, seed uint64) {
		w := newWorkload(t, seed)
		w.run(50)
		mu.Lock()
		defer mu.Unlock()
		restored += w.restored
		commits += len(w.app.hist.states)
		for k, v := range w.app.counts {
			kinds[k] += v
		}
	})
	t.Logf("%d commits, %d TXIDs restored; %v", commits, restored, kinds)
}

// workload is one application with its Manager.
type workload struct {
	t        *testing.T
	rng      *rand.Rand
	root     string
	path     string
	place    place
	m        *multidb.Manager
	events   *events
	app      *app
	restored int
}

const oneID = multidb.ID("one")

func newWorkload(t *testing.T, seed uint64) *workload {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &workload{t: t, rng: rng, root: t.TempDir(), app: newApp(rng), events: &events{}}
	w.path = filepath.Join(w.root, "one.db")
	w.place = filePlace(t)
	if seed%2 == 1 {
		w.place = newFakeS3(t).place
	}
	return w
}

// events counts what a Manager tells. Safe for concurrent use.
type events struct {
	mu  sync.Mutex
	all []multidb.Event
}

func (e *events) observe(ev multidb.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) count(typ multidb.EventType, id multidb.ID) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, ev := range e.all {
		if ev.Type == typ && (id == "" || ev.ID == id) {
			n++
		}
	}
	return n
}

// fast are options under which everything that happens happens often.
func fast(root string, f multidb.ReplicaFactory, observe func(multidb.Event)) []multidb.Option {
	return []multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{database}}.db"))),
		multidb.WithReplica(f),
		multidb.WithSyncInterval(20 * time.Millisecond),
		multidb.WithColdSyncInterval(50 * time.Millisecond),
		multidb.WithScanInterval(50 * time.Millisecond),
		multidb.WithHotDuration(200 * time.Millisecond),
		multidb.WithCheckpointPages(30),
		multidb.WithSnapshotInterval(500 * time.Millisecond),
		multidb.WithUploadConcurrency(8),
		multidb.WithIdleTimeout(50 * time.Millisecond),
		multidb.WithObserver(observe),
	}
}

func (w *workload) start() {
	w.t.Helper()
	m, err := multidb.New(fast(w.root, w.place.factory(w.t), w.events.observe)...)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.m = m
}

func (w *workload) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.m.Close(ctx); err != nil {
		w.t.Errorf("close: %v", err)
	}
	w.m = nil
}

// retry does what needs the database for itself, which the Manager's own
// connections may keep it from for a moment.
func (w *workload) retry(fn func() error) error {
	var err error
	eventually(w.t, 20*time.Second, func() string {
		var e *sqlite.Error
		if err = fn(); errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED) {
			return err.Error()
		}
		return ""
	})
	return err
}

// session is some work on one connection: the pool's, or another program's.
func (w *workload) session(n int) error {
	ctx := context.Background()
	if w.rng.IntN(4) == 0 {
		db := foreignDB(w.t, w.path)
		defer db.Close()
		if len(w.app.tables) > 0 && w.rng.IntN(3) == 0 {
			if err := w.app.journal(ctx, db, w.retry); err != nil {
				return err
			}
		}
		return w.work(ctx, db, n, true)
	}
	return w.m.Do(ctx, oneID, func(db *sql.DB) error {
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		return w.work(ctx, c, n, false)
	})
}

func (w *workload) work(ctx context.Context, c querier, n int, foreign bool) error {
	if len(w.app.tables) == 0 {
		if err := w.app.createSchema(ctx, c); err != nil {
			return err
		}
	}
	for range n {
		var err error
		switch p := w.rng.IntN(100); {
		case p < 70:
			err = w.app.transaction(ctx, c, w.rng.IntN(30) == 0)
		case p < 80:
			err = w.app.vacuum(ctx, c)
		case p < 85 && foreign:
			mode := pick(w.rng, "PASSIVE", "FULL", "RESTART", "TRUNCATE")
			w.app.log("checkpoint", "%s", mode)
			err = w.app.exec(ctx, c, "PRAGMA wal_checkpoint("+mode+")")
		default:
			at := w.app.hist.at()
			var pos multidb.Pos
			if pos, err = w.m.Sync(ctx, oneID); err == nil {
				w.app.log("sync", "-> %d", pos.TXID)
				w.app.hist.synced(at, pos.TXID)
			}
		}
		if err != nil {
			return fmt.Errorf("after %s: %w", w.app.last(), err)
		}
	}
	return nil
}

func (w *workload) run(sessions int) {
	w.start()
	defer func() {
		if w.m != nil {
			w.stop()
		}
	}()
	// The file exists before the Manager looks, so that Sync finds it.
	if err := w.m.Do(w.t.Context(), oneID, func(*sql.DB) error { return nil }); err != nil {
		w.t.Error(err)
		return
	}
	for range sessions {
		if err := w.session(1 + w.rng.IntN(4)); err != nil {
			w.t.Error(err)
			return
		}
		if w.rng.IntN(12) == 0 {
			w.app.log("restart", "")
			w.stop()
			if w.rng.IntN(3) == 0 {
				w.app.log("lost", "the state directory")
				if err := os.RemoveAll(filepath.Join(w.root, ".multidb")); err != nil {
					w.t.Error(err)
					return
				}
			}
			w.start()
		}
	}
	w.stop()
	last, err := w.sourceHash()
	if err != nil {
		w.t.Error(err)
		return
	}
	w.restored = w.app.hist.check(w.t, w.place.client(w.t, "one"), 0, &last)
	if w.t.Failed() {
		w.t.Logf("%s; %v", strings.Join(w.app.trace[max(0, len(w.app.trace)-60):], "; "), maps.Clone(w.app.counts))
	}
}

func (w *workload) sourceHash() (string, error) {
	db := foreignDB(w.t, w.path)
	defer db.Close()
	return contentHash(context.Background(), db)
}
