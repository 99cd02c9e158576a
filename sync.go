package multidb

import (
	"context"
	"fmt"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/trace"
)

// Sync returns when every commit made before the call is at the replica: they
// are durable from then on, whatever happens to this machine. Calls for one
// database at the same time share one upload.
//
// ctx bounds the waiting; the upload goes on. A failing replica is tried once,
// whatever its back-off; the error says why it failed.
func (m *Manager) Sync(ctx context.Context, id ID) (at Pos, err error) {
	ctx, end := trace.Begin(ctx, m.cfg.tracer, "sync", string(id))
	defer func() { end(SpanEnd{TXID: at.TXID, Err: err}) }()
	e, err := m.replicated(ctx, id)
	if err != nil {
		return Pos{}, opError("sync", id, err)
	}
	txid, err := m.conductor.Sync(ctx, e)
	if err == nil {
		err = m.node.lost(string(id))
	}
	return Pos{TXID: txid}, opError("sync", id, err)
}

// SyncAll is Sync for every database that is known: nil means that every commit made
// before the call, by whatever process, is at the replica. Before a deployment, say, or at
// a moment that is to be found again. It looks at the files of all of them (for 100,000
// that takes about a second), and has those run that may have something left, at most
// WithUploadConcurrency at once: a cold one that is unchanged, or was evicted, costs no
// request. With a fleet log they share its objects.
//
// It goes on where some fail. The error is an *AllError then, with an *Error for each, or
// ErrNoReplica, ErrNotStarted or ErrClosed. Each is tried once, whatever its back-off. ctx
// bounds the waiting; the uploads go on. Those not shipped by then are among the errors,
// with the cause of ctx. Databases that were made since the last scan by other processes
// are not known yet.
func (m *Manager) SyncAll(ctx context.Context) error {
	if err := m.servesReplica(); err != nil {
		return fmt.Errorf("multidb: sync all: %w", err)
	}
	if err := m.node.all(ctx); err != nil {
		return fmt.Errorf("multidb: sync all: %w", err)
	}
	left := m.conductor.SyncAll(ctx)
	if m.node != nil {
		for _, id := range m.node.served.AllLost() {
			if err := m.node.lost(id); err != nil {
				left = append(left, conduct.Unshipped{ID: id, Err: err})
			}
		}
	}
	return unsynced(left)
}

// unsynced is the error of databases that could not be shipped; nil if there are none.
func unsynced(left []conduct.Unshipped) error {
	e := &AllError{Op: "sync"}
	for _, u := range left {
		e.add(ID(u.ID), u.Err)
	}
	return e.orNil()
}
