package multidb_test

import (
	"context"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestLookingAtAnIdleHotDatabaseAllocatesNothing is why the Manager's jobs and
// replicate's runs are used again. Each look would otherwise allocate three times: 112
// bytes for the job and its method, 640 for the run, and a fleet makes thousands of looks
// a second.
func TestLookingAtAnIdleHotDatabaseAllocatesNothing(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithScanInterval(time.Hour),
		multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour), multidb.WithWatch(false))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	if st, err := f.m.Status(id); err != nil || st.Tier != multidb.Hot {
		t.Fatalf("%v, %v", st.Tier, err)
	}
	ctx := context.Background()
	eventually(t, "stamps that are old enough to be trusted", func() bool { return multidb.RunOnce(ctx, f.m, id) })
	if n := testing.AllocsPerRun(200, func() { _ = multidb.RunOnce(ctx, f.m, id) }); n != 0 {
		t.Errorf("%v allocations to find that nothing was written", n)
	}
}
