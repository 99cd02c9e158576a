package multidb

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
)

// entry is one known database. There may be 100,000 of them, nearly all of them
// cold: what only others need is in work, or comes and goes.
type entry struct {
	db   known
	item *schedule.Item[*entry]
	file fsid.ID // zero until the file exists; see setFileLocked

	// Guarded by Manager.mu.
	source   int32  // which discoverer it is of; fromCatalog until one lists it
	seen     uint32 // the last scan that listed it
	held     int32  // Acquires that are about to open it
	touched  bool   // a watcher saw a change during the run in progress
	removed  bool
	unread   bool    // its first bytes are to be read before it is opened
	deferred bool    // a change is left local on purpose, since health.dirtySince
	clash    bool    // refused because the prefix is another's
	away     bool    // its volume was not there at the last scan
	shut     bool    // the pool has closed it, and may have left a log
	volume   uint8   // on which it stands; see volumes
	recall   uint8   // whether volume is the catalog's; see roots.go
	early    uint8   // how many more events make it due at once though it is hot
	refused  error   // why it is not replicated, for good
	waiters  *waiter // callers of Sync, the last one first
	retainAt int64   // Unix ms when the replica has something to delete; 0: never
	health   health

	// Owned by the run in progress (one at a time), and by whoever holds
	// Manager.mu while there is none. Of a cold entry state is nil, and packed
	// is what it was.
	state  *replicate.State
	packed string
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

// fromCatalog is the source of what no discoverer has listed since Start.
const fromCatalog = -1

// health is what Status tells.
type health struct {
	txid       TXID
	syncedAt   moment // when the replica last had everything
	dirtySince moment // since when there is something it has not; zero: nothing
	err        error
	errSince   moment
	walSize    int64
}

// refusal is a file that was taken for no database.
type refusal struct {
	source int
	seen   uint32
	path   string
	id     fsid.ID
	size   int64
	time   time.Time
	err    error
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
	e := &entry{db: keep(db, prefix, &m.mores), source: int32(source), seen: m.scans}
	e.item = m.fleet.Add(e)
	m.entries.Put(e)
	m.setFileLocked(e, file)
	switch {
	case prefixErr != nil:
		e.refused = prefixErr
	case prefix == "":
	default:
		if owner := m.prefixes.Get(e.db.prefix()); owner != nil {
			e.clash, e.refused = true, fmt.Errorf("%w: %s is the prefix of %q", ErrConflict, prefix, owner.db.ID)
			m.refusals++
		} else {
			m.prefixes.Put(e)
		}
	}
	if e.refused != nil {
		m.setErrLocked(e, e.refused)
		m.events = append(m.events, Event{Type: EventFailed, ID: db.ID, Path: db.Path, Err: opError("replicate", db.ID, e.refused)})
	}
	return e
}

// setFileLocked notes which file an entry is of; zero: none that is known. Where
// the file was another's, it is this one's from here on.
func (m *Manager) setFileLocked(e *entry, file fsid.ID) {
	if e.file != (fsid.ID{}) && m.files.Get(e.file) == e {
		m.files.Delete(e.file)
	}
	e.file = file
	if file != (fsid.ID{}) {
		m.files.Put(e)
	}
}

// removeLocked forgets an entry. Its replica stays, and so do its leases.
func (m *Manager) removeLocked(e *entry) {
	if e.removed {
		return
	}
	e.removed = true
	m.fleet.Remove(e.item)
	m.entries.Delete(e.db.ID)
	if m.files.Get(e.file) == e { // whose file it was stays known to an Acquire under way
		m.files.Delete(e.file)
	}
	if e.clash {
		m.refusals--
	}
	m.setDeferredLocked(e, false, 0)
	m.setErrLocked(e, nil)
	delete(m.backlogs, e)
	m.logs.Forget(string(e.db.ID))
	delete(m.strays, e)
	if at := e.db.prefix(); m.prefixes.Get(at) == e {
		m.prefixes.Delete(at)
		m.inheritLocked(at)
	}
	m.failWaitersLocked(e, ErrNotFound)
	if !e.item.Running() { // else its run does it
		m.endOrderLocked(e, m.orders[e], ErrNotFound)
	}
	m.wals.Remove(e)
	// Should its file come back, what the replica and the file hold decides whose history
	// counts: nothing tells that it is the file that was.
	m.catalog.Delete(string(e.db.ID))
	m.rememberLocked(e)
	if !e.item.Running() && e.state != nil { // else its run does it
		e.state.Forget()
	}
	m.events = append(m.events, Event{Type: EventRemoved, ID: e.db.ID, Path: e.db.Path})
}

// rememberLocked keeps for a while what spares a restore on open the listing, if nobody
// owns it.
func (m *Manager) rememberLocked(e *entry) {
	if !m.cfg.restoreOpen || e.item.Running() {
		return
	}
	if remains, ok := e.peekLocked().Remains(); ok {
		m.absent.Put(string(e.db.ID), remains, m.cfg.boot())
	}
}

// inheritLocked gives a prefix that became free to one that was refused it.
func (m *Manager) inheritLocked(free prefix) {
	if m.refusals == 0 {
		return
	}
	for e := range m.entries.All() {
		if e.clash && e.db.prefix().equal(free) {
			e.clash, e.refused = false, nil
			m.refusals--
			m.prefixes.Put(e)
			m.fleet.Reset(e.item, m.cfg.now())
			m.fleet.Request(e.item, m.cfg.now())
			return
		}
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
	e := m.entries.Get(id)
	if e == nil {
		return nil, m.whyNotLocked(id)
	}
	return e, nil
}

// whyNot is why an ID is not that of a known database.
func (m *Manager) whyNot(id ID) error {
	m.mu.Lock()
	defer m.unlock()
	return m.whyNotLocked(id)
}

func (m *Manager) whyNotLocked(id ID) error {
	if r, ok := m.ignored[id]; ok {
		return r.err
	}
	return ErrNotFound
}
