package s3

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func mustAcquire(t *testing.T, g *gate) ticket {
	t.Helper()
	tk, err := g.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func TestTheGateBoundsRequestsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2)
		a, _ := mustAcquire(t, g), mustAcquire(t, g)
		admitted := false
		go func() { g.done(mustAcquire(t, g), neutral, 0); admitted = true }()
		synctest.Wait()
		if admitted {
			t.Fatal("a third request was admitted")
		}
		g.done(a, succeeded, 0)
		synctest.Wait()
		if !admitted {
			t.Fatal("a free place was not given on")
		}
	})
}

func TestAThrottledAnswerHoldsEveryoneBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(8)
		var tickets []ticket
		for range 8 {
			tickets = append(tickets, mustAcquire(t, g))
		}
		start := time.Now()
		for _, tk := range tickets {
			g.done(tk, throttled, 0) // one storm, told eight times
		}
		if int(g.window) != 4 {
			t.Errorf("window %v, want 4", g.window)
		}
		tk := mustAcquire(t, g)
		first := time.Since(start)
		if first < gateBackoffMin/2 || first > gateBackoffMin {
			t.Errorf("waited %v", first)
		}
		start = time.Now()
		g.done(tk, throttled, 0)
		tk = mustAcquire(t, g)
		if d := time.Since(start); d < gateBackoffMin || d > 2*gateBackoffMin {
			t.Errorf("waited %v the second time", d)
		}
		start = time.Now()
		g.done(tk, throttled, 3*time.Second)
		tk = mustAcquire(t, g)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("waited %v, Retry-After said 3 s", d)
		}
		for range 100 {
			g.done(tk, succeeded, 0)
			tk = mustAcquire(t, g)
		}
		if int(g.window) != 8 {
			t.Errorf("window %v after 100 successes, want 8", g.window)
		}
		g.done(tk, neutral, 0)
	})
}

func TestAWaiterWhoseContextEndsLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		tk := mustAcquire(t, g)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		g.done(tk, neutral, 0)
		g.done(mustAcquire(t, g), neutral, 0)
		if g.inFlight != 0 || g.waiters.Len() != 0 {
			t.Errorf("%d in flight, %d waiting", g.inFlight, g.waiters.Len())
		}
	})
}
