package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a list of jobs with the time each is due.
type source struct {
	mu    sync.Mutex
	jobs  []timedJob
	nexts int // calls of Next
}

type timedJob struct {
	at  time.Time
	run func(ctx context.Context)
}

func (s *source) add(at time.Time, run func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, timedJob{at, run})
}

func (s *source) Next(now time.Time) (func(ctx context.Context), bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nexts++
	for i, j := range s.jobs {
		if !j.at.After(now) {
			s.jobs = append(s.jobs[:i], s.jobs[i+1:]...)
			return j.run, true
		}
	}
	return nil, false
}

func (s *source) Wake() (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if !ok || j.at.Before(at) {
			at, ok = j.at, true
		}
	}
	return at, ok
}

func (s *source) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nexts
}

func stop(t *testing.T, p *Pool) {
	t.Helper()
	if err := p.Stop(context.Background()); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

func TestJobsRunWhenTheyAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := &source{}, time.Now()
		var ran []time.Duration
		for _, d := range []time.Duration{time.Hour, 0, time.Minute} {
			s.add(start.Add(d), func(context.Context) { ran = append(ran, time.Since(start)) })
		}
		p := New(s, 1, time.Now)
		p.Start()
		time.Sleep(2 * time.Hour) // of the bubble
		stop(t, p)
		if len(ran) != 3 || ran[0] != 0 || ran[1] != time.Minute || ran[2] != time.Hour {
			t.Errorf("ran at %v", ran)
		}
	})
}

func TestAPokeWakesAnIdlePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		p := New(s, 2, time.Now)
		p.Start()
		synctest.Wait()
		ran := make(chan struct{})
		s.add(time.Now(), func(context.Context) { close(ran) })
		synctest.Wait()
		select {
		case <-ran:
			t.Fatal("it ran before the Poke: the pool polls")
		default:
		}
		p.Poke()
		<-ran
		stop(t, p)
	})
}

func TestAPokeBringsForwardAnArmedTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := &source{}, time.Now()
		s.add(start.Add(time.Hour), func(context.Context) {})
		p := New(s, 1, time.Now)
		p.Start()
		synctest.Wait()
		ran := make(chan time.Duration, 1)
		s.add(start.Add(time.Second), func(context.Context) { ran <- time.Since(start) })
		p.Poke()
		if at := <-ran; at != time.Second {
			t.Errorf("ran after %v, want 1s", at)
		}
		stop(t, p)
	})
}

func TestAJobThatMakesAnotherDueNeedsNoPoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		ran := make(chan struct{})
		s.add(time.Now(), func(context.Context) {
			s.add(time.Now(), func(context.Context) { close(ran) })
		})
		p := New(s, 4, time.Now)
		p.Start()
		<-ran
		stop(t, p)
	})
}

func TestNeverMoreJobsThanWorkersRunAtOnceAndAllWorkersAreUsed(t *testing.T) {
	for _, workers := range []int{0, 1, 3} {
		synctest.Test(t, func(t *testing.T) {
			s := &source{}
			var mu sync.Mutex
			var running, most, ran int
			for range 20 {
				s.add(time.Now(), func(context.Context) {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					time.Sleep(time.Second) // of the bubble
					mu.Lock()
					running--
					ran++
					mu.Unlock()
				})
			}
			p := New(s, workers, time.Now)
			p.Start()
			time.Sleep(time.Minute)
			stop(t, p)
			if most != max(workers, 1) || ran != 20 {
				t.Errorf("with %d workers: %d at once, %d in all", workers, most, ran)
			}
		})
	}
}

func TestAnIdlePoolDoesNotAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		p := New(s, 4, time.Now)
		p.Start()
		p.Start()
		time.Sleep(24 * time.Hour)
		if n := s.calls(); n != 1 {
			t.Errorf("Next was called %d times in an idle day, want 1", n)
		}
		for range 100 {
			p.Poke()
		}
		synctest.Wait()
		if n := s.calls(); n > 10 {
			t.Errorf("Next was called %d times after Pokes in a row", n)
		}
		stop(t, p)
	})
}

// contrary says that something is due and then has nothing.
type contrary struct{ source }

func (c *contrary) Wake() (time.Time, bool) { return time.Now().Add(-time.Hour), true }

func TestASourceThatDisagreesWithItselfIsNoBusyLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &contrary{}
		p := New(s, 1, time.Now)
		p.Start()
		time.Sleep(time.Second)
		stop(t, p)
		if n := s.calls(); n > 1001 {
			t.Errorf("Next was called %d times in a second", n)
		}
	})
}

func TestStopWaitsForRunningJobsAndStartsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		var finished, second bool
		s.add(time.Now(), func(ctx context.Context) {
			time.Sleep(time.Minute)
			finished = ctx.Err() == nil
		})
		s.add(time.Now(), func(context.Context) { second = true })
		p := New(s, 1, time.Now)
		p.Start()
		synctest.Wait()
		stop(t, p)
		if !finished || second {
			t.Errorf("finished = %v, second = %v", finished, second)
		}
		stop(t, p)
		p.Poke()
		p.Start()
		if second {
			t.Error("it started again")
		}
	})
}

func TestAHangingJobIsCancelledWhenStopRunsOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		var returned atomic.Bool
		s.add(time.Now(), func(ctx context.Context) {
			<-ctx.Done()
			time.Sleep(time.Second) // it takes a moment to give up
			returned.Store(true)
		})
		p := New(s, 2, time.Now)
		p.Start()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		if d := time.Since(start); returned.Load() || d != time.Minute { // nobody waits longer than he said
			t.Errorf("returned = %v after %v", returned.Load(), d)
		}
		if err := p.Stop(t.Context()); err != nil || !returned.Load() {
			t.Errorf("the next Stop, which waits: %v, returned = %v", err, returned.Load())
		}
	})
}

func TestStopsAtTheSameTimeAllWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		s.add(time.Now(), func(context.Context) { time.Sleep(time.Minute) })
		p := New(s, 1, time.Now)
		p.Start()
		synctest.Wait()
		start := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				stop(t, p)
				if d := time.Since(start); d != time.Minute {
					t.Errorf("Stop returned after %v", d)
				}
			})
		}
		wg.Wait()
	})
}

func TestAPoolThatWasNeverStartedStops(t *testing.T) {
	s := &source{}
	s.add(time.Now(), func(context.Context) { t.Error("it ran") })
	p := New(s, 1, time.Now)
	stop(t, p)
	p.Start()
	stop(t, p)
}
