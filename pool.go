package multidb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/pool"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// tenant is what the pool keeps open, and whose file it is.
type tenant struct {
	db   *sql.DB
	file fsid.ID
}

// Handle is the right to use one open database until Release. It is a small
// value; copies are the same handle. The zero Handle is a released one. Safe
// for concurrent use.
type Handle struct {
	m     *Manager
	e     *entry
	lease pool.Lease[*entry, *tenant]
	file  fsid.ID // that is leased
}

// DB is the database, good until Release; it panics after that. It is in WAL
// mode, and its checkpoints are the Manager's: do not run PRAGMA wal_checkpoint
// or journal_mode on it. Do not close it.
func (h Handle) DB() *sql.DB { return h.lease.Value().db }

// ID is the database's.
func (h Handle) ID() ID {
	if h.e == nil {
		return ""
	}
	return h.e.id()
}

// Release gives the handle back. What was written through it is shipped within
// the sync interval. Only the first call does something.
func (h Handle) Release() {
	if h.e == nil {
		return
	}
	at, err := fsid.At(h.e.Path)
	strayed := err == nil && at != h.file || errors.Is(err, fs.ErrNotExist)
	if !h.lease.Release() {
		return
	}
	m := h.m
	m.mu.Lock()
	if strayed && !h.e.Removed && m.cfg.replica != nil {
		m.strays[h.e] = h.file
	}
	m.fleet.Unpin(h.e.item, m.cfg.now())
	m.unlock()
	m.workers.Poke()
}

// Acquire opens a database, or shares it if it is open, and pins it: it is not
// closed before Release. One that no discoverer has listed yet is opened, and
// created if need be, where a pattern allows its ID.
//
// An application in the same process must open its databases here, or with the
// same driver (modernc.org/sqlite): two SQLite libraries in one process drop
// each other's POSIX locks, which corrupts databases. Other processes are free.
//
// A transaction begun by database/sql takes the write lock at once (BEGIN
// IMMEDIATE), unless it is read-only (sql.TxOptions). One that you begin in SQL
// should do the same if it will write: SQLite fails a transaction that reads
// first and comes to write during a checkpoint of the Manager's with SQLITE_BUSY,
// without waiting.
//
// Each Acquire looks whose file it gets: where another one was put at the path, the
// handles of the former one are closed first, and while one is leased Acquire waits
// for its Release. Evict does that before the file is exchanged.
//
// If MaxOpen databases are leased, Acquire waits until one is released. ctx
// bounds the waiting, not the opening, which goes on for others.
//
// A database of which the replica has a backup, but whose file is missing, is not
// made anew: ErrBackupExists, unless WithRestoreOnOpen brings it back. That costs
// a new database one listing of the replica; if it does not answer within 5 s, the
// database is made, and refused with ErrFenced should it be shipped over a backup.
// In a discovery root that does not exist, or that is another one than it was,
// nothing is made: ErrRootMissing.
//
// Errors: ErrNotFound, ErrNotDatabase, ErrCorrupt, ErrReadOnly, ErrMissing, ErrClosed,
// ErrBackupExists, ErrRootMissing; ErrInUse where the file was exchanged again and
// again meanwhile; ErrConflict for another name of a known file, or the new one of a
// file that was renamed without its log and is leased; that of the open hook, or that
// of ctx; all as *Error.
func (m *Manager) Acquire(ctx context.Context, id ID) (Handle, error) {
	h, err := m.acquire(ctx, id)
	return h, opError("acquire", id, err)
}

func (m *Manager) acquire(ctx context.Context, id ID) (Handle, error) {
	e, err := m.hold(ctx, id)
	if err != nil {
		return Handle{}, err
	}
	defer m.letGo(e)
	lease, err := m.lease(ctx, e)
	if err != nil {
		return Handle{}, err
	}
	now := m.cfg.now()
	m.mu.Lock()
	m.fleet.Accessed(e.item, now)
	m.fleet.Pin(e.item)
	m.unlock()
	m.workers.Poke()
	return Handle{m: m, e: e, lease: lease, file: lease.Value().file}, nil
}

// Do acquires a database, calls fn with it and releases it. The errors are
// those of Acquire, and fn's as it is.
func (m *Manager) Do(ctx context.Context, id ID, fn func(*sql.DB) error) error {
	h, err := m.Acquire(ctx, id)
	if err != nil {
		return err
	}
	defer h.Release()
	return fn(h.DB())
}

// locate asks the discoverers where an ID is, or would be.
func (m *Manager) locate(id ID) (db Database, source int, ok bool) {
	for i, d := range m.discovered {
		if l, can := d.(DiscovererLocator); can {
			if db, ok := l.Locate(id); ok {
				return db, i, true
			}
		}
	}
	return Database{}, 0, false
}

// hold finds a database, or makes an entry of an ID that no scan has listed, and
// keeps scans from forgetting it until letGo.
func (m *Manager) hold(ctx context.Context, id ID) (*entry, error) {
	var db Database
	var source int
	var prefix string
	for located := false; ; {
		m.mu.Lock()
		if err := m.servingLocked(); err != nil {
			m.unlock()
			return nil, err
		}
		if e := m.reg.Get(string(id)); e != nil && e.Unread {
			m.unlock()
			if err := m.ensureRead(ctx, e); err != nil {
				return nil, err
			}
			continue
		} else if e != nil {
			e.Held++
			missing := errors.Is(e.health.err, ErrMissing) && !e.item.Pinned()
			m.unlock()
			if missing { // what is still open is a file without a name
				m.pool.Evict(e)
			}
			return e, nil
		}
		if err, ok := m.reg.Refused(string(id)); ok {
			m.unlock()
			return nil, err
		}
		if !located {
			m.unlock()
			var err error
			if db, source, located = m.locate(id); !located {
				return nil, ErrNotFound
			}
			if prefix, err = m.prefixOf(db); err != nil {
				return nil, err // it could never be replicated
			}
			continue
		}
		e := m.addLocked(db, fsid.ID{}, prefix, nil, source)
		e.Held++
		m.events = append(m.events, Event{Type: EventAdded, ID: id, Path: db.Path})
		m.unlock()
		return e, nil
	}
}

// letGo ends a hold. An entry that never got a file is forgotten.
func (m *Manager) letGo(e *entry) {
	gone := false
	m.mu.Lock()
	if e.Held--; e.Held == 0 && e.File.IsZero() && !e.item.Pinned() {
		m.removeLocked(e)
		gone = true
	}
	touched := e.touched && e.Held == 0 && !e.item.Running()
	if touched {
		e.touched = false
	}
	m.unlock()
	if gone {
		m.dropPages(e.id())
	}
	if touched {
		m.look(e)
	}
}

// ensureFile makes a missing file: from the replica, if that is wanted and it
// has one, or empty.
func (m *Manager) ensureFile(ctx context.Context, e *entry) error {
	if done, err := m.orderedOnOpen(ctx, e); done {
		return err
	}
	if fi, err := os.Stat(e.Path); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is no regular file", ErrNotDatabase, e.Path)
	} else if err == nil {
		m.noteFile(e)
		return m.freshen(ctx, e)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// A restored or an empty one would stand below the mount point, and take
	// commits that vanish when the volume comes back.
	if err := m.volumeStands(e); err != nil {
		return err
	}
	m.mu.Lock()
	known := e.File != fsid.ID{}
	if m.cfg.restoreOpen {
		// Until it is made whole, what watchers and scans see of it is no change.
		m.reg.SetFile(e, fsid.ID{})
	}
	m.unlock()
	if known && !m.cfg.restoreOpen {
		// It stood here when it was last looked at. Should it really be gone, the
		// next scan says so, and then an empty one may take its place.
		return fmt.Errorf("%w: %s", ErrMissing, e.Path)
	}
	moved, err := m.logs.ExpelOrphans(e.Path)
	m.toldSetAside(e, moved)
	if err != nil {
		return err
	}
	if m.cfg.restoreOpen && m.cfg.replica != nil {
		if err := m.hydrate(ctx, e); err != nil && !errors.Is(err, ErrNoBackup) {
			return fmt.Errorf("restore on open: %w", err)
		}
	} else if err := m.mayMake(ctx, e); err != nil {
		return err
	}
	return m.makeFile(e)
}

// makeFile creates an empty file, and its directories, unless it exists.
func (m *Manager) makeFile(e *entry) error {
	if err := os.MkdirAll(filepath.Dir(e.Path), 0o755); err != nil {
		return err
	}
	// Only a file that is new is opened here, so that no lock can be lost.
	f, err := os.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		err = f.Close()
	} else if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	m.noteFile(e)
	return nil
}

// noteFile notes which file an entry is of, where only its ID is known: it was
// made just now, or no scan has listed it yet.
func (m *Manager) noteFile(e *entry) {
	id := fsid.OrZero(e.Path)
	m.mu.Lock()
	defer m.unlock()
	if !e.File.IsZero() || id.IsZero() {
		return
	}
	if other := m.reg.ByFile(id); other == nil || other.Removed {
		m.reg.SetFile(e, id)
	} else {
		e.File = id
	}
}

func (m *Manager) newPool() *pool.Pool[*entry, *tenant] {
	return pool.New(pool.Config[*entry, *tenant]{
		Max:         m.cfg.maxOpen,
		IdleTimeout: m.cfg.idleTimeout,
		Open:        m.openTenant,
		Close:       m.closeTenant,
		OnCloseError: func(e *entry, err error) {
			m.emit(Event{Type: EventState, ID: e.id(), Path: e.Path, Err: opError("close", e.id(), err)})
		},
	})
}

func (m *Manager) openTenant(ctx context.Context, e *entry) (*tenant, error) {
	if err := m.ensureFile(ctx, e); err != nil {
		return nil, err
	}
	if err := m.standsAlone(ctx, e); err != nil {
		return nil, err
	}
	if err := m.expelLog(e); err != nil {
		return nil, err
	}
	m.noteVolume(e)
	file, err := fsid.At(e.Path)
	if err != nil {
		return nil, err
	}
	db, err := sqlitedb.Open(ctx, e.Path, sqlitedb.Options{
		BusyTimeout: m.cfg.busyTimeout,
		MaxConns:    m.cfg.maxConns,
		DropWAL:     m.cfg.replica == nil, // which nobody ships
	})
	if err != nil {
		return nil, sqlitedb.Explain(e.Path, err)
	}
	// What was opened is what stood there before and after.
	if after, err := fsid.At(e.Path); err != nil || after != file {
		return nil, errors.Join(fmt.Errorf("%w: another file was put at %s while it was opened", ErrInUse, e.Path), err, db.Close())
	}
	if st, err := m.statFiles(e.Path); err == nil {
		m.logs.Note(e.ID, st)
	}
	if err := m.hook(ctx, e, db); err != nil {
		return nil, errors.Join(fmt.Errorf("open hook: %w", err), db.Close())
	}
	return &tenant{db: db, file: file}, nil
}

// hook calls the application's open hook. Whatever it does, the pool does not keep
// what it was given open.
func (m *Manager) hook(ctx context.Context, e *entry, db *sql.DB) error {
	if m.cfg.openHook == nil {
		return nil
	}
	returned := false
	defer func() {
		if !returned { // it panics
			_ = db.Close() // the panic says what is wrong
		}
	}()
	err := m.cfg.openHook(ctx, e.database(), db)
	returned = true
	return err
}

func (m *Manager) closeTenant(e *entry, t *tenant) error {
	err := sqlitedb.Classify(t.db.Close())
	if m.cfg.replica != nil {
		m.isShut(e)
	}
	return err
}

// expelLog sets the log aside that was left of a file that another has taken the place
// of, before the first connection to the new file.
func (m *Manager) expelLog(e *entry) error {
	st, err := m.statFiles(e.Path)
	if err != nil {
		return err
	}
	moved, err := m.logs.Expel(e.ID, e.Path, st)
	m.toldSetAside(e, moved)
	return err
}

// toldSetAside tells of logs that were set aside under these names.
func (m *Manager) toldSetAside(e *entry, moved []string) {
	m.mu.Lock()
	defer m.unlock()
	for _, name := range moved {
		m.events = append(m.events, m.eventOf(e, replicate.LogSetAside(e.Path, name)))
	}
}

// isShut notes that a connection of ours to a database was closed, and may have been
// the last, so that a log with something in it was left: the next run that finds all
// of it shipped cuts it. What stays would be applied to a file put in its place.
func (m *Manager) isShut(e *entry) {
	m.mu.Lock()
	if m.opening[e] != nil { // an Adopt or a HandOver, whose run does it; the one after that would ask the replica again
		m.unlock()
		return
	}
	if !e.Removed {
		e.shut = true
		m.fleet.Request(e.item, m.cfg.now())
	}
	m.unlock()
	m.workers.Poke()
}
