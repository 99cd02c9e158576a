package rounds

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// trip runs Rounds in virtual time and notes when each round begins.
func trip(t *testing.T, told bool, took time.Duration, during func(r *Rounds[int])) (rounds []time.Duration, taken []int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := New[int](2)
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Run(ctx, Work[int]{
				Interval: time.Minute, Watched: func() bool { return told },
				Round: func(context.Context) {
					rounds = append(rounds, time.Since(start))
					time.Sleep(took)
				},
				Take: func(v int) { taken = append(taken, v) }, After: func(context.Context) {},
				Every: time.Hour, Regular: func() {},
			}, took)
		}()
		synctest.Wait()
		during(r)
		cancel()
		<-done
	})
	return rounds, taken
}

func TestARoundComesEveryIntervalOrLessOftenWhereItTakesLong(t *testing.T) {
	wait := func(d time.Duration) func(*Rounds[int]) { return func(*Rounds[int]) { time.Sleep(d) } }
	if got, _ := trip(t, false, time.Second, wait(150*time.Second)); len(got) != 2 || got[0] != time.Minute || got[1] != 2*time.Minute+time.Second {
		t.Errorf("rounds at %v", got)
	}
	if got, _ := trip(t, true, time.Second, wait(150*time.Second)); len(got) != 0 {
		t.Errorf("one that takes a second is done at %v, though changes are told of", got)
	}
	if got, _ := trip(t, true, time.Second, wait(250*time.Second)); len(got) != 1 || got[0] != 200*time.Second {
		t.Errorf("rounds at %v", got)
	}
}

func TestManyWhoAskShareARound(t *testing.T) {
	got, _ := trip(t, false, 0, func(r *Rounds[int]) {
		for range 50 {
			r.Ask(true)
			r.Ask(false)
		}
		time.Sleep(10 * time.Second)
	})
	if len(got) != 1 || got[0] != soonDelay {
		t.Errorf("rounds at %v", got)
	}
	got, _ = trip(t, false, time.Second, func(r *Rounds[int]) {
		r.Ask(true)
		time.Sleep(2 * time.Second) // the round is over
		r.Ask(true)
		time.Sleep(20 * time.Second)
	})
	if len(got) != 2 || got[1] < got[0]+time.Second+soonShare*time.Second {
		t.Errorf("rounds at %v", got)
	}
}

func TestWhatIsFoundIsTakenInOrBecomesARound(t *testing.T) {
	got, taken := trip(t, false, time.Second, func(r *Rounds[int]) {
		r.Ask(true)
		time.Sleep(500 * time.Millisecond) // in the middle of the round
		for i := range 3 {
			r.Found(i)
		}
		time.Sleep(15 * time.Second)
	})
	if len(taken) != 2 || len(got) != 2 {
		t.Errorf("%v are taken in, rounds at %v", taken, got)
	}
	r := New[int](2)
	r.Found(7)
	r.TakeOne(func(v int) { taken = append(taken, v) })
	r.TakeOne(func(int) { t.Error("one is taken that is not there") })
	if taken[len(taken)-1] != 7 {
		t.Errorf("%v are taken in", taken)
	}
}
