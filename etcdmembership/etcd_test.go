package etcdmembership_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/etcdmembership"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ttl is that of all tests: the shortest one.
const ttl = 2 * time.Second

// server is an etcd in this process, on loopback, that can be stopped and started again.
type server struct {
	t          *testing.T
	dir        string
	listen     url.URL // for clients
	peers      url.URL
	etcd       *embed.Etcd
	generation int
}

func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), listen: freeURL(t), peers: freeURL(t)}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = fmt.Sprintf("%s/%d", s.dir, s.generation)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{s.listen}, []url.URL{s.listen}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{s.peers}, []url.URL{s.peers}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.TickMs, cfg.ElectionMs = 20, 200 // so that leases may be short
	cfg.UnsafeNoFsync = true
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		s.t.Fatalf("start etcd: %v", err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		etcd.Close()
		s.t.Fatal("etcd is not ready after 30 s")
	}
	s.etcd = etcd
}

// stop ends it as a kill does, without a word to its clients.
func (s *server) stop() {
	if s.etcd != nil {
		s.etcd.Server.HardStop()
		s.etcd.Close()
		s.etcd = nil
	}
}

// lose has the next start begin without data.
func (s *server) lose() { s.generation++ }

func (s *server) client(t *testing.T, at string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{at}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// proxy is the way of one machine to etcd, which can be cut.
type proxy struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	open  chan struct{} // closed while bytes pass
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to, conns: make(map[net.Conn]bool), open: make(chan struct{})}
	close(p.open)
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.set(true)
		p.hang(false)
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() {
			defer in.Close()
			out, err := net.Dial("tcp", p.to)
			if err != nil {
				return
			}
			defer out.Close()
			p.mu.Lock()
			if p.cut {
				p.mu.Unlock()
				return
			}
			p.conns[in], p.conns[out] = true, true
			p.mu.Unlock()
			var wg sync.WaitGroup
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(way[0], gated{p, way[1]})
					_, _ = in.Close(), out.Close()
				})
			}
			wg.Wait()
			p.mu.Lock()
			delete(p.conns, in)
			delete(p.conns, out)
			p.mu.Unlock()
		})
	}
}

// set cuts the way, or opens it.
func (p *proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

// hang has bytes neither pass nor be refused, or lets them pass again.
func (p *proxy) hang(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		if on {
			p.open = make(chan struct{})
		}
	default:
		if !on {
			close(p.open)
		}
	}
}

// gated reads what may pass.
type gated struct {
	p *proxy
	r io.Reader
}

func (g gated) Read(b []byte) (int, error) {
	n, err := g.r.Read(b)
	g.p.mu.Lock()
	open := g.p.open
	g.p.mu.Unlock()
	<-open
	return n, err
}

// cluster is an etcd, with one way to it for each machine.
type cluster struct {
	*server
	mu      sync.Mutex
	proxies map[multidb.Membership]*proxy
	prefix  string
	ttl     time.Duration
}

func (c *cluster) node(t *testing.T) multidb.Membership {
	t.Helper()
	p := newProxy(t, c.listen.Host)
	m, err := etcdmembership.New(c.client(t, p.listener.Addr().String()), etcdmembership.Config{TTL: c.ttl, Prefix: c.prefix})
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proxies[m] = p
	return m
}

func (c *cluster) way(m multidb.Membership) *proxy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proxies[m]
}

func newCluster(s *server, prefix string) *cluster {
	return &cluster{server: s, proxies: make(map[multidb.Membership]*proxy), prefix: prefix, ttl: ttl}
}

func TestEtcdKeepsMembers(t *testing.T) {
	s := newServer(t)
	n := 0
	multidbtest.RunMembershipConformance(t, func(*testing.T) multidbtest.MembershipUnderTest {
		n++
		c := newCluster(s, fmt.Sprintf("/test%d/", n)) // each has members of its own
		return multidbtest.MembershipUnderTest{
			Node: c.node,
			Kill: func(m multidb.Membership) { c.way(m).set(true) },
			Gone: 60 * time.Second,
		}
	})
}

// joined is a node of a test.
type joined struct {
	multidb.MemberSession
	self multidb.Member
	way  *proxy
}

func (c *cluster) join(t *testing.T, name, life string) *joined {
	t.Helper()
	m := c.node(t)
	self := multidb.Member{Name: name, Life: life, URL: "http://" + name}
	s, err := m.Join(t.Context(), self, "")
	if err != nil {
		t.Fatalf("join as %s: %v", name, err)
	}
	j := &joined{s, self, c.way(m)}
	t.Cleanup(func() { // before the client is closed
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Leave(ctx)
	})
	return j
}

func (j *joined) names() string {
	var all []string
	for _, m := range j.Members() {
		all = append(all, m.Name+"@"+m.Life)
	}
	return strings.Join(all, " ")
}

// until waits for a condition that has to do with a session. Errors have no signal, so it looks now and then.
func (j *joined) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(45 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		changed := j.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not %s: the members are %q, the error is %v", what, j.names(), j.Err())
		}
	}
}

// untilSees waits until a node sees exactly these, and can tell and ask the others.
func (j *joined) untilSees(t *testing.T, want string) {
	t.Helper()
	j.until(t, "seeing "+want, func() bool { return j.names() == want && j.Err() == nil })
}

// unchanged fails if the members change before it is called again with the returned function.
func (j *joined) unchanged(t *testing.T) func() {
	ch, before := j.Changed(), j.names()
	return func() {
		t.Helper()
		select {
		case <-ch:
			t.Errorf("%s has seen the members change from %q, now to %q", j.self.Name, before, j.names())
		default:
		}
	}
}

// TestAnEtcdThatWasRestartedWithItsDataChangesNoMembers: leases go on, and nobody is suspected.
func TestAnEtcdThatWasRestartedWithItsDataChangesNoMembers(t *testing.T) {
	c := newCluster(newServer(t), "")
	a, b := c.join(t, "a", "1"), c.join(t, "b", "2")
	a.untilSees(t, "a@1 b@2")
	same := []func(){a.unchanged(t), b.unchanged(t)}
	c.stop()
	a.until(t, "an error", func() bool { return a.Err() != nil })
	b.until(t, "an error", func() bool { return b.Err() != nil })
	c.start()
	a.untilSees(t, "a@1 b@2")
	b.untilSees(t, "a@1 b@2")
	for _, check := range same {
		check()
	}
	b.self.Draining = true // the watch goes on as well
	if err := b.Update(t.Context(), b.self); err != nil {
		t.Fatal(err)
	}
	a.until(t, "told", func() bool { return a.Members()[1].Draining })
}

// TestAnEtcdThatHasLostItsDataGetsTheMembersBack: each creates its key again, and none is thought dead
// until the others have done so.
func TestAnEtcdThatHasLostItsDataGetsTheMembersBack(t *testing.T) {
	c := newCluster(newServer(t), "")
	nodes := []*joined{c.join(t, "a", "1"), c.join(t, "b", "2"), c.join(t, "c", "3"), c.join(t, "d", "4")}
	var same []func()
	for _, n := range nodes {
		n.untilSees(t, "a@1 b@2 c@3 d@4")
	}
	for _, n := range nodes {
		same = append(same, n.unchanged(t))
	}
	c.stop()
	c.lose()
	nodes[0].until(t, "an error", func() bool { return nodes[0].Err() != nil })
	c.start()
	for _, n := range nodes {
		n.untilSees(t, "a@1 b@2 c@3 d@4")
	}
	for _, check := range same {
		check()
	}
	late := c.join(t, "e", "5") // which knows no ghosts
	late.untilSees(t, "a@1 b@2 c@3 d@4 e@5")
}

// TestOneThatDiesWhileEtcdIsAwayIsFoundOutWhenItIsBack: a ghost does not stay.
func TestOneThatDiesWhileEtcdIsAwayIsFoundOutWhenItIsBack(t *testing.T) {
	for _, lose := range []bool{false, true} {
		c := newCluster(newServer(t), "")
		a, b := c.join(t, "a", "1"), c.join(t, "b", "2")
		a.untilSees(t, "a@1 b@2")
		c.stop()
		b.way.set(true)
		if lose {
			c.lose()
		}
		a.until(t, "an error", func() bool { return a.Err() != nil })
		if got := a.names(); got != "a@1 b@2" {
			t.Errorf("while etcd is away the members are %q", got)
		}
		c.start()
		a.untilSees(t, "a@1")
	}
}

// TestANodeThatWasCutOffForLongerThanItsLeaseComesBack: it keeps those that it knew, and joins again by itself.
func TestANodeThatWasCutOffForLongerThanItsLeaseComesBack(t *testing.T) {
	c := newCluster(newServer(t), "")
	a, b, d := c.join(t, "a", "1"), c.join(t, "b", "2"), c.join(t, "d", "4")
	for _, n := range []*joined{a, b, d} {
		n.untilSees(t, "a@1 b@2 d@4")
	}
	b.way.set(true)
	a.untilSees(t, "a@1 d@4")
	b.until(t, "an error", func() bool { return b.Err() != nil })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	b.self.URL = "http://elsewhere"
	if err := b.Update(ctx, b.self); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut off, an update says %v", err)
	}
	if got := b.names(); got != "a@1 b@2 d@4" {
		t.Errorf("cut off, it sees %q", got)
	}
	b.way.set(false)
	a.untilSees(t, "a@1 b@2 d@4")
	b.untilSees(t, "a@1 b@2 d@4")
	if got := a.Members()[1].URL; got != "http://elsewhere" {
		t.Errorf("what was to be told is %q", got)
	}
}

// TestAConnectionThatSaysNothingIsAnError: nothing refuses anything there, so only the silence tells.
func TestAConnectionThatSaysNothingIsAnError(t *testing.T) {
	c := newCluster(newServer(t), "")
	a, b := c.join(t, "a", "1"), c.join(t, "b", "2")
	a.untilSees(t, "a@1 b@2")
	b.self.Draining = true
	if err := b.Update(t.Context(), b.self); err != nil { // then it has begun to follow etcd
		t.Fatal(err)
	}
	began := time.Now()
	b.way.hang(true)
	b.until(t, "an error", func() bool { return b.Err() != nil })
	if err := b.Err(); !strings.Contains(err.Error(), "not heard of") {
		t.Errorf("after %v it says: %v", time.Since(began), err)
	}
	a.untilSees(t, "a@1")
	b.way.hang(false)
	a.untilSees(t, "a@1 b@2")
	b.untilSees(t, "a@1 b@2")
}

// TestANodeThatIsCutOffWhenItHasJustJoinedKnowsIt: a watch that cannot begin waits in the client without an end.
func TestANodeThatIsCutOffWhenItHasJustJoinedKnowsIt(t *testing.T) {
	c := newCluster(newServer(t), "")
	var all []*joined
	for i := range 20 {
		n := c.join(t, fmt.Sprint("n", i), "1")
		<-time.After(time.Duration(i) * 100 * time.Microsecond)
		n.way.set(true)
		all = append(all, n)
	}
	for _, n := range all {
		n.until(t, "an error", func() bool { return n.Err() != nil })
	}
}

// TestWhoLeavesIsGoneLongBeforeItsLeaseIs: Leave ends the lease.
func TestWhoLeavesIsGoneLongBeforeItsLeaseIs(t *testing.T) {
	c := newCluster(newServer(t), "")
	c.ttl = 10 * time.Minute
	a, b := c.join(t, "a", "1"), c.join(t, "b", "2")
	a.untilSees(t, "a@1 b@2")
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.untilSees(t, "a@1")
}

// TestANameThatWasTakenMeanwhileIsNotTakenBack: until it is free.
func TestANameThatWasTakenMeanwhileIsNotTakenBack(t *testing.T) {
	c := newCluster(newServer(t), "")
	w, old := c.join(t, "w", "1"), c.join(t, "a", "1")
	w.untilSees(t, "a@1 w@1")
	old.way.set(true)
	w.untilSees(t, "w@1")
	a := c.join(t, "a", "2")
	w.untilSees(t, "a@2 w@1")
	old.way.set(false)
	old.until(t, "losing its name", func() bool { return errors.Is(old.Err(), multidb.ErrNameTaken) })
	a.untilSees(t, "a@2 w@1")
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.untilSees(t, "a@1 w@1")
	old.untilSees(t, "a@1 w@1")
}

// TestACompactionIsNoReasonToMissAnything: a watch that is behind it begins anew.
func TestACompactionIsNoReasonToMissAnything(t *testing.T) {
	c := newCluster(newServer(t), "")
	a, b := c.join(t, "a", "1"), c.join(t, "b", "2")
	a.untilSees(t, "a@1 b@2")
	client := c.client(t, c.listen.Host)
	a.way.set(true) // for less than its lease
	for range 20 {
		b.self.Draining = !b.self.Draining
		if err := b.Update(t.Context(), b.self); err != nil {
			t.Fatal(err)
		}
	}
	b.self.URL = "http://new"
	if err := b.Update(t.Context(), b.self); err != nil {
		t.Fatal(err)
	}
	now, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), now.Header.Revision); err != nil {
		t.Fatal(err)
	}
	a.way.set(false)
	a.until(t, "told", func() bool { return len(a.Members()) == 2 && a.Members()[1] == b.self && a.Err() == nil })
}

// TestKeysOfOthersAreIgnored: anything may be below the prefix.
func TestKeysOfOthersAreIgnored(t *testing.T) {
	c := newCluster(newServer(t), "/p/")
	client := c.client(t, c.listen.Host)
	for key, value := range map[string]string{
		"/p/x": "", "/p/y": "{", "/p/z": `{"name":"other","life":"1"}`, "/p/": `{"name":"","life":"1"}`, "/p/u": `{"name":"u","life":"X"}`,
		"/p/v": `{"name":"v","life":"1","url":"` + strings.Repeat("u", 5<<10) + `"}`, "/p/w": `{"name":"w","life":"1","more":1}`,
	} {
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	a := c.join(t, "a", "1")
	a.untilSees(t, "a@1 w@1")
	if _, err := client.Put(t.Context(), "/p/w", "junk"); err != nil {
		t.Fatal(err)
	}
	a.untilSees(t, "a@1")
	if _, err := c.node(t).Join(t.Context(), multidb.Member{Name: "w", Life: "2"}, ""); !errors.Is(err, multidb.ErrNameTaken) || !strings.Contains(err.Error(), "no lease") {
		t.Errorf("a key that never goes has the name, and joining says %v", err)
	}
}

// TestAKeyThatWasDeletedIsCreatedAgain: an operator may do that.
func TestAKeyThatWasDeletedIsCreatedAgain(t *testing.T) {
	c := newCluster(newServer(t), "/p/")
	a, b := c.join(t, "a", "1"), c.join(t, "b", "2")
	a.untilSees(t, "a@1 b@2")
	if _, err := c.client(t, c.listen.Host).Delete(t.Context(), "/p/b"); err != nil {
		t.Fatal(err)
	}
	a.until(t, "seeing that", func() bool { return a.names() == "a@1" })
	a.untilSees(t, "a@1 b@2")
	b.untilSees(t, "a@1 b@2")
}

// TestAnEtcdThatIsNotThereIsAnErrorWhenTheContextEnds: New makes no request, and Join tries.
func TestAnEtcdThatIsNotThereIsAnErrorWhenTheContextEnds(t *testing.T) {
	c := newCluster(newServer(t), "")
	m := c.node(t)
	c.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	if _, err := m.Join(ctx, multidb.Member{Name: "a", Life: "1"}, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	c.start()
	s, err := m.Join(t.Context(), multidb.Member{Name: "a", Life: "1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := etcdmembership.New(nil, etcdmembership.Config{}); err == nil {
		t.Error("no client is taken")
	}
	for _, ttl := range []time.Duration{-time.Second, time.Second, 2500 * time.Millisecond} {
		if _, err := etcdmembership.New(c, etcdmembership.Config{TTL: ttl}); err == nil {
			t.Errorf("a TTL of %v is taken", ttl)
		}
	}
}
