package multidb_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/boottime"
	"github.com/multidb-go/multidb/multidbtest"
)

// blocker is an observer that does not return while it is armed.
type blocker struct {
	armed atomic.Bool
	free  chan struct{}
	once  sync.Once
}

func (b *blocker) observe(ev multidb.Event) {
	if ev.Type == multidb.EventSnapshot && ev.ID == "project0/db1" && b.armed.Load() {
		<-b.free
	}
}

func (b *blocker) open() { b.once.Do(func() { close(b.free) }) }

// Each way breaks one tenant of three, and returns what mends it.
func TestHealthyNamesABrokenTenantWithin10sAndIsTrueAgainAfter(t *testing.T) {
	const id = "project0/db1"
	const file = "project0/databases/db1.db"
	hang := func(fault multidbtest.Fault, touch bool) func(*testing.T, *fleet, *multidbtest.Replica) func() {
		return func(_ *testing.T, f *fleet, rep *multidbtest.Replica) func() {
			fault.Prefix = id
			in := rep.Inject(fault)
			if touch {
				f.insert(id, "x")
			}
			return in.Clear
		}
	}
	level := func(from int) func(multidbtest.Operation) bool {
		return func(op multidbtest.Operation) bool { return op.Level >= from }
	}
	block := &blocker{free: make(chan struct{})}
	defer block.open()
	for name, breaks := range map[string]func(*testing.T, *fleet, *multidbtest.Replica) (mend func()){
		"a write that is never answered":      hang(multidbtest.Fault{Op: multidbtest.OpWrite, Hang: true}, true),
		"a compaction that is never answered": hang(multidbtest.Fault{Op: multidbtest.OpWrite, Match: level(1), Hang: true}, true),
		"a deletion that is never answered":   hang(multidbtest.Fault{Op: multidbtest.OpDelete, Hang: true}, true),
		"a refusal":                           hang(multidbtest.Fault{Err: errors.New("refused")}, true),
		"a listing that is never answered":    nil, // below: it is the first thing that is asked
		"a file that is no database any more": func(t *testing.T, f *fleet, _ *multidbtest.Replica) func() {
			path := filepath.Join(f.root, file)
			whole := filepath.Join(t.TempDir(), "whole.db")
			if err := os.Rename(path, whole); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(path + "-wal")
			_ = os.Remove(path + "-shm")
			put := func(content []byte) {
				tmp := filepath.Join(t.TempDir(), "new.db")
				if err := os.WriteFile(tmp, content, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(tmp, path); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(whole)
			if err != nil {
				t.Fatal(err)
			}
			put(append([]byte("this was a database"), b[19:]...))
			return func() { put(b) }
		},
		"an observer that never returns": func(_ *testing.T, f *fleet, _ *multidbtest.Replica) func() {
			block.armed.Store(true)
			f.insert(id, "x")
			return block.open
		},
	} {
		t.Run(name, func(t *testing.T) {
			rep := multidbtest.NewReplica()
			if breaks == nil {
				in := rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Prefix: id, Hang: true})
				f := start(t, newTree(t, 1, 3), multidb.WithReplica(rep))
				f.healthy(false, id)
				in.Clear()
				f.healthy(true, id)
				return
			}
			f := start(t, newTree(t, 1, 3), multidb.WithReplica(rep), multidb.WithHotDuration(200*time.Millisecond),
				multidb.WithSnapshotInterval(time.Millisecond), multidb.WithL0Retention(100*time.Millisecond),
				multidb.WithRetentionInterval(20*time.Millisecond), multidb.WithBoot(boottime.Now, 100*time.Millisecond), multidb.WithObserver(block.observe))
			t.Cleanup(rep.ClearFaults) // before Close, whatever comes
			for i := range 3 {
				f.sync(multidb.ID(fmt.Sprintf("project0/db%d", i)))
			}
			f.healthy(true, id)
			mend := breaks(t, f, rep)
			f.healthy(false, id)
			mend()
			f.healthy(true, id)
		})
	}
}

// healthy waits until Healthy says so; false must come within 10 s, and name the
// one, and no other but for a lag, which a busy machine may give to anybody.
func (f *fleet) healthy(want bool, id multidb.ID) {
	f.t.Helper()
	patience := 10 * time.Second
	if want {
		patience = 30 * time.Second // a back-off, and a machine that is busy
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, worst := f.m.Healthy(time.Second)
		named := false
		for _, st := range worst {
			named = named || st.ID == id && (st.Err != nil || st.Lag > time.Second)
			if !want && st.ID != id && st.Err != nil {
				f.t.Errorf("named %+v", st)
			}
		}
		if ok == want && named != want {
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			f.t.Fatalf("healthy is %v, want %v: %+v", ok, want, worst)
		}
	}
}

func TestATenantOnThePrefixOfAnotherIsNamedUntilItGoes(t *testing.T) {
	rep := multidbtest.NewReplica(multidbtest.WithPathTemplate("all/{{project}}"))
	root := newTree(t, 1, 1)
	f := start(t, root, multidb.WithReplica(rep))
	f.sync("project0/db0")
	f.healthy(true, "")
	second := filepath.Join(root, "project0/databases/second.db")
	makeDB(t, second, 1)
	f.healthy(false, "project0/second")
	if n := f.m.Stats().Unwell[multidb.ReasonConflict]; n != 1 {
		t.Errorf("%d in conflict", n)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	f.healthy(true, "")
}

func TestWhatTheReplicaLacksIsToldInBytesWhileItDoesNotAnswer(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	const id = "project0/db0"
	f.insert(id, "first")
	f.sync(id)
	st := f.status(id, "shipped", func(st multidb.Status) bool { return st.LagBytes == 0 && st.WALPos > 0 })
	shipped := st.WALPos
	in := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: id, Hang: true})
	defer in.Clear()
	const frame = 4096 + 24
	f.insert(id, "one page")
	<-in.Hit()
	st = f.status(id, "behind", func(st multidb.Status) bool { return st.LagBytes > 0 })
	if st.LagBytes != frame || st.WALPos != shipped+frame {
		t.Errorf("behind by %d bytes at %d; it was shipped to %d", st.LagBytes, st.WALPos, shipped)
	}
	in.Clear()
	f.sync(id)
	if st = f.status(id, "shipped", func(st multidb.Status) bool { return st.LagBytes == 0 }); st.WALPos != shipped+frame {
		t.Errorf("then at %d", st.WALPos)
	}
	// Of one that fails, too.
	in = rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: id, Err: multidb.ErrThrottled})
	defer in.Clear()
	f.insert(id, "another page")
	st = f.status(id, "failing", func(st multidb.Status) bool { return st.Err != nil && st.LagBytes > 0 })
	if st.ErrSince.IsZero() || st.Failures == 0 {
		t.Errorf("failing since %v, %d times", st.ErrSince, st.Failures)
	}
}

func TestWhatSyncSaysIsInTheStatusByThen(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	const id = "project0/db0"
	f.sync(id)
	for range 25 { // fewer files than make a compaction due, which would fail too
		fault := rep.Inject(multidbtest.Fault{Prefix: id, Err: multidb.ErrThrottled})
		f.insert(id, "x")
		if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrThrottled) {
			t.Fatal(err)
		}
		if st, err := f.m.Status(id); !errors.Is(st.Err, multidb.ErrThrottled) {
			t.Fatalf("status %+v, %v", st, err)
		}
		fault.Clear()
		f.sync(id)
		if st, err := f.m.Status(id); st.Err != nil || err != nil {
			t.Fatalf("then status %+v, %v", st, err)
		}
	}
}
