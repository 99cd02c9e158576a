package multidb

import (
	"context"
	"fmt"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// How long a new database waits for the replica to say whether it has a backup,
// and for how long nobody asks again once it did not answer: the application
// does not wait for the replica.
const (
	askTimeout = 5 * time.Second
	askPause   = 30 * time.Second
)

// vacantFor is for how long an answer that a prefix is empty spares the listing
// before the first write. That write is create-only in any case.
const vacantFor = time.Minute

// mayMake reports whether a new file may take the place of a missing one: not if
// the replica has a backup, whose newest state an empty database would become.
// It costs one listing, which the first write then need not make again.
//
// A replica that does not answer within 5 s, or did not within the last 30 s, is
// no reason to refuse: the application's writes do not depend on it. If it turns
// out to have a backup when the first of them is to be shipped, that is refused
// with ErrFenced.
func (m *Manager) mayMake(ctx context.Context, e *entry) error {
	if m.cfg.replica == nil || m.cfg.mayReplaceBackup != nil && m.cfg.mayReplaceBackup(e.db.ID) {
		return nil
	}
	now := m.cfg.now()
	m.mu.Lock()
	silent := !m.silent.IsZero() && now.Sub(m.silent) < askPause && now.Sub(m.silent) >= 0
	m.mu.Unlock()
	if silent {
		m.noteAsked(e, time.Time{})
		return nil
	}
	newest, err := m.askBackup(ctx, e)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		m.mu.Lock()
		m.silent = now
		m.mu.Unlock()
		m.cfg.logger.Warn("multidb: new databases are made without knowing whether the replica has them", "id", string(e.db.ID), "pause", askPause, "err", err)
		m.noteAsked(e, time.Time{})
		return nil
	case newest != 0:
		return fmt.Errorf("%w, up to transaction %s, and its file %s is missing: restore it first (WithRestoreOnOpen, or Restore), or say that the new one shall replace it (WithTakeover)", ErrBackupExists, newest, e.db.Path)
	}
	m.noteAsked(e, now)
	return nil
}

// noteAsked notes when the replica said that it has nothing of a database that is
// about to be made; zero: it said nothing.
func (m *Manager) noteAsked(e *entry, at time.Time) {
	m.mu.Lock()
	defer m.unlock()
	if !e.item.Running() && !e.removed { // nobody owns its work
		w := e.unpack()
		w.vacant, w.unasked = at, at.IsZero()
	}
}

// askBackup is the last transaction that the replica has of a database; 0: none.
func (m *Manager) askBackup(ctx context.Context, e *entry) (ltx.TXID, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client, err := m.cfg.replica.ReplicaClient(e.db.database())
	if err != nil {
		return 0, err
	}
	files, err := listFiles(ctx, client, false)
	var newest ltx.TXID
	for _, f := range files {
		newest = max(newest, f.MaxTXID)
	}
	return newest, err
}

// listPrefix lists what the replica has of a database before the first write,
// unless that was asked just now. Only for the owner of w. It returns ErrFenced if
// there is something of a database that was made without asking.
func (m *Manager) listPrefix(ctx context.Context, w *work, client litestream.ReplicaClient) ([]*ltx.FileInfo, error) {
	asked, now := w.vacant, m.cfg.now()
	w.vacant = time.Time{}
	// By both clocks: the monotonic one stands still while the machine sleeps.
	if age := max(now.Sub(asked), now.Round(0).Sub(asked.Round(0))); !asked.IsZero() && age >= 0 && age < min(vacantFor, m.cfg.l0Retention/2) {
		return nil, nil
	}
	files, err := listFiles(ctx, client, false)
	if err == nil && w.unasked && len(files) > 0 {
		return nil, fmt.Errorf("%w: %w, which did not answer when the file was made: move the file away and restore the backup (WithRestoreOnOpen, or Restore), or say that the file shall replace it (WithTakeover)", ErrFenced, ErrBackupExists)
	}
	w.unasked = w.unasked && err != nil
	return files, err
}
