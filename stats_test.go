package multidb_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestStatsTellWhatAnOutageDoes(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(rep), multidb.WithMaxWALSize(256<<10))
	const id, other = "project0/db0", "project0/db1"
	f.insert(id, "x")
	f.sync(id)
	eventually(t, "no lag", func() bool { return f.m.Stats().LagMax < time.Second })

	down := rep.Inject(multidbtest.Fault{Err: errors.New("down")})
	f.grow(id, 100<<10)
	// A size is what the last run has seen of the file.
	eventually(t, "the sizes of the WALs", func() bool {
		return f.m.Stats().WALBytes == f.walSize(id)+f.walSize(other)
	})
	f.insert(other, "waits")
	eventually(t, "the lag of what waits", func() bool {
		st, err := f.m.Status(id)
		if err != nil {
			t.Fatal(err)
		}
		lag := f.m.Stats().LagMax
		return st.Lag > 50*time.Millisecond && lag >= st.Lag && lag < st.Lag+10*time.Second
	})
	if n := f.m.Stats().WALGaps; n != 0 {
		t.Errorf("%d gaps within the limit", n)
	}
	f.grow(id, 300<<10)
	f.events.wait(t, "WAL limit", func(ev multidb.Event) bool { return ev.Type == multidb.EventWALLimit })
	eventually(t, "a gap", func() bool { return f.m.Stats().WALGaps >= 1 })
	down.Clear()
	f.sync(id)
	f.sync(other)
	eventually(t, "no lag again", func() bool { return f.m.Stats().LagMax < time.Second })
}

func TestStatsCountWhatOperatorsDecide(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	if err := f.m.TakeOver(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := f.m.Adopt(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := f.m.HandOver(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.m.HandOver(t.Context(), "no such"); err == nil {
		t.Fatal("handed over what is not there")
	}
	if s := f.m.Stats(); s.TakeOvers != 1 || s.Adoptions != 2 || s.HandOvers != 3 {
		t.Errorf("%d taken over, %d adopted, %d handed over", s.TakeOvers, s.Adoptions, s.HandOvers)
	}
}

// slow is a Discoverer whose second listing goes on until it is released.
type slow struct {
	listed  chan struct{}
	release chan struct{}
}

func (s *slow) Discover(ctx context.Context) iter.Seq2[multidb.Database, error] {
	return func(func(multidb.Database, error) bool) {
		select {
		case s.listed <- struct{}{}:
			return // the first
		default:
		}
		select {
		case <-s.release:
		case <-ctx.Done():
		}
	}
}

func TestStatsTellOfAListingThatHangs(t *testing.T) {
	d := &slow{listed: make(chan struct{}, 1), release: make(chan struct{})}
	f := start(t, newTree(t, 1, 1), multidb.WithDiscoverer(d), multidb.WithWatch(false))
	eventually(t, "a listing that goes on", func() bool { return f.m.Stats().Scanning > 100*time.Millisecond })
	close(d.release)
	eventually(t, "one that has ended", func() bool { return f.m.Stats().Scanning < 50*time.Millisecond })
}

// BenchmarkStats is what a scrape costs, of which the worst lag is nearly all.
func BenchmarkStats(b *testing.B) {
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(newTree(b, 1, 1000)))), multidb.WithReplica(multidbtest.NewReplica()))
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	for m.Stats().Transactions < 1000 || m.Stats().Running > 0 {
		runtime.Gosched()
	}
	for b.Loop() {
		_ = m.Stats()
	}
	b.StopTimer()
	if err := m.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
