package multidb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/boottime"
	"github.com/multidb-go/multidb/multidbtest"
)

// What a failed deletion left is due at once, also where this process has never
// deleted anything.
func TestRetentionGoesOnAfterItsFirstDeletionsFailed(t *testing.T) {
	t.Parallel()
	const id, failures = "project0/db0", 10 // some of them in runs that ship, too
	root, rep := newTree(t, 1, 1), multidbtest.NewReplica()
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpDelete, Times: failures, Err: errors.New("injected")})
	f := start(t, root, multidb.WithReplica(rep), multidb.WithL0Retention(time.Millisecond), multidb.WithRetention(time.Millisecond),
		multidb.WithRetentionInterval(time.Millisecond), multidb.WithBoot(boottime.Now, time.Millisecond), multidb.WithSnapshotInterval(time.Millisecond))
	tries := func() (failed, deleted int) {
		for _, op := range rep.Operations() {
			switch {
			case op.Op != multidbtest.OpDelete:
			case op.Err != nil:
				failed++
			default:
				deleted++
			}
		}
		return failed, deleted
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		f.insert(id, "x")
		_, _ = f.m.Sync(ctx, id) // the upkeep of the run before may have failed
		failed, deleted := tries()
		if failed == failures && deleted > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d deletions failed, %d succeeded", failed, deleted)
		}
	}
}
