package multidb

import (
	"context"
	"io"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// claimer is the client of a prefix that nothing was written to yet. It writes
// metadata.json before the first LTX file, and not before there is one: of a file
// that turns out to be corrupt nothing is to be left that looks like a backup. It
// belongs to the run in progress.
type claimer struct {
	litestream.ReplicaClient
	claim func(context.Context) error
	done  bool
}

func (c *claimer) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if !c.done {
		if err := c.claim(ctx); err != nil {
			return nil, err
		}
		c.done = true
	}
	return c.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

// claiming returns the client of an empty prefix that claims it when it is used.
func (m *Manager) claiming(e *entry, client litestream.ReplicaClient) litestream.ReplicaClient {
	return &claimer{ReplicaClient: client, claim: func(ctx context.Context) error {
		return m.claim(ctx, e, client, true, 0)
	}}
}
