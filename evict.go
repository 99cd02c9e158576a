package multidb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/pool"
	"github.com/multidb-go/multidb/internal/replicate"
)

// Evict closes what the pool keeps open of one database, so that its file may be
// exchanged: move the file away together with its -wal and -shm, then rename the
// other one to its place. It waits until every lease of it is released, which ctx
// bounds, and then until what is in the log was shipped and the log is cut, if the
// replica takes it. An Acquire meanwhile waits too, and later ones open the database
// anew: whatever file stands there then.
//
// Where ctx ends first the handles are closed when they are released. A database that
// is not open is none of its errors: ErrNotFound, ErrNotDatabase, ErrNotStarted,
// ErrClosed, and that of ctx; all as *Error.
func (m *Manager) Evict(ctx context.Context, id ID) error {
	return opError("evict", id, m.evict(ctx, id))
}

func (m *Manager) evict(ctx context.Context, id ID) error {
	e, err := m.lookup(id)
	if err != nil {
		return err
	}
	if err := m.pool.EvictAndWait(ctx, e); err != nil {
		return err
	}
	if m.cfg.replica == nil {
		return nil // SQLite has cut the log
	}
	// What fails of shipping is told by the status: a file that is to be exchanged may
	// be one that cannot be shipped.
	if _, err := m.perform(ctx, e, replicate.OrderCut); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// strayed is the error of a Sync whose commits may have gone to a file that is no
// longer at the path of the database, through a lease from before it was exchanged:
// while that is out, and once after it was given back.
func (m *Manager) strayed(e *entry) error {
	t, leases, open := m.pool.Peek(e)
	m.mu.Lock()
	file, back := m.strays[e]
	delete(m.strays, e)
	m.mu.Unlock()
	if !back && (!open || leases == 0) {
		return nil
	} else if !back {
		file = t.file
	}
	at, err := fsid.At(e.Path)
	if err == nil && at == file || err != nil && !back {
		return nil // it is in its place (again); or there is none, and the run has failed
	}
	return fmt.Errorf("%w: it was leased while another file was put at %s; what was committed through that lease since is in the file that was there, and at no replica. Evict it before its file is exchanged", ErrInUse, e.Path)
}

// exchangeTries bounds how often a lease is tried whose file is another one each time.
const exchangeTries = 16

// lease leases what the pool keeps open of a database, if it is the file that stands
// at its path now. Else it would write to a file without a name, or with another,
// which nobody ships.
func (m *Manager) lease(ctx context.Context, e *entry) (pool.Lease[*entry, *tenant], error) {
	for range exchangeTries {
		lease, err := m.pool.Acquire(ctx, e)
		if errors.Is(err, pool.ErrClosed) {
			return lease, ErrClosed
		} else if err != nil {
			return lease, err
		}
		at, err := fsid.At(e.Path)
		if err == nil && at == lease.Value().file {
			return lease, nil
		}
		missing := errors.Is(err, fs.ErrNotExist)
		away := missing && m.unmounted(e)
		if err != nil && (away || !missing || !m.cfg.restoreOpen) {
			// Who has it leased may keep it: nobody waits for that to hear that it is gone.
			lease.Release()
			m.pool.CloseIdle(e)
			if away {
				err = errUnmounted(e.Path)
			} else if missing {
				err = fmt.Errorf("%w: %s", ErrMissing, e.Path)
			}
			return pool.Lease[*entry, *tenant]{}, err
		}
		m.pool.Evict(e) // stale before it is released, or others would get it again
		lease.Release()
	}
	return pool.Lease[*entry, *tenant]{}, fmt.Errorf("%w: another file was put at %s each time it was opened", ErrInUse, e.Path)
}
