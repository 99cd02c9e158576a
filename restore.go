package multidb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/reading"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/trace"
	"github.com/superfly/ltx"
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
// Errors: ErrExists, ErrNoBackup, which says what the oldest and the newest moment is where
// the one that was asked for is not there, ErrNotFound, ErrNoReplica, as *Error.
func (m *Manager) Restore(ctx context.Context, id ID, opt RestoreOptions) (err error) {
	ctx, end := trace.Begin(ctx, m.cfg.tracer, "restore", string(id))
	defer func() { end(SpanEnd{TXID: opt.TXID, Err: err}) }()
	return opError("restore", id, m.restore(ctx, id, opt))
}

func (m *Manager) restore(ctx context.Context, id ID, opt RestoreOptions) error {
	db, err := m.backedUp(id)
	if err != nil {
		return err
	}
	return m.restoreOf(ctx, db, opt)
}

// ReplicaFiles lists the LTX files that the replica keeps of a database, as the function
// ReplicaFiles does, of any ID that a pattern allows. It costs one LIST of the prefix, with
// exactTimes perhaps a request for each file; with a fleet log, what that has is read too.
// ctx bounds all of it. Errors: ErrNotFound, ErrNoReplica, those of the replica, as *Error.
func (m *Manager) ReplicaFiles(ctx context.Context, id ID, exactTimes bool) ([]*ltx.FileInfo, error) {
	db, err := m.backedUp(id)
	if err != nil {
		return nil, opError("list", id, err)
	}
	return replicaFiles(ctx, m.cfg.replica, m.cfg.logged().Path, databaseOf(db), exactTimes)
}

// backedUp is a database that is known, or that would be if it had a file here.
func (m *Manager) backedUp(id ID) (registry.Database, error) {
	if m.cfg.replica == nil {
		return registry.Database{}, ErrNoReplica
	}
	e, err := m.fleet.Lookup(string(id))
	if err == nil {
		return e.Database(), nil
	} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotDatabase) && !errors.Is(err, ErrRemoved) {
		return registry.Database{}, err
	}
	db, _, ok := m.survey.Locate(string(id))
	if !ok {
		return registry.Database{}, ErrNotFound
	}
	return db, nil
}

func (m *Manager) restoreOf(ctx context.Context, db registry.Database, opt RestoreOptions) error {
	return restoreDatabase(ctx, func() (litestream.ReplicaClient, error) {
		return readingClient(m.cfg.replica, m.cfg.logged().Path, databaseOf(db))
	}, opt, m.cfg.logger)
}

// restoreDatabase makes the database file from what a client reads. logger may be nil.
func restoreDatabase(ctx context.Context, open func() (litestream.ReplicaClient, error), opt RestoreOptions, logger *slog.Logger) error {
	switch {
	case opt.OutputPath == "":
		return fmt.Errorf("%w: RestoreOptions.OutputPath is empty", ErrInvalidOption)
	case opt.TXID != 0 && !opt.Timestamp.IsZero():
		return fmt.Errorf("%w: RestoreOptions has both a TXID and a Timestamp", ErrInvalidOption)
	case !opt.IntegrityCheck.valid():
		return fmt.Errorf("%w: RestoreOptions.IntegrityCheck is %d", ErrInvalidOption, int(opt.IntegrityCheck))
	}
	client, err := open()
	if err != nil {
		return err
	}
	if c, ok := client.(*reading.Client); ok && (opt.TXID != 0 || !opt.Timestamp.IsZero()) {
		c.History()
	}
	return restore.Newest(ctx, client, restore.Options{
		Output: opt.OutputPath, TXID: opt.TXID, Timestamp: opt.Timestamp,
		Check: opt.IntegrityCheck.depth(), Unchecked: opt.IntegrityCheck == IntegrityNone,
		Warn: opt.Warn, TempDir: opt.TempDir, Logger: logger,
	})
}

// RestoreFrom is Manager.Restore without a Manager: it makes a database file
// from what factory keeps of db, which a TenantLister or a Discoverer yielded or
// the caller made. Of db it takes what the factory's template expands.
//
// If the metadata.json of db names a fleet log, that is read too. For many databases,
// and for those that only the log has, ReadFleetLog reads it once.
//
// It may run at any time, also beside a Manager that replicates the database,
// here or elsewhere. ctx bounds all of it. Errors: ErrExists, ErrNoBackup,
// ErrInvalidOption, as *Error. Safe for concurrent use.
func RestoreFrom(ctx context.Context, factory ReplicaFactory, db Database, opt RestoreOptions) error {
	return opError("restore", db.ID, restoreDatabase(ctx, func() (litestream.ReplicaClient, error) { return readingClient(factory, "", db) }, opt, nil))
}

// ReplicaFiles lists the LTX files that factory keeps of db, by level, then by
// TXID. Those of level 9 are snapshots, each of which restores alone; what the
// last file ends at is what a restore gets. With exactTimes, CreatedAt is the
// time of the commit, which may cost a request for each file; otherwise it may
// be that of the upload. The error is an *Error. What only the fleet log has, which
// metadata.json names, is in level 0; see RestoreFrom.
func ReplicaFiles(ctx context.Context, factory ReplicaFactory, db Database, exactTimes bool) ([]*ltx.FileInfo, error) {
	return replicaFiles(ctx, factory, "", db, exactTimes)
}

func replicaFiles(ctx context.Context, factory ReplicaFactory, log string, db Database, exactTimes bool) ([]*ltx.FileInfo, error) {
	client, err := readingClient(factory, log, db)
	if err != nil {
		return nil, opError("list", db.ID, err)
	}
	files, err := store.Files(ctx, client, exactTimes)
	return files, opError("list", db.ID, err)
}

// UnpackFrom is Manager.Unpack without a Manager: it writes to the prefix of db what the
// fleet log has of it, and returns the last transaction of that; zero if the prefix lacks
// nothing. It does so from the replica alone, also beside the Manager that writes the log,
// and needs the right to write. What that Manager writes later is not unpacked. factory is
// best one of ReadFleetLog, so that the log is read once for many databases.
//
// ctx bounds all of it. The error is an *Error. Safe for concurrent use, with one call at
// a time for each database.
func UnpackFrom(ctx context.Context, factory ReplicaFactory, db Database) (TXID, error) {
	client, err := readingClient(factory, "", db)
	if err != nil {
		return 0, opError("unpack", db.ID, err)
	}
	c, ok := client.(*reading.Client)
	if !ok {
		return 0, nil
	}
	txid, err := c.Unpack(ctx)
	return txid, opError("unpack", db.ID, err)
}

// IntegrityCheck says how a restored database is checked before it appears under
// its name. Damage fails the restore with ErrCorrupt, whatever the check that finds
// it. What is no damage is a warning: rows that break a NOT NULL, a CHECK, a UNIQUE
// or a type, which the application may have written before there was that rule,
// and what could not be compared since it needs a function, a collation, a
// tokenizer or a syntax that this SQLite lacks, or too much memory or time.
//
// A check runs no function of the application, and what a schema computes gets
// about 256 MB of memory, and 10 s and a second for each MB of the database: it may
// be anybody's.
type IntegrityCheck int

const (
	// IntegrityFull compares every row with its indexes, beside what IntegrityQuick
	// does. It reads all of the database, and takes about as much CPU as the restore
	// itself: 3 ms for 1 MB, 1 ms for 100 KB, more with indexes. It is the default, the
	// zero value.
	IntegrityFull IntegrityCheck = iota
	// IntegrityQuick checks the structure of the file and the rules of its rows.
	// It reads all of the database, and takes much less time where there are
	// indexes.
	IntegrityQuick
	// IntegrityNone trusts the checksums of the LTX files.
	IntegrityNone
)

var integrityNames = [...]string{"full", "quick", "none"}

func (c IntegrityCheck) String() string {
	if c.valid() {
		return integrityNames[c]
	}
	return fmt.Sprintf("IntegrityCheck(%d)", int(c))
}

func (c IntegrityCheck) valid() bool { return c >= 0 && int(c) < len(integrityNames) }

// MarshalText writes full, quick or none.
func (c IntegrityCheck) MarshalText() ([]byte, error) {
	if !c.valid() {
		return nil, fmt.Errorf("%w: %v", ErrInvalidOption, c)
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads full, quick or none; the error wraps ErrInvalidOption.
func (c *IntegrityCheck) UnmarshalText(text []byte) error {
	for i, name := range integrityNames {
		if string(text) == name {
			*c = IntegrityCheck(i)
			return nil
		}
	}
	return fmt.Errorf("%w: integrity check %q: write none, quick or full", ErrInvalidOption, text)
}

// depth is what internal/sqlitedb calls it, of any but IntegrityNone.
func (c IntegrityCheck) depth() sqlitedb.Depth {
	if c == IntegrityQuick {
		return sqlitedb.Quick
	}
	return sqlitedb.Full
}
