package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

func nodesJoinScenario(short bool) scenario {
	rows := []row{{key: "rss-1", what: "nodes, one serves N cold: its resident memory", unit: inBytes}}
	for _, k := range []struct{ key, what string }{
		{"2", "nodes, N cold on one node, a second joins"}, {"3", "nodes, N cold on two nodes, a third joins"},
		{"drain", "nodes, N cold on three nodes, the first is drained"}, {"again", "nodes, N cold on two nodes, the first joins again on its disk"},
	} {
		rows = append(rows,
			row{key: "took-" + k.key, what: k.what + ": until all shards are in their place", unit: inSeconds, bar: bar{kind: atMost, limit: 180, text: "3 min"}},
			row{key: "shards-" + k.key, what: k.what + ": shards moved", unit: perSecond, more: true},
			row{key: "tenants-" + k.key, what: k.what + ": tenants moved", unit: perSecond, more: true},
			row{key: "requests-" + k.key, what: k.what + ": requests", unit: count},
			row{key: "each-" + k.key, what: k.what + ": requests for a tenant that moved", unit: plain, bar: bar{kind: atMost, limit: 1, text: "1"}},
			row{key: "cpu-" + k.key, what: k.what + ": CPU of all nodes for a tenant that moved", unit: inSeconds},
			row{key: "worst-" + k.key, what: k.what + ": the longest that shards had no owner", unit: inSeconds, bar: bar{kind: atMost, limit: 2, text: "2 s"}},
			row{key: "rss-" + k.key, what: k.what + ": resident memory of the first node after that", unit: inBytes})
	}
	return scenario{
		name: "nodes-join", title: "nodes: N cold tenants on one node, then on two, then on three",
		sizes:   pick(short, []int{2000}, []int{100000}),
		runs:    1,
		multidb: nodesJoin,
		place:   inWorld,
		rows:    rows,
	}
}

// nodesJoin has the world served by one node, which a second one joins, and a third one. Then the first one is
// drained and started again, as by a deploy. Before it ends it moves everything back to that.
func nodesJoin(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := sp.control().delay(ctx, s3Delay); err != nil {
		return nil, err
	}
	var all []*node
	defer func() {
		for len(all) > 0 { // the first one last
			n := all[len(all)-1]
			if all = all[:len(all)-1]; len(all) > 0 {
				_, e := n.ask(nodeAsk{Do: nodeDrain})
				err = errors.Join(err, e)
			}
			err = errors.Join(err, n.close(), os.RemoveAll(filepath.Join(sp.Dir, "nodes", n.name)))
		}
		err = errors.Join(err, sp.control().delay(ctx, 0))
	}()
	start := func(name, dir string) error {
		n, _, err := sp.startNode(ctx, name, dir)
		if err == nil && name == "a" {
			all = slices.Insert(all, 0, n)
		} else if err == nil {
			all = append(all, n)
		}
		return err
	}
	if err := errors.Join(start("a", sp.Dir), placed(ctx, 5*time.Minute, all...)); err != nil {
		return nil, err
	}
	if err := sp.quiet(ctx); err != nil {
		return nil, err
	}
	state := func() (cpu float64, answers []nodeAnswer, err error) {
		for _, n := range all {
			a, e := n.ask(nodeAsk{Do: nodeStatus})
			err = errors.Join(err, e)
			cpu += a.CPU
			answers = append(answers, a)
		}
		return cpu, answers, err
	}
	f := figures{}
	_, was, err := state()
	if err != nil {
		return nil, err
	}
	if was[0].Databases != sp.N {
		return nil, fmt.Errorf("%d databases are known, not %d", was[0].Databases, sp.N)
	}
	f["rss-1"] = was[0].Resident
	// measure measures do, which moves shards and says how many.
	measure := func(key string, do func() (shards int, err error)) error {
		cpu, _, err := state()
		if err != nil {
			return err
		}
		before, err := sp.control().stats(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		moved, err := do()
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		took := time.Since(began).Seconds()
		after, err := sp.control().stats(ctx)
		if err != nil {
			return err
		}
		cpuNow, now, err := state()
		if err != nil {
			return err
		}
		shards := float64(moved)
		tenants := float64(sp.N) * shards / 1024 // that is their share: what a node knows of them is another question
		d := after.minus(before)
		f.requests(key+" ", d)
		f["took-"+key], f["shards-"+key], f["tenants-"+key] = took, shards/took, tenants/took
		f["requests-"+key], f["each-"+key] = float64(d.total()), float64(d.total())/tenants
		f["cpu-"+key] = (cpuNow - cpu) / tenants
		for i, a := range now {
			f["worst-"+key] = max(f["worst-"+key], a.Worst.Seconds())
			f["stuck-"+key] += float64(a.Stuck)
			f[fmt.Sprintf("databases-%s-%d", key, i+1)] = float64(a.Databases)
			f[fmt.Sprintf("cpu-%s-%d", key, i+1)] = a.CPU
			f[fmt.Sprintf("rss-%s-%d", key, i+1)] = a.Resident
		}
		f["rss-"+key] = now[0].Resident
		return pause(ctx, 5*time.Second)
	}
	join := func(name, dir string) (int, error) {
		if err := start(name, dir); err != nil {
			return 0, err
		}
		if err := placed(ctx, 10*time.Minute, all...); err != nil {
			return 0, err
		}
		for _, n := range all {
			if n.name == name {
				a, err := n.ask(nodeAsk{Do: nodeStatus})
				return a.Served, err
			}
		}
		return 0, fmt.Errorf("node %q has gone", name)
	}
	for i, name := range []string{"b", "c"} {
		if err := measure(fmt.Sprint(i+2), func() (int, error) { return join(name, filepath.Join(sp.Dir, "nodes", name)) }); err != nil {
			return nil, err
		}
	}
	first := all[0]
	if err := measure("drain", func() (int, error) {
		a, err := first.ask(nodeAsk{Do: nodeStatus})
		if err == nil {
			_, err = first.ask(nodeAsk{Do: nodeDrain})
		}
		return a.Served, err
	}); err != nil {
		return nil, err
	}
	all = all[1:]
	if err := first.close(); err != nil {
		return nil, err
	}
	return f, measure("again", func() (int, error) { return join("a", sp.Dir) })
}

// quiet waits until a node has nothing more to do than to say that it is alive: the first one asks of each tenant whether
// the replica has it, and names them in the bucket, once in the life of a fleet.
func (sp *spec) quiet(ctx context.Context) error {
	for {
		before, err := sp.control().stats(ctx)
		if err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Second); err != nil {
			return err
		}
		after, err := sp.control().stats(ctx)
		if err != nil {
			return err
		}
		if d := after.minus(before); d.total() < 30 { // three for each of three heartbeats
			return nil
		}
	}
}
