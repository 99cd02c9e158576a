package multidb

import (
	"cmp"
	"context"
	"errors"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/untrusted"
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
	files, err := listFiles(ctx, client, exactTimes)
	return files, opError("list", db.ID, err)
}

// listFiles returns every LTX file of a prefix, in one listing where the client
// can, level by level otherwise.
func listFiles(ctx context.Context, client litestream.ReplicaClient, exactTimes bool) ([]*ltx.FileInfo, error) {
	if l, ok := client.(FileLister); ok {
		all, err := l.AllLTXFiles(ctx, exactTimes)
		if err == nil {
			err = untrusted.CheckFiles(len(all), untrusted.MaxFiles)
		}
		if err != nil {
			return nil, err
		}
		return all, nil
	}
	var all []*ltx.FileInfo
	for level := range litestream.SnapshotLevel + 1 {
		itr, err := client.LTXFiles(ctx, level, 0, exactTimes)
		if err != nil {
			return nil, err
		}
		for err == nil && itr.Next() {
			all = append(all, itr.Item())
			err = untrusted.CheckFiles(len(all), untrusted.MaxFiles)
		}
		if err = cmp.Or(err, itr.Err()); err != nil {
			return nil, errors.Join(err, itr.Close())
		}
		if err := itr.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
