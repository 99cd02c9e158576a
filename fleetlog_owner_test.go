package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// withLog puts a fleet log in front of the prefixes.
var withLog = multidb.WithFleetLog(multidb.FleetLogConfig{Path: "fleet"})

// logBox is a machine with some tenants, and what its Syncs have promised.
type logBox struct {
	*ownBox
	gate *gate // what is between it and the store

	mu        sync.Mutex
	committed map[multidb.ID][]string
	promised  map[multidb.ID][]string
	refused   map[multidb.ID]error // the first ErrFenced of a Sync
}

func newLogBox(t *testing.T, rep *multidbtest.Replica) *logBox {
	t.Helper()
	g := newGate(rand.New(rand.NewPCG(1, 2)), 0, time.Millisecond, func(string, ...any) {})
	return &logBox{ownBox: newBox(t, &gatedLog{gated{rep, g}}), gate: g,
		committed: map[multidb.ID][]string{}, promised: map[multidb.ID][]string{}, refused: map[multidb.ID]error{}}
}

// gatedLog is a gated replica whose objects are gated too.
type gatedLog struct{ gated }

func (r *gatedLog) Objects(dir string) (multidb.ObjectStore, error) {
	inner, err := r.Replica.Objects(dir)
	return &gatedObjects{inner, r.gate}, err
}

type gatedObjects struct {
	inner multidb.ObjectStore
	gate  *gate
}

func (o *gatedObjects) Create(ctx context.Context, name string, data []byte) error {
	_, err := ask(ctx, o.gate, multidbtest.OpCreateObject, func() (struct{}, error) {
		return struct{}{}, o.inner.Create(context.Background(), name, data)
	})
	return err
}

func (o *gatedObjects) CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error {
	_, err := ask(ctx, o.gate, multidbtest.OpCreateObject, func() (struct{}, error) {
		return struct{}{}, o.inner.CreateFrom(context.Background(), name, r, size)
	})
	return err
}

func (o *gatedObjects) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	return ask(ctx, o.gate, multidbtest.OpOpenObject, func() (io.ReadCloser, error) {
		return o.inner.Open(context.Background(), name, offset, size)
	})
}

func (o *gatedObjects) List(ctx context.Context, prefix, after string) iter.Seq2[multidb.ObjectInfo, error] {
	return func(yield func(multidb.ObjectInfo, error) bool) {
		all, err := ask(ctx, o.gate, multidbtest.OpListObjects, func() (all []multidb.ObjectInfo, err error) {
			for info, err := range o.inner.List(context.Background(), prefix, after) {
				if err != nil {
					return nil, err
				}
				all = append(all, info)
			}
			return all, nil
		})
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(multidb.ObjectInfo{}, err)
		}
	}
}

func (o *gatedObjects) Delete(ctx context.Context, names ...string) error {
	_, err := ask(ctx, o.gate, multidbtest.OpDeleteObjects, func() (struct{}, error) {
		return struct{}{}, o.inner.Delete(context.Background(), names...)
	})
	return err
}

// commit writes a row, which no other commit has.
func (b *logBox) commit(id multidb.ID, v string) error {
	if err := b.m.Do(context.Background(), id, func(db *sql.DB) error { _, err := db.Exec(insertX, v); return err }); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.committed[id] = append(b.committed[id], v)
	return nil
}

// promise syncs a tenant, and notes what that promises.
func (b *logBox) promise(ctx context.Context, id multidb.ID) error {
	b.mu.Lock()
	had := slices.Clone(b.committed[id])
	b.mu.Unlock()
	_, err := b.m.Sync(ctx, id)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil && b.refused[id] != nil:
		b.t.Errorf("a Sync of %s succeeds after one was refused: %v", id, b.refused[id])
	case err == nil:
		b.promised[id] = had
	case errors.Is(err, multidb.ErrFenced):
		b.refused[id] = err
	}
	return err
}

// must commits and syncs.
func (b *logBox) must(id multidb.ID, v string) {
	b.t.Helper()
	if err := b.commit(id, v); err != nil {
		b.t.Fatal(err)
	}
	if err := b.promise(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
}

// holds checks that what was promised is in a history, in its order.
func (b *logBox) holds(where string, id multidb.ID, history []string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	has := map[string]bool{}
	for _, v := range history {
		has[v] = true
	}
	for _, v := range b.promised[id] {
		if !has[v] {
			b.t.Errorf("%s: %s was promised of %s, the history is %q", where, v, id, history)
			return
		}
	}
}

// restore is what this machine's Restore gives of a tenant.
func (b *logBox) restore(id multidb.ID, opt multidb.RestoreOptions) []string {
	b.t.Helper()
	opt.OutputPath = filepath.Join(b.t.TempDir(), "restored.db")
	if err := b.m.Restore(b.t.Context(), id, opt); err != nil {
		b.t.Fatalf("restore %s at %s: %v", id, opt.TXID, err)
	}
	return rows(b.t, opt.OutputPath)
}

// prefixOf is what the prefix of a tenant has, for who knows nothing of the log.
func prefixOf(t *testing.T, rep multidb.ReplicaFactory, id multidb.ID, txid multidb.TXID) []string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "restored.db")
	db := multidb.Database{ID: id, Vars: []multidb.Var{{Name: "tenant", Value: string(id)}}}
	if err := multidb.RestoreFrom(t.Context(), rep, db, multidb.RestoreOptions{OutputPath: out, TXID: txid}); err != nil {
		t.Fatalf("restore %s at %s: %v", id, txid, err)
	}
	return rows(t, out)
}

func numberedIDs(names string, n int) (ids []multidb.ID) {
	for i := range n {
		ids = append(ids, multidb.ID(fmt.Sprint(names, i)))
	}
	return ids
}

func logReplica() *multidbtest.Replica {
	return multidbtest.NewReplica(multidbtest.WithPathTemplate("p/{{tenant}}"))
}

// TestTheLaterOfTwoManagersGoesOnAndTheEarlierIsFencedForAllItsTenants while both write.
func TestTheLaterOfTwoManagersGoesOnAndTheEarlierIsFencedForAllItsTenants(t *testing.T) {
	rep := logReplica()
	a, b := newLogBox(t, rep), newLogBox(t, rep)
	a.start(withLog)
	olds, news := numberedIDs("a", 4), numberedIDs("b", 4)
	idle := multidb.ID("idle")
	a.must(idle, "before")
	began := make(chan struct{}, len(olds)) // the tenants that were promised something
	var wg sync.WaitGroup
	for _, id := range olds {
		wg.Go(func() {
			for i := 0; ; i++ {
				if err := a.commit(id, fmt.Sprint(id, " ", i)); err != nil {
					t.Errorf("a commit of who is fenced: %v", err)
					return
				}
				if err := a.promise(t.Context(), id); errors.Is(err, multidb.ErrFenced) {
					return
				} else if err != nil {
					t.Errorf("sync: %v", err)
					return
				}
				if i == 2 {
					began <- struct{}{}
				}
			}
		})
	}
	for range olds {
		<-began
	}
	b.start(withLog)
	for i := range 3 {
		for _, id := range news {
			b.must(id, fmt.Sprint(id, " ", i))
		}
	}
	wg.Wait()
	for _, id := range append(olds, idle) { // and it stays so, for those that wrote nothing too
		if err := a.commit(id, "after"); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := a.promise(t.Context(), id); !errors.Is(err, multidb.ErrFenced) {
				t.Errorf("a Sync of %s after the other took over: %v", id, err)
			}
		}
		if st, err := a.m.Status(id); err != nil || !errors.Is(st.Err, multidb.ErrFenced) {
			t.Errorf("the status of %s is %v, %v", id, st.Err, err)
		}
	}
	if a.count(multidb.EventFenced) < len(olds) || b.count(multidb.EventFenced) > 0 {
		t.Errorf("%d and %d events of fencing", a.count(multidb.EventFenced), b.count(multidb.EventFenced))
	}
	_ = (&fleet{m: a.m}).close() // it has something to complain of
	for _, id := range append(olds, idle) {
		a.holds("after the take-over", id, b.readsOf(id))
	}
	b.stop()
	for _, id := range news {
		b.holds("in the prefix", id, prefixOf(t, rep, id, 0))
	}
}

// readsOf is what a tenant's prefix and the logs have, for a machine that does not have it
// and takes nothing over.
func (b *logBox) readsOf(id multidb.ID) []string {
	b.t.Helper()
	both, err := multidb.ReadFleetLog(b.replica.(*gatedLog).Replica, "fleet")
	if err != nil {
		b.t.Fatal(err)
	}
	return prefixOf(b.t, both, id, 0)
}

// kill ends a machine as a kill would: no request of it arrives any more.
func (b *logBox) kill() {
	b.gate.kill(0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = b.m.Close(ctx) // nothing can be durable
}

// revive gives the machine a new life over the same disk.
func (b *logBox) revive(opts ...multidb.Option) {
	b.t.Helper()
	rep := b.replica.(*gatedLog).Replica
	b.gate = newGate(rand.New(rand.NewPCG(1, 2)), 0, time.Millisecond, func(string, ...any) {})
	b.replica = &gatedLog{gated{rep, b.gate}}
	b.start(opts...)
}

// TestALogGoesOnAfterARestartAndAfterADeath of the same machine, and of one that left
// another its tenants.
func TestALogGoesOnAfterARestartAndAfterADeath(t *testing.T) {
	t.Parallel()
	rep := logReplica()
	b := newLogBox(t, rep)
	ids := numberedIDs("t", 5)
	b.start(withLog)
	var all []string
	lives := 6
	if testing.Short() {
		lives = 3
	}
	for life := range lives {
		for i := range 3 {
			v := fmt.Sprint(life, ".", i)
			all = append(all, v)
			for _, id := range ids {
				b.must(id, v)
			}
		}
		if life%2 == 0 {
			b.stop()
			for _, id := range ids {
				b.equal(fmt.Sprintf("the prefix of %s after life %d", id, life), prefixOf(t, rep, id, 0), all)
			}
		} else {
			b.kill()
		}
		b.revive(withLog)
		for _, id := range ids {
			b.equal(fmt.Sprintf("restored after life %d", life), b.restore(id, multidb.RestoreOptions{}), all)
		}
	}
	b.kill()
	for _, id := range ids { // a machine that has nothing but the store
		b.equal("on another machine", b.readsOf(id), all)
	}
	if b.count(multidb.EventFenced) != 0 {
		t.Error("a machine was fenced by itself")
	}
}

// TestLostAnswersOfEveryRequestToTheLogCostNothingButTime: the answer of the nth request
// is lost, for each n that a life makes; then those of a fifth of them.
func TestLostAnswersOfEveryRequestToTheLogCostNothingButTime(t *testing.T) {
	t.Parallel()
	last, step := 24, 1
	if testing.Short() {
		step = 3
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for n := 0; n < last; n += step {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var mu sync.Mutex
			seen, rng := 0, rand.New(rand.NewPCG(uint64(n), 9))
			rep := logReplica()
			rep.Inject(multidbtest.Fault{LostAnswer: true, Match: func(op multidbtest.Operation) bool {
				if op.Prefix != "fleet" {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				seen++
				return seen == n+1 || n%4 == 3 && rng.IntN(5) == 0
			}})
			b := newLogBox(t, rep)
			var all []string
			for life := range 2 {
				b.revive(withLog)
				for i := range 3 {
					v := fmt.Sprint(life, ".", i)
					all = append(all, v)
					for _, id := range []multidb.ID{"x", "y"} {
						if err := b.commit(id, v); err != nil {
							t.Error(err)
						}
						b.untilPromised(id)
					}
				}
				if life == 1 {
					rep.ClearFaults()
				}
				b.equal(fmt.Sprintf("request %d: restored in life %d", n, life), b.restoreAgain("x"), all)
				if life == 0 && n%2 == 0 {
					b.kill()
				} else if err := (&fleet{m: b.m}).close(); err != nil && life == 1 {
					t.Errorf("request %d: close: %v", n, err)
				}
			}
			for _, id := range []multidb.ID{"x", "y"} {
				b.equal(fmt.Sprintf("request %d: the prefix of %s", n, id), prefixOf(t, rep, id, 0), all)
			}
			if b.count(multidb.EventFenced) != 0 {
				t.Errorf("request %d: fenced by itself", n)
			}
		})
	}
	wg.Wait()
}

// untilPromised syncs through failures.
func (b *logBox) untilPromised(id multidb.ID) {
	var last error
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the last Sync of %s: %v", id, last)
		}
	}()
	eventually(b.t, "a Sync", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := b.promise(ctx, id)
		last = errors.Join(last, err)
		if errors.Is(err, multidb.ErrFenced) {
			b.t.Errorf("%s: %v", id, err)
			return true
		}
		return err == nil
	})
}

// restoreAgain restores through failures.
func (b *logBox) restoreAgain(id multidb.ID) (got []string) {
	eventually(b.t, "a restore", func() bool {
		out := filepath.Join(b.t.TempDir(), "restored.db")
		if err := b.m.Restore(context.Background(), id, multidb.RestoreOptions{OutputPath: out}); err != nil {
			return false
		}
		got = rows(b.t, out)
		return true
	})
	return got
}

// TestAFleetMovesFromDirectToTheLogAndBackWithoutAGap and each commit stays restorable.
func TestAFleetMovesFromDirectToTheLogAndBackWithoutAGap(t *testing.T) {
	t.Parallel()
	rep := logReplica()
	b := newLogBox(t, rep)
	ids := numberedIDs("t", 3)
	var all []string
	// at is what was there at each TXID that a Sync has told, while level 0 is kept.
	at := map[multidb.ID]map[multidb.TXID]int{}
	for _, id := range ids {
		at[id] = map[multidb.TXID]int{}
	}
	for step, opts := range [][]multidb.Option{nil, {withLog}, {withLog}, nil, {withLog}, nil} {
		for _, killed := range []bool{false, true} {
			b.revive(opts...)
			for i := range 3 {
				v := fmt.Sprint(step, killed, i)
				all = append(all, v)
				for _, id := range ids {
					if err := b.commit(id, v); err != nil {
						t.Fatal(err)
					}
					pos, err := b.m.Sync(t.Context(), id)
					if err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
					at[id][pos.TXID] = len(all)
					if got := b.restore(id, multidb.RestoreOptions{TXID: pos.TXID}); !slices.Equal(got, all) {
						t.Fatalf("step %d: %s at %s is %q, want %q", step, id, pos.TXID, got, all)
					}
				}
			}
			for _, id := range ids {
				b.equal(fmt.Sprint("newest in step ", step), b.restore(id, multidb.RestoreOptions{}), all)
			}
			if killed {
				if opts == nil { // what stays in a log is read only by who has it
					b.kill()
					continue
				}
			}
			b.stop()
			for _, id := range ids {
				b.equal(fmt.Sprint("the prefix after step ", step), prefixOf(t, rep, id, 0), all)
			}
		}
	}
	// Every TXID at which a file of the prefix ends is a commit, none before the last.
	for _, id := range ids {
		db := multidb.Database{ID: id, Vars: []multidb.Var{{Name: "tenant", Value: string(id)}}}
		files, err := multidb.ReplicaFiles(t.Context(), rep, db, false)
		if err != nil {
			t.Fatal(err)
		}
		ends := map[multidb.TXID]bool{}
		for _, f := range files {
			ends[f.MaxTXID] = true
		}
		before := 0
		first := slices.Min(slices.Collect(maps.Keys(at[id]))) // before it there may be no table yet
		for _, txid := range slices.Sorted(maps.Keys(ends)) {
			if txid < first {
				continue
			}
			got := prefixOf(t, rep, id, txid)
			if want, ok := at[id][txid]; ok && len(got) != want || len(got) < before || !slices.Equal(got, all[:min(len(got), len(all))]) {
				t.Errorf("%s at %s has %d commits, want %d; before it %d", id, txid, len(got), want, before)
			}
			before = len(got)
		}
		if before != len(all) {
			t.Errorf("%s ends with %d commits of %d", id, before, len(all))
		}
	}
	if b.count(multidb.EventFenced) != 0 || b.count(multidb.EventResync) != 0 {
		t.Errorf("%d events of fencing and %d of a resync", b.count(multidb.EventFenced), b.count(multidb.EventResync))
	}
}

// TestWhileTheLogIsRefusedCommitsGoOnAndSyncWaits and everything arrives afterwards (P5).
func TestWhileTheLogIsRefusedCommitsGoOnAndSyncWaits(t *testing.T) {
	rep := logReplica()
	b := newLogBox(t, rep)
	b.start(withLog)
	ids := numberedIDs("t", 6)
	for _, id := range ids {
		b.must(id, "before")
	}
	refused := rep.Inject(multidbtest.Fault{Op: multidbtest.OpCreateObject, Prefix: "fleet", Err: errors.New("slow down")})
	big := strings.Repeat("x", 1<<20)
	for i := range 16 { // 96 MiB, more than the log takes
		for _, id := range ids {
			began := time.Now()
			if err := b.commit(id, fmt.Sprint(i, big)); err != nil {
				t.Fatalf("a commit: %v", err)
			}
			if d := time.Since(began); d > 4*time.Second {
				t.Errorf("a commit took %v", d)
			}
		}
	}
	<-refused.Hit()
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := b.promise(ctx, id); err == nil || errors.Is(err, multidb.ErrFenced) {
			t.Errorf("a Sync of what the store has refused: %v", err)
		}
		cancel()
	}
	refused.Clear()
	for _, id := range ids {
		b.untilPromised(id)
	}
	for _, id := range ids {
		b.equal("restored", b.restore(id, multidb.RestoreOptions{}), b.committed[id])
	}
	b.stop()
	for _, id := range ids {
		b.equal("the prefix", prefixOf(t, rep, id, 0), b.committed[id])
	}
}
