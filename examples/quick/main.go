// Quick shows, in about 20 seconds and without any replica, what multidb does
// with 100 databases: it finds them, keeps the written ones hot and lets them go
// cold again, and shares a bounded number of open ones.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/cli"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

func main() { cli.Main(run) }

const (
	projects, each = 10, 10
	maxHot         = 30 // fewer than a round writes to, so that some are warm
	maxOpen        = 20
	writers        = 8
	closeLimit     = 10 * time.Second
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("quick", flag.ContinueOnError)
	rounds := fs.Int("rounds", 3, "rounds of writes")
	interval := fs.Duration("interval", 6*time.Second, "time between the rounds; a third of it without a write makes a database cold")
	if code, done := cli.Parse(fs, args, stderr); done {
		return code
	}
	if *rounds < 1 || *interval < 30*time.Millisecond {
		return cli.Misuse("quick", stderr, "-rounds must be above zero and -interval at least 30ms")
	}
	return cli.Exit(ctx, "quick", stderr, demo(ctx, *rounds, *interval, stdout))
}

// demo is one run. Whatever it started is stopped and removed when it returns.
func demo(ctx context.Context, rounds int, interval time.Duration, out io.Writer) (err error) {
	dir, done, err := cli.Work("", "multidb-quick-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	tree := tenant.Tree{Root: dir, Projects: projects, Each: each}
	rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	began := time.Now()
	if err := tree.Create(ctx, rnd); err != nil {
		return err
	}
	say(out, "%d databases in %d projects made in %s, in %s.\n", tree.Len(), projects, term.Duration(time.Since(began)), dir)

	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(tree.Pattern())),
		multidb.WithSyncInterval(interval/10),
		multidb.WithColdSyncInterval(interval/5),
		multidb.WithHotDuration(interval/3),
		multidb.WithMaxHot(maxHot),
		multidb.WithMaxOpen(maxOpen),
		// Only what is written is hot. By default the files made just now would
		// be too.
		multidb.WithPromotion(0, 0),
	)
	if err != nil {
		return err
	}
	// Close is harmless on a Manager that has failed to start.
	defer func() { err = errors.Join(err, cli.Close(m, closeLimit)) }()
	began = time.Now()
	if err := m.Start(ctx); err != nil {
		return err
	}
	say(out, "Discovery found %d of them in %s. No replica: nothing leaves this machine.\n",
		m.Stats().Databases, term.Duration(time.Since(began)))

	for i := range rounds {
		chosen := rnd.Perm(tree.Len())[:tree.Len()*2/5]
		began := time.Now()
		rows, err := writeAll(ctx, m, tree, chosen)
		if err != nil {
			return err
		}
		say(out, "\nRound %d of %d: %d databases, chosen at random, got %d rows in %s.\n",
			i+1, rounds, len(chosen), rows, term.Duration(time.Since(began)))
		if err := watch(ctx, m, began, interval, out); err != nil {
			return err
		}
	}
	summary(m.Stats(), out)
	return nil
}

// writeAll commits one transaction to each of the chosen databases, several at
// a time.
func writeAll(ctx context.Context, m *multidb.Manager, tree tenant.Tree, chosen []int) (rows int64, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	next := make(chan int)
	for range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			for i := range next {
				var n int64
				e := m.Do(ctx, tree.ID(i), func(db *sql.DB) (err error) {
					n, err = tenant.Write(ctx, db, rnd)
					return err
				})
				mu.Lock()
				rows += n
				err = errors.Join(err, e)
				mu.Unlock()
			}
		})
	}
	for _, i := range chosen {
		next <- i
	}
	close(next)
	wg.Wait()
	return rows, err
}

// watch shows the tiers and the pool until the interval is over.
func watch(ctx context.Context, m *multidb.Manager, began time.Time, interval time.Duration, out io.Writer) error {
	line := term.NewLine(out)
	tick := time.NewTicker(interval / 30)
	defer tick.Stop()
	for {
		s := m.Stats()
		text := fmt.Sprintf("  %5.1fs  hot %2d, warm %2d, cold %3d   pool: %2d open, %d leased   memory: %s",
			time.Since(began).Seconds(), s.Hot, s.Warm, s.Cold, s.Pool.Open, s.Pool.Leased, term.ReadMemory())
		if time.Since(began) >= interval {
			line.End("%s", text)
			return nil
		}
		line.Show("%s", text)
		select {
		case <-tick.C:
		case <-ctx.Done():
			line.End("%s", text)
			return ctx.Err()
		}
	}
}

func summary(s multidb.Stats, out io.Writer) {
	say(out, "\nIn all\n")
	term.Table(out, [][]string{
		{"databases", term.Count(s.Databases), fmt.Sprintf("%d hot, %d warm, %d cold now", s.Hot, s.Warm, s.Cold)},
		{"tiers", fmt.Sprintf("%d promotions, %d demotions", s.Promotions, s.Demotions), fmt.Sprintf("at most %d hot", maxHot)},
		{"pool", fmt.Sprintf("%d opens, %d hits, %d evictions", s.Pool.Opens, s.Pool.Hits, s.Pool.Evictions), fmt.Sprintf("at most %d open", maxOpen)},
		{"memory", term.ReadMemory().String(), ""},
	})
	say(out, "To replicate them to S3 and get them back: go run ./examples/with_s3\n")
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
