package multidb_test

import (
	"cmp"
	"context"
	"database/sql"
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

// clusterSim lets random things happen to nodes of a cluster, in virtual time, and keeps what Sync
// has promised.
type clusterSim struct {
	*clusterRig
	rng      *rand.Rand
	names    []string
	ids      []multidb.ID
	promised map[multidb.ID][]string
	next     int
	faults   map[string][]*multidbtest.Injection // by node
	mu       sync.Mutex
	log      []string
	away     map[string]*multidb.Manager // that are cut off, and are not asked
	acked    int
}

func (s *clusterSim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v ", time.Now().Format("15:04:05.000"))+fmt.Sprintf(format, args...))
}

// write commits at a node that may be wrong about being the owner, and counts on what Sync says.
func (s *clusterSim) write(name string) {
	m := s.nodes[name]
	id := s.ids[s.rng.IntN(len(s.ids))]
	s.next++
	row := strconv.Itoa(s.next)
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	err := m.Do(ctx, id, func(db *sql.DB) error {
		if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t (row TEXT PRIMARY KEY)"); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, "INSERT INTO t VALUES (?)", row)
		return err
	})
	if err == nil {
		_, err = m.Sync(ctx, id)
	}
	if err == nil {
		s.promised[id] = append(s.promised[id], row)
		s.acked++
		s.note("%s: %s has %s", name, id, row)
	}
}

// look restores a tenant, and finds everything that was promised before.
func (s *clusterSim) look(id multidb.ID) {
	want := slices.Clone(s.promised[id])
	if len(want) == 0 {
		return
	}
	out := filepath.Join(s.t.TempDir(), "restored.db")
	from, err := multidb.ReadFleetLog(s.rep.View(), "fleet")
	if err != nil {
		s.t.Fatal(err)
	}
	if err := multidb.RestoreFrom(s.t.Context(), from, multidb.Database{ID: id}, multidb.RestoreOptions{OutputPath: out}); err != nil {
		s.fail("restore of %s: %v", id, err)
		return
	}
	db, err := sql.Open("sqlite", out)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	s.compare(id, want, db, "a restore")
	if err := os.RemoveAll(filepath.Dir(out)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *clusterSim) compare(id multidb.ID, want []string, db *sql.DB, where string) {
	rows, err := db.Query("SELECT row FROM t")
	if err != nil {
		s.fail("%s of %s: %v", where, id, err)
		return
	}
	defer rows.Close()
	has := map[string]bool{}
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			s.t.Fatal(err)
		}
		has[row] = true
	}
	for _, row := range want {
		if !has[row] {
			s.fail("%s of %s lacks %s, which was promised", where, id, row)
		}
	}
}

func (s *clusterSim) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf(format, args...)
}

// pick is a random node that runs; "" if there is none.
func (s *clusterSim) pick() string {
	var all []string
	for name := range s.nodes {
		all = append(all, name)
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return all[s.rng.IntN(len(all))]
}

func (s *clusterSim) fault(name string, f multidbtest.Fault) {
	s.faults[name] = append(s.faults[name], s.views[name].Inject(f))
}

func (s *clusterSim) heal(name string) {
	for _, in := range s.faults[name] {
		in.Clear()
	}
	delete(s.faults, name)
	s.members.Heal(name)
}

func (s *clusterSim) step() {
	name := s.pick()
	if name == "" {
		name = s.names[s.rng.IntN(len(s.names))]
		s.note("start %s", name)
		s.startSoon(name)
		return
	}
	switch n := s.rng.IntN(100); {
	case n < 60:
		s.write(name)
	case n < 66:
		s.look(s.ids[s.rng.IntN(len(s.ids))])
	case n < 70:
		<-time.After(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
	case n < 74:
		s.note("%s: lost answers", name)
		s.fault(name, multidbtest.Fault{LostAnswer: true, Times: 1 + s.rng.IntN(3)})
	case n < 78:
		s.note("%s: slow requests", name)
		s.fault(name, multidbtest.Fault{Delay: time.Duration(s.rng.IntN(3000)) * time.Millisecond, Times: 1 + s.rng.IntN(20)})
	case n < 81:
		s.note("%s: cut off from the bucket", name)
		s.fault(name, multidbtest.Fault{Err: errCutOff})
	case n < 84:
		s.note("%s: sleeps", name) // its requests are carried out when it wakes up
		woken := make(chan struct{})
		s.fault(name, multidbtest.Fault{Until: woken})
		s.members.Partition(name)
		time.AfterFunc(time.Duration(1+s.rng.IntN(40))*time.Second, func() { close(woken); s.members.Heal(name) })
	case n < 87:
		s.note("%s: suspected", name)
		s.members.Partition(name)
	case n < 94:
		s.note("%s: healed", name)
		s.heal(name)
	case n < 96 && len(s.nodes) > 1:
		s.note("%s: dies", name)
		s.crash(name)
	case n < 98 && len(s.nodes) > 1:
		s.note("%s: closes", name)
		s.heal(name)
		ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
		if s.rng.IntN(2) == 0 {
			_ = s.nodes[name].Drain(ctx)
		}
		_ = s.nodes[name].Close(ctx)
		cancel()
		s.crash(name)
	default:
		for _, name := range s.names {
			if s.nodes[name] == nil {
				s.note("start %s", name)
				s.startSoon(name)
				return
			}
		}
	}
}

// crash ends a node wherever it is; its disk stays.
func (s *clusterSim) crash(name string) {
	m := s.nodes[name]
	delete(s.nodes, name)
	delete(s.faults, name)
	s.members.Heal(name)
	s.members.Kill(name)
	s.views[name].ClearFaults()
	s.views[name].Inject(multidbtest.Fault{Err: errCutOff})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = m.Close(ctx)
	delete(s.views, name)
}

func (s *clusterSim) startSoon(name string) {
	m := s.open(name)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := m.Start(ctx); err != nil {
		s.note("%s does not start: %v", name, err)
		return
	}
	s.nodes[name] = m
}

// run lets things happen, heals all, and finds every tenant served with all that was promised.
func (s *clusterSim) run(steps int) {
	for _, name := range s.names {
		s.startSoon(name)
	}
	for range steps {
		s.step()
		if s.t.Failed() {
			return
		}
	}
	s.note("all is healed")
	for _, name := range s.names {
		s.heal(name)
	}
	for _, name := range s.names {
		if s.nodes[name] == nil {
			s.startSoon(name)
		}
	}
	s.settled()
	for _, id := range s.ids {
		s.look(id)
		if len(s.promised[id]) == 0 {
			continue
		}
		if err := s.on(id, func(_ *multidb.Manager, db *sql.DB) error {
			s.compare(id, s.promised[id], db, "the owner's file")
			return nil
		}); err != nil {
			s.fail("%s is not served: %v", id, err)
		}
	}
	s.closeAll()
}

func TestWhateverHappensToNodesWhatWasPromisedIsServed(t *testing.T) {
	seeds := 12
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
	acked := 0
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &clusterSim{
					clusterRig: newCluster(t), rng: rand.New(rand.NewPCG(seed, 0)), names: []string{"a", "b", "c"}, ids: someTenants(6),
					promised: map[multidb.ID][]string{}, faults: map[string][]*multidbtest.Injection{},
				}
				if s.bucket = seed%3 == 0; seed%5 == 0 {
					s.names = append(s.names, "d", "e")
				}
				s.observe = func(node string, ev multidb.Event) {
					switch ev.Type {
					case multidb.EventMoveStuck, multidb.EventSetAside, multidb.EventFenced, multidb.EventAdopted, multidb.EventFleetLogFenced, multidb.EventFleetLogTakenOver, multidb.EventFleetLogBegun:
						s.note("%s: %v %v %s %s", node, ev.Type, ev.Err, ev.ID, ev.Path)
					}
				}
				s.config = func(cfg *multidb.ClusterConfig) { cfg.MaxMoves = 64 }
				defer func() {
					acked += s.acked
					if t.Failed() {
						t.Logf("again: MULTIDB_CLUSTER_SEED=%d MULTIDB_CLUSTER_SEEDS=1\n%s", seed, strings.Join(s.log, "\n"))
					}
				}()
				s.run(200)
			})
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d seeds from %d: %d commits were promised", seeds, first, acked)
	if acked < 20*seeds {
		t.Errorf("%d commits in %d runs were promised: the test tries too little", acked, seeds)
	}
}
