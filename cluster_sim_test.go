package multidb_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// The bounds that a simulation holds nodes to, once nothing goes wrong any more.
const (
	// servedWithin is how long a tenant may have to wait for a node that serves it.
	servedWithin = time.Minute
	// startsWithin is how long a node may fail to start: its name is another's for as long as
	// nobody knows that its former process is dead.
	startsWithin = time.Minute
	// placedWithin is how long it may take until all shards are where they are to be.
	placedWithin = 5 * time.Minute
	// freshWithin is how long after a look at who owns a tenant a strict owner is held to it.
	freshWithin = 500 * time.Millisecond
)

// clusterSim lets random things happen to the nodes of a cluster, in virtual time, and keeps what
// Sync has promised. A seed decides what happens; which goroutine is first within one
// moment it does not.
type clusterSim struct {
	*clusterRig
	dir     string
	rng     *rand.Rand
	names   []string
	machine map[string]*simNode
	weights []int // of simActions
	latency time.Duration
	strict  bool
	gates   []*gate
	ledger  ledger
	flying  sync.WaitGroup // writes that go on beside
	dirs    int
	outs    int
	verbs   int // IDs that were made for them
	tally   *simTally

	mu      sync.Mutex
	tenants map[multidb.ID]*simTenant
	next    int
	log     []string
}

// simTenant is what is known of a tenant.
type simTenant struct {
	promised []string
	busy     int    // calls under way
	state    string // "": in service; else what was done to it
	to       multidb.ID
}

// What was done to a tenant. Where the call has failed it may be done or not.
const (
	isRemoved = "removed, or perhaps not"
	isRenamed = "renamed, or perhaps not"
	isGone    = "erased or renamed"
)

// simTally counts what simulations did.
type simTally struct {
	mu                                                                            sync.Mutex
	seeds, commits, promised, restores, fresh, starts, kills, sleeps, cuts, verbs int
	fences, asides, refused, notYet, maps, objects                                int
	longest                                                                       time.Duration
	virtual                                                                       time.Duration
}

func (a *simTally) add(to *int, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*to += n
}

func (a *simTally) String() string {
	return fmt.Sprintf("%d seeds, %v of virtual time: %d commits, %d promised, %d restores, %d strict reads, %d starts, %d kills, %d sleeps, %d cuts, "+
		"%d fences, %d files set aside, %d left fenced, %d refused for a moment in the end, %d verbs, %d maps and %d objects lawful; served again after at most %v",
		a.seeds, a.virtual.Round(time.Minute), a.commits, a.promised, a.restores, a.fresh, a.starts, a.kills, a.sleeps, a.cuts,
		a.fences, a.asides, a.refused, a.notYet, a.verbs, a.maps, a.objects, a.longest)
}

// simAction is one kind of things that happen, and how often.
type simAction struct {
	name   string
	weight int
	always bool // in every run; each of the others is in some runs
	do     func(s *clusterSim, node string)
}

var simActions = []simAction{
	{"write", 30, true, func(s *clusterSim, node string) { s.write(node) }},
	{"write beside", 20, false, func(s *clusterSim, node string) { s.writeBeside(node) }},
	{"write to all", 1, false, (*clusterSim).writeToAll},
	{"restore", 5, true, func(s *clusterSim, _ string) { s.restore(s.tenant()) }},
	{"pass", 8, true, func(s *clusterSim, _ string) { s.pass(time.Duration(s.rng.IntN(4000)) * time.Millisecond) }},
	{"pass long", 1, true, func(s *clusterSim, _ string) { s.pass(time.Duration(s.rng.IntN(90)) * time.Second) }},
	{"lose answers", 4, false, (*clusterSim).loseAnswers},
	{"be slow", 4, false, (*clusterSim).beSlow},
	{"cut off", 3, false, (*clusterSim).cutOff},
	{"sleep", 4, false, (*clusterSim).sleep},
	{"suspect", 3, false, func(s *clusterSim, node string) {
		s.note("%s is suspected", node)
		s.members.Partition(node)
	}},
	{"heal", 7, true, func(s *clusterSim, node string) { s.note("%s is healed", node); s.heal(node) }},
	{"kill", 2, false, func(s *clusterSim, node string) { s.kill(node) }},
	{"stop", 2, false, (*clusterSim).stop},
	{"start", 6, true, func(s *clusterSim, _ string) { s.startOne() }},
	{"set a clock", 2, false, (*clusterSim).setClock},
	{"remove", 1, false, (*clusterSim).remove},
	{"fork", 1, false, (*clusterSim).fork},
	{"rename", 1, false, (*clusterSim).rename},
	{"erase", 1, false, (*clusterSim).erase},
}

func newClusterSim(t *testing.T, seed uint64, dir string, tally *simTally) *clusterSim {
	s := &clusterSim{
		clusterRig: newCluster(t), dir: dir, rng: rand.New(rand.NewPCG(seed, 0)),
		machine: map[string]*simNode{}, tenants: map[multidb.ID]*simTenant{}, tally: tally,
	}
	for _, a := range simActions {
		w := a.weight
		if !a.always && s.rng.IntN(3) == 0 {
			w = 0
		}
		s.weights = append(s.weights, w)
	}
	for i := range 3 + max(0, s.rng.IntN(8)-2) { // three in half of the runs, up to eight
		name := string(rune('a' + i))
		s.names = append(s.names, name)
		s.machine[name] = newSimNode(name, s.rng)
	}
	for _, id := range someTenants(6) {
		s.tenants[id] = &simTenant{}
	}
	s.latency = []time.Duration{time.Millisecond, 30 * time.Millisecond, 200 * time.Millisecond}[s.rng.IntN(3)]
	s.bucket = s.rng.IntN(3) == 0
	s.strict = s.bucket && s.rng.IntN(2) == 0
	moves := []int{16, 64, 256}[s.rng.IntN(3)]
	s.config = func(cfg *multidb.ClusterConfig) {
		if cfg.MaxMoves = moves; s.strict {
			cfg.StrictOwnership = 5 * time.Second
		}
	}
	s.discover = func(g *multidb.GlobDiscoverer) multidb.Discoverer { return &listing{glob: g} }
	s.store = func(name string) multidb.ReplicaFactory {
		return &nodeReplica{gatedLog{gated{s.views[name], s.machine[name].gate}}, s.readLedger}
	}
	s.each = func(name string) []multidb.Option { return s.machine[name].options(s.clusterRig.dirs[name], s.rng) }
	s.observe = s.observed
	return s
}

func (s *clusterSim) observed(node string, ev multidb.Event) {
	switch ev.Type {
	case multidb.EventFleetLogFenced:
		s.tally.add(&s.tally.fences, 1)
	case multidb.EventSetAside, multidb.EventAdopted:
		s.tally.add(&s.tally.asides, 1)
	case multidb.EventMoveStuck, multidb.EventFenced, multidb.EventFleetLogTakenOver, multidb.EventFleetLogBegun, multidb.EventState:
	default:
		return
	}
	s.note("%s: %v %v %s %s", node, ev.Type, ev.Err, ev.ID, ev.Path)
}

func (s *clusterSim) readLedger() {
	objects, err := s.rep.View().Objects("fleet")
	s.must(errors.Join(err, s.ledger.read(objects)))
}

func (s *clusterSim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, clockOf(time.Now())+" "+fmt.Sprintf(format, args...))
}

func (s *clusterSim) must(err error) {
	s.t.Helper()
	if err != nil {
		s.note("failure: %v", err)
		s.t.Error(err)
	}
}

// pass lets the clock go on, and looks at the files, so that their stamps are about right. The
// wall clocks drift meanwhile.
func (s *clusterSim) pass(d time.Duration) {
	for d > 0 {
		s.lookAtFiles()
		beat := min(d, 5*time.Second)
		<-time.After(beat)
		d -= beat
	}
	s.lookAtFiles()
}

func (s *clusterSim) lookAtFiles() {
	synctest.Wait()
	for _, name := range s.names {
		for _, id := range s.ids() {
			path := filepath.Join(s.clusterRig.dirs[name], "data", string(id)+".db")
			_, _ = s.machine[name].stamps.stat(path)
			_, _ = s.machine[name].stamps.stat(path + "-wal")
		}
	}
}

func (s *clusterSim) ids() (all []multidb.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.tenants {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// tenant is one in service; idle: that no call is about right now.
func (s *clusterSim) tenant() multidb.ID {
	all := s.ids()
	for range 50 {
		id := all[s.rng.IntN(len(all))]
		s.mu.Lock()
		ok := s.tenants[id].state == ""
		s.mu.Unlock()
		if ok {
			return id
		}
	}
	id := multidb.ID(fmt.Sprintf("p/more%d", len(all)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[id] = &simTenant{}
	return id
}

// begin notes a call about a tenant, of which promised is known before it.
func (s *clusterSim) begin(id multidb.ID) (promised []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[id].busy++
	return slices.Clone(s.tenants[id].promised)
}

func (s *clusterSim) end(id multidb.ID, promised ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[id].busy--
	s.tenants[id].promised = append(s.tenants[id].promised, promised...)
}

// pick is a random node that is awake and runs; "" if there is none.
func (s *clusterSim) pick() string {
	var all []string
	for name := range s.nodes {
		if !s.machine[name].gate.isAsleep() {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return all[s.rng.IntN(len(all))]
}

func (s *clusterSim) step() {
	name := s.pick()
	if name == "" {
		s.startOne()
		s.pass(time.Second)
		return
	}
	sum := 0
	for _, w := range s.weights {
		sum += w
	}
	n := s.rng.IntN(sum)
	for i, w := range s.weights {
		if n -= w; n < 0 {
			simActions[i].do(s, name)
			return
		}
	}
}

func (s *clusterSim) row() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return strconv.Itoa(s.next)
}

// write commits at a node that may be wrong about being the owner, and counts on what Sync says.
func (s *clusterSim) write(name string) {
	id := s.tenant()
	name = s.directed(name, id)
	s.commit(s.nodes[name], name, id)
}

// directed is mostly the node that one knows as the owner, and sometimes that one itself.
func (s *clusterSim) directed(name string, id multidb.ID) string {
	if s.rng.IntN(4) > 0 {
		if o, err := s.nodes[name].Owner(s.t.Context(), id); err == nil && s.nodes[o.Node] != nil && !s.machine[o.Node].gate.isAsleep() {
			return o.Node
		}
	}
	return name
}

func (s *clusterSim) writeBeside(name string) {
	id := s.tenant()
	name = s.directed(name, id)
	m := s.nodes[name]
	s.flying.Go(func() { s.commit(m, name, id) })
	s.pass(time.Duration(s.rng.IntN(100)) * time.Millisecond)
}

func (s *clusterSim) commit(m *multidb.Manager, name string, id multidb.ID) {
	row, before := s.row(), s.begin(id)
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	err := m.Do(ctx, id, func(db *sql.DB) error {
		if s.strict && time.Since(began) <= freshWithin {
			s.tally.add(&s.tally.fresh, 1)
			s.must(holds("what a strict owner "+name+" serves", id, before, db))
		}
		return s.insert(ctx, name, id, db, row)
	})
	if err == nil {
		s.tally.add(&s.tally.commits, 1)
		_, err = m.Sync(ctx, id)
	}
	if err != nil {
		s.end(id)
		return
	}
	s.promise(name, id, row)
}

func (s *clusterSim) promise(name string, id multidb.ID, row string) {
	s.tally.add(&s.tally.promised, 1)
	s.note("%s: %s has %s", name, id, row)
	s.end(id, row)
}

func (s *clusterSim) insert(ctx context.Context, name string, id multidb.ID, db *sql.DB, row string) error {
	path := filepath.Join(s.clusterRig.dirs[name], "data", string(id)+".db")
	defer s.machine[name].stamps.touch(s.t, path, path+"-wal")
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t (row TEXT PRIMARY KEY)"); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "INSERT INTO t VALUES (?)", row)
	return err
}

// writeToAll commits to all tenants that a node serves, by Each.
func (s *clusterSim) writeToAll(name string) {
	m := s.nodes[name]
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	var mu sync.Mutex
	rows := map[multidb.ID]string{}
	_ = m.Each(ctx, multidb.EachOptions{MaxErrors: -1, Canary: -1}, func(ctx context.Context, id multidb.ID, db *sql.DB) error {
		row := s.row()
		if err := s.insert(ctx, name, id, db, row); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		rows[id] = row
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	for id, row := range rows {
		if s.knows(id) {
			s.begin(id)
			if _, err := m.Sync(ctx, id); err != nil {
				s.end(id)
				continue
			}
			s.promise(name, id, row)
		}
	}
}

func (s *clusterSim) knows(id multidb.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tenants[id] != nil && s.tenants[id].state == ""
}

// restore finds in the bucket everything that was promised before.
func (s *clusterSim) restore(id multidb.ID) {
	from, err := multidb.ReadFleetLog(s.rep.View(), "fleet")
	if err != nil {
		s.t.Fatal(err)
	}
	s.restoreFrom(from, "a restore", id)
}

func (s *clusterSim) restoreFrom(from multidb.ReplicaFactory, what string, id multidb.ID) {
	promised := s.begin(id)
	defer s.end(id)
	if len(promised) == 0 {
		return
	}
	s.outs++
	out := filepath.Join(s.dir, fmt.Sprint("out", s.outs))
	if err := multidb.RestoreFrom(s.t.Context(), from, multidb.Database{ID: id}, multidb.RestoreOptions{OutputPath: out}); err != nil {
		s.must(fmt.Errorf("%s of %s: %w", what, id, err))
		return
	}
	db, err := sql.Open("sqlite", out)
	if err != nil {
		s.t.Fatal(err)
	}
	s.must(holds(what, id, promised, db))
	s.must(errors.Join(db.Close(), os.Remove(out)))
	s.tally.add(&s.tally.restores, 1)
}

// holds is an error if a database lacks what was promised of it.
func holds(where string, id multidb.ID, promised []string, db *sql.DB) error {
	if len(promised) == 0 {
		return nil
	}
	rows, err := db.Query("SELECT row FROM t")
	if err != nil {
		return fmt.Errorf("%s of %s, of which %d commits were promised: %w", where, id, len(promised), err)
	}
	has := map[string]bool{}
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			return errors.Join(err, rows.Close())
		}
		has[row] = true
	}
	return errors.Join(rows.Err(), rows.Close(), lacks(where, id, promised, has))
}

// fault makes requests of a node fail or wait, at the store.
func (s *clusterSim) fault(name string, f multidbtest.Fault) {
	n := s.machine[name]
	n.faults = append(n.faults, s.views[name].Inject(f))
}

func (s *clusterSim) loseAnswers(name string) {
	if s.rng.IntN(2) == 0 {
		s.note("%s: the next answers are lost", name)
		s.fault(name, multidbtest.Fault{LostAnswer: true, Times: 1 + s.rng.IntN(3)})
		return
	}
	percent := 5 + s.rng.IntN(40)
	s.note("%s: %d %% of the answers are lost", name, percent)
	s.machine[name].gate.loseAnswers(percent)
}

func (s *clusterSim) beSlow(name string) {
	d := time.Duration(s.rng.IntN(3000)) * time.Millisecond
	s.note("%s: requests take %v", name, d)
	s.fault(name, multidbtest.Fault{Delay: d, Times: 1 + s.rng.IntN(20)})
}

// cutOff parts a node from the bucket, from the other members, or from both.
func (s *clusterSim) cutOff(name string) {
	s.tally.add(&s.tally.cuts, 1)
	how := []multidbtest.Fault{{Err: errCutOff}, {Err: errCutOff, Hang: true}, {Hang: true}}[s.rng.IntN(3)] // refused, silent, late
	s.note("%s is cut off: %v, hangs: %v", name, how.Err, how.Hang)
	if s.rng.IntN(2) == 0 {
		s.members.Partition(name)
	}
	s.fault(name, how)
}

// sleep lets nothing of a node reach the store, nor anything come back, for longer than every
// timeout; what was under way arrives at some time. It goes on as if nothing had been.
func (s *clusterSim) sleep(name string) {
	s.tally.add(&s.tally.sleeps, 1)
	d := time.Second << s.rng.IntN(8)
	d += time.Duration(s.rng.Int64N(int64(d)))
	s.note("%s falls asleep for %v", name, d)
	s.machine[name].gate.sleep(d)
	if s.rng.IntN(3) > 0 {
		s.members.Partition(name)
		time.AfterFunc(d, func() { s.members.Heal(name) })
	}
}

// setClock sets the wall clock of a node, by seconds or by days.
func (s *clusterSim) setClock(name string) {
	d := time.Duration(s.rng.IntN(3*24*3600)-36*3600) * time.Second
	if s.rng.IntN(2) == 0 {
		d = time.Duration(s.rng.IntN(20)-10) * time.Second
	}
	s.note("%s: its clock is off by %v", name, d)
	s.machine[name].clock.set(d)
}

func (s *clusterSim) heal(name string) {
	n := s.machine[name]
	for _, in := range n.faults {
		in.Clear()
	}
	n.faults = nil
	if n.gate != nil {
		n.gate.loseAnswers(0)
	}
	s.members.Heal(name)
}

// kill ends the process of a node at once. Its disk stays, or the node gets another one, or that of
// another node.
func (s *clusterSim) kill(name string) {
	m, n, dir := s.nodes[name], s.machine[name], s.clusterRig.dirs[name]
	s.note("%s dies", name)
	s.tally.add(&s.tally.kills, 1)
	image := diskOf(s.t, dir)
	delete(s.nodes, name)
	s.ended(name, m, s.rng.IntN(3))
	other := s.names[s.rng.IntN(len(s.names))]
	n.repair = func() {
		image.put(s.t, dir)
		switch {
		case n.rng.IntN(6) == 0:
			s.note("%s: its disk is lost", name)
			s.newDisk(name)
		case n.rng.IntN(6) == 0 && other != name && s.machine[other].repair == nil:
			s.note("%s gets a copy of the disk of %s", name, other)
			image := diskOf(s.t, s.clusterRig.dirs[other])
			s.newDisk(name)
			image.put(s.t, s.clusterRig.dirs[name])
			movePaths(s.t, s.clusterRig.dirs[other], s.clusterRig.dirs[name])
		}
	}
}

// ended cuts a process off for good, of which as many requests may arrive yet as ghosts says. It
// takes its time to notice, and nothing of that reaches anybody.
func (s *clusterSim) ended(name string, m *multidb.Manager, ghosts int) {
	n, done := s.machine[name], make(chan struct{})
	delete(s.nodes, name)
	n.gate.kill(ghosts)
	s.heal(name)
	s.members.Kill(name)
	delete(s.views, name)
	n.dying = done
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := m.Close(ctx); ctx.Err() != nil {
			s.must(fmt.Errorf("the end of a process of %s that is cut off: %w", name, err))
		}
	}()
}

func (s *clusterSim) newDisk(name string) {
	s.dirs++
	dir := filepath.Join(s.dir, fmt.Sprint(name, s.dirs))
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if old := s.clusterRig.dirs[name]; old != "" {
		s.must(os.RemoveAll(old))
	}
	s.clusterRig.dirs[name] = dir
}

// stop ends the process of a node in order, drained or not.
func (s *clusterSim) stop(name string) {
	if len(s.nodes) < 2 {
		return
	}
	s.note("%s stops", name)
	s.heal(name)
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	if s.rng.IntN(2) == 0 {
		_ = s.nodes[name].Drain(ctx)
	}
	if err := s.nodes[name].Close(ctx); err != nil {
		s.note("%s did not stop in order: %v", name, err)
	}
	s.ended(name, s.nodes[name], 0)
}

// startOne starts a node that is down.
func (s *clusterSim) startOne() {
	for _, i := range s.rng.Perm(len(s.names)) {
		if name := s.names[i]; s.nodes[name] == nil && s.machine[name].isDown() {
			s.startSoon(name)
			return
		}
	}
}

// startSoon starts a node, which may fail: its name may be taken, or the map change.
func (s *clusterSim) startSoon(name string) bool {
	if s.clusterRig.dirs[name] == "" {
		s.newDisk(name)
	}
	n := s.machine[name]
	if n.dying != nil {
		<-n.dying
		n.dying = nil
	}
	if n.repair != nil {
		n.repair()
		n.repair = nil
	}
	n.gate = newGate(rand.New(rand.NewPCG(s.rng.Uint64(), 22)), s.latency, 2*time.Minute, func(string, ...any) {})
	s.gates = append(s.gates, n.gate)
	m := s.open(name)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	s.tally.add(&s.tally.starts, 1)
	if err := m.Start(ctx); err != nil {
		s.note("%s does not start: %v", name, err)
		n.gate.kill(0)
		delete(s.views, name)
		return false
	}
	s.note("%s starts", name)
	s.nodes[name] = m
	return true
}

// run lets things happen, heals all, and finds every tenant served with all that was promised.
func (s *clusterSim) run(steps int) {
	began := time.Now()
	for _, name := range s.names {
		s.startSoon(name)
	}
	for range steps {
		s.step()
		if s.t.Failed() {
			break
		}
	}
	s.flying.Wait()
	s.healAll()
	if !s.t.Failed() {
		s.servedAgain()
		s.must(s.allPlaced())
		s.readLedger()
		s.must(s.ledger.ownedByTheLiving(s.nodes))
		for _, id := range s.ids() {
			s.inTheEnd(id)
		}
	}
	for name, m := range s.nodes {
		s.must(s.closed(name, m))
	}
	for _, g := range s.gates {
		g.flying.Wait()
	}
	s.readLedger()
	s.must(s.ledger.check())
	if !s.t.Failed() {
		for _, id := range s.ids() {
			if s.knows(id) {
				s.restoreFrom(s.rep.View(), "a restore of the prefix alone", id)
			}
		}
	}
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	s.tally.seeds++
	s.tally.virtual += time.Since(began)
	s.tally.maps += len(s.ledger.maps)
	for epoch := range s.ledger.logs {
		s.tally.objects += len(s.ledger.counted(epoch))
	}
}

// closed ends a process in order. A file from an earlier life, which nobody has opened since, may
// keep Close from nil: it is fenced, and nothing of it was promised.
func (s *clusterSim) closed(name string, m *multidb.Manager) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := m.Close(ctx)
	if errors.Is(err, multidb.ErrFenced) {
		s.tally.add(&s.tally.refused, 1)
		s.note("close %s: %v", name, err)
		return nil
	}
	return err
}

// healAll ends all faults, wakes everybody up, and starts who is down.
func (s *clusterSim) healAll() {
	s.note("all is healed")
	for _, name := range s.names {
		s.heal(name)
		for s.nodes[name] != nil && s.machine[name].gate.isAsleep() {
			s.pass(time.Second)
		}
		s.heal(name) // the others may have lost sight of it meanwhile
	}
	for _, name := range s.names {
		for began := time.Now(); s.nodes[name] == nil && !s.startSoon(name); s.pass(time.Second) {
			if time.Since(began) > startsWithin {
				s.must(fmt.Errorf("%s does not start though nothing is wrong any more", name))
				break
			}
		}
	}
}

// servedAgain waits for each tenant in service until a node serves it, within a bound.
func (s *clusterSim) servedAgain() {
	began := time.Now()
	for _, id := range s.ids() {
		if !s.knows(id) {
			continue
		}
		err := s.soon(id, func(*multidb.Manager, *sql.DB) error { return nil })
		if took := time.Since(began); err != nil || took > servedWithin {
			s.must(fmt.Errorf("%s is not served again %v after everything was healed: %w", id, took, err))
		}
	}
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	s.tally.longest = max(s.tally.longest, time.Since(began))
}

// soon is on, for a tenant whose node may have yet to learn that another one has taken it over: what
// counts is how long that takes.
func (s *clusterSim) soon(id multidb.ID, do func(*multidb.Manager, *sql.DB) error) (err error) {
	for began := time.Now(); time.Since(began) < servedWithin; <-time.After(250 * time.Millisecond) {
		if err = s.on(id, do); err == nil {
			return nil
		}
		s.note("%s is not served yet: %v", id, err)
		s.tally.add(&s.tally.notYet, 1)
	}
	return err
}

// allPlaced waits until each node serves what it is to have, and all shards are served.
func (s *clusterSim) allPlaced() error {
	for began := time.Now(); ; s.pass(time.Second) {
		whole, sum := true, 0
		for _, m := range s.nodes {
			st := m.Nodes()
			sum += st.Served
			whole = whole && st.Served == st.Expected && st.Moving == 0
		}
		if whole && sum == 1024 {
			return nil
		}
		if time.Since(began) > placedWithin {
			for name, m := range s.nodes {
				s.note("%s: %+v", name, m.Nodes())
			}
			return fmt.Errorf("%d shards are served %v after everything was healed, not all where they are to be", sum, placedWithin)
		}
	}
}

// inTheEnd finds a tenant served with all that was promised, whatever was done to it.
func (s *clusterSim) inTheEnd(id multidb.ID) {
	s.mu.Lock()
	tenant := *s.tenants[id]
	s.mu.Unlock()
	if len(tenant.promised) == 0 {
		return
	}
	switch at := id; tenant.state {
	case "":
		s.restore(id)
		s.served(at, tenant.promised)
	case isRemoved:
		s.undelete(id)
		s.served(at, tenant.promised)
	case isRenamed:
		if s.exists(tenant.to) {
			at = tenant.to
		}
		s.served(at, tenant.promised)
	}
}

func (s *clusterSim) served(id multidb.ID, promised []string) {
	err := s.soon(id, func(_ *multidb.Manager, db *sql.DB) error {
		s.must(holds("the owner's file", id, promised, db)) // at the first look, not at the one after it
		return nil
	})
	if err != nil {
		s.must(fmt.Errorf("%s in the end: %w", id, err))
	}
}

// TestWhateverHappensToNodesWhatWasPromisedIsServed plays random histories of three to eight nodes. At any
// time: what Sync promised is in every restore; the log gives each shard one owner, by the
// rules (ledger.check); a strict owner serves nothing old. Once nothing goes wrong any more: each node
// starts, each tenant is served with all that was promised within servedWithin, and
// all shards are where they are to be. The bubble ends only when no goroutine is left.
//
// MULTIDB_CLUSTER_SEEDS is how many runs there are, MULTIDB_CLUSTER_SEED the first one, and
// MULTIDB_TORTURE_TIME for how long it goes on.
func TestWhateverHappensToNodesWhatWasPromisedIsServed(t *testing.T) {
	seeds := 8
	if testing.Short() { // as under the race detector, where each takes ten times as long
		seeds = 2
	}
	if n, err := strconv.Atoi(os.Getenv("MULTIDB_CLUSTER_SEEDS")); err == nil {
		seeds = n
	}
	first, err := strconv.ParseUint(cmp.Or(os.Getenv("MULTIDB_CLUSTER_SEED"), "0"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if first == 0 {
		first = rand.Uint64N(1 << 40)
	}
	tally, began := &simTally{}, time.Now()
	long, _ := time.ParseDuration(os.Getenv(simTimeEnv)) // eachSeed refuses what is no duration
	for i := 0; i < seeds || time.Since(began) < long; i++ {
		seed := first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := memoryDir(t)
			synctest.Test(t, func(t *testing.T) {
				s := newClusterSim(t, seed, dir, tally)
				defer func() {
					if t.Failed() {
						t.Logf("again: MULTIDB_CLUSTER_SEED=%d MULTIDB_CLUSTER_SEEDS=1\n%s\n%v", seed, strings.Join(s.log, "\n"), &s.ledger)
					}
				}()
				s.run(150)
			})
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("from seed %d: %v", first, tally)
	if tally.promised < 15*tally.seeds {
		t.Errorf("%d commits in %d runs were promised: the test tries too little", tally.promised, tally.seeds)
	}
}
