package each

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/opener"
	"github.com/multidb-go/multidb/internal/store/metadata"
)

// Defaults and bounds of Options.
const (
	DefaultParallel  = 4
	DefaultCanary    = 1
	DefaultMaxErrors = 10
	patience         = 5 * time.Second
	// evictTimeout bounds how long a database that was brought in is waited for to leave
	// the disk again. What stays is let go of by the limit of the disk.
	evictTimeout = 30 * time.Second
)

// Tenants are the databases of a Manager.
type Tenants struct {
	Fleet   *fleet.Fleet
	Opener  *opener.Opener
	Catalog *catalog.Catalog
	Book    *Book
	MaxOpen int
	Flush   func(*os.File) error // of a WAL, to disk
	Evicts  bool                 // the local disk is a cache: see WithMaxDisk
}

// Options are what the public ones say.
type Options struct {
	Name                        string
	Match                       func(id string) bool
	Parallel, Canary, MaxErrors int
	Timeout                     time.Duration
	Again                       bool
	// DryRun only tells Progress which databases would be done, in their order.
	DryRun   bool
	Progress func(Progress)
}

// Run does fn to each database that matches. The error says that nothing was begun. A dry run
// takes the name all the same, so that it fails where a run would, and counts every database
// as left.
func (t *Tenants) Run(ctx context.Context, o Options, fn func(ctx context.Context, id string, db *sql.DB) error) (r Result, err error) {
	end, ok := t.Book.Begin(o.Name)
	if !ok {
		return r, errNameInUse
	}
	defer end()
	done := map[string]bool{}
	if o.Name != "" && !o.Again {
		for n, err := range t.notes(ctx, o.Name) {
			if err != nil {
				return r, err
			}
			done[n.ID] = true
		}
	}
	cfg := Config{
		Parallel: max(1, min(orDefault(o.Parallel, DefaultParallel), t.MaxOpen/2)),
		Canary:   orDefault(o.Canary, DefaultCanary), MaxErrors: orDefault(o.MaxErrors, DefaultMaxErrors),
		Timeout: o.Timeout, Patience: patience,
		Hung:     func(id string) func() { return t.Book.hung(o.Name, id) },
		Progress: o.Progress,
		Do:       func(ctx context.Context, id string) error { return t.do(ctx, o.Name, id, fn) },
	}
	for _, e := range t.Fleet.All() {
		switch id := e.ID(); {
		case t.Fleet.Status(e).Removed || !o.Match(id):
		case done[id]:
			cfg.Skipped++
		default:
			cfg.IDs = append(cfg.IDs, id)
		}
	}
	slices.Sort(cfg.IDs)
	if o.DryRun {
		return plan(ctx, cfg)
	}
	r = Run(ctx, cfg)
	if o.Name != "" && r.Done > 0 {
		// The catalog writes what is queued when it is closed, too.
		err := t.Catalog.SetNotes(context.WithoutCancel(ctx))
		if err != nil && !errors.Is(err, catalog.ErrClosed) {
			r.Stopped = errors.Join(r.Stopped, fmt.Errorf("what was done last may be done again, since it could not be noted: %w", err))
		}
	}
	return r, nil
}

var (
	errNameInUse = fmt.Errorf("%w: another call with this name is in progress", conduct.ErrInUse)
	errStillOut  = fmt.Errorf("%w: the function that an earlier call began has not returned", conduct.ErrInUse)
)

// orDefault is n, or what stands for 0; below it there is none, or no bound.
func orDefault(n, otherwise int) int {
	if n == 0 {
		n = otherwise
	}
	return max(n, 0)
}

// do does fn to one database.
func (t *Tenants) do(ctx context.Context, name, id string, fn func(context.Context, string, *sql.DB) error) error {
	if t.Book.isOut(name, id) {
		return errStillOut
	}
	e, err := t.Fleet.Lookup(id)
	if err != nil {
		return t.why(id, err)
	}
	evicted := t.Fleet.Evicted(e)
	if err := t.leased(ctx, name, e, fn); err != nil {
		return err
	}
	if !evicted || !t.Evicts {
		return nil
	}
	// Nobody waits for this: it is given up as soon as somebody wants the database.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), evictTimeout)
	defer cancel()
	if _, err := t.Opener.TryVacate(ctx, e); err != nil {
		t.Fleet.Emit(fleet.Event{Type: fleet.EventState, ID: id, Path: e.Path(), Op: "evict", Err: err})
	}
	return nil
}

// leased leases a database, calls fn, and notes that it is done.
func (t *Tenants) leased(ctx context.Context, name string, e *fleet.Entry, fn func(context.Context, string, *sql.DB) error) error {
	lease, err := t.Opener.LeaseKnown(ctx, e.ID())
	if err != nil {
		return t.why(e.ID(), err)
	}
	defer lease.Release()
	if err := fn(ctx, e.ID(), lease.DB()); err != nil || name == "" {
		return err
	}
	failpoint.Hit("each.done")
	// A note of what a power failure undoes would be a lie.
	if err := t.flush(e.Path()); err != nil {
		return err
	}
	// Before the release, which Close waits for: the catalog is open until then.
	t.Catalog.PutNote(catalog.Note{Kind: kind(name), ID: e.ID(), Value: []byte{1}})
	failpoint.Hit("each.noted")
	return nil
}

// flush writes the log of a database to disk. Without one everything is in the database
// itself, which was flushed when the log went.
func (t *Tenants) flush(path string) error {
	f, err := os.Open(path + "-wal") // it carries no locks
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := errors.Join(t.Flush(f), f.Close()); err != nil {
		return fmt.Errorf("flush the WAL: %w", err)
	}
	return nil
}

// why says what a database that could not be leased means: that it has gone, that all of
// them have, or what is wrong with it.
func (t *Tenants) why(id string, err error) error {
	if end := t.Fleet.Serving(); end != nil {
		return Stop{end}
	}
	if _, gone := t.Fleet.Lookup(id); gone != nil || errors.Is(err, metadata.ErrRemoved) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

// Forget forgets what is noted under a name.
func (t *Tenants) Forget(ctx context.Context, name string) error {
	end, ok := t.Book.Begin(name)
	if !ok {
		return errNameInUse
	}
	defer end()
	const chunk = 5000 // as the catalog writes its records
	var all []catalog.Note
	for n, err := range t.notes(ctx, name) {
		if err != nil {
			return err
		}
		n.Value = nil
		all = append(all, n)
	}
	for some := range slices.Chunk(all, chunk) {
		if err := t.Catalog.SetNotes(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}

// notes yields what is noted under a name, what is still queued as well.
func (t *Tenants) notes(ctx context.Context, name string) iter.Seq2[catalog.Note, error] {
	return func(yield func(catalog.Note, error) bool) {
		if err := t.Catalog.SetNotes(ctx); err != nil {
			yield(catalog.Note{}, err)
			return
		}
		for n, err := range t.Catalog.Notes(ctx, kind(name)) {
			if !yield(n, err) {
				return
			}
		}
	}
}

func kind(name string) string { return "each:" + name }
