package evict

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb/internal/fleet"
)

const limit = 1000

func newEvictor() *Evictor {
	v := New(Config{
		Fleet: fleet.New(fleet.Config{
			MaxDisk: limit, Now: time.Now, Due: func() {}, Deliver: func(fleet.Event) {},
		}),
		MaxDisk: limit, Workers: 2,
	})
	v.SetPool(func(context.Context, *fleet.Entry) (bool, error) { return false, nil }, func() int { return 0 })
	return v
}

// room asks for room, and tells on the channel when there is some.
func room(ctx context.Context, v *Evictor, size int64) <-chan error {
	got := make(chan error, 1)
	go func() {
		_, err := v.Room(ctx, size)
		got <- err
	}()
	synctest.Wait()
	return got
}

func waits(t *testing.T, who string, got <-chan error) {
	t.Helper()
	select {
	case err := <-got:
		t.Errorf("%s does not wait: %v", who, err)
	default:
	}
}

func gets(t *testing.T, who string, got <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-got:
		if err != nil {
			t.Errorf("%s: %v", who, err)
		}
	default:
		t.Errorf("%s still waits", who)
	}
}

func TestWhoComesFirstGetsRoomFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newEvictor()
		release, err := v.Room(t.Context(), 900)
		if err != nil {
			t.Fatal(err)
		}
		large := room(t.Context(), v, 500)
		small := room(t.Context(), v, 10)
		waits(t, "the large one", large)
		waits(t, "the small one, which would fit", small)
		release()
		gets(t, "the large one", large)
		gets(t, "the small one", small)
	})
}

func TestWhoGivesUpLetsInWhoIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newEvictor()
		if _, err := v.Room(t.Context(), 900); err != nil {
			t.Fatal(err)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		large := room(ctx, v, 500)
		small := room(t.Context(), v, 10)
		cancel(gone)
		synctest.Wait()
		if err := <-large; !errors.Is(err, gone) {
			t.Errorf("who gave up got %v", err)
		}
		gets(t, "the small one", small)
		if used := v.Stats().Used; used != 910 {
			t.Errorf("%d bytes are used, want what two got", used)
		}
	})
}

func TestSomethingOfTheLimitIsGivenToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		v := newEvictor()
		got := room(ctx, v, limit)
		waits(t, "who wants all of it", got)
		cancel()
		<-got
		gets(t, "who leaves the slack", room(t.Context(), v, limit-v.slack()))
	})
}

func TestWhereNothingCanBeDeletedNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		v := newEvictor()
		ran := make(chan struct{})
		go func() { defer close(ran); v.Run(ctx) }()
		synctest.Wait()
		gets(t, "a file larger than the limit", room(t.Context(), v, 2*limit))
		full := make(chan error, 1)
		go func() { full <- v.Full(t.Context(), 10) }()
		waits(t, "one on a full disk, as somebody has looked just now", full)
		<-time.After(pause) // of the fake clock: after it, it looks again
		gets(t, "one on a full disk", full)
		cancel()
		<-ran
		gets(t, "one after the end", room(t.Context(), v, limit))
		go func() { full <- v.Full(t.Context(), 10) }()
		gets(t, "one on a full disk after the end", full)
	})
}

func TestIndexesOfOpenDatabasesCount(t *testing.T) {
	v := newEvictor()
	open := 0
	v.open = func() int { return open }
	if used := v.Stats().Used; used != 0 {
		t.Errorf("nothing is open, and %d bytes are used", used)
	}
	if open = 3; v.Stats().Used != 3*32<<10 {
		t.Errorf("three are open, and %d bytes are used", v.Stats().Used)
	}
}
