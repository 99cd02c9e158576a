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
		multidb.WithL0Retention(cfg.Retain/2), multidb.WithRetentionInterval(100*time.Millisecond),
		multidb.WithMaxDisk(1), multidb.WithRestoreOnOpen()) // whatever is not leased goes
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
		err := w.m.Do(context.Background(), w.id, w.session)
		if errors.Is(err, multidb.ErrRemoved) || errors.Is(err, multidb.ErrInUse) {
			err = w.back() // from where the life before has left it
		}
		if e := (*multidb.Error)(nil); errors.As(err, &e) && e.Op == "acquire" && !errors.Is(err, multidb.ErrFenced) && !errors.Is(err, multidb.ErrConflict) {
			w.say("# acquire %s: %v", w.id, err) // it has no local file, and the store does not answer
			err = nil
		}
		if err == nil && w.rng.IntN(8) == 0 {
			err = w.live()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.id, err)
		}
		// Long enough, now and then, to go cold.
		pause(time.Duration(w.rng.IntN(w.rng.IntN(400)+1)) * time.Millisecond)
	}
}

// live does to the database what is not its daily life. That the store does not answer is
// no failure.
func (w *childWriter) live() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	what := pick(w.rng, "evict", "remove", "fork")
	var err error
	switch what {
	case "evict":
		err = w.m.Evict(ctx, w.id)
	case "remove":
		if err = w.m.Remove(ctx, w.id); err == nil {
			if rerr := w.m.Do(ctx, w.id, func(*sql.DB) error { return nil }); !errors.Is(rerr, multidb.ErrRemoved) {
				return fmt.Errorf("removed, and leased: %w", rerr)
			}
		}
		if berr := w.back(); berr != nil {
			return berr
		}
	case "fork":
		err = w.fork(ctx)
	}
	w.say("# %s %s: %v", what, w.id, err)
	return nil
}

// back puts the database into service again.
func (w *childWriter) back() error {
	for {
		err := w.m.Undelete(context.Background(), w.id)
		if _, serr := w.m.Status(w.id); serr == nil || errors.Is(err, multidb.ErrNotFound) {
			return nil
		}
		w.say("# undelete %s: %v", w.id, err)
		pause(20 * time.Millisecond)
	}
}

// fork makes a copy, which must be what the database is, and erases it.
func (w *childWriter) fork(ctx context.Context) error {
	to := w.id + "-fork"
	if _, err := w.m.Erase(ctx, to); err != nil { // what a life before has left
		return err
	}
	var want, got int
	if err := w.m.Do(ctx, w.id, func(db *sql.DB) (err error) { want, err = w.l.last(ctx, db); return err }); err != nil {
		return err
	}
	if err := w.m.Fork(ctx, w.id, to, multidb.ForkOptions{}); err != nil {
		return err
	}
	if err := w.m.Do(ctx, to, func(db *sql.DB) (err error) { got, err = w.l.verify(ctx, db); return err }); err != nil {
		return err
	}
	if got != want {
		w.say("F %s %d %d", w.id, got, want)
	}
	_, err := w.m.Erase(ctx, to)
	return err
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
