package multidb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
)

// volumes are the file systems on which databases stand, so that one that is
// not mounted is not taken for one that was emptied. An entry has the number of
// its own, in a byte; 0 is none known.
type volumes struct {
	devs []uint64
	// recalled tells of which only the catalog knows: the device's number may be
	// another volume's since.
	recalled []bool
}

// numberLocked is the number of a device.
func (v *volumes) numberLocked(dev uint64) uint8 {
	for i, d := range v.devs {
		if d == dev && !v.recalled[i] {
			return uint8(i + 1)
		}
	}
	return v.addLocked(dev, false)
}

// recallLocked is the number of a device as the catalog has it.
func (v *volumes) recallLocked(dev uint64) uint8 {
	for i, d := range v.devs {
		if d == dev && v.recalled[i] {
			return uint8(i + 1)
		}
	}
	return v.addLocked(dev, true)
}

func (v *volumes) addLocked(dev uint64, recalled bool) uint8 {
	if len(v.devs) == 255 {
		return 0
	}
	v.devs, v.recalled = append(v.devs, dev), append(v.recalled, recalled)
	return uint8(len(v.devs))
}

// deviceLocked is the device of a database's volume, for the catalog; 0 if it is
// not known, or too large to be kept.
func (v *volumes) deviceLocked(e *entry) uint32 {
	if e.volume == 0 || v.devs[e.volume-1] > math.MaxUint32 {
		return 0
	}
	return uint32(v.devs[e.volume-1])
}

// noteVolume remembers on which file system a database stands. It asks once for
// many databases of one directory in a row.
func (m *Manager) noteVolume(e *entry) {
	dir := filepath.Dir(e.db.Path)
	m.mu.Lock()
	known := e.volume != 0 && !e.away
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
	e.volume, e.away = m.volumes.numberLocked(dev), false
}

type lastDir struct {
	path string
	dev  uint64
}

// unmounted reports whether what stands at a database's path is not the file
// system that it was on: then its file is not gone, but out of sight.
func (m *Manager) unmounted(e *entry) bool {
	m.mu.Lock()
	n := e.volume
	var dev uint64
	if n != 0 {
		dev = m.volumes.devs[n-1]
	}
	m.mu.Unlock()
	if n == 0 {
		return m.rootAway(e.db.Path)
	}
	now, ok := fsid.DeviceOf(filepath.Dir(e.db.Path))
	return ok && now != dev || m.rootAway(e.db.Path)
}

// errUnmounted is ErrMissing of a database that is on no file system that is here.
func errUnmounted(path string) error {
	return fmt.Errorf("%w: %s: its file system is not mounted; mount it, or start once with WithEmptiedVolumes if the databases were deleted", ErrMissing, path)
}

// explainMissing says so where that is why a file is missing.
func (m *Manager) explainMissing(e *entry, err error) error {
	if errors.Is(err, ErrMissing) && m.unmounted(e) {
		return errUnmounted(e.db.Path)
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
	id := fsid.OrZero(e.db.Path)
	for id != (fsid.ID{}) {
		m.mu.Lock()
		other := m.files.Get(id)
		if other == nil || other == e || other.removed {
			m.setFileLocked(e, id)
			m.unlock()
			return nil
		}
		path := other.db.Path
		m.unlock()
		if fsid.OrZero(path) == id {
			m.mu.Lock()
			if e.file == id {
				e.file = fsid.ID{} // so that nobody takes it for known
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
			return fmt.Errorf("%w: it is the file of %q, which was renamed while it is leased; release that first", ErrConflict, other.db.ID)
		}
		if leases == 0 {
			if err := m.closed(ctx, other); err != nil {
				return err
			}
		}
		m.mu.Lock()
		if m.files.Get(id) == other {
			m.files.Delete(id)
		}
		m.unlock()
	}
	_, err := os.Stat(e.db.Path)
	return err
}
