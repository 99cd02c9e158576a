package multidb

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
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// RestoreOptions says what to restore, and where to. With neither TXID nor
// Timestamp it is the newest state.
type RestoreOptions struct {
	// OutputPath is the database file to make. Required; it must not exist, and
	// neither must a WAL or a journal beside it. Missing directories are made.
	OutputPath string
	// TXID restores the state at exactly this transaction, if the replica still
	// has a file that ends there.
	TXID TXID
	// Timestamp restores the newest state written before it.
	Timestamp time.Time
	// IntegrityCheck is how the result is checked. Zero: IntegrityFull.
	IntegrityCheck IntegrityCheck
	// Warn is called with each thing that the check found and that is no damage,
	// one line each, 21 at most; see IntegrityCheck. It is called by the goroutine
	// that restores, before the file appears. Nil: Manager.Restore logs them,
	// RestoreFrom leaves them out.
	Warn func(warning string)
	// TempDir is where the unfinished file is kept, in a directory of its own: an
	// existing directory, so that what a crash leaves can be cleared up. Empty, or
	// on another file system or mount than OutputPath: beside OutputPath.
	TempDir string
}

// Restore makes a database file from the replica, of any ID that a pattern
// allows, whether or not it exists here: also on a new machine, and also from a
// prefix that litestream wrote itself. The file appears under its name only when
// it is complete, checked and on disk; nothing is ever overwritten. It has the
// mode that the database had when its replication began, and, where this process may
// do that, the owner; where the replica does not know them, those of a new file.
//
// It may run at any time after Start, beside replication. ctx bounds all of it.
// Errors: ErrExists, ErrNoBackup, ErrNotFound, ErrNoReplica, as *Error.
func (m *Manager) Restore(ctx context.Context, id ID, opt RestoreOptions) error {
	return opError("restore", id, m.restore(ctx, id, opt))
}

func (m *Manager) restore(ctx context.Context, id ID, opt RestoreOptions) error {
	if m.cfg.replica == nil {
		return ErrNoReplica
	}
	var db Database
	if e, err := m.lookup(id); err == nil {
		db = e.database()
	} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotDatabase) {
		return err
	} else if at, _, ok := m.locate(id); ok {
		db = at
	} else {
		return ErrNotFound
	}
	return restoreDatabase(ctx, m.cfg.replica, db, opt, m.cfg.logger)
}

// restoreDatabase makes the database file from what the factory keeps of db.
// logger may be nil.
func restoreDatabase(ctx context.Context, factory ReplicaFactory, db Database, opt RestoreOptions, logger *slog.Logger) error {
	switch {
	case opt.OutputPath == "":
		return fmt.Errorf("%w: RestoreOptions.OutputPath is empty", ErrInvalidOption)
	case opt.TXID != 0 && !opt.Timestamp.IsZero():
		return fmt.Errorf("%w: RestoreOptions has both a TXID and a Timestamp", ErrInvalidOption)
	case !opt.IntegrityCheck.valid():
		return fmt.Errorf("%w: RestoreOptions.IntegrityCheck is %d", ErrInvalidOption, int(opt.IntegrityCheck))
	}
	// Before the listing, which costs a request.
	if err := localfile.Vacant(opt.OutputPath); err != nil {
		return err
	}
	client, err := factory.ReplicaClient(db)
	if err != nil {
		return err
	}
	from, err := store.RestoreClient(ctx, client, !opt.Timestamp.IsZero())
	if err != nil {
		return err
	}
	return restoreClient(ctx, client, from, opt, logger)
}

// restoreFrom makes the database file from one client. store is asked for its metadata.
func (m *Manager) restoreFrom(ctx context.Context, store, client litestream.ReplicaClient, opt RestoreOptions) error {
	return restoreClient(ctx, store, client, opt, m.cfg.logger)
}

func restoreClient(ctx context.Context, store, client litestream.ReplicaClient, opt RestoreOptions, logger *slog.Logger) (err error) {
	out, err := filepath.Abs(opt.OutputPath)
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
			return err // before the download
		}
		dir = opt.TempDir
	}
	// A directory of its own beside the target: no discoverer takes what is in
	// it for a database, and it is on the same file system.
	tmp, err := os.MkdirTemp(dir, localfile.TempPattern)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	ropt := litestream.NewRestoreOptions()
	ropt.OutputPath = filepath.Join(tmp, "db")
	ropt.TXID, ropt.Timestamp = opt.TXID, opt.Timestamp
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	client.SetLogger(logger)
	err = litestream.NewReplicaWithClient(nil, untrusted.Client(client)).Restore(ctx, ropt)
	switch {
	case errors.Is(err, litestream.ErrTxNotAvailable), errors.Is(err, litestream.ErrNoSnapshots):
		return fmt.Errorf("%w: %w", ErrNoBackup, err)
	case err != nil:
		return err
	}
	if err := checkRestored(ctx, ropt.OutputPath, opt, logger); err != nil {
		return fmt.Errorf("the restored database: %w", err)
	}
	who, err := metadata.AccessAt(ctx, store)
	if err != nil && ctx.Err() != nil {
		return err
	} else if err != nil && opt.Warn != nil {
		opt.Warn(err.Error())
	} else if err != nil {
		logger.Warn("multidb: restore", "path", out, "err", err)
	}
	if err := who.Give(ropt.OutputPath); err != nil {
		return err
	}
	return localfile.Publish(ropt.OutputPath, out)
}
