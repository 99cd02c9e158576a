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
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/test/torture/clusternode"
)

// nodePoints are the places at which a node kills itself, or loses an answer (".lost"), and up
// to which count.
var nodePoints = map[string]int{
	"cluster.move.yielded": 3, "cluster.move.released": 3, "cluster.move.given": 3,
	"cluster.takeover.sealed": 2, "cluster.takeover.mapped": 2, "cluster.rejoin.reborn": 1,
	"cluster.gain.loaded": 4, "cluster.gain.served": 4, "cluster.aside.moved": 3,
	"fleetlog.map.before": 6, "fleetlog.map.after": 6, "fleetlog.map.lost": 6, "fleetlog.seal.before": 2, "fleetlog.seal.after": 2,
	"fleetlog.put.before": 25, "fleetlog.put.after": 25, "fleetlog.put.lost": 25,
	"fleetlog.unpack.before": 10, "fleetlog.unpack.after": 10, "fleetlog.finish.before": 2, "fleetlog.finish.after": 2,
	"fleetlog.delete.before": 5, "fleetlog.delete.after": 5, "restore.link.after": 3, "catalog.commit.after": 10,
	"seal.checkpoint.after": 6, "snapshot.put.after": 5,
}

const (
	clusterNodes   = 3
	clusterTenants = 12
	clusters       = 5  // of the short form, at once; one of them is for deploys
	clusterKills   = 90 // in each of the others; of one before versitygw, which is slower, half as many
)

// plan is what kind of cluster a seed is, and what happens to it.
type plan struct {
	etcd    bool          // the members are in etcd, in place of the bucket
	gateway bool          // versitygw is the store, if it is there; else gofakes3, which does more in the same time
	deploys bool          // nothing but rolling restarts
	strict  time.Duration // StrictOwnership
}

func planOf(seed uint64) plan {
	return plan{etcd: seed%2 == 0, gateway: seed%3 == 0, deploys: seed%5 == 0, strict: time.Duration(seed/2%2) * 2 * clusternode.Beat}
}

// wanted is what has to happen to a cluster, before the end of a time.
type wanted struct {
	kills, rolling int
	least, most    time.Duration
}

// wants is the short form, the one with -short, and the long one, of which each seed takes some minutes.
func (p plan) wants(t *testing.T) wanted {
	switch long := longForm(t); {
	case long > 0:
		lasts := min(long, 4*time.Minute)
		return wanted{least: lasts, most: lasts}
	case testing.Short() && !p.deploys:
		return wanted{kills: 10, least: 15 * time.Second, most: 2 * time.Minute}
	case p.deploys:
		return wanted{rolling: 3, least: 15 * time.Second, most: 5 * time.Minute}
	}
	kills := clusterKills
	if p.gateway {
		kills /= 2
	}
	return wanted{kills: kills, least: 20 * time.Second, most: 5 * time.Minute}
}

// TestWhatNodesPromisedOutlivesTheirProcesses runs clusters of three nodes that share a bucket, each node with a
// disk and roads of its own, and kills them, stops them for longer than every timeout, cuts them
// off from the bucket, from etcd or both, drains them in turns, and takes their disks, and etcd's, while tenants are written at
// random nodes. A restore has at any time all for which any node's Sync had returned before it; when all is
// healed each tenant is served by one node, with all of it, and takes commits. P1, P2, P6.
//
// The short form kills 300 times and more, in two or three minutes. The long form goes on for MULTIDB_TORTURE_TIME: 5,000 kills
// take an hour. From 1,000 on it fails if no node was ever killed at one of the places.
func TestWhatNodesPromisedOutlivesTheirProcesses(t *testing.T) {
	bin := buildNode(t)
	sum := newNodeTally()
	eachSeed(t, clusters, clusters, func(t *testing.T, seed uint64) {
		c := newNodes(t, bin, seed, sum)
		defer func() { sum.add(c.sum) }()
		c.run()
	})
	t.Logf("%s", sum)
	if t.Failed() {
		return
	}
	if never := sum.never(); longForm(t) > 0 && sum.did["kills"] >= 1000 && len(never) > 0 {
		t.Errorf("no node was killed at %q, in %d kills", never, sum.did["kills"])
	}
}

// buildNode builds what the nodes and etcd run.
func buildNode(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "node")
	cmd := exec.Command("go", "build", "-tags", "failpoint", "-o", bin, ".")
	cmd.Dir, cmd.Env = filepath.Join("..", "etcd"), append(os.Environ(), "GOWORK=off", "PWD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build a node: %v\n%s", err, out)
	}
	return bin
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

func (s *nodeTally) of(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.did[what]
}

// reached notes that a process was killed, or had an answer lost, at a place.
func (s *nodeTally) reached(place string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[place]++
}

// never are the places that no process has reached.
func (s *nodeTally) never() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, place := range slices.Sorted(maps.Keys(nodePoints)) {
		if s.at[place] == 0 {
			all = append(all, place)
		}
	}
	return all
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
	return fmt.Sprintf("%v; by itself at %v; never at %v; longest wait of a tenant by what went on: %v", s.did, s.at, s.never(), s.longest)
}

// nodes are a cluster, those who use it, and what they were promised.
type nodes struct {
	t       *testing.T
	bin     string
	seed    uint64
	plan    plan
	etcd    *etcd // nil: the members are in the bucket
	place   place // of who looks at the bucket by no node's road
	factory multidb.ReplicaFactory
	dir     string
	said    *os.File
	client  *http.Client
	all     []*node
	tenants []string
	sum     *nodeTally
	before  *nodeTally // of the clusters of before
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

// node is a disk, roads to the bucket and to etcd, and the process on it, if there is one.
type node struct {
	c    *nodes
	cfg  clusternode.Config
	road *road
	etcd *road // nil: there is none
	busy bool  // by c.mu: somebody does something to it

	mu   sync.Mutex // of what follows
	p    *process   // nil: none
	url  string     // where it is reached; it may be dead by now
	arms string     // the place at which it kills itself
}

func newNodes(t *testing.T, bin string, seed uint64, before *nodeTally) *nodes {
	p := planOf(seed)
	var srv s3Server
	if p.gateway {
		if g := newGatewayServer(t); g != nil {
			srv = g
		} else {
			t.Logf("%s is not set: gofakes3 is the store", gatewayEnv)
		}
	}
	if srv == nil {
		srv = newMemoryServer(t)
	}
	srv.bucket(t, bucket)
	srv.grant(t, "key")
	c := &nodes{
		t: t, bin: bin, seed: seed, plan: p, before: before, dir: t.TempDir(), place: place{url: "http://" + srv.addr(), log: true}, sum: newNodeTally(),
		client:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		promised: map[string][]promise{}, tried: map[string]map[string]bool{}, began: time.Now(),
	}
	c.factory = c.place.shared(t)
	var err error
	if c.said, err = os.OpenFile(filepath.Join(c.dir, "said"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.said.Close() })
	if c.plan.etcd {
		c.etcd = newEtcd(t, bin)
		if err := c.etcd.start(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range clusterNodes {
		name := string(rune('a' + i))
		n := &node{c: c, road: newRoad(t, srv.addr())}
		store := place{url: n.road.url(), timeout: time.Second}
		n.cfg = clusternode.Config{Node: name, Root: filepath.Join(c.dir, name, "data"), State: filepath.Join(c.dir, name, "state"),
			Store: store.s3(), Log: logDir, Strict: c.plan.strict, Said: c.said.Name()}
		if c.etcd != nil {
			n.etcd = newRoad(t, c.etcd.clients)
			n.cfg.Etcd = n.etcd.addr
		}
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

// run lets things happen for as long as is wanted, then heals all, and looks at what is left.
func (c *nodes) run() {
	defer func() {
		if c.t.Logf("%+v: %s", c.plan, c.sum); c.t.Failed() {
			c.t.Log(c.lately(400))
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
	users.Go(func() { c.restoreSome(use, rand.New(rand.NewPCG(c.seed, 50))) })
	c.happen(rng, c.plan.wants(c.t))
	if !c.t.Failed() {
		c.note("all is healed")
		for _, n := range c.all {
			n.unarm()
		}
		if c.etcd != nil { // nobody is started again any more: they have to find each other by themselves
			c.etcd.busy.Lock()
			c.withoutEtcd(true, 0)
			c.etcd.busy.Unlock()
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
func (c *nodes) happen(rng *rand.Rand, want wanted) {
	slots := make(chan struct{}, clusterNodes-1)
	var doing sync.WaitGroup
	defer doing.Wait()
	began := time.Now()
	for !c.t.Failed() {
		kills, rolling, d := c.sum.of("kills"), c.sum.of("rolling restarts"), time.Since(began)
		if d > want.least && kills >= want.kills && rolling >= want.rolling {
			return
		} else if d > want.most {
			if want.kills+want.rolling > 0 {
				c.fail("%d kills and %d rolling restarts in %v, want %d and %d: the test tries too little", kills, rolling, d, want.kills, want.rolling)
			}
			return
		}
		pause(time.Duration(rng.IntN(600)) * time.Millisecond)
		own := rand.New(rand.NewPCG(rng.Uint64(), 22))
		what := "kill"
		if rng.IntN(5) < 2 {
			what = pick(rng, "empty", "stop", "stop", "cut", "cut", "cut", "restart", "aim", "etcd", "etcd", pick(rng, "rolling", "kill", "kill"))
		}
		if c.plan.deploys {
			what = "rolling"
		}
		switch what {
		case "rolling", "aim": // it needs all nodes
			for range cap(slots) {
				slots <- struct{}{}
			}
			if what == "rolling" {
				c.rolling(own)
			} else {
				c.aim(own)
			}
			for range cap(slots) {
				<-slots
			}
		case "etcd":
			if c.etcd != nil && c.etcd.busy.TryLock() {
				doing.Go(func() {
					defer c.etcd.busy.Unlock()
					c.hurtEtcd(own)
				})
			}
		default:
			slots <- struct{}{}
			n := c.claim(rng)
			doing.Go(func() {
				defer func() { <-slots }()
				defer n.leave()
				n.do(what, own)
			})
		}
	}
}

// rolling is the deploy of a new version: all nodes in turns.
func (c *nodes) rolling(rng *rand.Rand) {
	for _, n := range c.all {
		n.do("restart", rng)
	}
	c.sum.count("rolling restarts")
}

// aim has a node die at a place at which others have died least: it is killed there when it takes over from
// another, gives back, or wakes up after it was taken over.
func (c *nodes) aim(rng *rand.Rand) {
	defer c.hurt("crash")()
	place, n := c.seldom(rng), pick(rng, c.all...)
	other := c.all[(slices.Index(c.all, n)+1+rng.IntN(len(c.all)-1))%len(c.all)]
	for _, o := range c.all {
		if o.gone() {
			o.revive(rng, "")
		}
	}
	c.note("%s is to die at %s", n.cfg.Node, place)
	c.sum.count("aims")
	n.kill()
	n.start(place + "@1")
	reached := func() bool { return n.gone() || n.unarmed() || c.t.Failed() }
	wait := func(limit time.Duration) {
		for end := time.Now().Add(limit); !reached() && time.Now().Before(end); {
			pause(50 * time.Millisecond)
		}
	}
	if wait(500 * time.Millisecond); !reached() {
		other.kill()
		wait(5 * clusternode.Beat)
		other.start("")
		wait(2 * time.Second)
	}
	if !reached() {
		c.sum.count("stops")
		n.signal(syscall.SIGSTOP)
		pause(8 * clusternode.Beat)
		n.signal(syscall.SIGCONT)
		wait(2 * time.Second)
	}
	n.unarm()
}

// seldom is a place at which least processes have died.
func (c *nodes) seldom(rng *rand.Rand) string {
	var all []string
	least := 0
	for _, place := range slices.Sorted(maps.Keys(nodePoints)) {
		switch n := c.sum.times(place) + c.before.times(place); {
		case len(all) == 0 || n < least:
			all, least = []string{place}, n
		case n == least:
			all = append(all, place)
		}
	}
	return pick(rng, all...)
}

func (s *nodeTally) times(place string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[place]
}

// claim takes a node to which nobody does anything; first one that has killed itself, and last one that is
// about to.
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
		if !n.gone() && (o.gone() || o.unarmed() && !n.unarmed()) {
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
		n.revive(rng, point(rng))
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
		pause(away(rng))
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
		n.cut(rng)
	case "restart":
		defer c.hurt("move")()
		n.restart(rng)
	}
}

// away is for how long a node that was killed is not there: mostly a moment.
func away(rng *rand.Rand) time.Duration {
	if rng.IntN(4) > 0 {
		return time.Duration(rng.IntN(200)) * time.Millisecond
	}
	return time.Duration(rng.IntN(4000)) * time.Millisecond
}

// cut cuts a node off from the bucket, from etcd or from both for a while.
func (n *node) cut(rng *rand.Rand) {
	c := n.c
	from, roads := "the bucket", []*road{n.road}
	if n.etcd != nil {
		switch from = pick(rng, "the bucket", "etcd", "both"); from {
		case "etcd":
			roads = []*road{n.etcd}
		case "both":
			roads = append(roads, n.etcd)
		}
	}
	how := pick(rng, "refused", "silent", "answers lost")
	c.sum.count("cuts from " + from)
	c.note("%s is cut off from %s: %s", n.cfg.Node, from, how)
	for _, r := range roads {
		switch how {
		case "refused":
			r.down()
		case "silent":
			r.both("timeout", map[string]int{"timeout": 0})
		case "answers lost":
			r.add("timeout", stream.Downstream, map[string]int{"timeout": 0})
		}
	}
	pause(time.Duration(500+rng.IntN(6000)) * time.Millisecond)
	for _, r := range roads {
		r.clear()
		if how == "refused" {
			r.up()
		}
	}
	c.note("%s is reached by %s again", n.cfg.Node, from)
}

// revive starts a node again that has killed itself at a place.
func (n *node) revive(rng *rand.Rand, arms string) {
	defer n.c.hurt("crash")()
	n.died()
	pause(away(rng))
	n.start(arms)
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
			n.revive(rng, "")
			return
		}
	} else if n.gone() {
		n.revive(rng, "")
		return
	} else { // say, it was fenced just before, or the others are gone
		if c.plan.deploys {
			c.fail("%s does not stop in order: %v", n.cfg.Node, errors.Join(err, cerr))
		}
		c.note("%s does not stop in order: %v", n.cfg.Node, errors.Join(err, cerr))
		c.sum.count("stops not in order")
		n.kill()
	}
	if c.plan.deploys {
		n.start("")
		return
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
			case strings.Contains(p.out.String(), "does not answer (no byte moved for"):
				c.sum.count("starts that failed") // on a machine that is so busy that the store is silent for a second
				c.note("%s starts anew: %s", n.cfg.Node, p.out.String())
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

// unarmed reports whether the process has no place left at which it would die.
func (n *node) unarmed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.arms == ""
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
	c.sum.reached(name)
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
	case n.unarmed():
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
	p, addr := newProcess(c.t, c.bin, []string{clusternode.Env + "=" + string(job), "MULTIDB_FAILPOINT=" + arms, "MULTIDB_GRACE=1s"}, in), make(chan string, 1)
	_ = in.Close()
	go func() {
		defer out.Close()
		var a string
		if _, err := fmt.Fscanln(out, &a); err == nil {
			addr <- a
		}
		_, _ = io.Copy(io.Discard, out)
		<-p.done
		if _, lost, ok := strings.Cut(p.out.String(), "failpoint: an answer is lost at "); ok {
			c.sum.reached(strings.Fields(lost)[0])
		}
	}()
	return p, addr
}

// settled waits until each node serves what it is to have, and no shard is without an owner.
func (c *nodes) settled(limit time.Duration) {
	began := time.Now()
	eventually(c.t, limit, func() string {
		sum, say := 0, ""
		for _, n := range c.all {
			var s clusternode.Stats
			ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
			err := c.ask(ctx, n.at(), "/stats", nil, &s)
			cancel()
			sum += s.Served
			alive := 0
			for _, o := range s.Nodes {
				if o.Alive {
					alive++
				}
			}
			if err != nil || s.Trouble != "" || alive != len(c.all) || s.Served != s.Expected || s.Moving > 0 || s.Free > 0 {
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
