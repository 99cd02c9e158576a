package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

const writers = 16

// patience is how long firstCopies goes on without a database getting there.
const patience = 30 * time.Second

// firstCopies waits until every database is at the replica as it was found.
func (f *fleet) firstCopies(ctx context.Context) error {
	began := time.Now()
	line := term.NewLine(f.out)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for last, moved := 0, began; ; {
		done := 0
		var trouble error
		for st := range f.m.All() {
			if !st.SyncedAt.IsZero() || st.TXID != 0 { // the latter since an earlier run
				done++
			} else if trouble == nil {
				trouble = st.Err
			}
		}
		text := progress("First copies", done, f.options.n)
		if done >= f.options.n {
			line.End("%s", text)
			break
		}
		line.Show("%s", text)
		if done > last {
			last, moved = done, time.Now()
		}
		if time.Since(moved) > patience {
			line.End("%s", text)
			return errors.Join(fmt.Errorf("no database has reached S3 for %v", patience), trouble)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			line.End("%s", text)
			return ctx.Err()
		}
	}
	if err := f.syncAll(ctx); err != nil {
		return err
	}
	s := f.m.Stats()
	say(f.out, "All are at S3 after %s: %s requests, %s. Memory: %s.\n", term.Duration(time.Since(began)),
		term.Count(s.Requests.Total()), term.Bytes(s.Requests.BytesOut), f.memory())
	return nil
}

// syncAll makes sure that every database is at S3 now: the embedded server, for
// one, has forgotten what an earlier run wrote.
func (f *fleet) syncAll(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= f.options.n {
					return
				}
				if _, err := f.m.Sync(ctx, f.tree.ID(i)); err != nil {
					stop(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// load is the writing, and what was seen of it.
type load struct {
	began  time.Time
	writes atomic.Int64
	late   atomic.Int64 // transactions left out because the writers were busy
	took   atomic.Int64 // in ns, of all writes

	mu     sync.Mutex
	failed int
	first  error // that a write failed with
	wrote  map[int]bool

	before     multidb.Stats // at the start
	start, end string        // memory
	worstLag   time.Duration // the highest p99 shown
}

// work writes at random, and shows the totals, for the duration or until ctx
// ends. It returns an error only if ctx ended before the duration.
func (f *fleet) work(ctx context.Context) (*load, error) {
	l := &load{began: time.Now(), before: f.m.Stats(), start: f.memory(), wrote: map[int]bool{}}
	limited := ctx
	if f.options.duration > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, f.options.duration)
		defer cancel()
	}
	var wg sync.WaitGroup
	jobs := make(chan int, writers)
	for range writers {
		wg.Go(func() { f.write(ctx, l, jobs) })
	}
	wg.Go(func() {
		defer close(jobs)
		f.choose(limited, l, jobs)
	})
	say(f.out, "Writing %s transactions a second, %s.\n", term.Count(f.options.active), f.until())
	f.watch(limited, l)
	wg.Wait()
	l.end = f.memory()
	if f.options.duration > 0 {
		return l, ctx.Err()
	}
	return l, nil
}

func (f *fleet) until() string {
	if f.options.duration > 0 {
		return "for " + f.options.duration.String()
	}
	return "until Ctrl-C"
}

// choose hands out the wished number of databases a second: nine of ten from a
// working set that drifts through the fleet, as tenants that are at work now,
// and the tenth from anywhere.
func (f *fleet) choose(ctx context.Context, l *load, jobs chan<- int) {
	const ticks = 20 // a second
	rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	set := min(f.options.n, 3*f.options.active)
	tick := time.NewTicker(time.Second / ticks)
	defer tick.Stop()
	for sent := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// By the clock, since a busy machine drops ticks.
		for due := int(time.Since(l.began).Seconds() * float64(f.options.active)); sent < due; sent++ {
			i := rnd.IntN(f.options.n)
			if rnd.IntN(10) > 0 {
				i = (sent/10 + rnd.IntN(set)) % f.options.n
			}
			select {
			case jobs <- i:
			default:
				l.late.Add(1)
			}
		}
	}
}

// write commits a transaction per job.
func (f *fleet) write(ctx context.Context, l *load, jobs <-chan int) {
	rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	for i := range jobs {
		began := time.Now()
		err := f.m.Do(ctx, f.tree.ID(i), func(db *sql.DB) error {
			_, err := tenant.Write(ctx, db, rnd)
			return err
		})
		if err != nil && ctx.Err() != nil {
			continue // interrupted
		}
		l.mu.Lock()
		l.wrote[i] = true
		if err != nil {
			l.failed++
			if l.first == nil {
				l.first = err
			}
		}
		l.mu.Unlock()
		l.took.Add(int64(time.Since(began)))
		l.writes.Add(1)
	}
}

// watch shows the totals.
func (f *fleet) watch(ctx context.Context, l *load) {
	line := term.NewLine(f.out)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s := f.m.Stats()
		l.worstLag = max(l.worstLag, s.LagP99)
		text := fmt.Sprintf("%5.0fs  %s dbs: %d hot, %d warm, %s cold | %s promoted, %s demoted | pool %d open, %d leased | %s",
			time.Since(l.began).Seconds(), term.Count(s.Databases), s.Hot, s.Warm, term.Count(s.Cold),
			term.Count(s.Promotions), term.Count(s.Demotions), s.Pool.Open, s.Pool.Leased, f.memory())
		if f.options.s3 {
			text += fmt.Sprintf(" | lag p50 %s p99 %s | %s requests, %d errors",
				term.Duration(s.LagP50), term.Duration(s.LagP99), term.Count(s.Requests.Total()), s.Requests.Errors)
		}
		select {
		case <-tick.C:
			line.Show("%s", text)
		case <-ctx.Done():
			line.End("%s", text)
			return
		}
	}
}

// summary tells what the writing came to.
func (f *fleet) summary(l *load) {
	s, n := f.m.Stats(), l.writes.Load()
	took := time.Since(l.began)
	perWrite := time.Duration(0)
	if n > 0 {
		perWrite = time.Duration(l.took.Load() / n)
	}
	rows := [][]string{
		{"written", fmt.Sprintf("%s transactions to %s databases in %s (%.0f a second), each took %s",
			term.Count(n), term.Count(len(l.wrote)), term.Duration(took), float64(n)/took.Seconds(), term.Duration(perWrite))},
		{"tiers", fmt.Sprintf("%d hot, %d warm, %s cold; %s promotions, %s demotions", s.Hot, s.Warm, term.Count(s.Cold),
			term.Count(s.Promotions-l.before.Promotions), term.Count(s.Demotions-l.before.Demotions))},
		{"pool", fmt.Sprintf("%d open; %s opens, %s hits, %s evictions", s.Pool.Open,
			term.Count(s.Pool.Opens), term.Count(s.Pool.Hits), term.Count(s.Pool.Evictions))},
		{"memory", l.start + " at the start"},
		{"", l.end + " at the end"},
	}
	if f.options.s3 {
		r, b := s.Requests, l.before.Requests
		rows = append(rows,
			[]string{"shipped", fmt.Sprintf("%s transactions, %s; %d resyncs, %s compactions, %d snapshots; %d failed runs",
				term.Count(s.Transactions-l.before.Transactions), term.Bytes(s.Bytes-l.before.Bytes), s.Resyncs-l.before.Resyncs,
				term.Count(s.Compactions-l.before.Compactions), s.Snapshots-l.before.Snapshots, s.Failures-l.before.Failures)},
			[]string{"requests", fmt.Sprintf("%s PUT, %s GET, %s LIST, %s DELETE; %d errors",
				term.Count(r.Put-b.Put), term.Count(r.Get-b.Get+r.Head-b.Head), term.Count(r.List-b.List), term.Count(r.Delete-b.Delete), r.Errors-b.Errors)},
			[]string{"lag", fmt.Sprintf("p50 %s, p99 %s in the last minutes; the highest p99 was %s",
				term.Duration(s.LagP50), term.Duration(s.LagP99), term.Duration(l.worstLag))})
	}
	if late := l.late.Load(); late > 0 {
		rows = append(rows, []string{"left out", term.Count(late) + " transactions, because all writers were busy"})
	}
	say(f.out, "\nIn all\n")
	term.Table(f.out, rows)
}

// err is what went wrong with the writing.
func (l *load) err() error {
	if l.failed == 0 {
		return nil
	}
	return fmt.Errorf("%s failed; the first: %w", term.Plural(l.failed, "write"), l.first)
}
