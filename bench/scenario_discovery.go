package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
)

func discoveryScenario(short bool) scenario {
	return scenario{
		name: "discovery", title: "first discovery of N, against one bare directory walk with stat",
		sizes:   pick(short, []int{1000, 10000}, []int{1000, 10000, 100000}),
		multidb: discovery,
		place:   inWorld,
		rows: []row{
			{key: "walk", what: "filepath.WalkDir with a stat of each file, warm cache", unit: inSeconds},
			{key: "first", what: "first discovery: until Start returns, nothing known before", unit: inSeconds},
			{key: "ratio", what: "first discovery, in walks", unit: plain, bar: bar{kind: atMost, limit: 1.5, text: "1.5"}},
		},
	}
}

// discovery starts a Manager that knows nothing on a fleet that is there.
func discovery(ctx context.Context, sp *spec) (figures, error) {
	// The first walk warms the cache for both.
	if _, err := walk(sp); err != nil {
		return nil, err
	}
	before, err := walk(sp)
	if err != nil {
		return nil, err
	}
	// No replica: shipping 100,000 databases for the first time is not discovery.
	state := filepath.Join(sp.Dir, fmt.Sprintf("state-%d", sp.Run))
	m, err := newManager(sp.Dir, multidb.WithStateDir(state))
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := m.Start(ctx); err != nil {
		return nil, err
	}
	first := time.Since(began)
	if s := m.Stats(); s.Databases != sp.N {
		err = fmt.Errorf("%d databases were found, not %d", s.Databases, sp.N)
	}
	if err := errors.Join(err, m.stop(ctx)); err != nil {
		return nil, err
	}
	after, err := walk(sp)
	if err != nil {
		return nil, err
	}
	bare := (before + after).Seconds() / 2
	return figures{"walk": bare, "first": first.Seconds(), "ratio": first.Seconds() / bare}, nil
}

// walk is what finding the files costs at least.
func walk(sp *spec) (time.Duration, error) {
	began := time.Now()
	n := 0
	err := filepath.WalkDir(fleetRoot(sp.Dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, err := d.Info(); err != nil {
			return err
		}
		if filepath.Ext(path) == ".db" {
			n++
		}
		return nil
	})
	if err == nil && n != sp.N {
		err = fmt.Errorf("the walk found %d databases, not %d", n, sp.N)
	}
	return time.Since(began), err
}
