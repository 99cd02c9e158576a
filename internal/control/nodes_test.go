package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"
)

// clusterer is a fleet of one node of several.
type clusterer struct {
	fleet
	nodes Cluster
	err   error
	drain func(ctx context.Context, timeout time.Duration, tell func(Drained) error)
}

func (c clusterer) Nodes() (Cluster, error) { return c.nodes, c.err }

func (c clusterer) NodesNow(context.Context) (Cluster, error) { return c.nodes, c.err }

func (c clusterer) Drain(ctx context.Context, timeout time.Duration, tell func(Drained) error) {
	c.drain(ctx, timeout, tell)
}

func (c clusterer) Everywhere(context.Context) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		if yield(Placed{ID: "p/a", Node: "a", Self: true}, nil) {
			yield(Placed{}, errors.New("the bucket says no"))
		}
	}
}

func (c clusterer) Tenant(id string) (Tenant, error) {
	return Tenant{}, fmt.Errorf("%w: %s is at node b", ErrNotOwner, id)
}

func TestTheNodesAreTold(t *testing.T) {
	want := Cluster{Node: "a", Map: 7, Free: 3, WorstMove: time.Second, Nodes: []Node{{Name: "a", Self: true, Alive: true, Shards: 500}, {Name: "b", Shards: 521, Ended: true}}}
	got, err := serveActor(t, clusterer{nodes: want}, 0).Nodes(t.Context())
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || got.Owned() != 500 {
		t.Errorf("%+v, %v", got, err)
	}
	for says, source := range map[string]Source{"no node of a cluster": clusterer{err: ErrNoCluster}, "older version": fleet{}} {
		c := serveActor(t, source, 0)
		if _, err := c.Nodes(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
		n := 0
		for d, err := range c.Drain(t.Context(), time.Second) {
			if n++; err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%+v, %v, want %s", d, err, says)
			}
		}
		if n != 1 {
			t.Errorf("%s: told %d times", says, n)
		}
	}
}

func TestATenantOfAnotherNodeIsNoUnknownOne(t *testing.T) {
	_, err := serveActor(t, clusterer{}, 0).Tenant(t.Context(), "a/b")
	if !errors.Is(err, ErrNotOwner) || errors.Is(err, ErrNotFound) || !strings.HasSuffix(err.Error(), "database: a/b is at node b") {
		t.Error(err)
	}
}

func TestADrainingIsToldAsItGoesForAsLongAsItTakes(t *testing.T) {
	const limit = 20 * time.Millisecond
	c := serveActor(t, clusterer{drain: func(_ context.Context, timeout time.Duration, tell func(Drained) error) {
		if timeout != time.Hour {
			t.Errorf("timeout %v", timeout)
		}
		for left := 2; left > 0; left-- {
			if err := tell(Drained{Left: left}); err != nil {
				t.Error(err)
			}
			<-time.After(3 * limit)
		}
		if err := tell(Drained{Done: true}); err != nil {
			t.Error(err)
		}
	}}, limit)
	var said []string
	for d, err := range c.Drain(t.Context(), time.Hour) {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprint(d.Left, d.Done))
	}
	if got := strings.Join(said, " "); got != "2 false 1 false 0 true" {
		t.Error(got)
	}
	for d, err := range c.Drain(t.Context(), 0) {
		if err == nil || !strings.Contains(err.Error(), "timeout_ns is 0") {
			t.Errorf("%+v, %v", d, err)
		}
	}
}

func TestADrainingThatNobodyListensToEnds(t *testing.T) {
	ended := make(chan struct{})
	c := serveActor(t, clusterer{drain: func(ctx context.Context, _ time.Duration, tell func(Drained) error) {
		defer close(ended)
		if err := tell(Drained{Left: 1}); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
	}}, 0)
	for _, err := range c.Drain(t.Context(), time.Hour) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	<-ended
}

func TestTheDatabasesOfAllNodesAreToldUpToAnError(t *testing.T) {
	var got []string
	for p, err := range serveActor(t, clusterer{}, 0).Everywhere(t.Context()) {
		got = append(got, fmt.Sprint(p.ID, p.Node, p.Self, err))
	}
	if want := []string{"p/aatrue <nil>", "false the bucket says no"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for says, source := range map[string]Source{"no node of a cluster": clusterer{err: ErrNoCluster}, "older version": fleet{}} {
		for _, err := range serveActor(t, source, 0).Everywhere(t.Context()) {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, want %s", err, says)
			}
		}
	}
}
