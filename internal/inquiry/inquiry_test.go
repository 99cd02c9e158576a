package inquiry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asking returns an Inquiry whose questions take d, with a number for each of them.
func asking(d time.Duration, n *atomic.Int32) *Inquiry[int] {
	began := time.Now()
	return New(Config[int]{Timeout: time.Minute, Keep: 30 * time.Second, Max: 3,
		Now: func() time.Duration { return time.Since(began) },
		Ask: func(ctx context.Context, key string) (int, error) {
			v := n.Add(1)
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			if key == "bad" {
				return 0, errors.New("away")
			}
			return int(v), nil
		}})
}

func TestAnAnswerIsRememberedForItsTimeAndAnErrorIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		q := asking(time.Second, &n)
		ask := func(key string, want int) {
			t.Helper()
			if v, err := q.Ask(t.Context(), key); v != want || (err != nil) != (want == 0) {
				t.Errorf("%s: %d, %v; want %d", key, v, err, want)
			}
		}
		ask("a", 1)
		ask("a", 1)
		ask("bad", 0)
		ask("bad", 0)
		<-time.After(30*time.Second - 3*time.Second - 1) // the age counts from the question
		ask("a", 1)
		<-time.After(time.Nanosecond)
		ask("a", 4)
		q.Forget("a", "b")
		ask("a", 5)
		for i := range 5 { // the oldest make room
			ask(fmt.Sprint(i), 6+i)
		}
		if answers, asked := q.Len(); answers != 3 || asked != 0 {
			t.Errorf("%d answers, %d questions", answers, asked)
		}
		ask("a", 11)
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := q.Ask(t.Context(), "a"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestThoseWhoAskTheSameAtTheSameTimeShareOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		q := asking(time.Second, &n)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if v, err := q.Ask(t.Context(), "a"); v != 1 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := q.Ask(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who does not wait: %v", err)
		}
		all.Wait()
		if n.Load() != 1 {
			t.Errorf("%d questions", n.Load())
		}
		_ = q.Close(t.Context())
	})
}

func TestWhatIsForgottenWhileItIsAskedIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		q := asking(time.Second, &n)
		first := make(chan int)
		go func() {
			v, _ := q.Ask(t.Context(), "a")
			first <- v
		}()
		synctest.Wait()
		q.Forget("a")
		if v, err := q.Ask(t.Context(), "a"); v != 2 || err != nil {
			t.Errorf("who asks after it: %d, %v", v, err)
		}
		if v := <-first; v != 1 {
			t.Errorf("who asked before it: %d", v)
		}
		if v, err := q.Ask(t.Context(), "a"); v != 2 || err != nil {
			t.Errorf("remembered: %d, %v", v, err)
		}
		_ = q.Close(t.Context())
	})
}

func TestCloseEndsWhatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		q := asking(time.Hour, &n)
		got := make(chan error)
		go func() {
			_, err := q.Ask(t.Context(), "a")
			got <- err
		}()
		synctest.Wait()
		began := time.Now()
		if err := q.Close(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("Close took %v: %v", time.Since(began), err)
		}
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("the question: %v", err)
		}
	})
}
