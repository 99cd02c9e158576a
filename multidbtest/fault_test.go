package multidbtest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/litestream"
	"go.uber.org/goleak"

	"github.com/multidb-go/multidb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "project0/db0"

func newClient(t *testing.T, r *Replica) litestream.ReplicaClient {
	t.Helper()
	c, err := r.ReplicaClient(testDatabase("project0", "db0"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ship writes the level 0 file of one TXID.
func ship(t *testing.T, ctx context.Context, c litestream.ReplicaClient, txid int) error {
	t.Helper()
	data := ltxFile(t, txidOf(txid), txidOf(txid), 0)
	_, err := c.WriteLTXFile(ctx, 0, txidOf(txid), txidOf(txid), bytes.NewReader(data))
	return err
}

func TestAFaultFailsBeforeTheOperationIsApplied(t *testing.T) {
	r := NewReplica()
	c, boom := newClient(t, r), errors.New("boom")
	in := r.Inject(Fault{Op: OpWrite, Prefix: prefix, Times: 2, Err: boom})
	for range 2 {
		if err := ship(t, t.Context(), c, 1); !errors.Is(err, boom) {
			t.Errorf("error is %v, want boom", err)
		}
	}
	if files := r.Files(prefix); len(files) != 0 {
		t.Errorf("a failed write was applied: %v", describe(files))
	}
	if err := ship(t, t.Context(), c, 1); err != nil {
		t.Errorf("the third of a fault of two times: %v", err)
	}
	if in.Hits() != 2 {
		t.Errorf("%d hits, want 2", in.Hits())
	}
}

func TestAFaultThatSaysOnlyWhichOperationsFailsThem(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	in := r.Inject(Fault{Op: OpWrite, Times: 3})
	for i := range 3 {
		if err := ship(t, t.Context(), c, 1); !errors.Is(err, ErrInjected) {
			t.Errorf("write %d: error is %v, want ErrInjected", i, err)
		}
	}
	if err := ship(t, t.Context(), c, 1); err != nil || in.Hits() != 3 {
		t.Errorf("the fourth of a fault of three times: %v, with %d hits", err, in.Hits())
	}
}

func TestAProbeTellsOfAnOperationAndChangesNothing(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	in := r.Inject(Fault{Op: OpWrite, Probe: true})
	if err := ship(t, t.Context(), c, 1); err != nil || in.Hits() != 1 || len(r.Files(prefix)) != 1 {
		t.Errorf("error %v, %d hits, %d files", err, in.Hits(), len(r.Files(prefix)))
	}
}

func TestAFaultThatCannotBeMeantIsRefused(t *testing.T) {
	for want, f := range map[string]Fault{
		"Times is -1":                      {Times: -1},
		"Delay is -1s":                     {Delay: -time.Second},
		"it cannot have Err or LostAnswer": {Probe: true, Err: ErrInjected},
		"changes nothing; it cannot":       {Probe: true, LostAnswer: true},
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%+v: %v, want a panic with %q", f, err, want)
				}
			}()
			NewReplica().Inject(f)
		}()
	}
}

func TestALostAnswerIsAnErrorOfAnAppliedOperation(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	r.Inject(Fault{Op: OpWrite, Times: 2, LostAnswer: true})
	for range 2 { // the second one would have been told that the file exists
		if err := ship(t, t.Context(), c, 1); !errors.Is(err, ErrInjected) || errors.Is(err, fs.ErrExist) {
			t.Errorf("error is %v, want ErrInjected", err)
		}
	}
	if got := ranges(r.Files(prefix)); !slices.Equal(got, []string{"1-1"}) {
		t.Errorf("the replica has %v, want the file whose answer was lost", got)
	}
	if err := ship(t, t.Context(), c, 1); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error is %v, want fs.ErrExist", err)
	}
}

func TestAHangEndsWithTheContext(t *testing.T) {
	for _, lost := range []bool{false, true} {
		r := NewReplica()
		c := newClient(t, r)
		in := r.Inject(Fault{Op: OpWrite, Hang: true, LostAnswer: lost})
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- ship(t, ctx, c, 1) }()
		<-in.Hit()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v, want context.Canceled", err)
		}
		if applied := len(r.Files(prefix)) == 1; applied != lost {
			t.Errorf("lost answer %v: applied is %v", lost, applied)
		}
	}
}

func TestClearReleasesWhatHangs(t *testing.T) {
	boom := errors.New("boom")
	for _, want := range []error{nil, boom} {
		r := NewReplica()
		c := newClient(t, r)
		in := r.Inject(Fault{Op: OpWrite, Hang: true, Err: want})
		result := make(chan error)
		go func() { result <- ship(t, t.Context(), c, 1) }()
		<-in.Hit()
		in.Clear()
		in.Clear()
		if err := <-result; !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
		if err := ship(t, t.Context(), c, 2); err != nil {
			t.Errorf("after Clear: %v", err)
		}
	}
}

// TestClearFaultsReleasesWhatWaitsInASpentFault: the last hit of a fault takes it
// off the list, and what waits in it must end all the same.
func TestClearFaultsReleasesWhatWaitsInASpentFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReplica()
		c := newClient(t, r)
		in := r.Inject(Fault{Op: OpWrite, Times: 1, Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- ship(t, ctx, c, 1) }()
		<-in.Hit()
		synctest.Wait()
		r.ClearFaults()
		if err := <-done; err != nil {
			t.Errorf("a write that waited in it: %v", err)
		}
	})
}

func TestClearFaultsReleasesEverything(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	write, list := r.Inject(Fault{Op: OpWrite, Hang: true}), r.Inject(Fault{Op: OpList, Hang: true})
	result := make(chan error)
	go func() { result <- ship(t, t.Context(), c, 1) }()
	go func() {
		_, err := c.LTXFiles(t.Context(), 0, 0, false)
		result <- err
	}()
	<-write.Hit()
	<-list.Hit()
	r.ClearFaults()
	for range 2 {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
}

func TestADelayHoldsTheOperationBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReplica()
		c := newClient(t, r)
		r.Inject(Fault{Op: OpWrite, Delay: 3 * time.Second})
		start := time.Now()
		if err := ship(t, t.Context(), c, 1); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("it took %s, want 3s", d)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := ship(t, ctx, c, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want context.DeadlineExceeded", err)
		}
		if got := ranges(r.Files(prefix)); !slices.Equal(got, []string{"1-1"}) {
			t.Errorf("files %v, want only the first", got)
		}
	})
}

func TestUntilHoldsTheOperationBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReplica()
		c := newClient(t, r)
		until := make(chan struct{})
		r.Inject(Fault{Op: OpWrite, Until: until})
		var (
			err  error
			done bool
		)
		go func() { err, done = ship(t, t.Context(), c, 1), true }()
		synctest.Wait()
		if done {
			t.Fatal("the write did not wait")
		}
		close(until)
		synctest.Wait()
		if !done || err != nil {
			t.Errorf("done %v, error %v", done, err)
		}
	})
}

func TestAFaultHitsOnlyWhatFits(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	other, err := r.ReplicaClient(testDatabase("project0", "db00"))
	if err != nil {
		t.Fatal(err)
	}
	in := r.Inject(Fault{Op: OpWrite, Prefix: prefix, Err: ErrInjected, Match: func(op Operation) bool {
		return op.Min == 2 && op.Size > 0
	}})
	for _, run := range []func() error{
		func() error { return ship(t, t.Context(), c, 1) },
		func() error { return ship(t, t.Context(), other, 2) },
		func() error { _, err := c.LTXFiles(t.Context(), 0, 2, false); return err },
	} {
		if err := run(); err != nil {
			t.Errorf("hit what does not fit: %v", err)
		}
	}
	select {
	case <-in.Hit():
		t.Error("Hit is closed before the first hit")
	default:
	}
	if err := ship(t, t.Context(), c, 2); !errors.Is(err, ErrInjected) {
		t.Errorf("error is %v, want ErrInjected", err)
	}
	<-in.Hit()
}

func TestTheFaultInjectedFirstWins(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	first, second := errors.New("first"), errors.New("second")
	r.Inject(Fault{Op: OpWrite, Times: 1, Err: first})
	r.Inject(Fault{Err: second})
	for _, want := range []error{first, second, second} {
		if err := ship(t, t.Context(), c, 1); !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
	}
}

func TestEveryOperationMeetsItsFault(t *testing.T) {
	for op, run := range map[Op]func(ctx context.Context, r *Replica, c litestream.ReplicaClient) error{
		OpInit:  func(ctx context.Context, _ *Replica, c litestream.ReplicaClient) error { return c.Init(ctx) },
		OpWrite: func(ctx context.Context, _ *Replica, c litestream.ReplicaClient) error { return ship(t, ctx, c, 9) },
		OpOpen: func(ctx context.Context, _ *Replica, c litestream.ReplicaClient) error {
			_, err := readFile(ctx, c, 0, 1, 1, 0, 0)
			return err
		},
		OpList: func(ctx context.Context, _ *Replica, c litestream.ReplicaClient) error {
			_, err := c.(multidb.FileLister).AllLTXFiles(ctx, false)
			return err
		},
		OpDelete: func(ctx context.Context, r *Replica, c litestream.ReplicaClient) error {
			return c.DeleteLTXFiles(ctx, r.Files(prefix))
		},
		OpDeleteAll: func(ctx context.Context, _ *Replica, c litestream.ReplicaClient) error { return c.DeleteAll(ctx) },
		OpWriteMetadata: func(ctx context.Context, _ *Replica, c litestream.ReplicaClient) error {
			return c.(multidb.MetadataStore).WriteMetadata(ctx, []byte("new"))
		},
		OpReadMetadata: func(ctx context.Context, _ *Replica, c litestream.ReplicaClient) error {
			_, err := c.(multidb.MetadataStore).ReadMetadata(ctx)
			return err
		},
		OpCheck: func(ctx context.Context, r *Replica, _ litestream.ReplicaClient) error { return r.Check(ctx) },
	} {
		r := NewReplica()
		c := newClient(t, r)
		if err := errors.Join(ship(t, t.Context(), c, 1), c.(multidb.MetadataStore).WriteMetadata(t.Context(), []byte("old"))); err != nil {
			t.Fatal(err)
		}
		in := r.Inject(Fault{Op: op, Err: ErrInjected})
		if err := run(t.Context(), r, c); !errors.Is(err, ErrInjected) {
			t.Errorf("%s: error is %v, want ErrInjected", op, err)
		}
		if got := ranges(r.Files(prefix)); !slices.Equal(got, []string{"1-1"}) || string(r.Metadata(prefix)) != "old" {
			t.Errorf("%s: refused, but the replica has %v and metadata %q", op, got, r.Metadata(prefix))
		}
		ops := r.Operations()
		if last := ops[len(ops)-1]; last.Op != op || !errors.Is(last.Err, ErrInjected) {
			t.Errorf("%s: the log ends with %s", op, last)
		}
		in.Clear()
		if err := run(t.Context(), r, c); err != nil {
			t.Errorf("%s after Clear: %v", op, err)
		}
	}
}

func TestATimedFaultHitsExactlySoManyOfConcurrentOperations(t *testing.T) {
	const times, writers = 5, 20
	r := NewReplica()
	c := newClient(t, r)
	// All find the fault at work before the first is hit.
	var found sync.WaitGroup
	found.Add(writers)
	in := r.Inject(Fault{Op: OpWrite, Times: times, Err: ErrInjected, Match: func(Operation) bool {
		found.Done()
		found.Wait()
		return true
	}})
	var (
		errs [writers]error
		wg   sync.WaitGroup
	)
	for i := range writers {
		wg.Go(func() { errs[i] = ship(t, t.Context(), c, i+1) })
	}
	wg.Wait()
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	if failed != times || in.Hits() != times || len(r.Files(prefix)) != writers-times {
		t.Errorf("%d failed, %d hits, %d files; want %d, %d, %d", failed, in.Hits(), len(r.Files(prefix)), times, times, writers-times)
	}
}
