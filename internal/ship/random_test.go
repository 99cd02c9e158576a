package ship

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/superfly/ltx"
)

var (
	seedFlag  = flag.Uint64("ship.seed", 0, "run only this seed")
	seedsFlag = flag.Int("ship.seeds", 0, "how many seeds to run (0: a few)")
	stepsFlag = flag.Int("ship.steps", 300, "steps per seed")
)

// TestEveryShippedStateIsTheSourceAtThatCommit drives one database through
// random transactions, checkpoints of every mode by us and by others, reopening,
// sealing, and unobserved writes, and restores with stock litestream.
func TestEveryShippedStateIsTheSourceAtThatCommit(t *testing.T) {
	t.Parallel()
	if *seedFlag != 0 {
		runRandom(t, *seedFlag, *stepsFlag, map[Rule]int{})
		return
	}
	n := *seedsFlag
	if n == 0 {
		n = 12
		if testing.Short() {
			n = 3
		}
	}
	var mu sync.Mutex // guards taken
	taken := map[Rule]int{}
	base := rand.Uint64() >> 1
	t.Run("seeds", func(group *testing.T) { // which ends when all of them have
		for i := range n {
			seed := base + uint64(i)
			group.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				if group.Failed() {
					return // the first one is what to look at
				}
				own := map[Rule]int{}
				runRandom(t, seed, *stepsFlag, own)
				mu.Lock()
				defer mu.Unlock()
				for r, times := range own {
					taken[r] += times
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Logf("rules taken: %v", taken)
	for _, r := range []Rule{RuleSame, RuleRestart, RuleCheckpoint, RuleResync} {
		if taken[r] == 0 {
			t.Errorf("rule %v was never taken", r)
		}
	}
}

type world struct {
	t       *testing.T
	rng     *rand.Rand
	path    string
	pool    *sql.DB // ours, may be nil
	other   *sql.DB // a foreign connection, may be nil
	s       *Shipper
	db      *DB
	client  *memClient
	rows    int
	history map[ltx.TXID]string
	trace   []string
	taken   map[Rule]int
}

func runRandom(t *testing.T, seed uint64, steps int, taken map[Rule]int) {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), path: filepath.Join(dir, "a.db"),
		s: newShipper(t), client: newMemClient(), history: map[ltx.TXID]string{}, taken: taken}
	w.db = &DB{Path: w.path, Client: w.client}
	defer func() {
		if t.Failed() {
			from := max(0, len(w.trace)-40)
			t.Logf("replay: go test ./internal/ship -run TestEveryShipped -ship.seed=%d -ship.steps=%d\nlast steps: %v", seed, steps, w.trace[from:])
		}
		w.closeAll()
	}()
	w.create()
	for i := 0; i < steps && !t.Failed(); i++ {
		w.step()
	}
	w.ship("end")
	for txid, want := range w.history {
		if w.rng.IntN(4) == 0 || txid == w.db.State.TXID {
			if got := restore(t, w.client, txid); got != want {
				t.Errorf("seed %d: transaction %s restores to %s, the source was %s", seed, txid, got, want)
			}
		}
	}
}

func (w *world) create() {
	sizes := []int{512, 1024, 4096, 8192, 65536}
	db := foreign(w.t, w.path)
	mustExec(w.t, db, fmt.Sprintf("PRAGMA page_size=%d", sizes[w.rng.IntN(len(sizes))]))
	mustExec(w.t, db, fmt.Sprintf("PRAGMA auto_vacuum=%d", w.rng.IntN(3)))
	mustExec(w.t, db, "PRAGMA journal_mode=wal")
	mustExec(w.t, db, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB, w TEXT)")
	mustExec(w.t, db, "CREATE TABLE u(a TEXT PRIMARY KEY, b) WITHOUT ROWID")
	mustExec(w.t, db, "CREATE INDEX ti ON t(w)")
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) log(format string, a ...any) { w.trace = append(w.trace, fmt.Sprintf(format, a...)) }

func (w *world) conn() *sql.DB {
	if w.rng.IntN(3) == 0 {
		return w.foreign()
	}
	return w.pooled()
}

func (w *world) pooled() *sql.DB {
	if w.pool == nil {
		w.pool = ours(w.t, w.path)
	}
	return w.pool
}

func (w *world) foreign() *sql.DB {
	if w.other == nil {
		w.other = foreign(w.t, w.path)
		mustExec(w.t, w.other, fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", []int{0, 1, 5, 50, 1000}[w.rng.IntN(5)]))
	}
	return w.other
}

func (w *world) closeAll() {
	for _, db := range []**sql.DB{&w.pool, &w.other} {
		if *db != nil {
			if err := (*db).Close(); err != nil {
				w.t.Error(err)
			}
			*db = nil
		}
	}
}

func (w *world) step() {
	switch p := w.rng.IntN(100); {
	case p < 38:
		w.transaction(w.conn())
	case p < 44:
		w.vacuum(w.conn())
	case p < 56:
		mode := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[w.rng.IntN(4)]
		w.log("checkpoint %s", mode)
		mustExec(w.t, w.foreign(), "PRAGMA wal_checkpoint("+mode+")")
	case p < 62:
		w.log("close all")
		w.closeAll()
	case p < 66:
		w.log("close other")
		if w.other != nil {
			if err := w.other.Close(); err != nil {
				w.t.Fatal(err)
			}
			w.other = nil
		}
	case p < 84:
		w.ship("step")
	case p < 90:
		w.seal(false)
	case p < 96:
		w.seal(true)
	case p < 98:
		w.log("snapshot")
		r, err := w.s.Snapshot(context.Background(), w.db)
		if err != nil {
			w.t.Fatalf("snapshot: %v", err)
		}
		w.note(r)
		w.check()
	default:
		// A new process: the state is lost, or kept by the catalog.
		if w.rng.IntN(2) == 0 {
			w.log("state lost")
			w.db.State = State{}
		} else {
			b, _ := w.db.State.AppendBinary(nil)
			w.db.State = State{}
			if err := w.db.State.UnmarshalBinary(b); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := w.s.Verify(context.Background(), w.db, Listing{Files: w.client.list(), Began: w.s.cfg.Boot()}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) transaction(db *sql.DB) {
	ctx := context.Background()
	c, err := db.Conn(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if w.rng.IntN(3) == 0 {
		mustExec(w.t, c, "PRAGMA cache_size=5") // spills
	} else {
		mustExec(w.t, c, "PRAGMA cache_size=-2000")
	}
	mustExec(w.t, c, "BEGIN IMMEDIATE")
	n := 1 + w.rng.IntN(4)
	if w.rng.IntN(6) == 0 {
		n = 50 + w.rng.IntN(400)
	}
	for range n {
		switch w.rng.IntN(6) {
		case 0:
			mustExec(w.t, c, "DELETE FROM t WHERE k % 7 = ?", w.rng.IntN(7))
		case 1:
			mustExec(w.t, c, "INSERT OR REPLACE INTO u VALUES(?, randomblob(?))", fmt.Sprint(w.rng.IntN(200)), w.rng.IntN(300))
		case 2:
			mustExec(w.t, c, "UPDATE t SET w = ? WHERE k = ?", fmt.Sprint(w.rng.Uint64()), w.rng.IntN(w.rows+1))
		default:
			w.rows++
			mustExec(w.t, c, "INSERT INTO t(v, w) VALUES(randomblob(?), ?)", w.rng.IntN(3000), fmt.Sprint(w.rows))
		}
	}
	end := "COMMIT"
	if w.rng.IntN(4) == 0 {
		end = "ROLLBACK"
	} else if w.rng.IntN(3) == 0 {
		// Ship in the middle of an unfinished transaction.
		w.log("step inside")
		w.note(drain(w.t, w.s, w.db))
	}
	w.log("%d statements %s", n, end)
	mustExec(w.t, c, end)
}

func (w *world) vacuum(db *sql.DB) {
	switch w.rng.IntN(3) {
	case 0:
		w.log("vacuum")
		mustExec(w.t, db, "VACUUM")
	case 1:
		w.log("incremental vacuum")
		mustExec(w.t, db, "PRAGMA incremental_vacuum")
	default:
		w.log("delete most")
		mustExec(w.t, db, "DELETE FROM t WHERE k % 10 <> 0")
	}
}

func (w *world) note(r Result) {
	w.taken[r.Rule]++
	w.log("-> %v %d", r.Rule, w.db.State.TXID)
}

func (w *world) ship(what string) {
	w.log("%s", what)
	w.note(drain(w.t, w.s, w.db))
	w.check()
}

func (w *world) seal(cold bool) {
	w.log("seal cold=%v", cold)
	seal := w.s.Checkpoint
	if cold {
		seal = w.s.Seal
	}
	r, err := seal(context.Background(), w.db)
	if err != nil {
		w.t.Fatalf("seal: %v", err)
	}
	if !r.Complete {
		w.t.Fatal("the seal is not complete, although nobody reads")
	}
	w.note(r.Result)
	w.check()
}

// check compares the replica with the source, now that everything is shipped.
func (w *world) check() {
	w.t.Helper()
	src := w.pool
	if src == nil {
		src = w.other
	}
	if src == nil {
		src = foreign(w.t, w.path)
		defer func() { // which may checkpoint and delete the WAL
			if err := src.Close(); err != nil {
				w.t.Fatal(err)
			}
		}()
	}
	want := contentHash(w.t, src)
	w.history[w.db.State.TXID] = want
	if w.rng.IntN(3) == 0 {
		if got := restore(w.t, w.client, 0); got != want {
			w.t.Fatalf("restored %s, the source is %s", got, want)
		}
	}
}
