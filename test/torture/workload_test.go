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
// P3 and P5 without crashes. Lines that keep them, each seen red when removed:
// `st.Print == main` in proved and `after != db.State.Print` in fromCheckpoint of
// ship/ship.go (rule R3).
func TestEveryTXIDIsAStateOfTheSource(t *testing.T) {
	var mu sync.Mutex
	restored, commits, kinds := 0, 0, map[string]int{}
	withAndWithoutLog(t, func(t *testing.T, log bool) {
		eachSeed(t, 2, 2, func(t *testing.T, seed uint64) {
			w := newWorkload(t, seed, log)
			w.run(70)
			mu.Lock()
			defer mu.Unlock()
			restored += w.restored
			commits += len(w.app.hist.states)
			for k, v := range w.app.counts {
				kinds[k] += v
			}
		})
	})
	t.Logf("%d commits, %d TXIDs restored (by, so far: %s); %v", commits, restored, turnsTaken(), kinds)
	for _, kind := range everyKind() {
		if kinds[kind] == 0 && !t.Failed() {
			t.Errorf("no %q was run", kind)
		}
	}
}

// everyKind is what an application must have done.
func everyKind() []string {
	all := []string{"insert", "update", "delete", "trigger", "index", "WITHOUT ROWID", "create table", "drop table",
		"FTS5 insert", "FTS5 delete", "user_version", "application_id", "savepoint", "rollback to a savepoint",
		"rollback", "empty", "huge", "huge blob", "back to WAL", "sync", "restart"}
	for _, typ := range columnTypes {
		all = append(all, columnKind(typ))
	}
	for _, mode := range journals {
		all = append(all, "journal "+mode)
	}
	for _, size := range pageSizes {
		all = append(all, fmt.Sprint("page size ", size))
	}
	return append(all, vacuums...)
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
	tour     []func(context.Context, *sql.DB) error // what is rare, and to be done once
	restored int
}

const oneID = multidb.ID("one")

func newWorkload(t *testing.T, seed uint64, log bool) *workload {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &workload{t: t, rng: rng, root: t.TempDir(), app: newApp(rng), events: &events{}}
	w.path = filepath.Join(w.root, "one.db")
	w.place = filePlace(t)
	if seed%2 == 1 {
		w.place = newFakeS3(t).place
	}
	w.place.log = log
	w.plan()
	return w
}

// plan makes sure that nothing of the tour is left to chance, but for its order.
func (w *workload) plan() {
	add := func(fn func(context.Context, *sql.DB) error) { w.tour = append(w.tour, fn) }
	for i, size := range pageSizes {
		add(func(ctx context.Context, db *sql.DB) error {
			return w.app.journal(ctx, db, journals[i%len(journals)], size, w.retry)
		})
	}
	for _, q := range vacuums {
		add(func(ctx context.Context, db *sql.DB) error { return w.app.vacuum(ctx, db, q) })
	}
	for _, kind := range []txKind{{}, {statements: 5, rollback: true}, {huge: true}, {huge: true, rollback: true},
		{statements: 1, blob: hugeBlob}, {statements: 100}} {
		add(func(ctx context.Context, db *sql.DB) error { return w.app.transaction(ctx, db, kind) })
	}
	for _, p := range []int{0, 60, 75, 85, 89, 92, 94, 96, 97} {
		add(func(ctx context.Context, db *sql.DB) error {
			// A change may be several statements: one commit, as the oracle notes one.
			if err := w.app.exec(ctx, db, "BEGIN IMMEDIATE"); err != nil {
				return err
			}
			if err := errors.Join(w.app.change(ctx, db, p), w.app.exec(ctx, db, "COMMIT")); err != nil {
				return err
			}
			return w.app.note(ctx, db)
		})
	}
	w.rng.Shuffle(len(w.tour), func(i, j int) { w.tour[i], w.tour[j] = w.tour[j], w.tour[i] })
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
		multidb.WithTakeover(multidb.TakeoverUnknown), // one machine, which loses its state
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
	m, err := multidb.New(w.place.logged(fast(w.root, w.place.factory(w.t), w.events.observe)...)...)
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
	if w.rng.IntN(4) == 0 || w.rng.IntN(2) == 0 && len(w.tour) > 0 {
		db := foreignDB(w.t, w.path)
		defer db.Close()
		if len(w.app.tables) > 0 && len(w.tour) > 0 {
			err := w.tour[0](ctx, db)
			if w.tour = w.tour[1:]; err != nil {
				return fmt.Errorf("after %s: %w", w.app.last(), err)
			}
		} else if len(w.app.tables) > 0 && w.rng.IntN(3) == 0 {
			if err := w.app.journal(ctx, db, pick(w.rng, journals...), pick(w.rng, pageSizes...), w.retry); err != nil {
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
			err = w.app.transaction(ctx, c, w.app.randomTx())
		case p < 80:
			err = w.app.vacuum(ctx, c, pick(w.rng, vacuums...))
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
	for i := 0; i < sessions || len(w.tour) > 0; i++ {
		if err := w.session(1 + w.rng.IntN(4)); err != nil {
			w.t.Error(err)
			return
		}
		if i == sessions/2 || w.rng.IntN(12) == 0 {
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
	// After Close the prefix is whole, for who knows nothing of a log.
	w.restored = w.app.hist.check(w.t, newRestorer(w.t, place{dir: w.place.dir, url: w.place.url}, "one"), 0, &last)
	if w.place.log {
		w.restored += w.app.hist.check(w.t, newRestorer(w.t, w.place, "one"), 0, &last)
	}
	if w.t.Failed() {
		w.t.Logf("%s; %v", strings.Join(w.app.trace[max(0, len(w.app.trace)-60):], "; "), maps.Clone(w.app.counts))
	}
}

func (w *workload) sourceHash() (string, error) {
	db := foreignDB(w.t, w.path)
	defer db.Close()
	return contentHash(context.Background(), db)
}
