package main

import (
	"context"
	"time"

	"github.com/benbjohnson/litestream"
)

// stockFleet is what a program has to run to replicate many databases with
// litestream v0.5 as a library: a DB, a Replica and a client for each, and one
// Store around them.
type stockFleet struct {
	dbs   []*litestream.DB
	store *litestream.Store
}

// newStock makes the fleet's first n databases ready. manual: nothing happens by
// itself, only what sync asks for.
func newStock(dir string, n int, manual bool, client func(i int) litestream.ReplicaClient) *stockFleet {
	f := &stockFleet{}
	for i := range n {
		db := litestream.NewDB(fleetPath(dir, i))
		db.Replica = litestream.NewReplicaWithClient(db, client(i))
		if manual {
			db.MonitorInterval = 0
			db.Replica.MonitorEnabled = false
		}
		f.dbs = append(f.dbs, db)
	}
	f.store = litestream.NewStore(f.dbs, litestream.DefaultCompactionLevels)
	if manual {
		f.store.CompactionMonitorEnabled = false
		f.store.L0RetentionCheckInterval = 0
	}
	return f
}

// sync ships what every database has, with so many at once.
func (f *stockFleet) sync(ctx context.Context, workers int) error {
	return parallel(ctx, len(f.dbs), workers, func(ctx context.Context, i int) error {
		return f.dbs[i].SyncAndWait(ctx)
	})
}

// open opens all, and returns when each has been shipped.
func (f *stockFleet) open(ctx context.Context) error {
	if err := f.store.Open(ctx); err != nil {
		return err
	}
	return f.sync(ctx, stockWorkers)
}

// stockWorkers is how many stock databases a scenario works on at once.
const stockWorkers = 16

func (f *stockFleet) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	return f.store.Close(ctx)
}

// stockOnS3 is a fleet whose replicas are in the scenario's bucket.
func (sp *spec) stockOnS3(dir string, n int, manual bool) *stockFleet {
	return newStock(dir, n, manual, func(i int) litestream.ReplicaClient { return sp.stockS3(i) })
}
