package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestWhatFailedOnceOfARemovalGoesOnByItselfAtOnce(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	f.sync(customer)
	prefix := rep.Prefixes()[0]
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWriteMetadata, Prefix: prefix, Times: 1, Err: multidbtest.ErrInjected})
	if err := f.m.Remove(t.Context(), customer); !errors.Is(err, multidbtest.ErrInjected) {
		t.Fatalf("the tombstone cannot be written: %v", err)
	}
	f.events.wait(t, "withdrawn", func(ev multidb.Event) bool { return ev.Type == multidb.EventWithdrawn && ev.ID == customer })
}

func TestCloseEndsARenamingAndTheNextProcessUndoesIt(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 1)
	opts := []multidb.Option{multidb.WithReplica(rep), withTable()}
	f := start(t, root, opts...)
	f.insert(customer, "x")
	f.sync(customer)
	const to = multidb.ID("project0/renamed")
	fault := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Hang: true, Match: func(op multidbtest.Operation) bool { return filepath.Base(op.Prefix) == "renamed" }})
	renamed := make(chan error, 1)
	go func() { renamed <- f.m.Rename(t.Context(), customer, to) }()
	<-fault.Hit()
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-renamed:
		if !errors.Is(err, multidb.ErrClosed) {
			t.Errorf("the renaming: %v", err)
		}
	default:
		t.Error("the renaming goes on after Close")
	}
	rep.ClearFaults()
	f = start(t, root, opts...)
	if err := f.m.Rename(t.Context(), customer, to); err != nil && !errors.Is(err, multidb.ErrInUse) {
		t.Error(err)
	} else if err != nil {
		f.wantAll(customer, "0", "1", "2", "x")
	} else {
		f.wantAll(to, "0", "1", "2", "x")
	}
}

func TestWhatIsBeingErasedIsNotForked(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	f.insert(customer, "a secret")
	f.sync(customer)
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpDelete, Err: multidbtest.ErrInjected})
	_, err := f.m.Erase(t.Context(), customer)
	t.Logf("erase: %v", err)
	for err := multidb.ErrInUse; errors.Is(err, multidb.ErrInUse); {
		if err = f.m.Fork(t.Context(), customer, "project0/copy", multidb.ForkOptions{}); err == nil {
			t.Error("it was forked")
		}
	}
	f.wantRefused(customer, multidb.ErrRemoved)
}

func TestADatabaseMadeWhileItsIDIsLookedAtForAForkStaysAsItIs(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), withTable())
	f.insert(customer, "of the source")
	f.sync(customer)
	const to = multidb.ID("project0/taken")
	for name, verb := range map[string]func(context.Context) error{
		"fork":   func(ctx context.Context) error { return f.m.Fork(ctx, customer, to, multidb.ForkOptions{}) },
		"rename": func(ctx context.Context) error { return f.m.Rename(ctx, customer, to) },
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			fault := rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Until: gate, Times: 1, Match: func(op multidbtest.Operation) bool { return filepath.Base(op.Prefix) == "taken" }})
			done := make(chan error, 1)
			go func() { done <- verb(t.Context()) }()
			<-fault.Hit()
			h, err := f.m.Acquire(t.Context(), to) // has no backup yet, so that nothing of it is there
			if err != nil {
				t.Fatal(err)
			}
			close(gate)
			if err := <-done; !errors.Is(err, multidb.ErrExists) {
				t.Errorf("%s onto one that was made meanwhile: %v", name, err)
			}
			if _, err := h.DB().Exec("INSERT INTO t(v) VALUES('its own')"); err != nil {
				t.Error(err)
			}
			h.Release()
			f.sync(to)
			f.wantAll(to, "its own")
			f.wantAll(customer, "0", "1", "2", "of the source")
			if _, err := f.m.Erase(t.Context(), to); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestARemovalOfWhatTheCatalogHasLostShipsItsFileAllTheSame(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 2)
	state := t.TempDir()
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(state)}
	f := start(t, root, opts...)
	f.sync("project0/db1")
	f.sync(customer)
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: multidbtest.ErrInjected})
	f.insert(customer, "not shipped")
	if err := f.m.Remove(t.Context(), customer); !errors.Is(err, multidbtest.ErrInjected) {
		t.Fatal(err)
	}
	_ = f.close() // says that the replica refuses
	db, err := sql.Open("sqlite", filepath.Join(state, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("DELETE FROM databases WHERE id = ?", string(customer)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	rep.ClearFaults()
	f = start(t, root, opts...)
	f.events.wait(t, "withdrawn", func(ev multidb.Event) bool { return ev.Type == multidb.EventWithdrawn && ev.ID == customer })
	f.wantNoFiles(customer)
	if got := fmt.Sprint(f.restored(customer, multidb.RestoreOptions{})); got != "[0 1 2 not shipped]" {
		t.Errorf("its backup has %s", got)
	}
}

func TestAFilePutBackAtAnEvictedDatabaseIsShippedBeforeItIsRenamed(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxDisk(1<<40), multidb.WithScanInterval(time.Hour), multidb.WithWatch(false))
	f.insert(customer, "x")
	f.sync(customer)
	if err := f.m.Evict(t.Context(), customer); err != nil {
		t.Fatal(err)
	}
	if err := f.m.Restore(t.Context(), customer, multidb.RestoreOptions{OutputPath: f.at(customer)}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", f.at(customer))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO t(v) VALUES('by hand')"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	const to = multidb.ID("project0/renamed")
	if err := f.m.Rename(t.Context(), customer, to); err != nil {
		t.Fatal(err)
	}
	f.wantNoFiles(customer)
	f.wantAll(to, "0", "1", "2", "x", "by hand")
}

func TestAForkThatWasOnlyReadIsNotTakenForAnothersAfterARestart(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 1)
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithMaxDisk(1 << 40)}
	f := start(t, root, opts...)
	f.insert(customer, "x")
	f.sync(customer)
	const fork = multidb.ID("project0/fork")
	if err := f.m.Fork(t.Context(), customer, fork, multidb.ForkOptions{}); err != nil {
		t.Fatal(err)
	}
	f.wantAll(fork, "0", "1", "2", "x")
	if err := f.m.Evict(t.Context(), fork); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f = start(t, root, opts...)
	if err := f.m.Remove(t.Context(), fork); err != nil {
		t.Error(err)
	}
}
