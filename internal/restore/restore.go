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
	return From(ctx, client, from, opt)
}

// From is Newest with two clients: it lists and reads the LTX files with client, which may
// answer listings from memory, and reads metadata.json with prefix.
func From(ctx context.Context, prefix, client litestream.ReplicaClient, opt Options) (err error) {
	out, err := filepath.Abs(opt.Output)
	if err != nil {
		return err
	}
	if err := localfile.Vacant(out); err != nil {
		return err
	}
	dir := filepath.Dir(out)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if opt.TempDir != "" && fsid.SameMount(opt.TempDir, dir) {
		if err := localfile.MayWriteTo(dir); err != nil {
			return err // now, and not after the download
		}
		dir = opt.TempDir
	}
	// The unfinished file has a directory of its own, in which no discoverer takes it for
	// a database, on the file system of the target.
	tmp, err := os.MkdirTemp(dir, localfile.TempPattern)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	path := filepath.Join(tmp, "db")
	logger := opt.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	client.SetLogger(logger)
	err = database(ctx, untrusted.Client(client), opt, path, logger)
	switch {
	case errors.Is(err, litestream.ErrTxNotAvailable), errors.Is(err, litestream.ErrNoSnapshots):
		return fmt.Errorf("%w: %w", ErrNoBackup, err)
	case err != nil:
		return err
	}
	if err := check(ctx, path, opt, logger); err != nil {
		return fmt.Errorf("the restored database: %w", err)
	}
	md, err := metadata.At(ctx, prefix)
	if err != nil && ctx.Err() != nil {
		return err
	} else if err != nil && opt.Warn != nil {
		opt.Warn(err.Error())
	} else if err != nil {
		logger.Warn("multidb: restore", "path", out, "err", err)
	}
	if md.FleetLog != "" && opt.OtherLog != nil {
		if err := opt.OtherLog(ctx, md.FleetLog); err != nil {
			return err
		}
	}
	if err := md.Access().Give(path); err != nil {
		return err
	}
	return localfile.Publish(path, out)
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
