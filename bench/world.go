package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
)

// world is a fleet of cold databases, a bucket that has all of them, and the
// state directory that knows it: what multidb finds when it has been running for
// long. Scenarios leave it as they found it, but for a few commits.
type world struct {
	n   int
	dir string
	s3  *s3Process
}

// prepareName is the scenario that makes a world's bucket and state.
const prepareName = "prepare"

func newWorld(ctx context.Context, dir string, n int, short bool) (_ *world, err error) {
	w := &world{n: n, dir: filepath.Join(dir, fmt.Sprintf("world-%d", n))}
	if err := newFleet(ctx, w.dir, n, 0); err != nil {
		return nil, err
	}
	if w.s3, err = startS3(ctx); err != nil {
		return nil, err
	}
	sp := spec{Scenario: prepareName, N: n, Dir: w.dir, S3: w.s3.url, Short: short}
	if _, err := runChild(ctx, sp); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %d databases: %w", n, err), w.close())
	}
	return w, nil
}

func (w *world) close() error { return errors.Join(w.s3.close(), os.RemoveAll(w.dir)) }

// prepareWorld ships every database for the first time.
func prepareWorld(ctx context.Context, sp *spec) (figures, error) {
	m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()),
		multidb.WithColdSyncInterval(time.Second), multidb.WithPromotion(0, 0))
	if err != nil {
		return nil, err
	}
	err = until(ctx, "first copies", 100*time.Millisecond, 30*time.Minute, func() (bool, error) {
		return m.Stats().Transactions >= int64(sp.N), m.trouble()
	})
	if err == nil {
		err = m.settled(ctx, time.Minute)
	}
	return figures{}, errors.Join(err, m.stop(ctx))
}

// s3Process is an S3 server in a process of its own.
type s3Process struct {
	h   *helper
	url string
}

func startS3(ctx context.Context) (*s3Process, error) {
	h, err := startHelper(ctx, roleS3)
	if err != nil {
		return nil, err
	}
	p := &s3Process{h: h}
	if err := h.ask(nil, &p.url); err != nil {
		return nil, errors.Join(fmt.Errorf("S3 server: %w", err), h.close())
	}
	return p, nil
}

func (p *s3Process) close() error { return p.h.close() }
