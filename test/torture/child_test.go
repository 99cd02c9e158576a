package torture

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
)

// childConfig tells a child process what to do.
type childConfig struct {
	Root     string // of the databases
	Dir, URL string // of the replica
	FleetLog bool
	Log      string // where it writes what it did
	Restored string // where it restores to
	Seed     uint64 // of its habits, not of the databases' content
	Ledgers  map[string]uint64
	MaxWAL   int64
	Retain   time.Duration
}

func (cfg childConfig) ledgers() map[string]ledger {
	out := map[string]ledger{}
	for name, seed := range cfg.Ledgers {
		out[name] = ledger{seed}
	}
	return out
}

// runChild is the process that is killed: a Manager and its application. It
// begins to write when its standard input says so, and never ends by itself.
func runChild(job string) error {
	var cfg childConfig
	if err := json.Unmarshal([]byte(job), &cfg); err != nil {
		return err
	}
	log, err := os.OpenFile(cfg.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// One write each: what the parent reads is whole lines, but for the last.
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(log, format+"\n", args...) }
	p := place{dir: cfg.Dir, url: cfg.URL, log: cfg.FleetLog}
	f, err := p.open()
	if err != nil {
		return err
	}
	opts := append(p.logged(fast(cfg.Root, f, func(ev multidb.Event) {
		if ev.Err != nil || ev.Type == multidb.EventResync || ev.Type == multidb.EventWALLimit {
			say("# %s %s %v", ev.Type, ev.ID, ev.Err)
		}
	})...), multidb.WithMaxWALSize(cfg.MaxWAL), multidb.WithRetention(cfg.Retain),
		multidb.WithL0Retention(cfg.Retain/2), multidb.WithRetentionInterval(100*time.Millisecond))
	m, err := multidb.New(opts...)
	if err != nil {
		return err
	}
	if err := m.Start(context.Background()); err != nil {
		return err
	}
	say("started")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(cfg.Ledgers)+1)
	for name, l := range cfg.ledgers() {
		wg.Go(func() {
			w := childWriter{m: m, id: multidb.ID(name), l: l, say: say, rng: rand.New(rand.NewPCG(cfg.Seed, l.seed))}
			failed <- w.run()
		})
		wg.Go(func() {
			failed <- childRestores(m, multidb.ID(name), filepath.Join(cfg.Restored, fmt.Sprintf("%s-%d", name, cfg.Seed)))
		})
	}
	return <-failed
}

// childWriter writes one ledger, and says what was acknowledged.
type childWriter struct {
	m   *multidb.Manager
	id  multidb.ID
	l   ledger
	say func(string, ...any)
	rng *rand.Rand
}

func (w *childWriter) run() error {
	for {
		if err := w.m.Do(context.Background(), w.id, w.session); err != nil {
			return fmt.Errorf("%s: %w", w.id, err)
		}
		// Long enough, now and then, to go cold.
		pause(time.Duration(w.rng.IntN(w.rng.IntN(400)+1)) * time.Millisecond)
	}
}

func pause(d time.Duration) { <-time.After(d) }

func (w *childWriter) session(db *sql.DB) error {
	ctx := context.Background()
	n, err := w.l.last(ctx, db)
	if err != nil {
		return err
	}
	for range 1 + w.rng.IntN(20) {
		switch p := w.rng.IntN(100); {
		case p < 8:
			if err := w.tx(ctx, db, n+1, false); err != nil {
				return err
			}
		case p < 10:
			if _, err := db.ExecContext(ctx, "VACUUM"); err != nil {
				return err
			}
		case p < 22:
			pos, err := w.m.Sync(ctx, w.id)
			switch {
			case err == nil:
				w.say("S %s %d %d", w.id, n, pos.TXID)
			case errors.Is(err, multidb.ErrFenced), errors.Is(err, multidb.ErrConflict):
				return fmt.Errorf("sync: %w", err)
			default:
				w.say("# sync %s: %v", w.id, err)
			}
		default:
			if err := w.tx(ctx, db, n+1, true); err != nil {
				return err
			}
			n++
			w.say("C %s %d", w.id, n)
		}
	}
	return nil
}

func (w *childWriter) tx(ctx context.Context, db *sql.DB, k int, commit bool) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	return errors.Join(w.l.apply(ctx, c, k, commit), c.Close())
}

// childRestores restores beside everything else, to files that must be whole if
// they are there.
func childRestores(m *multidb.Manager, id multidb.ID, prefix string) error {
	for i := 0; ; i++ {
		err := m.Restore(context.Background(), id, multidb.RestoreOptions{OutputPath: fmt.Sprintf("%s-%d.db", prefix, i)})
		if errors.Is(err, multidb.ErrExists) {
			return err
		}
		pause(50 * time.Millisecond)
	}
}
