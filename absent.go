package multidb

import (
	"bytes"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// absent is what is kept of a database whose file is gone, for RestoreOnOpen. It only
// spares a listing: whose history counts is decided by what the replica and the file
// hold, never by this.
type absent struct {
	txid  TXID   // the last one at the replica
	files []byte // its inventory, as it was when nothing more was written
	// When the replica was last known to end there, by cfg.boot.
	placed time.Duration
}

// maxAbsent bounds how many are kept. One more costs the tenant that went first one
// listing, if it is restored within minutes after it went.
const maxAbsent = 1024

// absentees are the databases that went lately. What is older than the window within
// which it can be trusted is of no use, and is dropped. Guarded by Manager.mu; the zero
// value is ready.
type absentees struct {
	lru *simplelru.LRU[ID, absent]
}

// put keeps one, unless it is too old to be of use already.
func (a *absentees) put(id ID, x absent, now, window time.Duration) {
	a.remove(id)
	if !x.usable(now, window) {
		return
	}
	if a.lru == nil {
		lru, err := simplelru.NewLRU[ID, absent](maxAbsent, nil)
		if err != nil {
			return // unreachable: the size is positive
		}
		a.lru = lru
	}
	x.files = bytes.Clone(x.files) // which may be the end of something longer
	a.lru.Add(id, x)
}

func (a *absentees) get(id ID) (x absent, ok bool) {
	if a.lru == nil {
		return absent{}, false
	}
	return a.lru.Peek(id)
}

func (a *absentees) remove(id ID) {
	if a.lru != nil {
		a.lru.Remove(id)
	}
}

// expire drops what is too old. The oldest goes first, as all of them were put within
// the window after their time.
func (a *absentees) expire(now, window time.Duration) {
	for a.lru != nil {
		_, x, ok := a.lru.GetOldest()
		if !ok || x.usable(now, window) {
			return
		}
		a.lru.RemoveOldest()
	}
}

func (a *absentees) len() int {
	if a.lru == nil {
		return 0
	}
	return a.lru.Len()
}

// usable reports whether a file of the next transaction, had anybody written one, would
// still be there.
func (x absent) usable(now, window time.Duration) bool {
	return x.placed != 0 && now-x.placed <= window
}

// absentWindow is for how long what is kept of an absent database is of use.
func (m *Manager) absentWindow() time.Duration { return m.cfg.grace / 2 }

// expireAbsent drops what is kept of databases that went too long ago.
func (m *Manager) expireAbsent() {
	now := m.cfg.boot()
	m.mu.Lock()
	defer m.unlock()
	m.absent.expire(now, m.absentWindow())
}

// dropPages deletes the page hashes of a database that is known no more.
func (m *Manager) dropPages(id ID) {
	if m.cfg.replica == nil {
		return
	}
	m.mu.Lock()
	known := m.entries.Get(id) != nil // again
	m.unlock()
	if known {
		return
	}
	if err := m.savePages(id, nil); err != nil {
		m.emit(Event{Type: EventState, ID: id, Err: err})
	}
}
