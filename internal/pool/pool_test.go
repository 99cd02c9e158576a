package pool

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errOpen = errors.New("open failed")

// opener records what a pool does with values named by their key and the number
// of the opening.
type opener struct {
	mu       sync.Mutex
	opened   []string
	closed   []string
	openFor  time.Duration // in the bubble's time
	closeFor time.Duration
	openErr  error
	closeErr error
}

type value struct {
	key string
	n   int
}

func (o *opener) open(ctx context.Context, k string) (*value, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d := o.openFor; d > 0 {
		o.mu.Unlock()
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		o.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if o.openErr != nil {
		return nil, o.openErr
	}
	o.opened = append(o.opened, k)
	return &value{key: k, n: len(o.opened)}, nil
}

func (o *opener) close(k string, _ *value) error {
	time.Sleep(o.closeFor) // the bubble's time
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = append(o.closed, k)
	return o.closeErr
}

func (o *opener) log() (opened, closed string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.opened, ""), strings.Join(o.closed, "")
}

func (o *opener) pool(max int, idle time.Duration) *Pool[string, *value] {
	return New(Config[string, *value]{Max: max, IdleTimeout: idle, Open: o.open, Close: o.close})
}

func mustAcquire(t *testing.T, p *Pool[string, *value], k string) Lease[string, *value] {
	t.Helper()
	l, err := p.Acquire(context.Background(), k)
	if err != nil {
		t.Fatalf("Acquire(%q): %v", k, err)
	}
	if got := l.Value().key; got != k {
		t.Fatalf("Acquire(%q) leased the value of %q", k, got)
	}
	return l
}

func mustClose(t *testing.T, p *Pool[string, *value]) {
	t.Helper()
	if err := p.Close(context.Background()); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// acquireLater acquires in a goroutine; the result arrives on the channel.
type result struct {
	lease Lease[string, *value]
	err   error
}

func acquireLater(ctx context.Context, p *Pool[string, *value], k string) <-chan result {
	c := make(chan result, 1)
	go func() {
		l, err := p.Acquire(ctx, k)
		c <- result{l, err}
	}()
	synctest.Wait()
	return c
}

// arrived returns the result if it is there by now.
func arrived(c <-chan result) (result, bool) {
	synctest.Wait()
	select {
	case r := <-c:
		return r, true
	default:
		return result{}, false
	}
}

func expectLog(t *testing.T, o *opener, opened, closed string) {
	t.Helper()
	if gotOpened, gotClosed := o.log(); gotOpened != opened || gotClosed != closed {
		t.Errorf("opened %q, closed %q; want %q, %q", gotOpened, gotClosed, opened, closed)
	}
}

func TestAnOpenValueIsSharedByItsLeases(t *testing.T) {
	var o opener
	p := o.pool(2, 0)
	a, b := mustAcquire(t, p, "a"), mustAcquire(t, p, "a")
	if a.Value() != b.Value() {
		t.Error("two leases of one key have different values")
	}
	if s := p.Stats(); s.Leases != 2 || s.Leased != 1 || s.Hits != 1 || s.Opens != 1 {
		t.Errorf("stats: %+v", s)
	}
	a.Release()
	if p.CloseIdle("a") {
		t.Error("CloseIdle closed a leased value")
	}
	b.Release()
	if s := p.Stats(); s.Idle != 1 || s.Leased != 0 {
		t.Errorf("stats: %+v", s)
	}
	if !p.CloseIdle("a") {
		t.Error("CloseIdle did not close an idle value")
	}
	expectLog(t, &o, "a", "a")
	mustClose(t, p)
	expectLog(t, &o, "a", "a")
}

func TestReleaseCountsOnceForAllCopiesOfALease(t *testing.T) {
	var o opener
	p := o.pool(1, 0)
	keep := mustAcquire(t, p, "a")
	l := mustAcquire(t, p, "a")
	var wg sync.WaitGroup
	var returned atomic.Int32
	p.mu.Lock() // so that all of them find the lease out, and meet at the lock
	for range 8 {
		wg.Go(func() {
			if l.Release() {
				returned.Add(1)
			}
		})
	}
	for range 1000 {
		runtime.Gosched()
	}
	p.mu.Unlock()
	wg.Wait()
	if n := returned.Load(); n != 1 {
		t.Errorf("%d calls say that they returned the lease, want 1", n)
	}
	if s := p.Stats(); s.Leases != 1 {
		t.Fatalf("%d leases, want 1", s.Leases)
	}
	// The slot is in use again: the old copies must not return the new lease.
	again := mustAcquire(t, p, "a")
	l.Release()
	if s := p.Stats(); s.Leases != 2 {
		t.Errorf("a released copy returned somebody else's lease: %d leases, want 2", s.Leases)
	}
	again.Release()
	keep.Release()
	Lease[string, *value]{}.Release()
	mustClose(t, p)
}

func TestValuePanicsAfterRelease(t *testing.T) {
	var o opener
	p := o.pool(1, 0)
	l := mustAcquire(t, p, "a")
	l.Release()
	for name, l := range map[string]Lease[string, *value]{"released": l, "zero": {}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Value of a %s lease did not panic", name)
				}
			}()
			l.Value()
		}()
	}
	mustClose(t, p)
}

func TestTheLeastRecentlyUsedIdleValueGivesUpItsPlace(t *testing.T) {
	var o opener
	p := o.pool(3, 0)
	for _, k := range []string{"a", "b", "c", "a"} {
		mustAcquire(t, p, k).Release()
	}
	c := mustAcquire(t, p, "c") // leased: cannot leave
	mustAcquire(t, p, "d").Release()
	expectLog(t, &o, "abcd", "b")
	mustAcquire(t, p, "e").Release()
	expectLog(t, &o, "abcde", "ba")
	c.Release()
	mustAcquire(t, p, "f").Release()
	expectLog(t, &o, "abcdef", "bad")
	if s := p.Stats(); s.Evictions != 3 {
		t.Errorf("%d evictions, want 3", s.Evictions)
	}
	mustClose(t, p)
}

func TestConcurrentCallersShareOneOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{openFor: time.Second}
		p := o.pool(1, 0)
		ctx, cancel := context.WithCancel(t.Context())
		impatient := acquireLater(ctx, p, "a")
		patient := []<-chan result{acquireLater(t.Context(), p, "a"), acquireLater(t.Context(), p, "a")}
		cancel()
		r, ok := arrived(impatient)
		if !ok || !errors.Is(r.err, context.Canceled) {
			t.Errorf("impatient caller: %v, %v", ok, r.err)
		}
		for _, c := range patient {
			r := <-c
			if r.err != nil {
				t.Fatalf("a caller who waited was failed by one who left: %v", r.err)
			}
			r.lease.Release()
		}
		expectLog(t, &o, "a", "")
		if s := p.Stats(); s.WaitTotal != 2*time.Second {
			t.Errorf("WaitTotal %v, want 2s", s.WaitTotal)
		}
		mustClose(t, p)
	})
}

func TestAnOpenThatNobodyWaitsForAnyMoreIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{openFor: time.Second}
		p := o.pool(1, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.Acquire(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrFull) {
			t.Fatalf("Acquire: %v", err)
		}
		mustAcquire(t, p, "a").Release()
		expectLog(t, &o, "a", "")
		mustClose(t, p)
	})
}

func TestAnOpenErrorGoesToAllWhoSharedItAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{openFor: time.Second, openErr: errOpen}
		p := o.pool(1, 0)
		c1, c2 := acquireLater(t.Context(), p, "a"), acquireLater(t.Context(), p, "a")
		next := acquireLater(t.Context(), p, "b") // no place before a has failed
		for _, c := range []<-chan result{c1, c2} {
			if r := <-c; !errors.Is(r.err, errOpen) {
				t.Errorf("Acquire: %v", r.err)
			}
		}
		o.mu.Lock()
		o.openErr = nil
		o.mu.Unlock()
		if r := <-next; r.err != nil {
			t.Errorf("a failed open did not free its place: %v", r.err)
		} else {
			r.lease.Release()
		}
		mustAcquire(t, p, "a").Release()
		if s := p.Stats(); s.OpenErrors != 1 || s.Opens != 2 {
			t.Errorf("stats: %+v", s)
		}
		mustClose(t, p)
	})
}

func TestAFullPoolServesKeysInTheOrderTheyBeganToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		p := o.pool(1, 0)
		l := mustAcquire(t, p, "a")
		b := acquireLater(t.Context(), p, "b")
		c := acquireLater(t.Context(), p, "c")
		b2 := acquireLater(t.Context(), p, "b")
		mustAcquire(t, p, "a").Release() // an open key is served at once
		for _, w := range []<-chan result{b, c, b2} {
			if _, ok := arrived(w); ok {
				t.Fatal("a waiter was served while every value was leased")
			}
		}
		if s := p.Stats(); s.Waiting != 3 {
			t.Errorf("%d waiting, want 3", s.Waiting)
		}
		l.Release()
		r, ok := arrived(b)
		if !ok {
			t.Fatal("the first waiter was not served")
		}
		r2, ok := arrived(b2)
		if !ok {
			t.Fatal("a waiter was not served when its key became open")
		}
		if _, ok := arrived(c); ok {
			t.Fatal("the pool is over its bound")
		}
		r.lease.Release()
		r2.lease.Release()
		r, ok = arrived(c)
		if !ok {
			t.Fatal("the last waiter was forgotten")
		}
		r.lease.Release()
		expectLog(t, &o, "abc", "ab")
		mustClose(t, p)
	})
}

func TestAWaiterThatLeavesAFullPoolSaysSoAndKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		p := o.pool(1, 0)
		l := mustAcquire(t, p, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b := acquireLater(ctx, p, "b")
		c := acquireLater(t.Context(), p, "c")
		r := <-b
		if !errors.Is(r.err, ErrFull) || !errors.Is(r.err, context.DeadlineExceeded) || !strings.Contains(r.err.Error(), "1 of 1") {
			t.Errorf("Acquire: %v", r.err)
		}
		l.Release()
		if r = <-c; r.err != nil {
			t.Errorf("Acquire: %v", r.err)
		}
		r.lease.Release()
		expectLog(t, &o, "ac", "a")
		mustClose(t, p)
	})
}

func TestAContextThatHasEndedIsRefusedWithItsCause(t *testing.T) {
	var o opener
	p := o.pool(1, 0)
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	_, err := p.Acquire(ctx, "a")
	if !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire: %v", err)
	}
	expectLog(t, &o, "", "")
	mustClose(t, p)
}

func TestIdleValuesLeaveAfterTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		p := o.pool(10, time.Minute)
		held := mustAcquire(t, p, "h")
		mustAcquire(t, p, "a").Release()
		time.Sleep(30 * time.Second)
		mustAcquire(t, p, "b").Release()
		time.Sleep(29 * time.Second)
		mustAcquire(t, p, "h").Release()
		synctest.Wait()
		expectLog(t, &o, "hab", "")
		time.Sleep(time.Second) // a has been idle for a minute
		synctest.Wait()
		expectLog(t, &o, "hab", "a")
		l := mustAcquire(t, p, "b") // used again: a minute from now
		time.Sleep(time.Hour)
		synctest.Wait()
		expectLog(t, &o, "hab", "a")
		l.Release()
		held.Release()
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		expectLog(t, &o, "hab", "a")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if s := p.Stats(); s.Open != 0 || s.IdleCloses != 3 {
			t.Errorf("stats: %+v", s)
		}
		mustAcquire(t, p, "c").Release()
		mustClose(t, p) // with the timer set
	})
}

func TestEachIdleValueHasItsOwnTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		p := o.pool(10, time.Minute)
		start := time.Now()
		at := func(d time.Duration) {
			time.Sleep(d - time.Since(start))
			synctest.Wait()
		}
		mustAcquire(t, p, "a").Release()
		at(10 * time.Second)
		mustAcquire(t, p, "b").Release()
		at(20 * time.Second)
		mustAcquire(t, p, "c").Release()
		at(50 * time.Second)
		mustAcquire(t, p, "b").Release()
		at(60 * time.Second)
		expectLog(t, &o, "abc", "a")
		at(80 * time.Second)
		expectLog(t, &o, "abc", "ac")
		at(109 * time.Second)
		expectLog(t, &o, "abc", "ac")
		at(110 * time.Second)
		expectLog(t, &o, "abc", "acb")
		mustClose(t, p)
	})
}

func TestOneValueIsClosedForEachKeyThatNeedsAPlaceAndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := opener{closeFor: time.Second}
		p := o.pool(3, 0)
		for _, k := range []string{"a", "b", "c"} {
			mustAcquire(t, p, k).Release()
		}
		d, d2 := acquireLater(t.Context(), p, "d"), acquireLater(t.Context(), p, "d")
		if s := p.Stats(); s.Closing != 1 {
			t.Errorf("%d values being closed for one key, want 1", s.Closing)
		}
		// The place of a is spoken for by d: a needs that of b, and not later
		// than now.
		a := acquireLater(t.Context(), p, "a")
		if s := p.Stats(); s.Closing != 2 {
			t.Errorf("%d values being closed for two keys, want 2", s.Closing)
		}
		start := time.Now()
		for _, c := range []<-chan result{d, d2, a} {
			r := <-c
			r.lease.Release()
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("served after %v, want 1s", d)
		}
		mustClose(t, p)
	})
}

func TestAZeroIdleTimeoutNeverClosesAnIdleValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o opener
		p := o.pool(1, 0)
		mustAcquire(t, p, "a").Release()
		time.Sleep(1000 * time.Hour)
		synctest.Wait()
		expectLog(t, &o, "a", "")
		mustClose(t, p)
	})
}

func TestNewPanicsWithoutWhatItNeeds(t *testing.T) {
	var o opener
	for name, cfg := range map[string]Config[string, *value]{
		"Max":   {Open: o.open, Close: o.close},
		"Open":  {Max: 1, Close: o.close},
		"Close": {Max: 1, Open: o.open},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New without %s did not panic", name)
				}
			}()
			New(cfg)
		}()
	}
}
