package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/multidb-go/multidb"
)

func restoreRateScenario(short bool) scenario {
	return scenario{
		name: "restores", title: "many restores of 1 MB each",
		sizes:   []int{pick(short, 500, 10000)},
		runs:    2,
		multidb: restoreMany, stock: stockRestoreMany, stockSize: pick(short, 100, 500),
		place: withS3,
		rows: []row{
			{key: "rate", what: "restores of 1 MB, S3 (stock does no integrity check)", unit: perSecond, stock: "rate", more: true},
			{key: "rate-unchecked", what: "restores of 1 MB without the integrity check", unit: perSecond, stock: "rate", more: true},
			{key: "cpu", what: "restores of 1 MB: CPU each", unit: inSeconds, stock: "cpu"},
			{key: "cpu-unchecked", what: "restores of 1 MB without the integrity check: CPU each", unit: inSeconds, stock: "cpu", bar: bar{kind: atMost, limit: 6e-3, text: "6 ms"}},
			{key: "bound", what: "restores of 1 MB: cores busy or waiting for the disk, of all", unit: percent, bar: bar{kind: atLeast, limit: 0.85, text: "85 %: bound by CPU or disk"}},
			{key: "busy", what: "restores of 1 MB: of that, cores busy (with S3's share)", unit: percent},
		},
	}
}

// restoreTenants are restored again and again; restoreAtOnce at a time.
const (
	restoreTenants = 20
	restoreSize    = 1 << 20
	restoreAtOnce  = 16
)

func restoreSources(ctx context.Context, sp *spec) error {
	if err := newFleet(ctx, sp.Dir, restoreTenants, restoreSize); err != nil {
		return err
	}
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()))
	if err != nil {
		return err
	}
	return errors.Join(m.syncAll(ctx, restoreTenants, restoreTenants), m.stop(ctx))
}

func restoreMany(ctx context.Context, sp *spec) (figures, error) {
	if err := restoreSources(ctx, sp); err != nil {
		return nil, err
	}
	replica, err := multidb.NewS3Replica(sp.s3Config())
	if err != nil {
		return nil, err
	}
	defer replica.CloseIdleConnections()
	glob := multidb.Glob(fleetPattern(sp.Dir))
	restore := func(check multidb.IntegrityCheck) func(ctx context.Context, i int, out string) error {
		return func(ctx context.Context, i int, out string) error {
			db, _ := glob.Locate(fleetID(i))
			return multidb.RestoreFrom(ctx, replica, db, multidb.RestoreOptions{OutputPath: out, IntegrityCheck: check})
		}
	}
	f, err := restores(ctx, sp, sp.N, restore(multidb.IntegrityFull))
	if err != nil {
		return nil, err
	}
	profiled, err := sp.profileLoad()
	if err != nil {
		return nil, err
	}
	unchecked, err := restores(ctx, sp, max(sp.N/2, 100), restore(multidb.IntegrityNone))
	f["rate-unchecked"], f["cpu-unchecked"] = unchecked["rate"], unchecked["cpu"]
	return f, errors.Join(err, profiled())
}

func stockRestoreMany(ctx context.Context, sp *spec) (figures, error) {
	if err := restoreSources(ctx, sp); err != nil {
		return nil, err
	}
	return restores(ctx, sp, sp.N, func(ctx context.Context, i int, out string) error {
		return stockRestore(ctx, sp, i, out)
	})
}

// restores measures n of them. Each file is removed when it is complete.
func restores(ctx context.Context, sp *spec, n int, restore func(ctx context.Context, i int, out string) error) (figures, error) {
	dir := filepath.Join(sp.Dir, "restored")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	busy, wait, err := machineTimes()
	if err != nil {
		return nil, err
	}
	cpu, began := cpuTime(), time.Now()
	if err := parallel(ctx, n, restoreAtOnce, func(ctx context.Context, k int) error {
		out := filepath.Join(dir, fmt.Sprintf("%d.db", k))
		if err := restore(ctx, k%restoreTenants, out); err != nil {
			return err
		}
		fi, err := os.Stat(out)
		if err == nil && fi.Size() < restoreSize*9/10 {
			err = fmt.Errorf("restored only %d bytes", fi.Size())
		}
		return errors.Join(err, os.Remove(out))
	}); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	busy2, wait2, err := machineTimes()
	all := took * float64(runtime.NumCPU())
	return figures{
		"rate":  float64(n) / took,
		"cpu":   (cpuTime() - cpu) / float64(n),
		"busy":  (busy2 - busy) / all,
		"bound": (busy2 - busy + wait2 - wait) / all,
	}, err
}
