package pool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStaleValueIsClosedWithItsLastLeaseAndOpenedAnewAfterThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{closeFor: time.Second}
		p := o.pool(4, 0)
		l1, l2 := mustAcquire(t, p, "a"), mustAcquire(t, p, "a")
		old := l1.Value()
		p.Evict("a")
		p.Evict("a")
		c := acquireLater(t.Context(), p, "a")
		c2 := acquireLater(t.Context(), p, "a")
		l1.Release()
		if _, ok := arrived(c); ok {
			t.Fatal("a stale value was leased, or a second one opened beside it")
		}
		if l2.Value() != old {
			t.Error("a lease lost its value")
		}
		l2.Release()
		synctest.Wait()
		expectLog(t, &o, "a", "") // still being closed
		r, r2 := <-c, <-c2
		expectLog(t, &o, "aa", "a")
		if r.lease.Value() == old || r.lease.Value() != r2.lease.Value() {
			t.Error("the key was not opened anew, once")
		}
		r.lease.Release()
		r2.lease.Release()
		p.Evict("a")
		p.Evict("none")
		mustAcquire(t, p, "a").Release()
		expectLog(t, &o, "aaa", "aa")
		mustClose(t, p)
	})
}

func TestAValueEvictedWhileItIsOpenedIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{openFor: time.Second}
		p := o.pool(1, 0)
		before := acquireLater(t.Context(), p, "a")
		p.Evict("a")
		after := acquireLater(t.Context(), p, "a")
		r, r2 := <-before, <-after
		if r.err != nil || r2.err != nil {
			t.Fatal(r.err, r2.err)
		}
		if v := r.lease.Value(); v.n != 2 || r2.lease.Value() != v {
			t.Errorf("value of opening %d was handed out, want 2", v.n)
		}
		expectLog(t, &o, "aa", "a")
		r.lease.Release()
		r2.lease.Release()
		mustClose(t, p)
	})
}

func TestAKeyOpenedAnewKeepsItsRankInTheQueue(t *testing.T) {
	t.Run("when its stale value was leased", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var o opener
			p := o.pool(1, 0)
			l := mustAcquire(t, p, "a")
			p.Evict("a")
			expectOrder(t, p, func() { l.Release() })
			expectLog(t, &o, "aab", "aa")
			mustClose(t, p)
		})
	})
	t.Run("when it was evicted while it was opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := opener{openFor: time.Second}
			p := o.pool(1, 0)
			expectOrder(t, p, func() { p.Evict("a") })
			expectLog(t, &o, "aab", "aa")
			mustClose(t, p)
		})
	})
}

// expectOrder lets a wait, then b, then calls act, and expects a to be served
// before b.
func expectOrder(t *testing.T, p *Pool[string, *value], act func()) {
	t.Helper()
	a := acquireLater(t.Context(), p, "a")
	b := acquireLater(t.Context(), p, "b")
	act()
	select {
	case r := <-a:
		r.lease.Release()
	case <-b:
		t.Fatal("the later caller was served first")
	}
	r := <-b
	r.lease.Release()
}

func TestALeaverWhoWaitedForAStaleValueIsToldAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		p := o.pool(2, 0)
		l := mustAcquire(t, p, "a")
		p.Evict("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.Acquire(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "former value") {
			t.Errorf("Acquire: %v", err)
		}
		l.Release()
		synctest.Wait()
		expectLog(t, &o, "a", "a") // nobody wants it: not opened again
		mustAcquire(t, p, "a").Release()
		mustClose(t, p)
	})
}

func TestAKeyWantedWhileItClosesDoesNotOvertakeWhoWaitedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{closeFor: time.Second}
		p := o.pool(1, 0)
		mustAcquire(t, p, "a").Release()
		b := acquireLater(t.Context(), p, "b") // takes the place of a
		a := acquireLater(t.Context(), p, "a") // while a is being closed
		r := <-b
		if _, ok := arrived(a); ok {
			t.Fatal("the later caller was served as well, or first")
		}
		r.lease.Release()
		r = <-a
		r.lease.Release()
		expectLog(t, &o, "aba", "ab")
		mustClose(t, p)
	})
}

func TestCloseRefusesWakesAndWaitsForLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		p := o.pool(2, time.Minute)
		a, a2 := mustAcquire(t, p, "a"), mustAcquire(t, p, "a")
		b := mustAcquire(t, p, "b")
		p.Evict("b")
		full := acquireLater(t.Context(), p, "c")
		stale := acquireLater(t.Context(), p, "b")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 leases of 2 values") {
			t.Errorf("Close: %v", err)
		}
		for _, c := range []<-chan result{full, stale} {
			if r := <-c; !errors.Is(r.err, ErrClosed) {
				t.Errorf("a waiter of a closed pool: %v", r.err)
			}
		}
		if _, err := p.Acquire(t.Context(), "a"); !errors.Is(err, ErrClosed) {
			t.Errorf("Acquire on a closed pool: %v", err)
		}
		if a.Value().key != "a" {
			t.Error("a lease lost its value")
		}
		a.Release()
		b.Release()
		synctest.Wait()
		expectLog(t, &o, "ab", "b")
		done := make(chan error, 1)
		go func() { done <- p.Close(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Close returned with a lease out: %v", err)
		default:
		}
		a2.Release()
		if err := <-done; err != nil {
			t.Errorf("Close: %v", err)
		}
		expectLog(t, &o, "ab", "ba")
		mustClose(t, p)
	})
}

func TestCloseEndsTheContextOfARunningOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{openFor: time.Hour}
		p := o.pool(1, 0)
		c := acquireLater(t.Context(), p, "a")
		start := time.Now()
		mustClose(t, p)
		if time.Since(start) != 0 {
			t.Error("Close waited for an Open that heeds its context")
		}
		if r := <-c; !errors.Is(r.err, ErrClosed) {
			t.Errorf("Acquire: %v", r.err)
		}
	})
}

func TestAValueOpenedInSpiteOfCloseIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		goOn := make(chan struct{})
		p := New(Config[string, *value]{Max: 1, Close: o.close, Open: func(context.Context, string) (*value, error) {
			<-goOn
			return o.open(context.Background(), "a")
		}})
		c := acquireLater(t.Context(), p, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Close(ctx); err == nil || !strings.Contains(err.Error(), "1 values being opened") {
			t.Errorf("Close: %v", err)
		}
		if r := <-c; !errors.Is(r.err, ErrClosed) {
			t.Errorf("Acquire: %v", r.err)
		}
		close(goOn)
		mustClose(t, p)
		expectLog(t, &o, "a", "a")
	})
}

func TestErrorsOfClosingReachTheOwner(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	failures := map[string]error{"a": first, "b": second}
	var told []string
	p := New(Config[string, int]{
		Max:          3,
		Open:         func(context.Context, string) (int, error) { return 0, nil },
		Close:        func(k string, _ int) error { return failures[k] },
		OnCloseError: func(k string, err error) { told = append(told, k+": "+err.Error()) },
	})
	for _, k := range []string{"a", "b", "c"} {
		l, err := p.Acquire(context.Background(), k)
		if err != nil {
			t.Fatal(err)
		}
		l.Release()
	}
	if !p.CloseIdle("a") {
		t.Error("CloseIdle is false for a value that it closed with an error")
	}
	for range 2 {
		if err := p.Close(context.Background()); !errors.Is(err, second) || errors.Is(err, first) {
			t.Errorf("Close: %v, want only what failed since it was called", err)
		}
	}
	if got := strings.Join(told, ", "); got != "a: first, b: second" {
		t.Errorf("OnCloseError was told %q", got)
	}
	if s := p.Stats(); s.CloseErrors != 2 || s.Closes != 3 {
		t.Errorf("stats: %+v", s)
	}
}

func TestClosingAnUnusedPoolReturnsAtOnce(t *testing.T) {
	var o opener
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := o.pool(1, time.Second).Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}
