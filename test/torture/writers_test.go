package torture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// TestWritersInOtherProcessesLoseNothing lets processes with SQLite libraries of
// their own write, checkpoint, vacuum, change the journal mode, end and die as they
// like, beside the pool, while the database changes its tier: the sqlite3
// command, a program with a C library, and both at once. P2, P3: every TXID is the
// source at some commit, or at one that a killed process did not live to
// publish, none older than the one before, and the last one gets there without
// help. P5: nobody is told more than that the database is locked.
// Lines that keep them, each seen red when removed: the comparison of the slot in
// restartedOnce (ship/ship.go, rule R2), and that nothing there opens and closes
// the database file itself, which drops the locks of the pool. What a killed writer
// leaves is in ship/ghost_test.go, line by line.
func TestWritersInOtherProcessesLoseNothing(t *testing.T) {
	cli, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("the sqlite3 command is not installed")
	}
	other := buildOtherLibrary(t)
	kinds := [][]string{{cli, cli}, {other, other}, {cli, other, cli, other}}
	var mu sync.Mutex
	sum := map[string]int{}
	eachSeed(t, 3, 2, func(t *testing.T, seed uint64) {
		c := newCrowd(t, cli, kinds[seed%3], seed)
		c.run()
		mu.Lock()
		defer mu.Unlock()
		for what, n := range c.counts {
			sum[what] += n
		}
		sum["resyncs"] += c.events.count(multidb.EventResync, oneID)
		sum["tier changes"] += c.events.count(multidb.EventTier, oneID)
	})
	t.Logf("%v; restored by, so far: %s", sum, turnsTaken())
	if sum["tier changes"] == 0 && !t.Failed() {
		t.Error("the database never changed its tier")
	}
}

// buildOtherLibrary builds the program with a C library.
func buildOtherLibrary(t *testing.T) string {
	t.Helper()
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	if words := strings.Fields(string(cc)); len(words) == 0 {
		t.Skip("no C compiler is configured")
	} else if _, err := exec.LookPath(words[0]); err != nil {
		t.Skipf("the other SQLite library needs a C compiler: %v", err)
	}
	out := filepath.Join(t.TempDir(), "otherlib")
	cmd := exec.Command("go", "build", "-o", out, "./otherlib")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return out
}

// crowd is several writers of one log: each transaction adds one row, so that
// any state is the first n rows of the last one.
type crowd struct {
	t        *testing.T
	cli      string
	programs []string // of the processes that write at one time
	seed     uint64
	root     string
	path     string
	place    place
	m        *multidb.Manager
	events   *events
	lull     sync.RWMutex // held to write while nobody works

	mu     sync.Mutex
	floors map[multidb.TXID]int
	counts map[string]int
}

func newCrowd(t *testing.T, cli string, programs []string, seed uint64) *crowd {
	c := &crowd{t: t, cli: cli, programs: programs, seed: seed, root: t.TempDir(), place: filePlace(t),
		events: &events{}, floors: map[multidb.TXID]int{}, counts: map[string]int{}}
	c.path = filepath.Join(c.root, "one.db")
	return c
}

func (c *crowd) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

// oneRow is a transaction.
func oneRow(size int) string {
	return fmt.Sprintf("INSERT INTO log(k, v) SELECT coalesce(max(k), 0) + 1, randomblob(%d) FROM log; UPDATE head SET n = n + 1;", size)
}

// settings begin a connection. The rows that they print are nobody's.
func settings(rng *rand.Rand) []string {
	return []string{"PRAGMA busy_timeout=10000;",
		fmt.Sprintf("PRAGMA wal_autocheckpoint=%d;", pick(rng, 0, 1, 10, 1000)),
		fmt.Sprintf("PRAGMA cache_size=%d;", pick(rng, 5, -2000))}
}

// script is what one process does before it ends, line by line.
func script(rng *rand.Rand) []string {
	lines := settings(rng)
	for range 1 + rng.IntN(12) {
		switch p := rng.IntN(100); {
		case p < 60:
			lines = append(lines, "BEGIN IMMEDIATE; "+oneRow(rng.IntN(pick(rng, 200, 4000, 60_000)))+" COMMIT;")
		case p < 68:
			lines = append(lines, "BEGIN IMMEDIATE; "+oneRow(rng.IntN(20_000))+" ROLLBACK;")
		case p < 72: // a reader that stays, which keeps checkpoints from completing
			lines = append(lines, "BEGIN;", "SELECT count(*) FROM log;", "SELECT 1;", "SELECT 2;", "COMMIT;")
		case p < 86:
			lines = append(lines, "PRAGMA wal_checkpoint("+pick(rng, "PASSIVE", "FULL", "RESTART", "TRUNCATE")+");")
		case p < 91:
			lines = append(lines, "VACUUM;")
		case p < 94:
			lines = append(lines, "PRAGMA journal_mode=DELETE;")
		case p < 97:
			lines = append(append(lines, ".open"), settings(rng)...)
		default:
			lines = append(lines, "PRAGMA journal_mode=WAL;")
		}
	}
	return lines
}

// refusals are what writers may be told for each other's sake.
var refusals = []string{"database is locked", "database table is locked", "within a transaction",
	"from within a transaction", "no transaction is active"}

func (c *crowd) foreign(ctx context.Context, program string, rng *rand.Rand) {
	for ctx.Err() == nil {
		c.lull.RLock()
		s := script(rng)
		out, err := c.process(program, s, rng)
		c.lull.RUnlock()
		if err != nil {
			c.t.Error(err)
			return
		}
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "rror") {
				continue
			}
			if !slices.ContainsFunc(refusals, func(known string) bool { return strings.Contains(line, known) }) {
				c.t.Errorf("%s was told: %sin\n%s", filepath.Base(program), line, strings.Join(s, "\n"))
				return
			}
			c.count("refused " + filepath.Base(program))
		}
		c.count("processes of " + filepath.Base(program))
		pause(time.Duration(rng.IntN(1+rng.IntN(500))) * time.Millisecond)
	}
}

// process runs a script in a process, with breaks between the lines: while it
// stays open the log is restarted rather than deleted. Some are killed in the
// midst of it.
func (c *crowd) process(program string, script []string, rng *rand.Rand) (string, error) {
	cmd := exec.Command(program, c.path)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	end := len(script)
	if rng.IntN(6) == 0 {
		end = rng.IntN(end)
	}
	for i, line := range script {
		if i == end {
			_ = cmd.Process.Kill() // it may have ended
			c.count("killed")
			break
		}
		if line == ".open" && program == c.cli {
			line += " " + c.path
		}
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			break
		}
		pause(time.Duration(rng.IntN(1+rng.IntN(40))) * time.Millisecond)
	}
	_ = in.Close()
	_ = cmd.Wait()
	return out.String(), nil
}

// lulls lets nobody work now and then, long enough for the database to go cold.
func (c *crowd) lulls(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		pause(time.Duration(500+rng.IntN(500)) * time.Millisecond)
		c.lull.Lock()
		pause(time.Duration(50+rng.IntN(150)) * time.Millisecond)
		c.lull.Unlock()
	}
}

// pool writes through the Manager, and syncs.
func (c *crowd) pool(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		var n int
		c.lull.RLock()
		err := c.m.Do(ctx, oneID, func(db *sql.DB) error {
			for range 1 + rng.IntN(5) {
				tx, err := db.Conn(context.Background())
				if err != nil {
					return err
				}
				for _, q := range []string{"BEGIN IMMEDIATE", oneRow(rng.IntN(2000)), "COMMIT"} {
					if _, err = tx.ExecContext(context.Background(), q); err != nil {
						_, _ = tx.ExecContext(context.Background(), "ROLLBACK")
						break
					}
				}
				if e := tx.Close(); err == nil {
					err = e
				}
				if err != nil {
					return err
				}
			}
			return db.QueryRow("SELECT n FROM head").Scan(&n)
		})
		if err == nil {
			var pos multidb.Pos
			if pos, err = c.m.Sync(context.Background(), oneID); err == nil {
				c.mu.Lock()
				c.floors[pos.TXID] = max(c.floors[pos.TXID], n)
				c.mu.Unlock()
			}
		}
		c.lull.RUnlock()
		if err != nil && ctx.Err() == nil {
			if !strings.Contains(err.Error(), "locked") && !strings.Contains(err.Error(), "journal mode") && !strings.Contains(err.Error(), "stand still") {
				c.t.Errorf("the pool's writer: %v", err)
			}
			c.count("refused the pool")
		}
		pause(time.Duration(rng.IntN(1+rng.IntN(800))) * time.Millisecond)
	}
}

func (c *crowd) run() {
	db := foreignDB(c.t, c.path)
	for _, q := range []string{"PRAGMA page_size = 1024", "PRAGMA journal_mode = wal",
		"BEGIN; CREATE TABLE log(k INTEGER PRIMARY KEY, v BLOB); CREATE TABLE head(n INT); INSERT INTO head VALUES(0); COMMIT"} {
		if _, err := db.Exec(q); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		c.t.Fatal(err)
	}
	m, err := multidb.New(append(fast(c.root, c.place.factory(c.t), c.events.observe),
		multidb.WithHotDuration(30*time.Millisecond), multidb.WithPromotion(30*time.Millisecond, 10))...)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := m.Start(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.m = m
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i, program := range c.programs {
		wg.Go(func() { c.foreign(ctx, program, rand.New(rand.NewPCG(c.seed, uint64(20+i)))) })
	}
	wg.Go(func() { c.lulls(ctx, rand.New(rand.NewPCG(c.seed, 40))) })
	wg.Go(func() { c.pool(ctx, rand.New(rand.NewPCG(c.seed, 30))) })
	wg.Wait()

	rows := c.rows()
	c.counts["commits"] = len(rows)
	r := newRestorer(c.t, c.place, "one")
	eventually(c.t, 20*time.Second, func() string {
		n, err := c.newest(r, rows)
		if err != nil {
			return err.Error()
		} else if n != len(rows) {
			return fmt.Sprintf("the replica is at %d, the source at %d", n, len(rows))
		}
		return ""
	})
	closeManager(c.t, m)
	c.check(r, rows)
	c.t.Logf("%v", c.counts)
}

// rows are the source's, read by a process of its own.
func (c *crowd) rows() []string {
	out, err := exec.Command(c.cli, "-cmd", ".timeout 10000", c.path, "SELECT k, hex(v) FROM log ORDER BY k").Output()
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// errGhost: the last transaction is not the source's. A writer that is killed
// after it has written its commit and before readers see it leaves one, and the
// next commit takes its place.
var errGhost = errors.New("the last transaction was never published")

// state returns how many transactions a restored file has, and an error unless
// they are the source's first. With errGhost all but the last are.
func (c *crowd) state(path string, rows []string) (int, error) {
	db := openDB(c.t, path, "immutable=1")
	defer db.Close()
	if err := integrity(db); err != nil {
		return 0, err
	}
	var n int
	if err := db.QueryRow("SELECT n FROM head").Scan(&n); err != nil {
		return 0, err
	}
	if n > len(rows)+1 {
		return n, fmt.Errorf("it has %d transactions of %d", n, len(rows))
	}
	got, err := db.Query("SELECT k || '|' || hex(v) FROM log ORDER BY k")
	if err != nil {
		return n, err
	}
	defer got.Close()
	i := 0
	for ; got.Next(); i++ {
		var row string
		if err := got.Scan(&row); err != nil {
			return n, err
		}
		if i == n-1 && (i == len(rows) || row != rows[i]) {
			return n - 1, errGhost
		}
		if i >= n || row != rows[i] {
			return n, fmt.Errorf("of %d transactions number %d differs", n, i+1)
		}
	}
	if i != n {
		return n, fmt.Errorf("it says %d transactions and has %d", n, i)
	}
	return n, got.Err()
}

func (c *crowd) newest(r *restorer, rows []string) (int, error) {
	path, err := r.restore(c.t.TempDir(), 0)
	if err != nil {
		return 0, err
	}
	return c.state(path, rows)
}

func (c *crowd) check(r *restorer, rows []string) {
	files, err := r.files()
	if err != nil {
		c.t.Error(err)
		return
	}
	dir, before := c.t.TempDir(), 0
	for i, f := range files {
		if i+1 < len(files) && files[i+1].MaxTXID == f.MaxTXID {
			continue
		}
		path, err := r.restore(dir, f.MaxTXID)
		if err != nil {
			c.t.Errorf("%v; %s", err, listing(files))
			return
		}
		n, err := c.state(path, rows)
		if errors.Is(err, errGhost) && c.counts["killed"] > 0 {
			c.counts["ghosts"]++
			err = nil
		}
		if err != nil || n < before {
			c.t.Errorf("TXID %s is at transaction %d, the one before it at %d: %v", f.MaxTXID, n, before, err)
			return
		}
		for txid, floor := range c.floors {
			if txid <= f.MaxTXID && n < floor {
				c.t.Errorf("TXID %s is at %d, Sync had returned %s for %d", f.MaxTXID, n, txid, floor)
			}
		}
		before = n
		c.counts["restored"]++
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			c.t.Error(err)
		}
	}
}
