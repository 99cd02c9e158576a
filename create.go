package multidb

import (
	"context"
	"fmt"
	"time"

	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/store"
)

// How long a new database waits for the replica to say whether it has a backup,
// and for how long nobody asks again once it did not answer: the application
// does not wait for the replica.
const (
	askTimeout = 5 * time.Second
	askPause   = 30 * time.Second
)

// mayMake reports whether a new file may take the place of a missing one: not if
// the replica has a backup, whose newest state an empty database would become.
// It costs one listing, which the first write then need not make again.
//
// A replica that does not answer within 5 s, or did not within the last 30 s, is
// no reason to refuse: the application's writes do not depend on it. If it turns
// out to have a backup when the first of them is to be shipped, that is refused
// with ErrFenced.
func (m *Manager) mayMake(ctx context.Context, e *entry) error {
	if m.cfg.replica == nil || m.cfg.takeover == TakeoverUnknown {
		return nil
	}
	now := m.cfg.now()
	m.mu.Lock()
	silent := !m.silent.IsZero() && now.Sub(m.silent) < askPause && now.Sub(m.silent) >= 0
	m.mu.Unlock()
	if silent {
		m.noteAsked(e, 0)
		return nil
	}
	asked := m.cfg.boot()
	newest, err := m.askBackup(ctx, e)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		m.mu.Lock()
		m.silent = now
		m.mu.Unlock()
		m.cfg.logger.Warn("multidb: new databases are made without knowing whether the replica has them", "id", e.ID, "pause", askPause, "err", err)
		m.noteAsked(e, 0)
		return nil
	case newest != 0:
		return fmt.Errorf("%w, up to transaction %s, and its file %s is missing: restore it first (WithRestoreOnOpen, or Restore), or say that new files shall replace backups (WithTakeover)", ErrBackupExists, newest, e.Path)
	}
	m.noteAsked(e, asked)
	return nil
}

// noteAsked notes when the replica said that it has nothing of a database that is
// about to be made; zero: it said nothing.
func (m *Manager) noteAsked(e *entry, at time.Duration) {
	m.mu.Lock()
	defer m.unlock()
	if !e.item.Running() && !e.Removed { // nobody owns its work
		e.unpack().Asked(at)
	}
}

// askBackup is the last transaction that the replica has of a database; 0: none.
func (m *Manager) askBackup(ctx context.Context, e *entry) (ltx.TXID, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client, err := m.cfg.replica.ReplicaClient(e.database())
	if err != nil {
		return 0, err
	}
	files, err := store.Files(ctx, client, false)
	var newest ltx.TXID
	for _, f := range files {
		newest = max(newest, f.MaxTXID)
	}
	return newest, err
}
