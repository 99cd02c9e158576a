package torture

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
)

// TestWritersInOtherProcessesLoseNothing lets sqlite3 processes write,
// checkpoint, vacuum, change the journal mode and end as they like, beside the
// pool, while the database goes hot and cold. P2, P3: every TXID is the source at
// some commit, and the last one gets there without help.
func TestWritersInOtherProcessesLoseNothing(t *testing.T) {
	cli, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("the sqlite3 command is not installed")
	}
	var mu sync.Mutex
	processes, commits, restored, resyncs := 0, 0, 0, 0
	eachSeed(t, 2, 2, func(t *testing.T, seed uint64) {
		c := newCrowd(t, cli, seed)
		c.run()
		mu.Lock()
		defer mu.Unlock()
		processes, commits, restored = processes+c.processes, commits+c.commits, restored+c.restored
		resyncs += c.events.count(multidb.EventResync, oneID)
	})
	t.Logf("%d processes, %d commits, %d TXIDs restored, %d resyncs", processes, commits, restored, resyncs)
}

// crowd is several writers of one log: each transaction adds one row, so that
// any state is the first n rows of the last one.
type crowd struct {
	t      *testing.T
	cli    string
	seed   uint64
	root   string
	path   string
	place  place
	m      *multidb.Manager
	events *events

	mu        sync.Mutex
	processes int
	floors    map[multidb.TXID]int
	busy      int // refusals of the pool's writer by other processes
	commits   int
	restored  int
}

func newCrowd(t *testing.T, cli string, seed uint64) *crowd {
	c := &crowd{t: t, cli: cli, seed: seed, root: t.TempDir(), place: filePlace(t), events: &events{}, floors: map[multidb.TXID]int{}}
	c.path = filepath.Join(c.root, "one.db")
	return c
}

// oneRow is a transaction.
func oneRow(size int) string {
	return fmt.Sprintf("INSERT INTO log(k, v) SELECT coalesce(max(k), 0) + 1, randomblob(%d) FROM log; UPDATE head SET n = n + 1;", size)
}

// script is what one process does before it ends.
func script(rng *rand.Rand) string {
	var b strings.Builder
	b.WriteString(".timeout 10000\n")
	fmt.Fprintf(&b, "PRAGMA wal_autocheckpoint=%d;\n", pick(rng, 0, 1, 10, 1000))
	fmt.Fprintf(&b, "PRAGMA cache_size=%d;\n", pick(rng, 5, -2000))
	for range 1 + rng.IntN(12) {
		switch p := rng.IntN(100); {
		case p < 65:
			b.WriteString("BEGIN IMMEDIATE; " + oneRow(rng.IntN(pick(rng, 200, 4000, 60_000))) + " COMMIT;\n")
		case p < 75:
			b.WriteString("BEGIN IMMEDIATE; " + oneRow(rng.IntN(20_000)) + " ROLLBACK;\n")
		case p < 90:
			b.WriteString("PRAGMA wal_checkpoint(" + pick(rng, "PASSIVE", "FULL", "RESTART", "TRUNCATE") + ");\n")
		case p < 95:
			b.WriteString("VACUUM;\n")
		case p < 97:
			b.WriteString("PRAGMA journal_mode=DELETE;\n")
		default:
			b.WriteString("PRAGMA journal_mode=WAL;\n")
		}
	}
	return b.String()
}

func (c *crowd) foreign(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		s := script(rng)
		out, err := c.sqlite(s, rng)
		if err != nil {
			c.t.Error(err)
			return
		}
		if strings.Contains(out, "malformed") || strings.Contains(out, "I/O") {
			c.t.Errorf("another process found: %s\nin\n%s", out, s)
			return
		}
		c.mu.Lock()
		c.processes++
		c.mu.Unlock()
		pause(time.Duration(rng.IntN(1+rng.IntN(500))) * time.Millisecond)
	}
}

// sqlite runs a script in a process, with breaks between the lines: while it
// stays open the log is restarted rather than deleted. What it was refused is no
// error here.
func (c *crowd) sqlite(script string, rng *rand.Rand) (string, error) {
	cmd := exec.Command(c.cli, c.path)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	for line := range strings.Lines(script) {
		if _, err := io.WriteString(in, line); err != nil {
			break
		}
		pause(time.Duration(rng.IntN(1+rng.IntN(40))) * time.Millisecond)
	}
	_ = in.Close()
	_ = cmd.Wait()
	return out.String(), nil
}

// pool writes through the Manager, and syncs.
func (c *crowd) pool(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		var n int
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
		if err != nil && ctx.Err() == nil {
			if !strings.Contains(err.Error(), "locked") && !strings.Contains(err.Error(), "journal mode") && !strings.Contains(err.Error(), "stand still") {
				c.t.Errorf("the pool's writer: %v", err)
			}
			c.mu.Lock()
			c.busy++
			c.mu.Unlock()
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
	m, err := multidb.New(fast(c.root, c.place.factory(c.t), c.events.observe)...)
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
	for i := range 2 {
		wg.Go(func() { c.foreign(ctx, rand.New(rand.NewPCG(c.seed, uint64(20+i)))) })
	}
	wg.Go(func() { c.pool(ctx, rand.New(rand.NewPCG(c.seed, 30))) })
	wg.Wait()

	rows := c.rows()
	c.commits = len(rows)
	client := c.place.client(c.t, "one")
	eventually(c.t, 20*time.Second, func() string {
		n, err := c.newest(client, rows)
		if err != nil {
			return err.Error()
		} else if n != len(rows) {
			return fmt.Sprintf("the replica is at %d, the source at %d", n, len(rows))
		}
		return ""
	})
	closeManager(c.t, m)
	c.check(client, rows)
	c.t.Logf("%d commits, %d processes, the pool was refused %d times", len(rows), c.processes, c.busy)
}

// rows are the source's, read by a process of its own.
func (c *crowd) rows() []string {
	out, err := exec.Command(c.cli, "-cmd", ".timeout 10000", c.path, "SELECT k, hex(v) FROM log ORDER BY k").Output()
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// state returns how many transactions a restored file has, and an error unless
// they are the source's first.
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
	if n > len(rows) {
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
		if i >= n || row != rows[i] {
			return n, fmt.Errorf("of %d transactions number %d differs", n, i+1)
		}
	}
	if i != n {
		return n, fmt.Errorf("it says %d transactions and has %d", n, i)
	}
	return n, got.Err()
}

func (c *crowd) newest(client litestream.ReplicaClient, rows []string) (int, error) {
	path, err := restoreFile(client, c.t.TempDir(), 0)
	if err != nil {
		return 0, err
	}
	return c.state(path, rows)
}

func (c *crowd) check(client litestream.ReplicaClient, rows []string) {
	files, err := listFiles(client)
	if err != nil {
		c.t.Error(err)
		return
	}
	dir, before := c.t.TempDir(), 0
	for i, f := range files {
		if i+1 < len(files) && files[i+1].MaxTXID == f.MaxTXID {
			continue
		}
		path, err := restoreFile(client, dir, f.MaxTXID)
		if err != nil {
			c.t.Errorf("%v; %s", err, listing(files))
			return
		}
		n, err := c.state(path, rows)
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
		c.restored++
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			c.t.Error(err)
		}
	}
}
