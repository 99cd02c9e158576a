package multidb

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// absent is what is kept of a database whose file is gone, for RestoreOnOpen.
type absent struct {
	state ship.State
	files []byte // its inventory, as it was when nothing more was written
	// When the replica was last known to end there, by cfg.boot.
	placed time.Duration
}

// hydrate makes the missing file of a database from the replica. It returns
// ErrNoBackup if there is nothing to make it from. The pool calls it once for
// any number of callers.
func (m *Manager) hydrate(ctx context.Context, e *entry) error {
	client, err := m.cfg.replica.ReplicaClient(e.db.database())
	if err != nil {
		return err
	}
	began := m.cfg.boot()
	inv, err := m.inventoryOf(ctx, e, client)
	if err != nil {
		return err
	}
	opt := RestoreOptions{OutputPath: e.db.Path, IntegrityCheck: m.cfg.integrity, Warn: func(warning string) {
		m.emit(Event{Type: EventIntegrity, ID: e.db.ID, Path: e.db.Path, Err: errors.New(warning)})
	}}
	if opt.TempDir, err = m.spoolFor(e.db.Path); err != nil {
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
	if err := m.restoreFrom(ctx, client, inventoryClient{client, inv}, opt); err != nil {
		return err
	}
	st, files, err := m.restored(ctx, e, client, inv, plan[len(plan)-1])
	if err != nil {
		return err
	}
	m.hydrated(e, st, files, began)
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
	if !sameMount(dir, spool) {
		return "", nil
	}
	return spool, nil
}

// inventoryOf is what the replica holds of a database: what was known when its
// file went, if nobody has written since, or else one listing.
func (m *Manager) inventoryOf(ctx context.Context, e *entry, client litestream.ReplicaClient) (*levels.Inventory, error) {
	inv := new(levels.Inventory)
	m.mu.Lock()
	gone, known := m.absent[e.db.ID]
	m.unlock()
	// Within the window a file of the next transaction that exists is still there.
	known = known && gone.placed != 0 && m.cfg.boot()-gone.placed <= m.cfg.grace/2
	if known && inv.UnmarshalBinary(gone.files) == nil && inv.Len() > 0 && inv.MaxTXID() == gone.state.TXID {
		next := gone.state.TXID + 1
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
func (m *Manager) hydrated(e *entry, st ship.State, files []byte, began time.Duration) {
	m.mu.Lock()
	defer m.unlock()
	delete(m.absent, e.db.ID)
	// Not running under the lock means that nobody owns e.work.
	if !e.item.Running() && !st.Print.IsZero() {
		e.work, e.packed = &work{state: st, files: files, verified: true, dirty: true, placed: began}, ""
		e.health.txid = st.TXID
	}
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
