package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// actor is a fleet that carries out orders by a function.
type actor struct {
	fleet
	act func(ctx context.Context, o Order, id string) Outcome
}

func (a actor) Chosen(verb string) []string { return []string{verb + "/1", verb + "/2"} }

func (a actor) Act(ctx context.Context, o Order, id string) Outcome { return a.act(ctx, o, id) }

// clientOf is a client of any server.
func clientOf(t *testing.T, s *httptest.Server) *Client {
	t.Helper()
	c := &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
		},
	}}}
	t.Cleanup(c.Close)
	return c
}

func serveActor(t *testing.T, a Source, limit time.Duration) *Client {
	t.Helper()
	s := httptest.NewUnstartedServer(handler(a))
	s.Config.ReadTimeout, s.Config.WriteTimeout = limit, limit
	s.Start()
	t.Cleanup(s.Close)
	return clientOf(t, s)
}

func TestAnOrderMayTakeLongerThanTheServerGivesAQuestion(t *testing.T) {
	const limit = 20 * time.Millisecond
	c := serveActor(t, actor{act: func(_ context.Context, o Order, id string) Outcome {
		<-time.After(10 * limit)
		return Outcome{ID: id, Verb: o.Verb, Done: true}
	}}, limit)
	n := 0
	for out, err := range c.Act(t.Context(), Order{Verb: Adopt, IDs: []string{"a"}}) {
		if err != nil || !out.Done || out.ID != "a" || out.Verb != Adopt {
			t.Fatalf("%+v, %v", out, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d outcomes", n)
	}
}

func TestEachOutcomeIsToldWhenItIsKnown(t *testing.T) {
	told := make(chan struct{})
	c := serveActor(t, actor{act: func(ctx context.Context, o Order, id string) Outcome {
		if id == "takeover/2" { // goes on only when the other one has been told
			select {
			case <-told:
			case <-ctx.Done():
			}
		}
		return Outcome{ID: id, DryRun: o.DryRun}
	}}, 0)
	var ids []string
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for out, err := range c.Act(ctx, Order{Verb: TakeOver, All: true, DryRun: true}) {
		if err != nil || !out.DryRun {
			t.Fatalf("%+v, %v", out, err)
		}
		if ids = append(ids, out.ID); len(ids) == 1 {
			close(told)
		}
	}
	if !slices.Equal(ids, []string{"takeover/1", "takeover/2"}) {
		t.Errorf("told of %q", ids)
	}
}

func TestNothingMoreIsBegunForAClientThatHasGone(t *testing.T) {
	var mu sync.Mutex
	begun := 0
	started, ended := make(chan struct{}, 1000), make(chan struct{}, 1000)
	c := serveActor(t, actor{act: func(ctx context.Context, _ Order, id string) Outcome {
		mu.Lock()
		begun++
		mu.Unlock()
		started <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return Outcome{ID: id}
	}}, 0)
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = strings.Repeat("x", i+1)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	go func() {
		for range parallelActs {
			<-started
		}
		cancel(gone)
	}()
	for out, err := range c.Act(ctx, Order{Verb: HandOver, IDs: ids}) {
		if !errors.Is(err, gone) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	for range parallelActs {
		<-ended
	}
	mu.Lock()
	defer mu.Unlock()
	if begun > 2*parallelActs {
		t.Errorf("%d were begun", begun)
	}
}

func TestAWrongOrderAndAnOlderProcessAreNamed(t *testing.T) {
	able := serveActor(t, actor{act: func(context.Context, Order, string) Outcome { return Outcome{} }}, 0)
	for _, tc := range []struct {
		c    *Client
		o    Order
		want string
	}{
		{able, Order{Verb: "drop", All: true}, `no verb "drop"`},
		{able, Order{Verb: Adopt}, "want ids, or all"},
		{able, Order{Verb: Adopt, All: true, IDs: []string{"a"}}, "want ids, or all"},
		{able, Order{Verb: Adopt, IDs: []string{strings.Repeat("x", maxOrder)}}, "too large"},
		{serveActor(t, fleet{}, 0), Order{Verb: Adopt, All: true}, "older version"},
	} {
		said := 0
		for out, err := range tc.c.Act(t.Context(), tc.o) {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q: %+v, %v", tc.want, out, err)
			}
			said++
		}
		if said != 1 {
			t.Errorf("%q: %d answers", tc.want, said)
		}
	}
}
