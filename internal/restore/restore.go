// Package restore makes a database file from what a replica holds. The file gets its name
// only when it is complete, checked and flushed to disk. Nothing is ever overwritten. The
// package has no state.
package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// ErrNoBackup: the replica has no backup, or none of the requested state.
var ErrNoBackup = errors.New("no backup found")

// Options says what to restore, and where to. The fields mean what those of
// multidb.RestoreOptions do.
type Options struct {
	Output    string
	TXID      ltx.TXID  // of the state to restore; zero: see Timestamp
	Timestamp time.Time // the state before that time; zero too: the newest state
	Check     sqlitedb.Depth
	Unchecked bool                 // no check at all, whatever Check is
	Warn      func(warning string) // nil: warnings go to Logger
	TempDir   string               // for the unfinished file; "": beside Output
	Logger    *slog.Logger         // nil: none
	// OtherLog is asked, before the file appears, whether it may although the client may
	// not read the fleet log that metadata.json names; nil: it may.
	OtherLog func(ctx context.Context, dir string) error
	// Serve: the file is to be put into service, which metadata.json may forbid
	// (metadata.ErrRemoved).
	Serve bool
}

// Newest restores what opt asks for from a client of a prefix. It lists the prefix first.
func Newest(ctx context.Context, client litestream.ReplicaClient, opt Options) error {
	// This comes before the listing, which costs a request.
	if err := localfile.Vacant(opt.Output); err != nil {
		return err
	}
	from, err := store.RestoreClient(ctx, client, !opt.Timestamp.IsZero())
	if err != nil {
		return err
	}
	_, err = From(ctx, client, from, opt)
	return err
}

// Made is what a database was restored from, and when.
type Made struct {
	// Header and Sum are of the newest file; zero for a backup of litestream 0.3.
	Header ltx.Header
	Sum    ltx.Checksum
	// Mtime is that of the database, in nanoseconds, set before it got its name. 0: it
	// could not be set.
	Mtime int64
}

// From is Newest with two clients: it lists and reads the LTX files with client, which may
// answer listings from memory, and reads metadata.json with prefix, at the same time.
func From(ctx context.Context, prefix, client litestream.ReplicaClient, opt Options) (made Made, err error) {
	out, err := filepath.Abs(opt.Output)
	if err != nil {
		return made, err
	}
	if err := localfile.Vacant(out); err != nil {
		return made, err
	}
	dir := filepath.Dir(out)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return made, err
	}
	if opt.TempDir != "" && fsid.SameMount(opt.TempDir, dir) {
		if err := localfile.MayWriteTo(dir); err != nil {
			return made, err // now, and not after the download
		}
		dir = opt.TempDir
	}
	// The unfinished file has a directory of its own, in which no discoverer takes it for
	// a database, on the file system of the target.
	tmp, err := os.MkdirTemp(dir, localfile.TempPattern)
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	path := filepath.Join(tmp, "db")
	logger := opt.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	client.SetLogger(logger)
	md := described{prefix: prefix}
	defer md.stop()
	made, err = database(ctx, untrusted.Client(client), opt, path, logger, func() { md.begin(ctx) })
	switch {
	case errors.Is(err, ErrNoBackup):
		return made, err
	case errors.Is(err, litestream.ErrTxNotAvailable), errors.Is(err, litestream.ErrNoSnapshots):
		return made, fmt.Errorf("%w: %w", ErrNoBackup, err)
	case err != nil:
		return made, err
	}
	if err := check(ctx, path, opt, logger); err != nil {
		return made, fmt.Errorf("the restored database: %w", err)
	}
	is, err := md.get()
	if err != nil && ctx.Err() != nil {
		return made, err
	} else if err != nil && opt.Warn != nil {
		opt.Warn(err.Error())
	} else if err != nil {
		logger.Warn("multidb: restore", "path", out, "err", err)
	}
	if err := is.Unusable(); err != nil && opt.Serve {
		return made, err
	}
	if is.FleetLog != "" && opt.OtherLog != nil {
		if err := opt.OtherLog(ctx, is.FleetLog); err != nil {
			return made, err
		}
	}
	made.Mtime = setBack(path)
	if err := is.Access().Give(path); err != nil {
		return made, err
	}
	return made, localfile.Publish(path, out)
}

// setBackBy is more than the granularity of any file system's clock.
const setBackBy = 5 * time.Second

// setBack makes a file look older than it is, so that whatever is written to it once it has
// a name changes its mtime for certain, and nobody has to wait until the clock has gone on.
// It returns the mtime; 0 if there is no such thing here, and then they wait.
func setBack(path string) int64 {
	was, err := fsid.Stat(path)
	if err != nil {
		return 0
	}
	if os.Chtimes(path, time.Time{}, time.Unix(0, was.Mtime).Add(-setBackBy)) != nil {
		return 0
	}
	now, err := fsid.Stat(path)
	if err != nil {
		return 0
	}
	return now.Mtime
}

// described reads metadata.json while the LTX files are read.
type described struct {
	prefix litestream.ReplicaClient
	cancel context.CancelFunc
	wg     sync.WaitGroup
	md     metadata.Metadata
	err    error
}

// begin begins to read. It is called once at most.
func (d *described) begin(ctx context.Context) {
	ctx, d.cancel = context.WithCancel(ctx)
	d.wg.Go(func() { d.md, d.err = metadata.At(ctx, d.prefix) })
}

// get waits for what was read.
func (d *described) get() (metadata.Metadata, error) {
	d.wg.Wait()
	return d.md, d.err
}

func (d *described) stop() {
	if d.cancel != nil {
		d.cancel()
	}
	d.wg.Wait()
}

// check checks a restored file before it gets its name.
func check(ctx context.Context, path string, opt Options, logger *slog.Logger) error {
	if opt.Unchecked {
		return nil
	}
	warnings, err := sqlitedb.CheckIntegrity(ctx, path, opt.Check)
	if err != nil {
		return err
	}
	warn := opt.Warn
	if warn == nil {
		warn = func(warning string) {
			logger.Warn("multidb: restored, with a warning", "path", opt.Output, "warning", warning)
		}
	}
	for _, w := range warnings {
		warn(w)
	}
	return nil
}
