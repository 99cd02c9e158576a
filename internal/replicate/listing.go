package replicate

import (
	"cmp"
	"context"
	"errors"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// FileLister is an optional interface of a replica client: all LTX files of the prefix
// in one listing.
type FileLister interface {
	AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error)
}

// FromInventory is a client that answers listings from an inventory.
func FromInventory(client litestream.ReplicaClient, inv *levels.Inventory) litestream.ReplicaClient {
	return inventoryClient{client, inv}
}

// inventoryClient answers listings from an inventory.
type inventoryClient struct {
	litestream.ReplicaClient
	inv *levels.Inventory
}

func (c inventoryClient) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	var a []*ltx.FileInfo
	for f := range c.inv.Files(level) {
		if f.MinTXID >= seek {
			a = append(a, f)
		}
	}
	return ltx.NewFileInfoSliceIterator(a), nil
}

// ListFiles returns every LTX file of a prefix, in one listing where the client
// can, level by level otherwise.
func ListFiles(ctx context.Context, client litestream.ReplicaClient, exactTimes bool) ([]*ltx.FileInfo, error) {
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
