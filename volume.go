package multidb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
)

// noteVolume remembers on which file system a database stands. It asks once for
// many databases of one directory in a row.
func (m *Manager) noteVolume(e *entry) {
	dir := filepath.Dir(e.Path)
	m.mu.Lock()
	known := !m.reg.LacksVolume(e)
	dev, ok := m.lastDir.dev, m.lastDir.path == dir
	m.mu.Unlock()
	if known {
		return
	}
	if !ok {
		id, _, err := fsid.Look(dir)
		if err != nil {
			return // the next scan tries again
		}
		dev = id.Dev
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastDir = lastDir{dir, dev}
	m.reg.SetVolume(e, dev)
}

type lastDir struct {
	path string
	dev  uint64
}

// unmounted reports whether what stands at a database's path is not the file
// system that it was on: then its file is not gone, but out of sight.
func (m *Manager) unmounted(e *entry) bool {
	m.mu.Lock()
	dev, known := m.reg.Volume(e)
	m.mu.Unlock()
	if !known {
		return m.rootAway(e.Path)
	}
	now, ok := fsid.DeviceOf(filepath.Dir(e.Path))
	return ok && now != dev || m.rootAway(e.Path)
}

// errUnmounted is ErrMissing of a database that is on no file system that is here.
func errUnmounted(path string) error {
	return fmt.Errorf("%w: %s: its file system is not mounted; mount it, or start once with WithEmptiedVolumes if the databases were deleted", ErrMissing, path)
}

// explainMissing says so where that is why a file is missing.
func (m *Manager) explainMissing(e *entry, err error) error {
	if errors.Is(err, ErrMissing) && m.unmounted(e) {
		return errUnmounted(e.Path)
	}
	return err
}

// closed waits until no connection of ours to a database is open: the pool may be at
// closing it, and a run may have one. The error is that of ctx.
func (m *Manager) closed(ctx context.Context, e *entry) error {
	if err := m.pool.EvictAndWait(ctx, e); err != nil {
		return err
	}
	m.mu.Lock()
	running := e.item.Running()
	m.unlock()
	if !running {
		return nil
	}
	// What the run after that fails of is its own to tell: its file is gone.
	if _, err := m.perform(ctx, e, replicate.OrderCut); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// standsAlone refuses a second name of a file that is known by another: SQLite
// would give each a WAL of its own, and each would write to a prefix.
func (m *Manager) standsAlone(ctx context.Context, e *entry) error {
	id := fsid.OrZero(e.Path)
	for id != (fsid.ID{}) {
		m.mu.Lock()
		other := m.reg.ByFile(id)
		if other == nil || other == e || other.Removed {
			m.reg.SetFile(e, id)
			m.unlock()
			return nil
		}
		path := other.Path
		m.unlock()
		if fsid.OrZero(path) == id {
			m.mu.Lock()
			if e.File == id {
				m.reg.ShareFile(e, fsid.ID{}) // so that nobody takes it for known
			}
			m.unlock()
			return fmt.Errorf("%w: it is the same file as %s", ErrConflict, path)
		}
		// The other's file has changed its name. SQLite would share the log's index
		// with a connection that is still open by the old one, though the log may
		// have stayed there.
		m.pool.CloseIdle(other)
		_, leases, _ := m.pool.Peek(other)
		if _, err := os.Stat(path + "-wal"); leases > 0 && err == nil {
			return fmt.Errorf("%w: it is the file of %q, which was renamed while it is leased; release that first", ErrConflict, other.id())
		}
		if leases == 0 {
			if err := m.closed(ctx, other); err != nil {
				return err
			}
		}
		m.mu.Lock()
		m.reg.ForgetFile(other, id)
		m.unlock()
	}
	_, err := os.Stat(e.Path)
	return err
}
