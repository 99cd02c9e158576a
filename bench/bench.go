package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// bench runs scenarios and collects what they say.
type bench struct {
	settings
	log    io.Writer
	dir    string         // ours alone
	ram    string         // likewise, in memory; empty if the machine has no such place
	worlds map[int]*world // by their number of databases
}

// ramDir is where Linux keeps files in memory.
const ramDir = "/dev/shm"

func newBench(s settings, log io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp(s.dir, "multidb-bench-")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	b := &bench{settings: s, log: log, dir: dir, worlds: map[int]*world{}}
	if ram, err := os.MkdirTemp(ramDir, "multidb-bench-"); err == nil {
		b.ram = ram // otherwise the directory on disk has to do, and the table says so
	}
	return b, nil
}

func (b *bench) close() error {
	var errs []error
	for _, w := range b.worlds {
		errs = append(errs, w.close())
	}
	errs = append(errs, os.RemoveAll(b.dir))
	if b.ram != "" {
		errs = append(errs, os.RemoveAll(b.ram))
	}
	return errors.Join(errs...)
}

// run runs the scenarios. What could be measured is in the result even where
// something could not.
func (b *bench) run(ctx context.Context, chosen []scenario) (*result, error) {
	m, err := machine()
	if err != nil {
		return nil, err
	}
	res := &result{machine: m, versions: versions(), began: time.Now(), short: b.short, runs: b.runs, ram: b.ram != ""}
	var errs []error
	for _, sc := range chosen {
		got := measured{scenario: sc, multidb: map[int][]figures{}}
		if sc.stockSize == 0 {
			sc.stockSize = sc.sizes[0]
		}
		got.stockSize = sc.stockSize
		// One repetition of every side after the other, so that a machine that
		// becomes slower or faster does so for both.
		runs := b.runs
		if sc.runs > 0 {
			runs = min(runs, sc.runs)
		}
		for run := range runs {
			if sc.stock != nil && (sc.stockRuns == 0 || run < sc.stockRuns) {
				if f, err := b.one(ctx, sc, sc.stockSize, run, true); err != nil {
					errs = append(errs, err)
				} else {
					got.stock = append(got.stock, f)
				}
			}
			for _, n := range sc.sizes {
				if f, err := b.one(ctx, sc, n, run, false); err != nil {
					errs = append(errs, err)
				} else {
					got.multidb[n] = append(got.multidb[n], f)
				}
			}
			if ctx.Err() != nil {
				break
			}
		}
		res.all = append(res.all, got)
		if ctx.Err() != nil {
			errs = []error{context.Cause(ctx)} // the others follow from it
			break
		}
	}
	res.took = time.Since(res.began)
	return res, errors.Join(errs...)
}

// say tells how far it is. Nobody may be listening.
func (b *bench) say(format string, args ...any) { _, _ = fmt.Fprintf(b.log, format, args...) }

// one runs one side of a scenario once.
func (b *bench) one(ctx context.Context, sc scenario, n, run int, stock bool) (f figures, err error) {
	side := "multidb"
	if stock {
		side = "stock"
	}
	name := fmt.Sprintf("%s, %s, %d databases, run %d", sc.name, side, n, run+1)
	began := time.Now()
	b.say("%s …", name)
	defer func() {
		if err != nil {
			b.say(" %v\n", err)
			err = fmt.Errorf("%s: %w", name, err)
			return
		}
		b.say(" %.1f s\n", time.Since(began).Seconds())
		if b.verbose {
			for _, key := range slices.Sorted(maps.Keys(f)) {
				b.say("\t%-30s %g\n", key, f[key])
			}
		}
	}()
	sp := spec{Scenario: sc.name, Stock: stock, Short: b.short, N: n, Run: run, Load: b.load, Verbose: b.verbose}
	if b.profile != "" && !stock {
		sp.Profile = filepath.Join(b.profile, fmt.Sprintf("%s-%d-%d.pprof", sc.name, n, run))
	}
	if sc.place == inWorld && !stock {
		w, err := b.world(ctx, n)
		if err != nil {
			return nil, err
		}
		sp.Dir, sp.S3 = w.dir, w.s3.url
		return runChild(ctx, sp)
	}
	sp.Dir = filepath.Join(b.dir, "scenario")
	sp.RAM = sp.Dir
	if b.ram != "" {
		sp.RAM = filepath.Join(b.ram, "scenario")
	}
	for _, dir := range []string{sp.Dir, sp.RAM} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if sc.place != alone {
		s3, err := startS3(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s3.close()) }()
		sp.S3 = s3.url
	}
	return runChild(ctx, sp)
}

// world returns the world of n databases, and makes it the first time.
func (b *bench) world(ctx context.Context, n int) (*world, error) {
	if w := b.worlds[n]; w != nil {
		return w, nil
	}
	w, err := newWorld(ctx, b.dir, n, b.short)
	if err == nil {
		b.worlds[n] = w
	}
	return w, err
}
