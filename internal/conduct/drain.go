package conduct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
)

// The attempts of Drain at a replica that refuses.
const (
	drainAttempts = 3
	drainPause    = 250 * time.Millisecond
)

// Unshipped is a database that may have commits which are not at the replica, and why.
type Unshipped struct {
	ID  string
	Err error
}

// Drain ships every database that may have something left, and cuts the logs, when the
// pool has closed everything. It returns those that it could not ship.
func (c *Conductor) Drain(ctx context.Context) []Unshipped {
	if !c.cfg.Replicated {
		return nil
	}
	left := c.shipAll(ctx, c.unshipped())
	if ctx.Err() != nil {
		return left
	}
	return append(left, c.cutLogs(ctx)...)
}

// Undrained are the databases that may not be durable, for a Drain that ran out of time.
func (c *Conductor) Undrained(cause error) (left []Unshipped) {
	if !c.cfg.Replicated {
		return nil
	}
	for _, e := range c.unshipped() {
		left = append(left, Unshipped{e.ID(), cause})
	}
	return left
}

// Unpack gives the prefixes of the databases for which has is true what their clients have taken, in
// parallel. What fails stays in the log, from where the next process goes on.
func (c *Conductor) Unpack(ctx context.Context, has func(registry.Database) bool) error {
	var mu sync.Mutex
	var errs []error
	all := slices.DeleteFunc(c.fleet.All(), func(e *fleet.Entry) bool { return !has(e.Database()) })
	err := c.each(ctx, all, func(e *fleet.Entry) {
		if _, err := c.Perform(ctx, e, replicate.OrderUnpack); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("unpack %q: %w", e.ID(), err))
		}
	})
	return errors.Join(append(errs, err)...)
}

// cutLogs cuts the logs of what is shipped, whose last run came before Drain. That one
// stays is no error; that something new was found in it and could not be shipped is.
func (c *Conductor) cutLogs(ctx context.Context) []Unshipped {
	var mu sync.Mutex
	var failed []*fleet.Entry
	err := c.each(ctx, c.withLogs(), func(e *fleet.Entry) {
		if _, err := c.Perform(ctx, e, replicate.OrderCut); err != nil && !errors.Is(err, registry.ErrNotFound) {
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, e)
		}
	})
	if err != nil || ctx.Err() != nil {
		return c.Undrained(context.Cause(ctx))
	}
	return c.shipAll(ctx, failed)
}

// shipAll ships some databases, in parallel.
func (c *Conductor) shipAll(ctx context.Context, all []*fleet.Entry) (left []Unshipped) {
	var mu sync.Mutex
	if err := c.each(ctx, all, func(e *fleet.Entry) {
		if err := c.shipLast(ctx, e); err != nil {
			mu.Lock()
			defer mu.Unlock()
			left = append(left, Unshipped{e.ID(), err})
		}
	}); err != nil {
		return c.Undrained(err)
	}
	return left
}

// each calls do with each database, as many at once as there are workers, and waits for
// them. The error is that of ctx, where it has ended before all were begun.
func (c *Conductor) each(ctx context.Context, all []*fleet.Entry, do func(*fleet.Entry)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, c.cfg.Workers)
	for _, e := range all {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wg.Go(func() {
			defer func() { <-slots }()
			do(e)
		})
	}
	return nil
}

func (c *Conductor) shipLast(ctx context.Context, e *fleet.Entry) error {
	for i := 1; ; i++ {
		_, err := c.Sync(ctx, e)
		if err == nil || errors.Is(err, registry.ErrNotFound) || errors.Is(err, ship.ErrMissing) && c.renamed(e) ||
			errors.Is(err, ship.ErrFenced) && c.fleet.IsCache(e) {
			return nil
		}
		if ctx.Err() != nil || i == drainAttempts || replicate.IsLocal(err) || errors.Is(err, ErrInUse) ||
			errors.Is(err, ship.ErrFenced) || errors.Is(err, replicate.ErrConflict) {
			return err
		}
		if err := ctxio.Sleep(ctx, drainPause); err != nil {
			return err
		}
	}
}

// renamed reports whether the file of a database that is missing is now another
// database's, with all of its commits.
func (c *Conductor) renamed(e *fleet.Entry) bool {
	heir, file := c.fleet.Heir(e)
	if heir == nil || fsid.OrZero(heir.Path()) != file {
		return false
	}
	_, err := os.Stat(e.Path() + "-wal") // or its log stayed behind
	return errors.Is(err, fs.ErrNotExist)
}

// unshipped is who may have something that the replica has not. It looks at the files of
// every database: a cold one may have been written by another process since the last
// scan, and a watcher's event may be on its way.
func (c *Conductor) unshipped() (out []*fleet.Entry) {
	for _, e := range c.fleet.All() {
		st, err := fsid.StatFiles(e.Path(), c.cfg.Stat)
		if c.fleet.MayOwe(e, st, err) {
			out = append(out, e)
		}
	}
	return out
}

// withLogs is which databases have a log with something in it.
func (c *Conductor) withLogs() (out []*fleet.Entry) {
	for _, e := range c.fleet.Replicating(c.cfg.Logs.IDs()) {
		if st, err := fsid.StatFiles(e.Path(), c.cfg.Stat); err == nil && st.WAL.Size > 0 {
			out = append(out, e)
		}
	}
	return out
}
