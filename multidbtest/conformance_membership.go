package multidbtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/member"
)

// MembershipUnderTest is a cluster without members, of which RunMembershipConformance makes one.
type MembershipUnderTest struct {
	// Node returns the Membership of one more machine of the cluster. Required. What has to be closed
	// after the machine's session has left is closed by t.Cleanup.
	Node func(t *testing.T) multidb.Membership
	// Kill has a machine die as far as the others can tell: from now on nothing that it does
	// reaches them. Nil: the tests of dying machines are left out.
	Kill func(multidb.Membership)
	// Gone is after how long a dead machine is no member any more, at the latest, and a change is
	// known everywhere. Default 30 s.
	Gone time.Duration
}

// MembershipOption says what RunMembershipConformance does.
type MembershipOption func(*membershipSuite)

// InVirtualTime runs each subtest in a bubble of testing/synctest, so that what takes minutes takes
// none. It is for a Membership that waits for nothing outside of the bubble, such as a network.
func InVirtualTime() MembershipOption { return func(s *membershipSuite) { s.virtual = true } }

// RunMembershipConformance proves that a multidb.Membership does what a cluster counts on.
//
// newCluster is called once per subtest, with InVirtualTime within its bubble, and may use t.Cleanup.
func RunMembershipConformance(t *testing.T, newCluster func(t *testing.T) MembershipUnderTest, opts ...MembershipOption) {
	var suite membershipSuite
	for _, opt := range opts {
		opt(&suite)
	}
	for _, test := range []struct {
		name  string
		kills bool
		run   func(*membershipTest)
	}{
		{"a node that is alone sees itself", false, testMemberAlone},
		{"who joins sees those that are there, and they see it", false, testMembersMeet},
		{"many that join at once all see each other", false, testMembersMany},
		{"an update is seen by all", false, testMemberUpdate},
		{"a session keeps its name and its life", false, testMemberIdentity},
		{"who leaves is gone", false, testMemberLeaves},
		{"who has left may come back", false, testMemberReturns},
		{"the name of a living node is taken", false, testMemberNameTaken},
		{"of two that join at once by one name exactly one stays", false, testMemberNameRace},
		{"what is no node is refused", false, testMemberInvalid},
		{"what is returned is the caller's own", false, testMemberCopies},
		{"a context bounds the joining and nothing later", false, testMemberJoinContext},
		{"an ended context ends every call", false, testMemberContext},
		{"no goroutine outlives a session", false, testMemberGoroutines},
		{"a dead node is gone by itself", true, testMemberDies},
		{"the name of a dead node is free after a while", true, testMemberNameFree},
		{"a life that is known to have ended makes room at once", true, testMemberEnded},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				c := newCluster(t)
				if c.Gone == 0 {
					c.Gone = 30 * time.Second
				}
				if test.kills && c.Kill == nil {
					t.Skip("the cluster cannot kill a node")
				}
				m := &membershipTest{T: t, ctx: ctx, cluster: c, virtual: suite.virtual}
				defer m.leaveAll()
				test.run(m)
			}
			if suite.virtual {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

type membershipSuite struct{ virtual bool }

// membershipTest is one subtest: a cluster, and short forms of what tests do.
type membershipTest struct {
	*testing.T
	ctx     context.Context
	cluster MembershipUnderTest
	virtual bool

	mu       sync.Mutex
	sessions []multidb.MemberSession
}

// leaveAll ends all sessions, before the bubble or what the cluster has ends.
func (t *membershipTest) leaveAll() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 10*time.Second)
	defer cancel()
	for _, s := range t.sessions {
		_ = s.Leave(ctx) // of a killed one it cannot succeed
	}
}

// self makes a node of a name.
func (t *membershipTest) self(name string) multidb.Member {
	return multidb.Member{Name: name, URL: "http://" + name + ":8080", Life: fmt.Sprintf("%016x", rand.Uint64()), Version: "v1"}
}

// tryJoin joins on a machine, and has the session leave in the end.
func (t *membershipTest) tryJoin(on multidb.Membership, self multidb.Member, ended string) (multidb.MemberSession, error) {
	s, err := on.Join(t.ctx, self, ended)
	if err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sessions = append(t.sessions, s)
	}
	return s, err
}

func (t *membershipTest) joinOn(on multidb.Membership, self multidb.Member, ended string) multidb.MemberSession {
	t.Helper()
	s, err := t.tryJoin(on, self, ended)
	if err != nil {
		t.Fatalf("join as %s: %v", self.Name, err)
	}
	return s
}

// join joins on a machine of its own.
func (t *membershipTest) join(self multidb.Member) multidb.MemberSession {
	t.Helper()
	return t.joinOn(t.cluster.Node(t.T), self, "")
}

// wait waits until a session has exactly these members. It looks only when Changed says so.
func (t *membershipTest) wait(s multidb.MemberSession, want ...multidb.Member) {
	t.Helper()
	want = sortedMembers(want)
	t.until(s, fmt.Sprint("members ", want), func(got []multidb.Member) bool { return slices.Equal(got, want) })
}

func (t *membershipTest) until(s multidb.MemberSession, what string, ok func([]multidb.Member) bool) {
	t.Helper()
	limit := time.NewTimer(t.cluster.Gone)
	defer limit.Stop()
	for {
		changed := s.Changed()
		got := s.Members()
		if ok(got) {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			t.Fatalf("after %v the members are %v, want %s; the session's error is: %v", t.cluster.Gone, got, what, s.Err())
		}
	}
}

func sortedMembers(members []multidb.Member) []multidb.Member {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b multidb.Member) int { return strings.Compare(a.Name, b.Name) })
	return members
}

func testMemberAlone(t *membershipTest) {
	a := t.self("a")
	s := t.join(a)
	if got := s.Members(); !slices.Equal(got, []multidb.Member{a}) {
		t.Errorf("its members are %v, want %v", got, a)
	}
	if err := s.Err(); err != nil {
		t.Errorf("its error is %v", err)
	}
}

func testMembersMeet(t *membershipTest) {
	a, b := t.self("a"), t.self("b")
	sa := t.join(a)
	changed := sa.Changed()
	select {
	case <-changed:
		t.Error("something has changed, though nobody came")
	default:
	}
	sb := t.join(b)
	if got := sb.Members(); !slices.Equal(got, []multidb.Member{a, b}) {
		t.Errorf("who joins sees %v, want both", got)
	}
	t.wait(sa, a, b)
	select {
	case <-changed:
	default:
		t.Error("the channel from before the change is open")
	}
}

func testMembersMany(t *membershipTest) {
	const n = 12
	all := make([]multidb.Member, n)
	sessions := make([]multidb.MemberSession, n)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = t.self(fmt.Sprintf("node-%d.example", i))
		on := t.cluster.Node(t.T)
		wg.Go(func() {
			var err error
			if sessions[i], err = t.tryJoin(on, all[i], ""); err != nil {
				t.Errorf("join as %s: %v", all[i].Name, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, s := range sessions {
		t.wait(s, all...)
	}
}

func testMemberUpdate(t *membershipTest) {
	a, b := t.self("a"), t.self("b")
	sa, sb := t.join(a), t.join(b)
	t.wait(sa, a, b)
	for _, change := range []func(){
		func() { b.Draining = true },
		func() { b.URL, b.Version = "http://elsewhere", "v2" },
		func() { b.Draining, b.URL = false, "" },
	} {
		change()
		if err := sb.Update(t.ctx, b); err != nil {
			t.Fatal(err)
		}
		t.wait(sa, a, b)
		t.wait(sb, a, b)
	}
	if got := t.join(t.self("c")).Members(); !slices.Contains(got, b) {
		t.Errorf("who joins later sees %v, want %v among them", got, b)
	}
}

func testMemberIdentity(t *membershipTest) {
	a := t.self("a")
	s := t.join(a)
	name, life := a, a
	name.Name, life.Life = "b", "123abc"
	for _, other := range []multidb.Member{name, life} {
		if err := s.Update(t.ctx, other); !errors.Is(err, member.ErrInvalid) {
			t.Errorf("an update to %v: error is %v, want one that says that it is none", other, err)
		}
	}
	t.wait(s, a)
}

func testMemberLeaves(t *membershipTest) {
	a, b := t.self("a"), t.self("b")
	sa, sb := t.join(a), t.join(b)
	t.wait(sa, a, b)
	for range 2 { // the second one has nothing to do
		if err := sb.Leave(t.ctx); err != nil {
			t.Fatal(err)
		}
	}
	t.wait(sa, a)
	if sb.Err() == nil {
		t.Error("a session that has left has no error")
	}
	if err := sb.Update(t.ctx, b); err == nil {
		t.Error("a session that has left was updated")
	}
}

func testMemberReturns(t *membershipTest) {
	a, b := t.self("a"), t.self("b")
	sa := t.join(a)
	on := t.cluster.Node(t.T)
	for i := range 3 {
		if i == 2 {
			b = t.self("b") // with another life
		}
		b.URL = fmt.Sprintf("http://b:%d", i)
		sb := t.joinOn(on, b, "")
		t.wait(sa, a, b)
		if err := sb.Leave(t.ctx); err != nil {
			t.Fatal(err)
		}
		t.wait(sa, a)
	}
}

func testMemberNameTaken(t *membershipTest) {
	a := t.self("a")
	sa := t.join(a)
	_, err := t.tryJoin(t.cluster.Node(t.T), t.self("a"), "")
	if !errors.Is(err, multidb.ErrNameTaken) {
		t.Fatalf("the error of the second one is %v, want ErrNameTaken", err)
	}
	if !strings.Contains(err.Error(), a.Life) && !strings.Contains(err.Error(), a.URL) {
		t.Errorf("the error %q does not say who has the name", err)
	}
	_, err = t.tryJoin(t.cluster.Node(t.T), t.self("a"), "beef") // another life has ended
	if !errors.Is(err, multidb.ErrNameTaken) {
		t.Errorf("the error of one whose former life has ended is %v, want ErrNameTaken", err)
	}
	t.wait(sa, a)
	b := t.self("b")
	t.wait(t.join(b), a, b)
}

func testMemberNameRace(t *membershipTest) {
	watcher := t.self("watcher")
	w := t.join(watcher)
	for round := range 5 {
		name := fmt.Sprintf("node%d", round)
		const n = 3
		selves, sessions := make([]multidb.Member, n), make([]multidb.MemberSession, n)
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			selves[i] = t.self(name)
			on := t.cluster.Node(t.T)
			wg.Go(func() { sessions[i], errs[i] = t.tryJoin(on, selves[i], "") })
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Fatalf("both %s and %s have joined as %s", selves[won].Life, selves[i].Life, name)
			case err == nil:
				won = i
			case !errors.Is(err, multidb.ErrNameTaken):
				t.Fatalf("the error of a loser is %v, want ErrNameTaken", err)
			}
		}
		if won < 0 {
			t.Fatalf("nobody has joined as %s", name)
		}
		t.wait(w, watcher, selves[won])
		t.wait(sessions[won], watcher, selves[won])
		if err := sessions[won].Leave(t.ctx); err != nil {
			t.Fatal(err)
		}
		t.wait(w, watcher)
	}
}

func testMemberInvalid(t *membershipTest) {
	on := t.cluster.Node(t.T)
	for _, change := range []func(*multidb.Member){
		func(m *multidb.Member) { m.Name = "" },
		func(m *multidb.Member) { m.Name = "a/b" },
		func(m *multidb.Member) { m.Name = ".a" },
		func(m *multidb.Member) { m.Name = "a@b" },
		func(m *multidb.Member) { m.Name = strings.Repeat("a", 64) },
		func(m *multidb.Member) { m.Life = "" },
		func(m *multidb.Member) { m.Life = "ABC" },
		func(m *multidb.Member) { m.Life = strings.Repeat("a", 65) },
	} {
		m := t.self("a")
		change(&m)
		if _, err := t.tryJoin(on, m, ""); !errors.Is(err, member.ErrInvalid) {
			t.Errorf("join as %q with the life %q: error is %v, want one that says that it is no node", m.Name, m.Life, err)
		}
	}
	a := t.self("a")
	if _, err := t.tryJoin(on, a, a.Life); !errors.Is(err, member.ErrInvalid) {
		t.Errorf("join as one whose own life has ended: error is %v", err)
	}
	var all []multidb.Member
	for _, name := range []string{"0", "A.b-c_d", "a.tmp", "a.lock", strings.Repeat("z", 63)} {
		m := t.self(name)
		all = append(all, m)
		t.wait(t.joinOn(on, m, ""), all...)
	}
}

func testMemberCopies(t *membershipTest) {
	a := t.self("a")
	s := t.join(a)
	got := s.Members()
	got[0] = multidb.Member{Name: "nobody"}
	t.wait(s, a)
}

func testMemberJoinContext(t *membershipTest) {
	a, b := t.self("a"), t.self("b")
	ctx, cancel := context.WithCancel(t.ctx)
	sa, err := t.cluster.Node(t.T).Join(ctx, a, "")
	if err != nil {
		t.Fatal(err)
	}
	t.sessions = append(t.sessions, sa)
	cancel()
	sb := t.join(b)
	t.wait(sa, a, b)
	a.Draining = true
	if err := sa.Update(t.ctx, a); err != nil {
		t.Error(err)
	}
	t.wait(sb, a, b)
	if err := sa.Err(); err != nil {
		t.Error(err)
	}
}

func testMemberContext(t *membershipTest) {
	on := t.cluster.Node(t.T)
	cause := errors.New("no time")
	ended, cancel := context.WithCancelCause(t.ctx)
	cancel(cause)
	if s, err := on.Join(ended, t.self("a"), ""); err == nil {
		t.sessions = append(t.sessions, s)
		t.Error("it joined, though the context had ended")
	}
	a, b := t.self("a"), t.self("b")
	sa, sb := t.join(a), t.joinOn(on, b, "")
	t.wait(sa, a, b)
	began := time.Now()
	_ = sb.Leave(ended) // whether the others were told or not
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("leaving took %v after the context had ended", took)
	}
	if sb.Err() == nil {
		t.Error("a session that has left has no error")
	}
	t.wait(sa, a) // by itself, if it was not told
}

func testMemberGoroutines(t *membershipTest) {
	on := t.cluster.Node(t.T)
	cycle := func() {
		s := t.joinOn(on, t.self("a"), "")
		if err := s.Leave(t.ctx); err != nil {
			t.Fatal(err)
		}
	}
	cycle() // what a client starts once may stay
	settled := func() int {
		n := runtime.NumGoroutine()
		for range 100 {
			runtime.Gosched()
			<-time.After(5 * time.Millisecond)
			now := runtime.NumGoroutine()
			if now >= n {
				return now
			}
			n = now
		}
		return n
	}
	before := settled()
	const n = 10
	for range n {
		cycle()
	}
	if after := settled(); after >= before+n {
		t.Errorf("there were %d goroutines before %d sessions and %d after they had left", before, n, after)
	}
}

func testMemberDies(t *membershipTest) {
	a, b, c := t.self("a"), t.self("b"), t.self("c")
	machine := t.cluster.Node(t.T)
	sa, sb, sc := t.join(a), t.joinOn(machine, b, ""), t.join(c)
	t.wait(sa, a, b, c)
	t.cluster.Kill(machine)
	t.wait(sa, a, c)
	t.wait(sc, a, c)
	if got := sb.Members(); !slices.Contains(got, b) {
		t.Errorf("the dead one knows %v", got)
	}
}

func testMemberNameFree(t *membershipTest) {
	a, b := t.self("a"), t.self("b")
	machine := t.cluster.Node(t.T)
	sa := t.join(a)
	t.joinOn(machine, b, "")
	t.wait(sa, a, b)
	t.cluster.Kill(machine)
	again := t.self("b")
	t.wait(t.joinOn(t.cluster.Node(t.T), again, ""), a, again)
	t.wait(sa, a, again)
}

func testMemberEnded(t *membershipTest) {
	a, b := t.self("a"), t.self("b")
	machine := t.cluster.Node(t.T)
	sa := t.join(a)
	t.joinOn(machine, b, "")
	t.wait(sa, a, b)
	t.cluster.Kill(machine)
	again := t.self("b")
	began := time.Now()
	s := t.joinOn(t.cluster.Node(t.T), again, b.Life)
	if took := time.Since(began); t.virtual && took > time.Second {
		t.Errorf("it took %v", took)
	}
	t.wait(s, a, again)
	t.wait(sa, a, again)
}
