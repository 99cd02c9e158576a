package torture

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/multidb-go/multidb"
)

// nodePoints are the places at which a node kills itself, or loses an answer (".lost"), and up
// to which count.
var nodePoints = map[string]int{
	"cluster.move.yielded": 3, "cluster.move.released": 3, "cluster.move.given": 3,
	"cluster.takeover.sealed": 2, "cluster.takeover.mapped": 2, "cluster.rejoin.reborn": 1,
	"cluster.gain.loaded": 4, "cluster.gain.served": 4, "cluster.aside.moved": 3,
	"fleetlog.map.before": 6, "fleetlog.map.after": 6, "fleetlog.map.lost": 6, "fleetlog.seal.before": 2, "fleetlog.seal.after": 2,
	"fleetlog.put.before": 60, "fleetlog.put.after": 60, "fleetlog.put.lost": 30,
	"fleetlog.unpack.before": 30, "fleetlog.unpack.after": 30, "fleetlog.finish.before": 2, "fleetlog.finish.after": 2,
	"fleetlog.delete.before": 20, "fleetlog.delete.after": 20, "restore.link.after": 10, "catalog.commit.after": 30,
	"seal.checkpoint.after": 20, "snapshot.put.after": 20,
}

const (
	clusterNodes   = 3
	clusterTenants = 30
)

// TestWhatNodesPromisedOutlivesTheirProcesses runs three nodes that share a bucket, each with a
// disk and a road of its own, and kills them, stops them for longer than every timeout, cuts them
// off, drains them in turns, and takes their disks, while tenants are written at random nodes. A
// restore has at any time all for which any node's Sync had returned before it; when all is
// healed each tenant is served by one node, with all of it, and takes commits. P1, P2, P6.
func TestWhatNodesPromisedOutlivesTheirProcesses(t *testing.T) {
	bin := buildChild(t)
	lasts, faults := 60*time.Second, 25
	switch long := longForm(t); {
	case long > 0:
		lasts, faults = min(long, 5*time.Minute), 0
	case testing.Short():
		lasts, faults = 25*time.Second, 10
	}
	sum := newNodeTally()
	eachSeed(t, 1, 1, func(t *testing.T, seed uint64) {
		c := newNodes(t, bin, seed)
		defer func() { sum.add(c.sum) }()
		c.run(lasts, faults)
	})
	t.Logf("%s", sum)
}

// nodeTally is what was done, for docs/RELIABILITY.md.
type nodeTally struct {
	mu      sync.Mutex // of what follows
	did     map[string]int
	at      map[string]int           // deaths by place
	longest map[string]time.Duration // from one promise to the next of a tenant, by what went on
}

func newNodeTally() *nodeTally {
	return &nodeTally{did: map[string]int{}, at: map[string]int{}, longest: map[string]time.Duration{}}
}

func (s *nodeTally) count(what string) { s.counted(what, 1) }

func (s *nodeTally) counted(what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[what] += n
}

// faults are the kills and stops so far.
func (s *nodeTally) faults() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.did["kills"] + s.did["stops"]
}

func (s *nodeTally) add(o *nodeTally) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range o.did {
		s.did[k] += v
	}
	for k, v := range o.at {
		s.at[k] += v
	}
	for k, v := range o.longest {
		s.longest[k] = max(s.longest[k], v)
	}
}

func (s *nodeTally) String() string {
	return fmt.Sprintf("%v; by itself at %v; longest wait of a tenant by what went on: %v", s.did, s.at, s.longest)
}

// nodes are a cluster, those who use it, and what they were promised.
type nodes struct {
	t       *testing.T
	bin     string
	seed    uint64
	place   place // of who looks at the bucket by no node's road
	factory multidb.ReplicaFactory
	dir     string
	said    *os.File
	client  *http.Client
	all     []*node
	tenants []string
	sum     *nodeTally
	began   time.Time

	mu       sync.Mutex
	promised map[string][]promise
	tried    map[string]map[string]bool
	harm     []spell

	worst     time.Duration // the longest wait, if it is worth a look
	worstSaid string        // what was noted before its end
}

type promise struct {
	v, node string
	at      time.Time
}

// spell is a time in which something is done to a node, so that tenants may have to wait.
type spell struct {
	kind     string
	from, to time.Time // to is zero: it goes on
}

// node is a disk, a road to the bucket, and the process on it, if there is one.
type node struct {
	c    *nodes
	cfg  nodeConfig
	road *road
	busy bool // by c.mu: somebody does something to it

	mu   sync.Mutex // of what follows
	p    *process   // nil: none
	url  string     // where it is reached; it may be dead by now
	arms string     // the place at which it kills itself
}

func newNodes(t *testing.T, bin string, seed uint64) *nodes {
	var srv s3Server
	if g := newGatewayServer(t); g != nil {
		srv = g
	} else {
		t.Logf("%s is not set: gofakes3 is the store", gatewayEnv)
		srv = newMemoryServer(t)
	}
	srv.bucket(t, bucket)
	srv.grant(t, "key")
	c := &nodes{
		t: t, bin: bin, seed: seed, dir: t.TempDir(), place: place{url: "http://" + srv.addr(), log: true}, sum: newNodeTally(),
		client:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		promised: map[string][]promise{}, tried: map[string]map[string]bool{}, began: time.Now(),
	}
	c.factory = c.place.shared(t)
	var err error
	if c.said, err = os.OpenFile(filepath.Join(c.dir, "said"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.said.Close() })
	strict := time.Duration(seed%2) * 2 * nodeBeat
	for i := range clusterNodes {
		name := string(rune('a' + i))
		n := &node{c: c, road: newRoad(t, srv.addr())}
		n.cfg = nodeConfig{Node: name, Root: filepath.Join(c.dir, name, "data"), State: filepath.Join(c.dir, name, "state"),
			URL: n.road.url(), Strict: strict, Said: c.said.Name()}
		c.all = append(c.all, n)
		t.Cleanup(func() {
			if n.p != nil {
				n.p.end()
			}
		})
	}
	for i := range clusterTenants {
		name := fmt.Sprintf("t%02d", i)
		c.tenants = append(c.tenants, name)
		c.tried[name] = map[string]bool{}
	}
	return c
}

func (c *nodes) note(format string, args ...any) {
	_, _ = fmt.Fprintf(c.said, "%s %s\n", time.Now().Format("04:05.000"), fmt.Sprintf(format, args...))
}

// lately is what was noted last.
func (c *nodes) lately(lines int) string {
	b, err := os.ReadFile(c.said.Name())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(string(b), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (c *nodes) fail(format string, args ...any) {
	c.t.Helper()
	c.note("FAILED: "+format, args...)
	c.t.Errorf(format, args...)
}

// run lets things happen for a time, and until there were so many kills and stops; then heals
// all, and looks at what is left.
func (c *nodes) run(lasts time.Duration, faults int) {
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%s\n%s", c.sum, c.lately(400))
		} else if c.worst > 0 {
			c.t.Logf("before the longest wait, of %v:\n%s", c.worst, c.worstSaid)
		}
	}()
	rng := rand.New(rand.NewPCG(c.seed, 21))
	var starts sync.WaitGroup
	for _, n := range c.all {
		starts.Go(func() { n.start("") })
	}
	if starts.Wait(); c.t.Failed() {
		return
	}
	use, stop := context.WithCancel(c.t.Context())
	defer stop()
	var users sync.WaitGroup
	for i, name := range c.tenants {
		users.Go(func() { c.write(use, name, rand.New(rand.NewPCG(c.seed, uint64(100+i)))) })
	}
	for i := range 2 {
		users.Go(func() { c.restoreSome(use, rand.New(rand.NewPCG(c.seed, uint64(50+i)))) })
	}
	c.happen(rng, lasts, faults)
	if !c.t.Failed() {
		c.note("all is healed")
		for _, n := range c.all {
			n.unarm()
		}
		c.settled(2 * time.Minute)
	}
	stop()
	users.Wait()
	if !c.t.Failed() {
		c.look()
	}
}

// happen does things to nodes, to two of them at most at a time.
func (c *nodes) happen(rng *rand.Rand, lasts time.Duration, faults int) {
	slots := make(chan struct{}, clusterNodes-1)
	var doing sync.WaitGroup
	defer doing.Wait()
	began := time.Now()
	for !c.t.Failed() {
		if d := time.Since(began); d > lasts && (c.sum.faults() >= faults || d > 3*lasts) {
			break
		}
		pause(time.Duration(rng.IntN(1200)) * time.Millisecond)
		own := rand.New(rand.NewPCG(rng.Uint64(), 22))
		what := pick(rng, "kill", "kill", "kill", "stop", "stop", "cut", "cut", "restart", "restart", "rolling", "empty")
		if what == "rolling" {
			for range cap(slots) {
				slots <- struct{}{}
			}
			for _, n := range c.all {
				n.do("restart", own)
			}
			c.sum.count("rolling restarts")
			for range cap(slots) {
				<-slots
			}
			continue
		}
		slots <- struct{}{}
		n := c.claim(rng)
		doing.Go(func() {
			defer func() { <-slots }()
			defer n.leave()
			n.do(what, own)
		})
	}
	if got := c.sum.faults(); got < faults && !c.t.Failed() {
		c.fail("%d kills and stops in %v, want %d: the test tries too little", got, 3*lasts, faults)
	}
}

// claim takes a node to which nobody does anything; one that has killed itself before others.
func (c *nodes) claim(rng *rand.Rand) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var free []*node
	for _, n := range c.all {
		if !n.busy {
			free = append(free, n)
		}
	}
	n := pick(rng, free...)
	for _, o := range free {
		if o.gone() {
			n = o
		}
	}
	n.busy = true
	return n
}

func (n *node) leave() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.busy = false
}

// hurt notes what is done, and returns what ends it.
func (c *nodes) hurt(kind string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := len(c.harm)
	c.harm = append(c.harm, spell{kind: kind, from: time.Now()})
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.harm[i].to = time.Now()
	}
}

// do does one thing to a node, and has it serve afterwards.
func (n *node) do(what string, rng *rand.Rand) {
	c := n.c
	if n.gone() {
		n.revive(rng)
		return
	}
	c.note("%s: %s", n.cfg.Node, what)
	switch what {
	case "kill", "empty":
		defer c.hurt("crash")()
		n.kill()
		if what == "empty" {
			c.sum.count("disks lost")
			if err := os.RemoveAll(filepath.Join(c.dir, n.cfg.Node)); err != nil {
				c.t.Fatal(err)
			}
		}
		pause(time.Duration(rng.IntN(rng.IntN(5000)+1)) * time.Millisecond)
		n.start(point(rng))
	case "stop":
		defer c.hurt("crash")()
		c.sum.count("stops")
		n.signal(syscall.SIGSTOP)
		pause(time.Duration(1500+rng.IntN(6000)) * time.Millisecond)
		if rng.IntN(5) == 0 {
			n.kill()
			n.start(point(rng))
			return
		}
		c.note("%s goes on", n.cfg.Node)
		n.signal(syscall.SIGCONT)
	case "cut":
		defer c.hurt("crash")()
		how := pick(rng, "refused", "silent", "answers lost")
		c.sum.count("cuts")
		c.note("%s is cut off: %s", n.cfg.Node, how)
		switch how {
		case "refused":
			n.road.down()
		case "silent":
			n.road.both("timeout", map[string]int{"timeout": 0})
		case "answers lost":
			n.road.add("timeout", stream.Downstream, map[string]int{"timeout": 0})
		}
		pause(time.Duration(500+rng.IntN(6000)) * time.Millisecond)
		n.road.clear()
		if how == "refused" {
			n.road.up()
		}
		c.note("%s is reached by the bucket again", n.cfg.Node)
	case "restart":
		defer c.hurt("move")()
		n.restart(rng)
	}
}

// revive starts a node again that has killed itself at a place.
func (n *node) revive(rng *rand.Rand) {
	defer n.c.hurt("crash")()
	n.died()
	pause(time.Duration(rng.IntN(rng.IntN(4000)+1)) * time.Millisecond)
	n.start("")
}

// restart is what a deploy does: nobody has to wait for a take-over.
func (n *node) restart(rng *rand.Rand) {
	c := n.c
	ctx, cancel := context.WithTimeout(c.t.Context(), 15*time.Second)
	err := c.ask(ctx, n.at(), "/drain", nil, nil)
	cancel()
	if err == nil {
		c.sum.count("drains")
	}
	ctx, cancel = context.WithTimeout(c.t.Context(), 15*time.Second)
	defer cancel()
	if cerr := c.ask(ctx, n.at(), "/close", nil, nil); cerr == nil {
		select {
		case <-n.p.done:
			c.sum.count("stops in order")
		case <-ctx.Done():
			c.fail("%s was closed and does not end", n.cfg.Node)
		}
		if n.gone() && n.killed() {
			n.revive(rng)
			return
		}
	} else if n.gone() {
		n.revive(rng)
		return
	} else { // say, it was fenced just before, or the others are gone
		c.note("%s does not stop in order: %v", n.cfg.Node, errors.Join(err, cerr))
		c.sum.count("stops not in order")
		n.kill()
	}
	n.start(point(rng))
}

// point is a place at which the next process kills itself, with its count; none in a third.
func point(rng *rand.Rand) string {
	if rng.IntN(3) == 0 {
		return ""
	}
	name := pick(rng, slices.Sorted(maps.Keys(nodePoints))...)
	return fmt.Sprintf("%s@%d", name, 1+rng.IntN(nodePoints[name]))
}

// start starts a process, again if it kills itself before it serves, and waits until it serves.
func (n *node) start(arms string) {
	c := n.c
	for {
		for _, dir := range []string{n.cfg.Root, n.cfg.State} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				c.t.Fatal(err)
			}
		}
		c.note("%s starts, %s", n.cfg.Node, cmp.Or(arms, "not armed"))
		c.sum.count("starts")
		began := time.Now()
		p, addr := n.spawn(arms)
		n.mu.Lock()
		n.p, n.arms = p, arms
		n.mu.Unlock()
		select {
		case a := <-addr:
			n.mu.Lock()
			n.url = "http://" + a
			n.mu.Unlock()
			c.note("%s serves at %s after %v", n.cfg.Node, a, time.Since(began))
			return
		case <-p.done:
			switch {
			case arms != "" && n.killed():
				n.died()
			case strings.Contains(arms, ".lost@") && strings.Contains(p.out.String(), "failpoint: injected error"):
				c.sum.count("starts that failed") // as a request of a Start had no answer
			default:
				c.fail("%s does not start: %v: %s", n.cfg.Node, p.cmd.ProcessState, p.out.String())
				return
			}
			arms = ""
		case <-time.After(90 * time.Second):
			c.fail("%s does not serve after 90 s", n.cfg.Node)
			return
		}
	}
}

func (n *node) at() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.url
}

func (n *node) gone() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.p.dead()
}

// killed reports whether a process that has ended was killed.
func (n *node) killed() bool {
	ws, _ := n.p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// died counts a death that nobody here brought about.
func (n *node) died() {
	c := n.c
	if c.t.Failed() {
		return
	} else if !n.killed() || n.arms == "" {
		c.fail("%s ended by itself with %v: %s", n.cfg.Node, n.p.cmd.ProcessState, n.p.out.String())
		return
	}
	c.note("%s killed itself at %s", n.cfg.Node, n.arms)
	c.sum.count("kills")
	name, _, _ := strings.Cut(n.arms, "@")
	c.sum.mu.Lock()
	defer c.sum.mu.Unlock()
	c.sum.at[name]++
}

func (n *node) signal(s syscall.Signal) { _ = n.p.cmd.Process.Signal(s) }

func (n *node) kill() {
	n.signal(syscall.SIGKILL)
	<-n.p.done
	n.c.sum.count("kills")
}

// unarm has a process that would not kill itself.
func (n *node) unarm() {
	switch {
	case n.gone():
		n.died()
	case n.arms == "":
		return
	default:
		n.kill()
	}
	n.start("")
}

// spawn starts a process, and sends its address once it serves.
func (n *node) spawn(arms string) (*process, <-chan string) {
	c := n.c
	job, err := json.Marshal(n.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	p, addr := newProcess(c.t, c.bin, []string{nodeEnv + "=" + string(job), "MULTIDB_FAILPOINT=" + arms, "MULTIDB_GRACE=1s"}, in), make(chan string, 1)
	_ = in.Close()
	go func() {
		defer out.Close()
		var a string
		if _, err := fmt.Fscanln(out, &a); err == nil {
			addr <- a
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	return p, addr
}

// settled waits until each node serves what it is to have, and no shard is without an owner.
func (c *nodes) settled(limit time.Duration) {
	began := time.Now()
	eventually(c.t, limit, func() string {
		sum, say := 0, ""
		for _, n := range c.all {
			var s nodeStats
			ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
			err := c.ask(ctx, n.at(), "/stats", nil, &s)
			cancel()
			sum += s.Served
			if err != nil || s.Trouble != "" || s.Served != s.Expected || s.Moving > 0 || s.Free > 0 {
				say += fmt.Sprintf("%s: %v, %+v; ", n.cfg.Node, err, s)
			}
		}
		if say == "" && sum != 1024 {
			return fmt.Sprintf("%d shards are served", sum)
		} else if say != "" {
			pause(200 * time.Millisecond)
		}
		return say
	})
	c.note("settled after %v", time.Since(began))
	c.sum.mu.Lock()
	defer c.sum.mu.Unlock()
	c.sum.longest["settled"] = time.Since(began)
}
