package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multidb-go/multidb/examples/internal/cli"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// play is what happens, and what is told of it.
type play struct {
	options
	out   io.Writer
	nodes *nodes
	tally *tally
	began time.Time // the clients
	took  time.Duration
}

const (
	calm        = "nothing happens"
	reportEvery = 2 * time.Second
)

// perform is everything from the first node to the last request.
func (p *play) perform(ctx context.Context) error {
	if err := p.startAll(ctx); err != nil {
		return err
	}
	p.began = time.Now()
	p.tally.begin(period{what: calm}, p.began)
	say(p.out, "\n%d tenants write and read, each all the time, at any node:\n", p.tenants)
	running, stop := context.WithCancel(ctx)
	load := newLoad(p.nodes, p.tally)
	load.begin(running)
	var watching sync.WaitGroup
	watching.Go(func() { p.watch(running) })
	err := p.acts(ctx)
	stop()
	watching.Wait()
	load.end()
	p.took = time.Since(p.began)
	p.tally.end(time.Now())
	return errors.Join(err, p.nodes.check())
}

func (p *play) startAll(ctx context.Context) error {
	for _, n := range p.nodes.all {
		if _, err := os.Stat(n.Dir); err == nil {
			return fmt.Errorf("%s is there already, of a fleet that this program does not know; name another -dir", n.Dir)
		}
	}
	began := time.Now()
	errs := make([]error, len(p.nodes.all))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = p.nodes.start(ctx, i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	say(p.out, "%d nodes serve after %s, with a heartbeat of %s.\n", len(errs), term.Duration(time.Since(began)), p.heartbeat())
	for i, n := range p.nodes.all {
		say(p.out, "  %s  process %d, %s\n", n.Name, n.cmd.Process.Pid, p.nodes.addresses()[i])
	}
	if err := p.nodes.settled(ctx); err != nil {
		return err
	}
	say(p.out, "Each has its share of the %d shards after %s.\n", shards, term.Duration(time.Since(began)))
	return nil
}

// acts is what happens to the nodes while the clients go on.
func (p *play) acts(ctx context.Context) error {
	if err := cli.Sleep(ctx, p.duration/9); err != nil {
		return err
	}
	if err := p.crash(ctx, 1); err != nil {
		return err
	}
	p.tally.begin(period{what: calm}, time.Now())
	if err := cli.Sleep(ctx, p.duration/18); err != nil {
		return err
	}
	if err := p.deploy(ctx, 2%len(p.nodes.all)); err != nil {
		return err
	}
	p.tally.begin(period{what: calm}, time.Now())
	return cli.Sleep(ctx, max(p.duration/18, p.duration-time.Since(p.began)))
}

// crash kills a node, and starts it again when its tenants are served by the others.
func (p *play) crash(ctx context.Context, i int) error {
	name := p.nodes.all[i].Name
	p.event("kill -9 of %s, which serves %s", name, term.Plural(p.tally.of(name), "tenant"))
	killed := time.Now()
	p.tally.begin(period{what: name + " is killed", crash: true}, killed)
	if err := p.nodes.kill(i); err != nil {
		return err
	}
	killed = time.Now() // now nobody can be answered by it any more
	if err := p.nodes.until(ctx, "the tenants of "+name+" were not served again", func() bool { return p.tally.waiting(killed) == 0 }); err != nil {
		return err
	}
	p.event("all tenants are served again, %s after that", term.Duration(time.Since(killed)))
	return p.back(ctx, i)
}

// deploy drains a node, which ends it, and starts it again.
func (p *play) deploy(ctx context.Context, i int) error {
	name := p.nodes.all[i].Name
	p.event("SIGTERM to %s, which serves %s: it gives them to the others, and ends", name, term.Plural(p.tally.of(name), "tenant"))
	began := time.Now()
	p.tally.begin(period{what: name + " is drained", planned: true}, began)
	if err := p.nodes.drain(ctx, i); err != nil {
		return err
	}
	p.event("%s has given everything away and ended, %s after that", name, term.Duration(time.Since(began)))
	return p.back(ctx, i)
}

// back starts a node again, on the disk that it had, and returns when it has its share.
func (p *play) back(ctx context.Context, i int) error {
	name := p.nodes.all[i].Name
	began := time.Now()
	p.tally.begin(period{what: name + " comes back", planned: true}, began)
	if err := p.nodes.start(ctx, i); err != nil {
		return err
	}
	p.event("%s is started again", name)
	if err := p.nodes.settled(ctx); err != nil {
		return err
	}
	p.event("%s has its share again, %s after its start", name, term.Duration(time.Since(began)))
	return nil
}

func (p *play) event(format string, args ...any) {
	say(p.out, "%6.1fs  * %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// watch tells every two seconds who has answered how many requests.
func (p *play) watch(ctx context.Context) {
	before, _ := p.tally.counts()
	for cli.Sleep(ctx, reportEvery) == nil {
		now, failed := p.tally.counts()
		var by []string
		for _, n := range p.nodes.all {
			by = append(by, fmt.Sprintf("%s %4.0f/s", n.Name, float64(now[n.Name]-before[n.Name])/reportEvery.Seconds()))
		}
		since := time.Now().Add(-reportEvery)
		say(p.out, "%6.1fs    %s    %s without an answer for %s, %s failed so far\n", time.Since(p.began).Seconds(), strings.Join(by, "  "),
			term.Plural(p.tally.waiting(since), "tenant"), reportEvery, term.Plural(failed, "request"))
		before = now
	}
}

// report prints the tables at the end.
func (p *play) report() {
	t := p.tally
	served, failed := t.counts()
	all := 0
	for _, n := range served {
		all += n
	}
	say(p.out, "\nWho has served what\n")
	table := [][]string{{"node", "answers", "share", "tenants at the end"}}
	for _, n := range p.nodes.all {
		table = append(table, []string{n.Name, term.Count(served[n.Name]), percent(served[n.Name], all), fmt.Sprint(t.of(n.Name))})
	}
	term.Table(p.out, table)

	say(p.out, "\nThe longest time between two answers to a tenant, which asks all the time\n")
	table = [][]string{{"while", "of all tenants", "tenant", "half of them at most", "requests that failed"}}
	var told []string
	for _, one := range t.periods {
		if !slices.Contains(told, one.what) {
			told = append(told, one.what)
			s := t.sum(func(o *period) bool { return o.what == one.what })
			table = append(table, []string{one.what, term.Duration(s.longest), tenantName(s.tenant), term.Duration(s.median), fmt.Sprint(s.failed)})
		}
	}
	term.Table(p.out, table)
	planned, crash := t.sum(func(o *period) bool { return o.planned }), t.sum(func(o *period) bool { return o.crash })
	say(p.out, "  planned moves: %s at most; the crash: %s at most\n", term.Duration(planned.longest), term.Duration(crash.longest))

	say(p.out, "\nRequests in %s\n", term.Duration(p.took))
	say(p.out, "  %s answered with 200: %.0f a second; %s of them were passed on to another node\n", term.Count(all), float64(all)/p.took.Seconds(), percent(t.passed, all))
	say(p.out, "  %s failed, and were sent again\n", term.Count(failed))
	for _, kind := range slices.Sorted(maps.Keys(t.failed)) {
		say(p.out, "    %s: %s, the first one with %q\n", kind, term.Count(t.failed[kind].requests), t.failed[kind].first)
	}
	say(p.out, "  %s that a node has refused, so that the next one was asked\n", term.Plural(t.refused, "connection"))
}

func percent(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(n)/float64(of))
}
