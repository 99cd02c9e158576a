package multidb

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// hydrate makes the missing file of a database from the replica. It returns
// ErrNoBackup if there is nothing to make it from. The pool calls it once for
// any number of callers.
func (m *Manager) hydrate(ctx context.Context, e *entry) error {
	client, err := m.cfg.replica.ReplicaClient(e.database())
	if err != nil {
		return err
	}
	began := m.cfg.boot()
	inv, err := m.inventoryOf(ctx, e, client)
	if err != nil {
		return err
	}
	opt := RestoreOptions{OutputPath: e.Path, IntegrityCheck: m.cfg.integrity, Warn: func(warning string) {
		m.emit(Event{Type: EventIntegrity, ID: e.id(), Path: e.Path, Err: errors.New(warning)})
	}}
	if opt.TempDir, err = m.spoolFor(e.Path); err != nil {
		return err
	}
	if inv.Len() == 0 { // nothing, or litestream's 0.3 layout
		from, err := store.RestoreClient(ctx, client, false)
		if err != nil {
			return err
		}
		return m.restoreFrom(ctx, client, from, opt)
	}
	plan, err := inv.RestorePlan(ctx, 0, time.Time{})
	if err != nil {
		return err
	}
	if err := m.restoreFrom(ctx, client, replicate.FromInventory(client, inv), opt); err != nil {
		return err
	}
	now, err := m.replicator.AfterRestore(ctx, e.Path, client, inv, plan[len(plan)-1])
	if err != nil {
		return err
	}
	now.Placed = began
	m.hydrated(e, now)
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

// inventoryOf is what the replica holds of a database: what was known when its
// file went, if nobody has written since, or else one listing.
func (m *Manager) inventoryOf(ctx context.Context, e *entry, client litestream.ReplicaClient) (*levels.Inventory, error) {
	inv := new(levels.Inventory)
	m.mu.Lock()
	gone, known := m.absent.Get(e.ID, m.cfg.boot())
	m.unlock()
	// Within the window a file of the next transaction that exists is still there.
	if known && inv.UnmarshalBinary(gone.Inventory) == nil && inv.Len() > 0 && inv.MaxTXID() == gone.Position.TXID {
		next := gone.Position.TXID + 1
		rc, err := client.OpenLTXFile(ctx, 0, next, next, 0, ltx.HeaderSize)
		if errors.Is(err, fs.ErrNotExist) {
			return inv, nil
		} else if err != nil {
			return nil, err
		}
		if err := rc.Close(); err != nil {
			return nil, err
		}
	}
	files, err := store.Files(ctx, client, false)
	if err != nil {
		return nil, err
	}
	inv.Reset(files)
	return inv, nil
}

// hydrated notes that the file is exactly the replica's state, so that shipping
// goes on from there without a resync.
func (m *Manager) hydrated(e *entry, now replicate.Remains) {
	m.mu.Lock()
	defer m.unlock()
	m.absent.Remove(e.ID)
	// Not running under the lock means that nobody owns e.state.
	if !e.item.Running() && !now.Position.Print.IsZero() {
		st := replicate.Restored(now)
		e.state, e.packed = &st, ""
		e.health.txid = now.Position.TXID
	}
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
