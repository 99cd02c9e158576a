package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// closeInVain is a Close that leases keep waiting.
func (f *fleet) closeInVain() error {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
	defer cancel()
	err := f.m.Close(ctx)
	if !errors.Is(err, multidb.ErrInUse) || !errors.Is(err, context.DeadlineExceeded) {
		f.t.Fatalf("%v", err)
	}
	return err
}

func TestACloseThatHandlesKeepWaitingNamesTheirDatabases(t *testing.T) {
	f := start(t, newTree(t, 3, 5), multidb.WithReplica(multidbtest.NewReplica()))
	var handles []multidb.Handle
	take := func(id multidb.ID) {
		h, err := f.m.Acquire(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, h)
	}
	take("project2/db1")
	take("project0/db3")
	take("project0/db3")
	err := f.closeInVain()
	if !strings.Contains(err.Error(), `handles of "project0/db3" (2), "project2/db1"; 3 in all; WithLeaseTraces says`) {
		t.Errorf("%v", err)
	}
	for _, h := range handles {
		h.Release()
	}
	if err := f.m.Close(t.Context()); err != nil {
		t.Errorf("when they are released: %v", err)
	}
}

func TestACloseNamesTenDatabasesOfManyThatAreLeased(t *testing.T) {
	f := start(t, newTree(t, 1, 15), multidb.WithReplica(multidbtest.NewReplica()))
	for i := range 15 {
		h, err := f.m.Acquire(t.Context(), multidb.ID(fmt.Sprintf("project0/db%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Release()
	}
	err := f.closeInVain()
	if line, _, _ := strings.Cut(err.Error(), "\n"); strings.Count(line, `"project0/`) != 10 || !strings.Contains(line, "and of 5 databases more; 15 in all") {
		t.Errorf("%v", err)
	}
}

func TestWithLeaseTracesACloseSaysWhereAHandleWasTaken(t *testing.T) {
	f := start(t, newTree(t, 1, 2), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithLeaseTraces(true))
	leak, err := f.m.Acquire(t.Context(), "project0/db0")
	_, file, line, _ := runtime.Caller(0)
	if err != nil {
		t.Fatal(err)
	}
	f.insert("project0/db0", "by a handle that is released") // by Do
	given, err := f.m.Acquire(t.Context(), "project0/db1")
	if err != nil {
		t.Fatal(err)
	}
	given.Release()
	err = f.closeInVain()
	want := fmt.Sprintf(`handles of "project0/db0", taken at %s:%d; 1 in all`, file, line-1)
	if !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	leak.Release()
	leak.Release()
	if err := f.m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
