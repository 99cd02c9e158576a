package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
)

func nodesIdleScenario(short bool) scenario {
	return scenario{
		name: "nodes-idle", title: "nodes: what a node costs that serves N cold databases",
		sizes:   pick(short, []int{1000, 10000}, []int{1000, 10000, 100000}),
		runs:    1,
		multidb: nodesIdle,
		place:   inWorld,
		rows: []row{
			{key: "put-day", what: "nodes, idle: PUTs a day", unit: count},
			{key: "list-day", what: "nodes, idle: LISTs a day, of members and of maps", unit: count},
			{key: "get-day", what: "nodes, idle: GETs a day", unit: count},
			{key: "delete-day", what: "nodes, idle: deletions a day, which cost nothing", unit: count},
			{key: "usd-day", what: "nodes, idle: USD a day", unit: plain},
			{key: "cpu", what: "nodes, idle: CPU, of one core", unit: percent, bar: bar{kind: atMost, limit: 0.01, text: "1 %"}},
			{key: "rss", what: "nodes, idle: resident memory", unit: inBytes, bar: bar{kind: atMost, limit: 150e6, text: "150 MB"}},
		},
	}
}

// What 1,000 requests cost in USD, as multidbprom.S3StandardPrices has it, which would bring Prometheus
// into this module.
const usdPut, usdGet = 0.005, 0.0004

// nodesIdle is the only node of its cluster, and has all N. With others it makes the same requests:
// each node makes its own.
func nodesIdle(ctx context.Context, sp *spec) (_ figures, err error) {
	before := heapBytes()
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), fleetLog(unpackDefault),
		multidb.WithCluster(multidb.ClusterConfig{Node: "a"}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	if s, c := m.Stats(), m.Nodes(); s.Databases != sp.N || c.Served != 1024 {
		return nil, fmt.Errorf("%d databases are known, not %d, of %d shards", s.Databases, sp.N, c.Served)
	}
	// The members' requests never end, so that m.settled would wait for ever.
	if err := pause(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	watched := pick(sp.Short, 30*time.Second, time.Minute)
	ended, err := sp.profileLoad()
	if err != nil {
		return nil, err
	}
	from, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	cpu, began := cpuTime(), time.Now()
	if err := pause(ctx, watched); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	f := figures{"cpu": (cpuTime() - cpu) / took}
	to, err := sp.control().stats(ctx)
	if err := errors.Join(err, ended()); err != nil {
		return nil, err
	}
	f.requests("", to.minus(from))
	for key, n := range f {
		if key != "cpu" {
			f[key] = n * 86400 / took
		}
	}
	for _, kind := range []string{"put", "list", "get", "delete"} {
		f[kind+"-day"] = f[kind]
	}
	f["usd-day"] = ((f["put"]+f["list"])*usdPut + f["get"]*usdGet) / 1000
	return f, f.process(sp.N, before)
}

func nodesThroughputScenario(short bool) scenario {
	return scenario{
		name: "nodes-throughput", title: "nodes: write throughput of 1, 2 and 4 nodes on this machine",
		sizes:   pick(short, []int{100}, []int{200}),
		runs:    2,
		multidb: nodesThroughput,
		place:   withS3,
		rows: []row{
			{key: "1", what: "nodes, a process each, 8 writers in all, S3: commits of 1 node", unit: perSecond, more: true},
			{key: "2", what: "nodes: commits of 2 nodes", unit: perSecond, more: true},
			{key: "4", what: "nodes: commits of 4 nodes", unit: perSecond, more: true},
			{key: "ratio2", what: "nodes: 2 nodes on one machine against 1", unit: plain},
			{key: "ratio4", what: "nodes: 4 nodes on one machine against 1", unit: plain},
		},
	}
}

// nodesThroughput adds nodes, and has those that there are write at the same time. The machine and the
// S3 server are the same for all of them.
func nodesThroughput(ctx context.Context, sp *spec) (_ figures, err error) {
	const writers = 8
	var all []*node
	defer func() {
		for _, n := range all {
			err = errors.Join(err, n.close())
		}
	}()
	f := figures{}
	for _, nodes := range []int{1, 2, 4} {
		for len(all) < nodes {
			name := string(rune('a' + len(all)))
			n, _, err := sp.startNode(ctx, name, filepath.Join(sp.Dir, name))
			if err != nil {
				return nil, err
			}
			all = append(all, n)
		}
		if err := placed(ctx, 2*time.Minute, all...); err != nil {
			return nil, err
		}
		ask := func(q nodeAsk) (sum nodeAnswer, err error) {
			answers := make([]nodeAnswer, nodes)
			err = parallel(ctx, nodes, nodes, func(_ context.Context, i int) (err error) {
				answers[i], err = all[i].ask(q)
				return err
			})
			for _, a := range answers {
				sum.Tenants += a.Tenants
				sum.Commits += a.Commits
			}
			if err == nil && sum.Tenants != sp.N {
				err = fmt.Errorf("%d tenants are served by %d nodes, not %d", sum.Tenants, nodes, sp.N)
			}
			return sum, err
		}
		if _, err := ask(nodeAsk{Do: nodeOpen}); err != nil {
			return nil, err
		}
		load := pick(sp.Short, 2*time.Second, 10*time.Second)
		sum, err := ask(nodeAsk{Do: nodeWrite, Writers: writers / nodes, Over: load})
		if err != nil {
			return nil, err
		}
		f[fmt.Sprint(nodes)] = float64(sum.Commits) / load.Seconds()
	}
	f["ratio2"], f["ratio4"] = f["2"]/f["1"], f["4"]/f["1"]
	return f, nil
}
