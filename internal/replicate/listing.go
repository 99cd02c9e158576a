package replicate

import (
	"context"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/superfly/ltx"
)

// fromInventory returns a client that answers listings from an inventory.
func fromInventory(client litestream.ReplicaClient, inv *levels.Inventory) litestream.ReplicaClient {
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
