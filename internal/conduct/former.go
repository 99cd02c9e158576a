package conduct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	// Every is how long to wait before what failed is tried again. More ends that: something was taken over since, or is
	// wanted sooner.
	Every time.Duration
	More  <-chan struct{}
	Warn  func(msg string, args ...any)
}

// formerAtOnce is how many databases are unpacked at once of what was taken over.
const formerAtOnce = 4

// UnpackFormer gives the prefixes what logs that were taken over have of databases that
// nobody writes to, and finishes those logs. It returns when none is left, or ctx ends.
func (c *Conductor) UnpackFormer(ctx context.Context, f Former) {
	// At first only those that nobody writes to: the others are unpacked all the same.
	every := time.NewTimer(f.Every)
	defer every.Stop()
	for all := false; ; {
		err := c.unpackFormer(ctx, f, all)
		left, finished := f.Finish(ctx)
		if !left || ctx.Err() != nil {
			return
		}
		if err = errors.Join(err, finished); err != nil {
			f.Warn("multidb: a former fleet log has what some prefixes lack", "again", f.Every, "err", err)
		}
		select {
		case <-every.C:
			all = true
			every.Reset(f.Every)
		case <-f.More:
			all = false
		case <-ctx.Done():
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
		if e != nil && !all && c.ships(e) {
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

// ships reports whether runs of a database that is written to, or may be, give its prefix what the logs have.
func (c *Conductor) ships(e *fleet.Entry) bool {
	return c.fleet.Status(e).Tier != schedule.Cold && !c.fleet.IsCache(e) && c.unpacks(e)
}

// unpacks reports whether a run could do it.
func (c *Conductor) unpacks(e *fleet.Entry) bool {
	fenced := errors.Is(c.fleet.Refused(e), ship.ErrFenced) // others have gone on from another file
	return !fenced && !fsid.OrZero(e.Path()).IsZero()       // or a run would report as missing what is only about to be brought here
}

// unpackAt gives one prefix what the logs have of it. e is nil where only another process
// knows the database.
func (c *Conductor) unpackAt(ctx context.Context, f Former, dir string, e *fleet.Entry) error {
	if err := c.fleet.Fenced(); err != nil {
		return err
	}
	if e != nil && c.unpacks(e) {
		_, err := c.Perform(ctx, e, replicate.OrderUnpack)
		switch {
		case errors.Is(err, ship.ErrMissing), errors.Is(err, registry.ErrNotFound), errors.Is(err, fleet.ErrElsewhere):
		case errors.Is(err, ship.ErrFenced) && c.fleet.Fenced() == nil: // others have gone on from another file, and nothing is shipped of this one
		default:
			return err
		}
	}
	return f.Unpack(ctx, dir)
}
