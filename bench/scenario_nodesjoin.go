package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func nodesJoinScenario(short bool) scenario {
	rows := []row{{key: "rss-1", what: "nodes, one serves N cold: its resident memory", unit: inBytes}}
	for _, k := range []struct{ key, what string }{
		{"2", "nodes, N cold on one node, a second joins"}, {"3", "nodes, N cold on two nodes, a third joins"},
	} {
		rows = append(rows,
			row{key: "took-" + k.key, what: k.what + ": until all shards are in their place", unit: inSeconds, bar: bar{kind: atMost, limit: 180, text: "3 min"}},
			row{key: "shards-" + k.key, what: k.what + ": shards moved", unit: perSecond, more: true},
			row{key: "tenants-" + k.key, what: k.what + ": tenants moved", unit: perSecond, more: true},
			row{key: "requests-" + k.key, what: k.what + ": requests", unit: count},
			row{key: "each-" + k.key, what: k.what + ": requests for a tenant that moved", unit: plain, bar: bar{kind: atMost, limit: 1, text: "1"}},
			row{key: "cpu-" + k.key, what: k.what + ": CPU of all nodes for a tenant that moved", unit: inSeconds},
			row{key: "worst-" + k.key, what: k.what + ": the longest that shards had no owner", unit: inSeconds, bar: bar{kind: atMost, limit: 2, text: "2 s"}},
			row{key: "rss-" + k.key, what: k.what + ": resident memory of the first node after that", unit: inBytes},
			row{key: "new-rss-" + k.key, what: k.what + ": resident memory of the new node", unit: inBytes})
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

// nodesJoin has the world served by one node, which a second one joins, and a third one. Before it
// ends it moves everything back.
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
		if err == nil {
			all = append(all, n)
		}
		return err
	}
	if err := errors.Join(start("a", sp.Dir), placed(ctx, 5*time.Minute, all...)); err != nil {
		return nil, err
	}
	if err := pause(ctx, 10*time.Second); err != nil { // it settles
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
	for _, name := range []string{"b", "c"} {
		cpu, _, err := state()
		if err != nil {
			return nil, err
		}
		before, err := sp.control().stats(ctx)
		if err != nil {
			return nil, err
		}
		key := fmt.Sprint(len(all) + 1)
		began := time.Now()
		if err := start(name, filepath.Join(sp.Dir, "nodes", name)); err != nil {
			return nil, err
		}
		if err := placed(ctx, 10*time.Minute, all...); err != nil {
			return nil, fmt.Errorf("node %q joins: %w", name, err)
		}
		took := time.Since(began).Seconds()
		after, err := sp.control().stats(ctx)
		if err != nil {
			return nil, err
		}
		cpuNow, now, err := state()
		if err != nil {
			return nil, err
		}
		joined := now[len(now)-1]
		tenants := float64(sp.N) * float64(joined.Served) / 1024 // its share: what it knows of them is another question
		d := after.minus(before)
		f.requests(key+" ", d)
		f["took-"+key], f["shards-"+key], f["tenants-"+key] = took, float64(joined.Served)/took, tenants/took
		f["requests-"+key], f["each-"+key] = float64(d.total()), float64(d.total())/tenants
		f["cpu-"+key] = (cpuNow - cpu) / tenants
		for i, a := range now {
			f["worst-"+key] = max(f["worst-"+key], a.Worst.Seconds())
			f["stuck-"+key] += float64(a.Stuck)
			f[fmt.Sprintf("databases-%s-%d", key, i+1)] = float64(a.Databases)
			f[fmt.Sprintf("cpu-%s-%d", key, i+1)] = a.CPU
		}
		f["rss-"+key], f["new-rss-"+key] = now[0].Resident, joined.Resident
		if err := pause(ctx, 5*time.Second); err != nil {
			return nil, err
		}
	}
	return f, nil
}
