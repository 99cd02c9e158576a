package multidbhttp

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
)

// unstarted is a Manager that nothing happens to.
func unstarted(t *testing.T) *multidb.Manager {
	t.Helper()
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Static()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newServer(t *testing.T, m *multidb.Manager, opt Options) *Server {
	t.Helper()
	s, err := Handler(m, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASampleIsTakenEachMinuteAndADayIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, unstarted(t), Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.Run(ctx) })
		wg.Go(func() { s.Run(ctx) }) // waits, and does not sample as well
		began := time.Now()
		<-time.After(10*time.Minute + time.Second)
		if n := len(s.history.all()); n != 11 {
			t.Errorf("%d samples after 10 minutes, want 11", n)
		}
		<-time.After(30 * time.Hour)
		all := s.history.all()
		if len(all) != samplesKept+1 {
			t.Errorf("%d samples after 30 hours, want %d", len(all), samplesKept+1)
		}
		for i := range all[1:] {
			if d := all[i+1].at.Sub(all[i].at); d != time.Minute {
				t.Fatalf("%v between samples %d and %d", d, i, i+1)
			}
		}
		if last := all[len(all)-1].at; last != began.Add(30*time.Hour+10*time.Minute) {
			t.Errorf("the last is of %v", last)
		}
		cancel()
		wg.Wait()
	})
}

// counted is a sample with n commits of at most 1 ms in all, slow ones above all bounds,
// and as many PUTs.
func counted(at time.Time, n, slow int64) sample {
	s := sample{at: at, failing: int(slow)}
	for i := range s.lag.Buckets {
		s.lag.Buckets[i] = n
	}
	s.lag.Count = n + slow
	s.requests.Put = n + slow
	return s
}

func TestWhatHappenedBetweenSamplesIsInTheColumnOfTheLaterOne(t *testing.T) {
	s := newServer(t, unstarted(t), Options{Prices: &Prices{Put: 1000}})
	now := time.Date(2026, 1, 2, 12, 7, 0, 0, time.UTC)
	quarter := now.Truncate(columnSpan)
	v := s.historyView([]sample{
		counted(quarter.Add(-48*time.Hour), 1, 0), // long ago
		counted(quarter.Add(-16*time.Minute), 100, 0),
		counted(quarter.Add(-time.Minute), 150, 50),
		counted(quarter.Add(time.Minute), 153, 51),
	}, now)
	if len(v.Columns) != historyColumns || v.To.Sub(v.From) != day || !v.From.Add(day-columnSpan).Equal(quarter) {
		t.Fatalf("%d columns from %v to %v", len(v.Columns), v.From, v.To)
	}
	before, last := v.Columns[historyColumns-2], v.Columns[historyColumns-1]
	if n := len(before.Lag) - 1; before.Lag[0] != 50 || before.Lag[n] != 50 || before.Commits != 100 || before.Requests != 100 || before.Dollars != 100 {
		t.Errorf("before: %+v", before)
	}
	if before.P50 != v.Bounds[0] || before.P99 != v.Bounds[len(v.Bounds)-1] || before.Failing != 50 {
		t.Errorf("before: p50 %v, p99 %v, failing %d", before.P50, before.P99, before.Failing)
	}
	if last.Commits != 4 || !last.Known || last.Lag[0] != 3 {
		t.Errorf("last: %+v", last)
	}
	if c := v.Columns[0]; c.Known || c.Commits != 0 || c.P50 != 0 {
		t.Errorf("of nothing: %+v", c)
	}
}

func TestADayIsWhatWasCountedBroughtToADay(t *testing.T) {
	s := newServer(t, unstarted(t), Options{Prices: &Prices{Put: 5, GBMonth: 30}})
	now := time.Now()
	stats := multidb.Stats{ReplicaBytes: 2e9}
	stats.Requests.Put = 1100
	v := s.dayView([]sample{counted(now.Add(-6*time.Hour), 100, 0)}, &stats, now)
	if v.Over != 6*time.Hour || v.Requests.Put != 4000 || v.RequestDollars != 20 || v.StorageDollars != 2 || v.Dollars != 22 || v.MonthlyDollars != 660 {
		t.Errorf("got %+v", v)
	}
	if v := s.dayView([]sample{counted(now.Add(-time.Second), 0, 0)}, &stats, now); v.Over != 0 || v.Requests.Put != 0 {
		t.Errorf("after a second: %+v", v)
	}
}
