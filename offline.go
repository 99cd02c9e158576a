package multidb

import (
	"context"

	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// RestoreFrom is Manager.Restore without a Manager: it makes a database file
// from what factory keeps of db, which a TenantLister or a Discoverer yielded or
// the caller made. Of db it takes what the factory's template expands.
//
// It may run at any time, also beside a Manager that replicates the database,
// here or elsewhere. ctx bounds all of it. Errors: ErrExists, ErrNoBackup,
// ErrInvalidOption, as *Error. Safe for concurrent use.
func RestoreFrom(ctx context.Context, factory ReplicaFactory, db Database, opt RestoreOptions) error {
	return opError("restore", db.ID, restoreDatabase(ctx, factory, db, opt, nil))
}

// ReplicaFiles lists the LTX files that factory keeps of db, by level, then by
// TXID. Those of level 9 are snapshots, each of which restores alone; what the
// last file ends at is what a restore gets. With exactTimes, CreatedAt is the
// time of the commit, which may cost a request for each file; otherwise it may
// be that of the upload. The error is an *Error.
func ReplicaFiles(ctx context.Context, factory ReplicaFactory, db Database, exactTimes bool) ([]*ltx.FileInfo, error) {
	client, err := factory.ReplicaClient(db)
	if err != nil {
		return nil, opError("list", db.ID, err)
	}
	files, err := store.Files(ctx, client, exactTimes)
	return files, opError("list", db.ID, err)
}
