package multidb

import (
	"context"
)

// Sync returns when every commit made before the call is at the replica: they
// are durable from then on, whatever happens to this machine. Calls for one
// database at the same time share one upload.
//
// ctx bounds the waiting; the upload goes on. A failing replica is tried once,
// whatever its back-off; the error says why it failed.
func (m *Manager) Sync(ctx context.Context, id ID) (at Pos, err error) {
	ctx, end := span(ctx, m.cfg.tracer, "sync", id)
	defer func() { end(SpanEnd{TXID: at.TXID, Err: err}) }()
	e, err := m.replicated(id)
	if err != nil {
		return Pos{}, opError("sync", id, err)
	}
	txid, err := m.conductor.Sync(ctx, e)
	return Pos{TXID: txid}, opError("sync", id, err)
}
