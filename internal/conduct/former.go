package conduct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
)

// Former is what UnpackFormer needs of the fleet logs that were taken over.
type Former struct {
	// Prefixes are the directories of which they have something that a prefix may lack.
	Prefixes func(context.Context) ([]string, error)
	// Dir is the directory of a database.
	Dir func(registry.Database) (string, error)
	// Unpack gives the prefix in a directory what they have, where no run can do it.
	Unpack func(ctx context.Context, dir string) error
	// Finish finishes those of which nothing is left. left: there are others.
	Finish func(context.Context) (left bool, err error)
	// Every is how long to wait before what failed is tried again.
	Every time.Duration
	Warn  func(msg string, args ...any)
}

// formerAtOnce is how many databases are unpacked at once of what was taken over.
const formerAtOnce = 4

// UnpackFormer gives the prefixes what logs that were taken over have of databases that
// nobody writes to, and finishes those logs. It returns when none is left, or ctx ends.
func (c *Conductor) UnpackFormer(ctx context.Context, f Former) {
	// At first only the cold ones: those that are written to are unpacked all the same.
	for all := false; ; all = true {
		err := c.unpackFormer(ctx, f, all)
		left, finished := f.Finish(ctx)
		if !left || ctx.Err() != nil {
			return
		}
		if err = errors.Join(err, finished); err != nil {
			f.Warn("multidb: a former fleet log has what some prefixes lack", "again", f.Every, "err", err)
		}
		if ctxio.Sleep(ctx, f.Every) != nil {
			return
		}
	}
}

func (c *Conductor) unpackFormer(ctx context.Context, f Former, all bool) error {
	prefixes, err := f.Prefixes(ctx)
	if err != nil || len(prefixes) == 0 {
		return err
	}
	entries := map[string]*fleet.Entry{}
	for _, e := range c.fleet.All() {
		if dir, err := f.Dir(e.Database()); err == nil {
			entries[dir] = e
		}
	}
	var mu sync.Mutex
	var failed int
	var first error
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, formerAtOnce)
	for _, dir := range prefixes {
		e := entries[dir]
		if e != nil && !all && c.fleet.Status(e).Tier != schedule.Cold {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := c.unpackAt(ctx, f, dir, e); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				first = cmp.Or(first, fmt.Errorf("unpack %s: %w", dir, err))
			}
		})
	}
	wg.Wait()
	if failed > 1 {
		return fmt.Errorf("%d databases, the first of them: %w", failed, first)
	}
	return first
}

// unpackAt gives one prefix what the logs have of it. e is nil where only another process
// knows the database.
func (c *Conductor) unpackAt(ctx context.Context, f Former, dir string, e *fleet.Entry) error {
	if e != nil && !fsid.OrZero(e.Path()).IsZero() { // or a run would report as missing what is only about to be brought here
		_, err := c.Perform(ctx, e, replicate.OrderUnpack)
		if !errors.Is(err, ship.ErrMissing) && !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, fleet.ErrElsewhere) {
			return err
		}
	}
	return f.Unpack(ctx, dir)
}
