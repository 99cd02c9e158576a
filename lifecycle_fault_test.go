package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

const renamed = multidb.ID("project0/renamed")

// whole is what the database has that these tests are about.
var whole = []string{"0", "1", "2", "first", "second"}

// lifeVerbs are what is done to it, what is done before, and what must be after it was done
// once more, by a store that answers.
var lifeVerbs = []struct {
	name       string
	before, do func(ctx context.Context, f *fleet) error
	after      func(f *fleet, rep *multidbtest.Replica)
}{
	{
		name:  "evict",
		do:    func(ctx context.Context, f *fleet) error { return f.m.Evict(ctx, customer) },
		after: func(f *fleet, _ *multidbtest.Replica) { f.wantAll(customer, whole...) },
	},
	{
		name:   "acquire",
		before: func(ctx context.Context, f *fleet) error { return f.m.Evict(ctx, customer) },
		do: func(ctx context.Context, f *fleet) error {
			h, err := f.m.Acquire(ctx, customer)
			if err == nil {
				h.Release()
			}
			return err
		},
		after: func(f *fleet, rep *multidbtest.Replica) {
			f.wantResident(customer, true)
			f.wantAll(customer, whole...)
		},
	},
	{
		name: "remove",
		do:   func(ctx context.Context, f *fleet) error { return f.m.Remove(ctx, customer) },
		after: func(f *fleet, rep *multidbtest.Replica) {
			f.wantRefused(customer, multidb.ErrRemoved)
			f.wantNoFiles(customer)
			f.want(f.m.Undelete(f.t.Context(), customer))
			f.wantAll(customer, whole...)
		},
	},
	{
		name:   "undelete",
		before: func(ctx context.Context, f *fleet) error { return f.m.Remove(ctx, customer) },
		do: func(ctx context.Context, f *fleet) error {
			err := f.m.Undelete(ctx, customer)
			if _, serr := f.m.Status(customer); serr == nil && errors.Is(err, multidb.ErrInUse) {
				return nil // the time before
			}
			return err
		},
		after: func(f *fleet, rep *multidbtest.Replica) { f.wantAll(customer, whole...) },
	},
	{
		name: "erase",
		do:   func(ctx context.Context, f *fleet) error { _, err := f.m.Erase(ctx, customer); return err },
		after: func(f *fleet, rep *multidbtest.Replica) {
			f.wantNoFiles(customer)
			f.wantNothingAt(rep, customer)
			again, err := f.m.Erase(f.t.Context(), customer)
			if err != nil || again.Objects != 0 || len(again.Local) != 0 || !again.Complete() {
				f.t.Errorf("erased again: %+v, %v", again, err)
			}
			f.wantAll(customer)
		},
	},
	{
		name: "rename",
		do: func(ctx context.Context, f *fleet) error {
			err := f.m.Rename(ctx, customer, renamed)
			if errors.Is(err, multidb.ErrNotFound) {
				return nil // the time before
			}
			return err
		},
		after: func(f *fleet, rep *multidbtest.Replica) {
			f.wantNoFiles(customer)
			f.wantNothingAt(rep, customer)
			f.wantAll(renamed, whole...)
			f.wantAll(customer)
		},
	},
	{
		name: "fork",
		do: func(ctx context.Context, f *fleet) error {
			err := f.m.Fork(ctx, customer, renamed, multidb.ForkOptions{})
			if errors.Is(err, multidb.ErrExists) {
				return nil // the time before
			}
			return err
		},
		after: func(f *fleet, rep *multidbtest.Replica) { f.wantAll(customer, whole...); f.wantAll(renamed, whole...) },
	},
}

func (f *fleet) want(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Error(err)
	}
}

func (f *fleet) wantNothingAt(rep *multidbtest.Replica, id multidb.ID) {
	f.t.Helper()
	if slices.Contains(rep.Prefixes(), string(id)) {
		f.t.Errorf("left at the prefix of %s: %v", id, rep.Files(string(id)))
	}
}

// TestATenantsLifeGoesOnAfterAnyRequestThatFails has each request fail in turn that a verb
// makes, in each of three ways, and does the verb once more. In between nothing is lost, and
// no half of a database is to be had. Each run takes every sixth request, from one of the first
// three on that is drawn; MULTIDB_LIFECYCLE_TIME has it take all.
func TestATenantsLifeGoesOnAfterAnyRequestThatFails(t *testing.T) {
	t.Parallel()
	faults := map[string]multidbtest.Fault{
		"refused":     {Err: multidbtest.ErrInjected},
		"answer lost": {LostAnswer: true},
		"hanging":     {Hang: true},
	}
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		for _, v := range lifeVerbs {
			for how, fault := range faults {
				if how == "refused" && len(opts) > 0 {
					continue // it takes less than a lost answer does
				}
				t.Run(v.name+" "+how, func(t *testing.T) {
					t.Parallel()
					first, stride := 1+rand.Int64N(3), int64(10)
					if testing.Short() {
						stride = 18
					}
					if os.Getenv("MULTIDB_LIFECYCLE_TIME") != "" {
						first, stride = 1, 1
					}
					for n := first; !t.Failed(); n += stride {
						if !lifeWithFault(t, v.before, v.do, v.after, fault, n, opts) {
							if n < 2 {
								t.Errorf("it makes %d requests", n-1)
							}
							return
						}
						if t.Failed() {
							t.Logf("at request %d", n)
						}
					}
				})
			}
		}
	})
}

// lifeWithFault reports whether there is an n-th request.
func lifeWithFault(t *testing.T, before, do func(context.Context, *fleet) error, after func(*fleet, *multidbtest.Replica), fault multidbtest.Fault, n int64, opts []multidb.Option) bool {
	rep := multidbtest.NewReplica()
	f := start(t, newTreeIn(t, memoryDir(t), 1, 1), append([]multidb.Option{
		multidb.WithReplica(rep), withTable(), multidb.WithMaxDisk(1 << 30), multidb.WithIntegrityCheck(multidb.IntegrityNone),
		// Nobody else makes requests.
		multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour), multidb.WithScanInterval(time.Hour),
	}, opts...)...)
	defer func() { f.want(f.close()) }()
	f.insert(customer, "first")
	f.sync(customer)
	f.insert(customer, "second")
	if before != nil {
		f.want(before(t.Context(), f))
	}
	var count atomic.Int64
	var which atomic.Value
	fault.Times = 1
	fault.Match = func(op multidbtest.Operation) bool {
		hit := count.Add(1) == n
		if hit {
			which.Store(op.String())
		}
		return hit
	}
	in := rep.Inject(fault)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	if fault.Hang {
		go func() {
			select {
			case <-in.Hit():
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	err := do(ctx, f)
	cancel()
	rep.ClearFaults()
	hit := in.Hits() > 0
	if !hit && err != nil {
		t.Errorf("without a fault: %v", err)
	}
	lifeBetween(f, rep)
	for again := 0; err != nil; again++ {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		first := err
		err = do(ctx, f)
		cancel()
		if err != nil && again == 3 {
			t.Errorf("once more: %v; before: %v; the request: %v", err, first, which.Load())
			return hit
		}
	}
	after(f, rep)
	if t.Failed() {
		t.Logf("the request: %v", which.Load())
	}
	return hit
}

// lifeBetween looks at the databases as the failure left them: each has everything, or is
// refused, or has nothing, at the replica either.
func lifeBetween(f *fleet, rep *multidbtest.Replica) {
	f.t.Helper()
	for _, id := range []multidb.ID{customer, renamed} {
		h, err := f.m.AcquireExisting(f.t.Context(), id) // what was begun may go on by itself, and end right now
		if errors.Is(err, multidb.ErrNotFound) || errors.Is(err, multidb.ErrRemoved) || errors.Is(err, multidb.ErrInUse) {
			continue
		} else if err != nil {
			f.t.Errorf("meanwhile %s: %v", id, err)
			continue
		}
		out, err := insertedInto(h.DB())
		h.Release()
		if got := fmt.Sprint(out); err != nil || got != fmt.Sprint(whole) {
			f.t.Errorf("meanwhile %s has %s, %v", id, got, err)
		}
	}
	if _, err := f.m.Status(renamed); errors.Is(err, multidb.ErrNotFound) {
		f.wantNothingAt(rep, renamed)
	}
}

func TestAnOldStateDirectoryMovesNoDatabaseAnotherTime(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 1)
	opts := []multidb.Option{multidb.WithReplica(rep), withTable(), multidb.WithRestoreOnOpen(), multidb.WithTakeover(multidb.TakeoverUnknown), multidb.WithMaxDisk(1 << 30)}
	f := start(t, root, opts...)
	f.insert(customer, "first")
	f.insert(customer, "second")
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpDelete, Err: multidbtest.ErrInjected})
	if err := f.m.Rename(t.Context(), customer, renamed); !errors.Is(err, multidbtest.ErrInjected) {
		t.Fatalf("the old prefix cannot be erased: %v", err)
	}
	f.want(f.close())
	state, old := filepath.Join(root, ".multidb"), filepath.Join(t.TempDir(), "old")
	f.want(os.CopyFS(old, os.DirFS(state)))

	rep.ClearFaults()
	f = start(t, root, opts...)
	if err := f.m.Rename(t.Context(), customer, renamed); !errors.Is(err, multidb.ErrNotFound) { // it may have gone on by itself
		f.want(err)
	}
	f.want(f.m.Rename(t.Context(), renamed, customer))
	f.wantAll(customer, whole...)
	f.want(f.m.Evict(t.Context(), customer))
	f.want(f.close())

	f.want(os.RemoveAll(state))
	f.want(os.CopyFS(state, os.DirFS(old)))
	f = start(t, root, opts...)
	for {
		out, err := f.tryReadAll(customer)
		if errors.Is(err, multidb.ErrInUse) {
			continue // it is looked at what is left to be moved
		}
		if got := fmt.Sprint(out); err != nil || got != fmt.Sprint(whole) {
			t.Errorf("it has %s: %v", got, err)
		}
		return
	}
}

func TestATombstoneIsSeenWithAFleetLogToo(t *testing.T) {
	withAndWithoutLog(t, func(t *testing.T, opts ...multidb.Option) {
		rep := multidbtest.NewReplica()
		opts = append(opts, multidb.WithReplica(rep), withTable(), multidb.WithRestoreOnOpen())
		f := start(t, newTree(t, 1, 1), opts...)
		f.insert(customer, "first")
		f.want(f.m.Remove(t.Context(), customer))
		f.want(f.close())
		f = start(t, t.TempDir(), opts...)
		f.wantRefused(customer, multidb.ErrRemoved)
		f.wantNoFiles(customer)
	})
}

// TestAnOldStateDirectoryErasesNobodyWhoWasMadeSince: a state directory that notes an erasure
// which has ended since is put back.
func TestAnOldStateDirectoryErasesNobodyWhoWasMadeSince(t *testing.T) {
	rep := multidbtest.NewReplica()
	root, state := newTree(t, 1, 1), t.TempDir()
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(state), withTable()}
	f := start(t, root, opts...)
	f.insert(customer, "x")
	f.sync(customer)
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpDelete, Err: multidbtest.ErrInjected})
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpDeleteAll, Err: multidbtest.ErrInjected})
	if _, err := f.m.Erase(t.Context(), customer); !errors.Is(err, multidbtest.ErrInjected) {
		t.Fatalf("the store refuses: %v", err)
	}
	_ = f.close()
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	rep.ClearFaults()
	f = start(t, root, opts...)
	if _, err := f.m.Erase(t.Context(), customer); err != nil {
		t.Fatal(err)
	}
	f.insert(customer, "another one")
	f.sync(customer)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	opts[1] = multidb.WithStateDir(old)
	f = start(t, root, opts...)
	f.events.wait(t, "found again", func(multidb.Event) bool { _, err := f.m.Status(customer); return err == nil })
	f.wantAll(customer, "another one")
	if got := fmt.Sprint(f.restored(customer, multidb.RestoreOptions{})); got != "[another one]" {
		t.Errorf("the replica has %s", got)
	}
}
