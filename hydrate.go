package multidb

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
)

// hydrate makes the missing file of a database from the replica. It returns
// ErrNoBackup if there is nothing to make it from. The pool calls it once for
// any number of callers.
func (m *Manager) hydrate(ctx context.Context, e *entry) error {
	client, err := m.cfg.replica.ReplicaClient(e.database())
	if err != nil {
		return err
	}
	opt := restore.Options{
		Check: m.cfg.integrity.depth(), Unchecked: m.cfg.integrity == IntegrityNone,
		Warn: func(warning string) {
			m.emit(Event{Type: EventIntegrity, ID: e.id(), Path: e.Path, Err: errors.New(warning)})
		},
	}
	if opt.TempDir, err = m.spoolFor(e.Path); err != nil {
		return err
	}
	missing := replicate.Missing{Path: e.Path, Client: client, Opt: opt}
	m.mu.Lock()
	if gone, ok := m.absent.Get(e.ID, m.cfg.boot()); ok {
		missing.Known = &gone
	}
	m.mu.Unlock()
	now, err := m.replicator.Restore(ctx, missing)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.unlock()
	m.absent.Remove(e.ID)
	// Not running under the lock means that nobody owns e.state.
	if !e.item.Running() && !now.Position.Print.IsZero() {
		st := replicate.Restored(now)
		e.state, e.packed = &st, ""
		e.health.txid = now.Position.TXID
	}
	return nil
}

// spoolFor is where a file that is to be linked to path is made: in the state
// directory, where the next Start clears up what a crash leaves, if that is on
// the same file system; "" if it is not: beside path.
func (m *Manager) spoolFor(path string) (string, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	spool := filepath.Join(m.dir, spoolDir)
	if !fsid.SameMount(dir, spool) {
		return "", nil
	}
	return spool, nil
}

// dropPages deletes the page hashes of a database that is known no more.
func (m *Manager) dropPages(id ID) {
	if m.cfg.replica == nil {
		return
	}
	m.mu.Lock()
	known := m.reg.Get(string(id)) != nil // again
	m.unlock()
	if known {
		return
	}
	if err := m.replicator.DropPages(string(id)); err != nil {
		m.emit(Event{Type: EventState, ID: id, Err: err})
	}
}
