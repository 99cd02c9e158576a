// Package catalog keeps who exists, where, and at what position: one record per
// database, in one embedded SQLite file in the state directory. It is sized for
// 100,000 to 1,000,000 records.
//
// # What it promises
//
//   - One process at a time has a state directory; the kernel frees it however
//     that process ends.
//   - Put costs no I/O. Flush writes what was put in few transactions; after
//     kill -9 the file holds what was flushed, after a power failure possibly
//     an older state of it, but never half a transaction.
//   - Positions in a catalog that was not closed may be outdated: see
//     ClosedCleanly.
//   - A damaged file never keeps a program from starting: it is moved aside,
//     since losing the catalog costs one resync per database and no data.
//
// # Locking
//
// Catalog.writer is taken before Catalog.mu. No I/O and no callback under mu.
package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Errors of opening.
var (
	// ErrLocked is returned by Open when another Catalog, in this process or
	// another, has the state directory.
	ErrLocked = errors.New("state directory is in use")
	// ErrNewerFormat is returned by Open when a newer version of this program
	// wrote the catalog. The file is left as it is.
	ErrNewerFormat = errors.New("catalog was written by a newer version")
)

// ErrClosed is returned by all methods once Close has succeeded, and by Load as
// soon as Close has been called.
var ErrClosed = errors.New("catalog closed")

// Options are optional; the zero value is the default.
type Options struct {
	// OnError gets the errors that no caller can get: a failed flush by Run, a
	// damaged record left out by Load, a Put or Delete after Close. It is called
	// without locks held, from the goroutine in which the error occurred. Nil: these
	// errors are not reported, though failed flushes are still tried again.
	OnError func(error)
}

// Catalog is the open catalog of one state directory. Safe for concurrent use.
type Catalog struct {
	path    string // of the database file
	db      *sql.DB
	lock    *os.File
	nodeID  uint64 // names this state directory among others: random, not zero, kept until the catalog is lost
	clean   bool
	damage  error // what Recovered returns
	onError func(error)

	// writer is held, by sending to it, while records are written and while the
	// catalog is closed.
	writer chan struct{}
	// dirty wakes Run when the queue is no longer empty.
	dirty chan struct{}
	// gone is closed when the catalog is, which ends Run.
	gone chan struct{}
	// stop ends running Loads.
	stop    context.Context
	endStop context.CancelFunc

	mu       sync.Mutex // guards all below
	queue    map[string]change
	notes    map[noteKey][]byte // queued ones; nil values delete
	batch    *noteBatch         // waits for the right to write; nil: none
	stopping bool
	closed   bool
	loads    int
	loadless chan struct{} // closed when loads falls to 0; nil without loads
}

// Open opens the catalog in dir, creating both where missing, the directory with
// mode 0700 and files with 0600. It reads the whole file once to verify it, but
// keeps no record in memory.
//
// A catalog that is damaged, or that is not one, is moved aside and replaced by
// an empty one with a new node ID: see Recovered. ctx bounds Open only.
//
// Errors: ErrLocked, ErrNewerFormat, and those of the file system.
func Open(ctx context.Context, dir string, opts Options) (_ *Catalog, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("catalog: cannot create the state directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	c := &Catalog{
		path:    filepath.Join(dir, "catalog.db"),
		lock:    lock,
		onError: opts.OnError,
		writer:  make(chan struct{}, 1),
		dirty:   make(chan struct{}, 1),
		gone:    make(chan struct{}),
		queue:   make(map[string]change),
		notes:   make(map[noteKey][]byte),
	}
	if c.onError == nil {
		c.onError = func(error) {}
	}
	if err := c.openFile(ctx); err != nil {
		return nil, fmt.Errorf("catalog: %s: %w", c.path, err)
	}
	c.stop, c.endStop = context.WithCancel(context.Background())
	return c, nil
}

// ClosedCleanly reports whether the last owner closed this catalog, so that its
// records are up to date. False after a crash, after Abandon, and for a new
// catalog: positions are then a hint, to be checked against the replica.
func (c *Catalog) ClosedCleanly() bool { return c.clean }

// Recovered returns a *DamagedError if Open found a damaged or foreign file and
// began a new catalog, else nil.
func (c *Catalog) Recovered() error { return c.damage }

// Close writes what is queued, closes the file and frees the directory. ctx
// bounds the waiting and, between transactions of a few thousand records, the
// writing. If it fails before the file is closed, nothing is lost: the catalog
// stays locked and usable, except for Load, and Close may be called again. After
// it has succeeded, Close does nothing and returns nil.
func (c *Catalog) Close(ctx context.Context) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	if c.isClosed() {
		return nil
	}
	if err := c.stopLoads(ctx); err != nil {
		return fmt.Errorf("catalog: waiting for records being read: %w", err)
	}
	for done := false; !done; {
		if err := c.flush(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		done = len(c.queue)+len(c.notes) == 0 // else something was put meanwhile
		c.closed = done
		c.mu.Unlock()
	}
	if err := c.markClean(ctx, true); err != nil {
		c.mu.Lock()
		c.closed = false
		c.mu.Unlock()
		return fmt.Errorf("catalog: %s: %w", c.path, err)
	}
	return c.closeFile()
}

// Abandon closes the catalog without writing what is queued, as a crash would:
// the next owner finds it not closed cleanly. It is for an owner whose Close
// keeps failing. It waits for a running Flush or Load, so a loop over Load must
// not call it.
func (c *Catalog) Abandon() error {
	ctx := context.Background()
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	if c.isClosed() {
		return nil
	}
	if err := c.stopLoads(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.closed = true
	c.queue, c.notes = nil, nil
	c.mu.Unlock()
	return c.closeFile()
}

// closeFile ends the catalog. The directory is freed last, whatever happens.
func (c *Catalog) closeFile() error {
	close(c.gone)
	err := errors.Join(c.db.Close(), c.lock.Close())
	if err != nil {
		return fmt.Errorf("catalog: %s: %w", c.path, err)
	}
	return nil
}

// acquire takes the right to write.
func (c *Catalog) acquire(ctx context.Context) error {
	select {
	case c.writer <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("catalog: waiting for records being written: %w", ctx.Err())
	}
}

func (c *Catalog) release() { <-c.writer }

func (c *Catalog) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
