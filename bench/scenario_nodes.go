package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// s3Delay is how long the bucket takes for an answer in the scenarios whose names begin with nodes-, about as one in the
// same region does: a move is requests one after the other.
const s3Delay = 20 * time.Millisecond

// userPause is what each user waits between an answer and the next request.
const userPause = 100 * time.Millisecond

// crew are nodes of a scenario, and users.
type crew struct {
	sp    *spec
	nodes map[string]*node
	*users
}

// newCrew starts nodes one after the other, and users when all is in its place.
func newCrew(ctx context.Context, sp *spec, names ...string) (*crew, error) {
	c := &crew{sp: sp, nodes: map[string]*node{}}
	err := sp.control().delay(ctx, s3Delay)
	for _, name := range names {
		if err == nil {
			err = c.start(ctx, name)
		}
	}
	if err == nil {
		err = c.placed(ctx)
	}
	if err == nil {
		c.users, err = startUsers(ctx, sp.N, userPause, c.all()...)
	}
	if err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

func (c *crew) all() (all []*node) {
	for _, n := range c.nodes {
		all = append(all, n)
	}
	return all
}

func (c *crew) placed(ctx context.Context) error { return placed(ctx, 2*time.Minute, c.all()...) }

// start starts a node, which has the same disk each time.
func (c *crew) start(ctx context.Context, name string) error {
	n, _, err := c.sp.startNode(ctx, name, filepath.Join(c.sp.Dir, name))
	if err == nil {
		c.nodes[name] = n
	}
	return err
}

// gone takes a node out of the load balancer.
func (c *crew) gone(name string) *node {
	n := c.nodes[name]
	delete(c.nodes, name)
	c.setNodes(c.all()...)
	return n
}

func (c *crew) end() error {
	var errs []error
	if c.users != nil {
		errs = append(errs, c.users.close())
	}
	for _, n := range c.nodes {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

func nodesMoveScenario(short bool) scenario {
	var rows []row
	for _, k := range []struct{ kind, what string }{
		{"join", "nodes, a third joins"}, {"drain", "nodes, one of three is drained"},
		{"again", "nodes, one joins again on its disk"}, {"leave", "nodes, one of three is closed without Drain"},
	} {
		rows = append(rows,
			row{key: k.kind + "-p50", what: k.what + ": a tenant that moves is without an answer, p50", unit: inSeconds},
			row{key: k.kind + "-p99", what: k.what + ": p99", unit: inSeconds, bar: bar{kind: atMost, limit: 2, text: "2 s"}},
			row{key: k.kind + "-rest", what: k.what + ": the longest of all tenants that stay", unit: inSeconds},
			row{key: k.kind + "-took", what: k.what + ": until all shards are in their place", unit: inSeconds})
	}
	return scenario{
		name: "nodes-move", title: "nodes: for how long a tenant has no service while it moves",
		sizes:   pick(short, []int{40}, []int{120}),
		runs:    1,
		multidb: nodesMove,
		place:   withS3,
		rows:    rows,
	}
}

// nodesMove moves tenants that are all in use, in each of the planned ways, some times.
func nodesMove(ctx context.Context, sp *spec) (_ figures, err error) {
	c, err := newCrew(ctx, sp, "a", "b")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	gaps, f := map[string][]float64{}, figures{}
	step := func(kind string, do func() error) error {
		if err := pause(ctx, 2*time.Second); err != nil { // at rest, and apart from what was before
			return err
		}
		from := c.now()
		failed := c.failures()
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if err := c.placed(ctx); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		f[kind+"-took"] = max(f[kind+"-took"], (c.now() - from).Seconds())
		if err := c.served(ctx, c.now(), time.Minute); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		moved, rest := c.gaps(from, c.now())
		gaps[kind] = append(gaps[kind], moved...)
		f[kind+"-rest"] = max(f[kind+"-rest"], rest)
		f[kind+"-failed"] += float64(c.failures() - failed)
		sp.say("\t%s: %d of %d moved, %.2f s at most, %.2f s of the others\n", kind, len(moved), sp.N, slices.Max(append(moved, 0)), rest)
		return nil
	}
	join := func() error {
		err := c.start(ctx, "c")
		c.setNodes(c.all()...)
		return err
	}
	for round := range pick(sp.Short, 1, 4) {
		for _, s := range []struct {
			kind string
			do   func() error
		}{
			{[]string{"join", "again"}[min(round, 1)], join},
			{"drain", func() error {
				if _, err := c.nodes["c"].ask(nodeAsk{Do: nodeDrain}); err != nil {
					return err
				}
				return c.gone("c").close()
			}},
			{"again", join},
			{"leave", func() error { return c.gone("c").close() }},
		} {
			if err := step(s.kind, s.do); err != nil {
				return nil, err
			}
		}
	}
	for kind, all := range gaps {
		f.quantiles(kind, all)
	}
	return f, nil
}

func nodesCrashScenario(short bool) scenario {
	return scenario{
		name: "nodes-crash", title: "nodes: for how long a tenant has no service when its node is killed, members in the bucket",
		sizes:   pick(short, []int{40}, []int{120}),
		runs:    1,
		multidb: nodesCrash,
		place:   withS3,
		rows: []row{
			{key: "dead-n", what: "nodes, one of three is killed: tenants that it served, in all", unit: count},
			{key: "dead-p50", what: "nodes, one of three is killed: without an answer, p50", unit: inSeconds},
			{key: "dead-p99", what: "nodes, one of three is killed: p99", unit: inSeconds, bar: bar{kind: atMost, limit: 15, text: "15 s"}},
			{key: "dead-most", what: "nodes, one of three is killed: the longest", unit: inSeconds},
			{key: "restart-p50", what: "nodes, killed and started again at once: without an answer, p50", unit: inSeconds},
			{key: "restart-p99", what: "nodes, killed and started again at once: p99", unit: inSeconds, bar: bar{kind: atMost, limit: 15, text: "15 s"}},
		},
	}
}

// nodesCrash kills nodes in turn, each with tenants in use.
func nodesCrash(ctx context.Context, sp *spec) (_ figures, err error) {
	names := []string{"a", "b", "c"}
	c, err := newCrew(ctx, sp, names...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	gaps := map[string][]float64{}
	for round := range pick(sp.Short, 1, 6) {
		for _, kind := range []string{"dead", "restart"} {
			if err := errors.Join(c.placed(ctx), c.served(ctx, c.now(), time.Minute), pause(ctx, 2*time.Second)); err != nil {
				return nil, err
			}
			victim := names[round%len(names)]
			killed := c.now()
			had := c.of(victim, killed)
			if err := c.gone(victim).kill(); err != nil {
				return nil, err
			}
			if kind == "restart" {
				err := c.start(ctx, victim)
				if c.setNodes(c.all()...); err != nil {
					return nil, err
				}
			}
			if err := c.served(ctx, killed, 2*time.Minute); err != nil {
				return nil, fmt.Errorf("after node %q was killed: %w", victim, err)
			}
			all := c.gapsOf(had, killed)
			gaps[kind] = append(gaps[kind], all...)
			sp.say("\t%s: %d of %d, %.2f s at most\n", kind, len(had), sp.N, slices.Max(append(all, 0)))
			if kind == "dead" {
				if err := errors.Join(c.placed(ctx), c.start(ctx, victim)); err != nil {
					return nil, err
				}
				c.setNodes(c.all()...)
			}
		}
	}
	f := figures{}
	for kind, all := range gaps {
		f.quantiles(kind, all)
	}
	return f, nil
}
