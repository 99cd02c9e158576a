package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
)

func restoreScenario(short bool) scenario {
	return scenario{
		name: "restore", title: "requests of one restore",
		sizes:   []int{1},
		multidb: restoreOne, stock: stockRestoreOne,
		place: withS3,
		rows: []row{
			{key: "list", what: "restore of a tenant with 150 commits: LISTs", unit: count, bar: bar{kind: atMost, limit: 1, text: "1"}, stock: "list"},
			{key: "get", what: "restore: GETs", unit: count, stock: "get"},
			{key: "other", what: "restore: HEADs and others", unit: count, stock: "other"},
			{key: "excess", what: "restore: GETs beyond one for each file applied", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}, stock: "excess"},
		},
	}
}

// restoreCommits is enough that a compaction has been made of some of them.
const restoreCommits = 150

// history makes a tenant's prefix: a snapshot, a compacted file, single ones.
func history(ctx context.Context, sp *spec) error {
	if err := newFleet(ctx, sp.Dir, 1, 0); err != nil {
		return err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()))
	if err != nil {
		return err
	}
	for k := range restoreCommits {
		err := m.Do(ctx, fleetID(0), func(db *sql.DB) error { return commit(ctx, db, k+1) })
		if err == nil {
			_, err = m.Sync(ctx, fleetID(0))
		}
		if err != nil {
			return errors.Join(err, m.stop(ctx))
		}
	}
	return m.stop(ctx)
}

func restoreOne(ctx context.Context, sp *spec) (figures, error) {
	if err := history(ctx, sp); err != nil {
		return nil, err
	}
	replica, err := multidb.NewS3Replica(sp.s3Config())
	if err != nil {
		return nil, err
	}
	defer replica.CloseIdleConnections()
	return restoreRequests(ctx, sp, func(ctx context.Context, out string) error {
		db, _ := multidb.Glob(fleetPattern(sp.Dir)).Locate(fleetID(0))
		return multidb.RestoreFrom(ctx, replica, db, multidb.RestoreOptions{OutputPath: out})
	})
}

func stockRestoreOne(ctx context.Context, sp *spec) (figures, error) {
	if err := history(ctx, sp); err != nil {
		return nil, err
	}
	return restoreRequests(ctx, sp, func(ctx context.Context, out string) error {
		return stockRestore(ctx, sp, 0, out)
	})
}

func stockRestore(ctx context.Context, sp *spec, i int, out string) error {
	opt := litestream.NewRestoreOptions()
	opt.OutputPath = out
	return litestream.NewReplicaWithClient(nil, sp.stockS3(i)).Restore(ctx, opt)
}

// restoreRequests counts those of a restore, and those of the files that it has
// to read at least.
func restoreRequests(ctx context.Context, sp *spec, restore func(ctx context.Context, out string) error) (figures, error) {
	plan, err := litestream.CalcRestorePlan(ctx, sp.stockS3(0), 0, time.Time{}, slog.Default())
	if err != nil {
		return nil, err
	}
	before, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	out := filepath.Join(sp.Dir, "restored.db")
	if err := restore(ctx, out); err != nil {
		return nil, err
	}
	after, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkSeq(ctx, out, restoreCommits); err != nil {
		return nil, err
	}
	d := after.minus(before)
	return figures{"list": float64(d.List), "get": float64(d.Get), "other": float64(d.Head + d.Put + d.Delete),
		"excess": float64(d.Get) - float64(len(plan))}, os.Remove(out)
}

// checkSeq fails if a restored database does not have the commit.
func checkSeq(ctx context.Context, path string, seq int) error {
	db, err := openApp(path)
	if err != nil {
		return err
	}
	var v string
	err = db.QueryRowContext(ctx, `SELECT v FROM state WHERE id=1`).Scan(&v)
	if err == nil && v != markOf(seq) {
		err = fmt.Errorf("restored %q, want %q", v, markOf(seq))
	}
	return errors.Join(err, db.Close())
}
