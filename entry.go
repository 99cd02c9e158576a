package multidb

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
)

// entry is one known database. There may be 100,000 of them, nearly all of them
// cold: what only others need is in work, or comes and goes.
type entry struct {
	registry.Entry // guarded by Manager.mu
	item           *schedule.Item[*entry]

	// Guarded by Manager.mu.
	touched  bool    // a watcher saw a change during the run in progress
	deferred bool    // a change is left local on purpose, since health.dirtySince
	shut     bool    // the pool has closed it, and may have left a log
	early    uint8   // how many more events make it due at once though it is hot
	waiters  *waiter // callers of Sync, the last one first
	retainAt int64   // Unix ms when the replica has something to delete; 0: never
	health   health

	// Owned by the run in progress (one at a time), and by whoever holds
	// Manager.mu while there is none. Of a cold entry state is nil, and packed
	// is what it was.
	state  *replicate.State
	packed string
}

func (e *entry) id() ID { return ID(e.ID) }

// database is the Database again, without its ModTime.
func (e *entry) database() Database {
	return Database{ID: e.id(), Path: e.Path, Vars: registry.VarsOf[Var](e.Identity), RelPath: e.RelPath()}
}

// unpack gives an entry its State. Only for its owner.
func (e *entry) unpack() *replicate.State {
	if e.state == nil {
		e.state = new(replicate.State)
		if err := e.state.Unpack(e.packed); err != nil {
			e.state.Lost()
		}
		e.packed = ""
	}
	return e.state
}

// packLocked makes a cold entry small again, if nobody owns its State.
func (e *entry) packLocked() {
	if e.state != nil && e.state.AtRest() && !e.item.Running() && e.item.Tier() == schedule.Cold {
		e.packed, e.state = e.state.Pack(), nil
	}
}

// peekLocked is the State of an entry that is not running, only to be read.
func (e *entry) peekLocked() *replicate.State {
	if e.state != nil {
		return e.state
	}
	st := new(replicate.State)
	if st.Unpack(e.packed) != nil {
		return new(replicate.State)
	}
	return st
}

// health is what Status tells.
type health struct {
	txid       TXID
	syncedAt   moment // when the replica last had everything
	dirtySince moment // since when there is something it has not; zero: nothing
	err        error
	errSince   moment
	walSize    int64
}

type syncResult struct {
	txid TXID
	err  error
}

// waiter is a caller of Sync.
type waiter struct {
	done chan<- syncResult
	next *waiter
}

// tell answers a waiter and all after it.
func (w *waiter) tell(r syncResult) {
	for ; w != nil; w = w.next {
		w.done <- r
	}
}

// join puts all of another list behind w's.
func (w *waiter) join(other *waiter) *waiter {
	if w == nil {
		return other
	}
	last := w
	for last.next != nil {
		last = last.next
	}
	last.next = other
	return w
}

// statFiles takes no descriptor of either file.
func (m *Manager) statFiles(path string) (fsid.Files, error) {
	st, err := fsid.StatFiles(path, m.cfg.stat)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %s", ErrMissing, path)
	}
	return st, err
}

// addLocked makes an entry known. The prefix is computed by the caller, since
// the factory is user code.
func (m *Manager) addLocked(db Database, file fsid.ID, prefix string, prefixErr error, source int) *entry {
	e := &entry{}
	e.Identity = registry.Identify(m.reg.Schemes(), string(db.ID), db.Path, db.RelPath, db.Vars, prefix)
	e.item = m.fleet.Add(e)
	m.reg.Add(e, file, prefixErr, source)
	if e.Refused != nil {
		m.setErrLocked(e, e.Refused)
		m.events = append(m.events, Event{Type: EventFailed, ID: db.ID, Path: db.Path, Err: opError("replicate", db.ID, e.Refused)})
	}
	return e
}

// removeLocked forgets an entry. Its replica stays, and so do its leases.
func (m *Manager) removeLocked(e *entry) {
	if e.Removed {
		return
	}
	m.fleet.Remove(e.item)
	if heir := m.reg.Remove(e); heir != nil {
		m.fleet.Reset(heir.item, m.cfg.now())
		m.fleet.Request(heir.item, m.cfg.now())
	}
	m.setDeferredLocked(e, false, 0)
	m.setErrLocked(e, nil)
	delete(m.backlogs, e)
	m.logs.Forget(e.ID)
	delete(m.strays, e)
	m.failWaitersLocked(e, ErrNotFound)
	if !e.item.Running() { // else its run does it
		m.endOrderLocked(e, m.orders[e], ErrNotFound)
	}
	m.wals.Remove(e)
	// Should its file come back, what the replica and the file hold decides whose history
	// counts: nothing tells that it is the file that was.
	m.catalog.Delete(e.ID)
	m.rememberLocked(e)
	if !e.item.Running() && e.state != nil { // else its run does it
		e.state.Forget()
	}
	m.events = append(m.events, Event{Type: EventRemoved, ID: e.id(), Path: e.Path})
}

// rememberLocked keeps for a while what spares a restore on open the listing, if nobody
// owns it.
func (m *Manager) rememberLocked(e *entry) {
	if !m.cfg.restoreOpen || e.item.Running() {
		return
	}
	if remains, ok := e.peekLocked().Remains(); ok {
		m.absent.Put(e.ID, remains, m.cfg.boot())
	}
}

func (m *Manager) failWaitersLocked(e *entry, err error) {
	e.waiters.tell(syncResult{err: err})
	e.waiters = nil
}

// prefixOf asks the factory for the place of a database.
func (m *Manager) prefixOf(db Database) (string, error) {
	if p, ok := m.cfg.replica.(ReplicaPrefixer); ok {
		return p.Prefix(db)
	}
	return "", nil
}

// lookup returns a known entry.
func (m *Manager) lookup(id ID) (*entry, error) {
	m.mu.Lock()
	defer m.unlock()
	if err := m.servingLocked(); err != nil {
		return nil, err
	}
	e := m.reg.Get(string(id))
	if e == nil {
		return nil, m.reg.WhyNot(string(id))
	}
	return e, nil
}

// whyNot is why an ID is not that of a known database.
func (m *Manager) whyNot(id ID) error {
	m.mu.Lock()
	defer m.unlock()
	return m.reg.WhyNot(string(id))
}

// moment is a time in the life of a Manager, in 8 bytes: nanoseconds since its
// epoch by the monotonic clock, so that a clock that is set changes no lag. Zero
// is none.
type moment int64

func (m *Manager) moment(t time.Time) moment { return moment(max(t.Sub(m.epoch), 0)) + 1 }

// when is the moment as a time; zero for none.
func (m *Manager) when(at moment) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return m.epoch.Add(time.Duration(at - 1))
}
