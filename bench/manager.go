package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
)

// managed is a Manager under measurement, with what went wrong in it.
type managed struct {
	*multidb.Manager

	mu    sync.Mutex
	first error
}

// newManager makes a Manager of the fleet in dir, with its state beside it.
func newManager(dir string, opts ...multidb.Option) (*managed, error) {
	m := &managed{}
	var err error
	m.Manager, err = multidb.New(append([]multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(fleetPattern(dir))),
		multidb.WithStateDir(filepath.Join(dir, "state")),
		multidb.WithObserver(m.observe),
	}, opts...)...)
	return m, err
}

// startManager makes one and starts it.
func startManager(ctx context.Context, dir string, opts ...multidb.Option) (*managed, error) {
	m, err := newManager(dir, opts...)
	if err != nil {
		return nil, err
	}
	return m, m.Start(ctx)
}

func (m *managed) observe(ev multidb.Event) {
	switch ev.Type {
	case multidb.EventFailed, multidb.EventFenced, multidb.EventScanFailed, multidb.EventState,
		multidb.EventWatch, multidb.EventIgnored, multidb.EventRemoved:
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.first == nil {
			m.first = fmt.Errorf("%s %s: %w", ev.Type, ev.ID, errors.Join(ev.Err))
		}
	}
}

// trouble is the first thing that went wrong: such figures would mean nothing.
func (m *managed) trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first
}

// stop closes it, as part of a scenario that is over.
func (m *managed) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return errors.Join(m.trouble(), m.Close(ctx))
}

// syncAll calls Sync for every database, with so many at once.
func (m *managed) syncAll(ctx context.Context, n, workers int) error {
	return parallel(ctx, n, workers, func(ctx context.Context, i int) error {
		_, err := m.Sync(ctx, fleetID(i))
		return err
	})
}

// parallel calls fn for 0, 1, … n-1, with so many at once. It returns the
// errors of the workers, each of which ends at its first.
func parallel(ctx context.Context, n, workers int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan int)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range next {
				if errs[w] = fn(ctx, i); errs[w] != nil {
					cancel()
					return
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// settled waits until the Manager has had nothing to do for a while.
func (m *managed) settled(ctx context.Context, limit time.Duration) error {
	var last multidb.Stats
	quiet := 0
	return until(ctx, "the Manager is still busy", 500*time.Millisecond, limit, func() (bool, error) {
		s := m.Stats()
		if s.Running == 0 && s.Transactions == last.Transactions && s.Requests.Total() == last.Requests.Total() {
			quiet++
		} else {
			quiet = 0
		}
		last = s
		return quiet >= 4, m.trouble()
	})
}
