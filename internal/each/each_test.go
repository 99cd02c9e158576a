package each

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ids are n IDs in their order.
func ids(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("t%04d", i))
	}
	return all
}

// journal notes what begins and ends.
type journal struct {
	mu          sync.Mutex
	begun       []string
	running, at int // now, and at most
}

func (j *journal) begin(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.begun = append(j.begun, id)
	j.running++
	j.at = max(j.at, j.running)
}

func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running--
}

var errBad = errors.New("bad")

func TestEveryDatabaseIsDoneOnceAndAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var last Progress
		told := 0
		r := Run(t.Context(), Config{
			IDs: ids(100), Skipped: 7, Parallel: 4, Canary: 2,
			Do: func(ctx context.Context, id string) error {
				j.begin(id)
				defer j.end()
				<-time.After(time.Second)
				return nil
			},
			Progress: func(p Progress) { told, last = told+1, p },
		})
		if r.Done != 100 || r.Skipped != 7 || r.Left != 0 || r.Stopped != nil || len(r.Failed) != 0 {
			t.Errorf("%+v", r)
		}
		if slices.Sort(j.begun); !slices.Equal(j.begun, ids(100)) || j.at != 4 {
			t.Errorf("%d begun, %d at a time", len(j.begun), j.at)
		}
		if told != 101 || last.Done != 100 || last.Left != 0 || last.Skipped != 7 {
			t.Errorf("told %d times, at the end %+v", told, last)
		}
	})
}

func TestCanariesComeOneAfterAnotherAndOneThatFailsEndsEverything(t *testing.T) {
	for _, bad := range []int{0, 2, 3} { // the last one is none
		synctest.Test(t, func(t *testing.T) {
			var j journal
			all := ids(40)
			r := Run(t.Context(), Config{
				IDs: all, Parallel: 8, Canary: 3,
				Do: func(_ context.Context, id string) error {
					j.begin(id)
					defer j.end()
					<-time.After(time.Second)
					if n := slices.Index(all, id); n < 3 && j.at > 1 {
						t.Errorf("%s began beside another", id)
					}
					if id == all[bad] {
						return errBad
					}
					return nil
				},
			})
			want := bad + 1
			if bad == 3 {
				want = 40
			}
			if len(j.begun) != want || len(r.Failed) != 1 || r.Left != 40-want || (r.Stopped == nil) != (bad == 3) {
				t.Errorf("with number %d bad %d were begun: %+v", bad, len(j.begun), r)
			}
		})
	}
}

func TestADatabaseThatHasGoneIsNoCanary(t *testing.T) {
	r := Run(t.Context(), Config{
		IDs: ids(5), Parallel: 2, Canary: 1,
		Do: func(_ context.Context, id string) error {
			if id < "t0002" {
				return fmt.Errorf("%w: it was removed", ErrGone)
			}
			return errBad
		},
	})
	if r.Skipped != 2 || len(r.Failed) != 1 || r.Left != 2 {
		t.Errorf("%+v", r)
	}
}

func TestTooManyFailuresEndItAndAreSortedByID(t *testing.T) {
	for limit, failed := range map[int]int{0: 20, 3: 3} {
		r := Run(t.Context(), Config{
			IDs: ids(20), Parallel: 1, MaxErrors: limit,
			Do: func(_ context.Context, id string) error { return errBad },
		})
		if len(r.Failed) != failed || r.Left != 20-failed || (r.Stopped == nil) != (limit == 0) {
			t.Errorf("with a limit of %d: %+v", limit, r)
		}
		if !slices.IsSortedFunc(r.Failed, func(a, b Failure) int { return strings.Compare(a.ID, b.ID) }) {
			t.Errorf("%+v", r.Failed)
		}
	}
}

func TestAPanicIsTheFailureOfItsDatabaseAlone(t *testing.T) {
	r := Run(t.Context(), Config{
		IDs: ids(5), Parallel: 2,
		Do: func(_ context.Context, id string) error {
			switch id {
			case "t0001":
				panic("at the disco")
			case "t0002":
				panic(errBad)
			case "t0003":
				runtime.Goexit()
			}
			return nil
		},
	})
	if r.Done != 2 || len(r.Failed) != 3 || r.Left != 0 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []string{"at the disco", "each_test.go", "Goexit"} {
		if err := r.Failed[i].Err; !errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if !errors.Is(r.Failed[1].Err, errBad) {
		t.Errorf("%v does not wrap what it panicked with", r.Failed[1].Err)
	}
}

func TestWhatDoesNotReturnIsNotWaitedForAndKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var j journal
		out := map[string]bool{}
		var mu sync.Mutex
		began := time.Now()
		r := Run(t.Context(), Config{
			IDs: ids(10), Parallel: 2, Timeout: time.Minute, Patience: 5 * time.Second,
			Hung: func(id string) func() {
				mu.Lock()
				defer mu.Unlock()
				out[id] = true
				return func() {
					mu.Lock()
					defer mu.Unlock()
					delete(out, id)
				}
			},
			Do: func(ctx context.Context, id string) error {
				j.begin(id)
				defer j.end()
				if id == "t0003" {
					<-goOn
				}
				<-time.After(time.Second)
				return nil
			},
		})
		if took := time.Since(began); r.Done != 9 || len(r.Failed) != 1 || r.Failed[0].ID != "t0003" || took > 70*time.Second {
			t.Errorf("after %v: %+v", took, r)
		}
		if err := r.Failed[0].Err; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "leased") {
			t.Error(err)
		}
		if mu.Lock(); !out["t0003"] || j.at > 2 {
			t.Errorf("out: %v, %d at a time", out, j.at)
		}
		mu.Unlock()
		close(goOn)
		synctest.Wait()
		<-time.After(2 * time.Second)
		synctest.Wait()
		if mu.Lock(); len(out) != 0 {
			t.Errorf("then out: %v", out)
		}
		mu.Unlock()
	})
}

func TestItEndsWhenEveryPlaceIsTakenByWhatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		r := Run(t.Context(), Config{
			IDs: ids(10), Parallel: 2, Timeout: time.Minute, Patience: 5 * time.Second,
			Hung: func(string) func() { return func() {} },
			Do:   func(context.Context, string) error { <-goOn; return nil },
		})
		if len(r.Failed) != 2 || r.Left != 8 || r.Stopped == nil || !strings.Contains(r.Stopped.Error(), "Timeout") {
			t.Errorf("%+v", r)
		}
		close(goOn)
		synctest.Wait()
	})
}

func TestAPlaceIsFreeAgainWhenWhatHungReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Run(t.Context(), Config{
			IDs: ids(10), Parallel: 2, Timeout: time.Minute, Patience: 5 * time.Second,
			Hung: func(string) func() { return func() {} },
			Do: func(_ context.Context, id string) error {
				switch id {
				case "t0000": // it is no longer waited for, and then returns
					<-time.After(70 * time.Second)
				case "t0001":
					<-time.After(55 * time.Second)
				case "t0002":
					<-time.After(30 * time.Second)
				case "t0003":
					<-time.After(time.Hour)
				}
				return nil
			},
		})
		if len(r.Failed) != 2 || r.Done != 8 || r.Stopped != nil {
			t.Errorf("%+v", r)
		}
		<-time.After(2 * time.Hour)
	})
}

func TestATimeoutIsTheFailureOfItsDatabaseAndAnEndOfTheContextIsNot(t *testing.T) {
	wait := func(ctx context.Context, _ string) error { <-ctx.Done(); return errBad }
	synctest.Test(t, func(t *testing.T) {
		r := Run(t.Context(), Config{IDs: ids(3), Parallel: 3, Timeout: time.Second, Patience: time.Second, Do: wait})
		if len(r.Failed) != 3 || !errors.Is(r.Failed[0].Err, context.DeadlineExceeded) || !errors.Is(r.Failed[0].Err, errBad) {
			t.Errorf("a timeout: %+v", r)
		}
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(stop) })
		r = Run(ctx, Config{IDs: ids(9), Parallel: 3, Patience: time.Second, Do: wait})
		if len(r.Failed) != 0 || r.Left != 9 || !errors.Is(r.Stopped, stop) {
			t.Errorf("an end: %+v", r)
		}
	})
}

func TestWhatEndsAllIsNoFailureOfOne(t *testing.T) {
	r := Run(t.Context(), Config{
		IDs: ids(9), Parallel: 1,
		Do: func(_ context.Context, id string) error {
			if id == "t0004" {
				return Stop{errBad}
			}
			return nil
		},
	})
	if r.Done != 4 || r.Left != 5 || len(r.Failed) != 0 || !errors.Is(r.Stopped, errBad) {
		t.Errorf("%+v", r)
	}
}

func TestAPanicOfWhoIsToldLeavesNothingRunning(t *testing.T) {
	var j journal
	func() {
		defer func() { _ = recover() }()
		Run(t.Context(), Config{
			IDs: ids(9), Parallel: 3, Patience: time.Minute,
			Do: func(ctx context.Context, id string) error {
				j.begin(id)
				defer j.end()
				if id != "t0000" {
					<-ctx.Done()
				}
				return nil
			},
			Progress: func(p Progress) {
				if p.ID != "" {
					panic("told")
				}
			},
		})
	}()
	if j.running != 0 {
		t.Errorf("%d run", j.running)
	}
}

func TestANameIsTakenUntilItsRunEnds(t *testing.T) {
	var b Book
	end, ok := b.Begin("x")
	if !ok {
		t.Fatal("it is taken from the start")
	}
	if _, ok := b.Begin("x"); ok {
		t.Error("two have it")
	}
	if _, ok := b.Begin("y"); !ok {
		t.Error("another one is taken")
	}
	returned := b.hung("x", "a")
	end()
	if _, ok := b.Begin("x"); !ok {
		t.Error("it is taken after its end")
	}
	if !b.isOut("x", "a") || b.isOut("y", "a") {
		t.Error("it is not known what has not returned")
	}
	if returned(); b.isOut("x", "a") {
		t.Error("it has returned")
	}
	for range 2 {
		if _, ok := b.Begin(""); !ok {
			t.Error("no name is taken")
		}
	}
}
