package multidb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// scanLoop asks the discoverers every scan interval and when a watcher wants it,
// takes in what watchers found, and looks for what the replica may forget every
// retention interval.
func (m *Manager) scanLoop(ctx context.Context) {
	scan := time.NewTicker(m.cfg.scanInterval)
	defer scan.Stop()
	retain := time.NewTicker(m.cfg.retentionInterval)
	defer retain.Stop()
	rescan := time.NewTimer(m.cfg.scanInterval)
	defer rescan.Stop()
	rescan.Stop()
	var due, ended time.Time // of the rescan, zero if none; of the last scan
	var took time.Duration
	ask := func(delay, pause time.Duration) {
		at := time.Now().Add(delay)
		if free := ended.Add(pause); free.After(at) {
			at = free
		}
		if due.IsZero() || at.Before(due) {
			due = at
			rescan.Reset(time.Until(at))
		}
	}
	all := func() {
		due = time.Time{}
		began := time.Now()
		if err := m.scan(ctx); err != nil && ctx.Err() == nil {
			m.emit(Event{Type: EventScanFailed, Err: err})
		}
		ended = time.Now()
		took = ended.Sub(began)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-scan.C:
			all()
		case <-m.rescanSoon:
			ask(rescanDelay, rescanShare*took)
		case <-m.rescanLater:
			ask(goneDelay, goneShare*took)
		case <-rescan.C:
			if !due.IsZero() {
				all()
			}
		case u := <-m.unknown:
			m.takeIn(u)
		case <-retain.C:
			m.requestRetention()
		}
	}
}

// scan lists every discoverer once. Only a listing without an error removes
// anything.
func (m *Manager) scan(ctx context.Context) error {
	m.mu.Lock()
	m.scans++
	seq := m.scans
	m.mu.Unlock()
	whole := true
	for i, d := range m.discovered {
		complete := true
		var failed []error
		for db, err := range d.Discover(ctx) {
			if err != nil {
				complete = false
				failed = append(failed, err)
				continue
			}
			m.found(db, i, seq)
			select {
			case u := <-m.unknown: // a long scan is no reason to wait
				m.takeIn(u)
			default:
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.scanned(i, errors.Join(failed...))
		if complete {
			m.forget(i, seq)
		}
		whole = whole && complete
	}
	if whole {
		m.forget(fromCatalog, seq)
	}
	m.workers.Poke()
	return nil
}

// scanned tells a discoverer's trouble once, until it changes.
func (m *Manager) scanned(i int, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	m.mu.Lock()
	defer m.unlock()
	if m.scanErr[i] == text {
		return
	}
	m.scanErr[i] = text
	if err != nil {
		m.events = append(m.events, Event{Type: EventScanFailed, Err: err})
	}
}

// forget lets go of the databases of a discoverer that a whole listing lacks.
func (m *Manager) forget(source int, seq uint32) {
	var gone []*entry
	m.mu.Lock()
	for _, e := range m.entries {
		if e.source == int32(source) && e.seen != seq && !e.item.Pinned() && e.held == 0 {
			gone = append(gone, e)
		}
	}
	for _, e := range gone {
		m.removeLocked(e)
	}
	for id, r := range m.ignored {
		if r.source == source && r.seen != seq {
			delete(m.ignored, id)
		}
	}
	m.unlock()
	for _, e := range gone {
		m.pool.Evict(e)
		if err := m.savePages(e.db.ID, nil); err != nil {
			m.emit(Event{Type: EventState, ID: e.db.ID, Err: err})
		}
	}
}

// found takes in one database of a listing.
func (m *Manager) found(db Database, source int, seq uint32) {
	if db.ID == "" || !filepath.IsAbs(db.Path) {
		m.emit(Event{Type: EventScanFailed, ID: db.ID, Path: db.Path,
			Err: fmt.Errorf("%w: a discoverer gave a database without an ID or an absolute path", ErrInvalidOption)})
		return
	}
	if db.ModTime.IsZero() {
		if st, err := statFiles(db.Path); err == nil {
			db.ModTime = st.modTime()
		}
	}
	now := m.cfg.now()
	m.mu.Lock()
	if e := m.entries[db.ID]; e != nil && e.db.Path == db.Path {
		e.seen, e.source = seq, int32(source)
		if e.held == 0 { // otherwise its file may be in the making, and nobody else may open it
			m.fleet.Seen(e.item, db.ModTime, now)
		}
		m.unlock()
		return
	}
	m.unlock()
	m.foundNew(db, source, seq)
}

// foundNew decides whether a file that is not known is a new database.
func (m *Manager) foundNew(db Database, source int, seq uint32) {
	id, fi, err := statID(db.Path)
	if err != nil {
		return // gone already, or the next scan says why
	}
	m.mu.Lock()
	if r, ok := m.ignored[db.ID]; ok && r.path == db.Path && r.id == id && r.size == fi.Size() && r.time.Equal(fi.ModTime()) {
		r.seen = seq
		m.ignored[db.ID] = r
		m.unlock()
		return
	}
	delete(m.ignored, db.ID)
	rival, twin := m.entries[db.ID], m.files[id]
	if rival != nil && rival.db.Path == db.Path {
		// The pool made it known meanwhile, and may have it open.
		rival.seen, rival.source = seq, int32(source)
		m.unlock()
		return
	}
	m.unlock()

	// Does the ID's old file still stand, or the file's old name?
	var clash error
	if rival != nil && pathID(rival.db.Path) != (fileID{}) {
		clash = fmt.Errorf("%w: %s has the ID %q already", ErrConflict, rival.db.Path, db.ID)
	} else if twin != nil && twin != rival && id != (fileID{}) && pathID(twin.db.Path) == id {
		clash = fmt.Errorf("%w: it is the same file as %s", ErrConflict, twin.db.Path)
	}
	m.mu.Lock()
	if clash != nil {
		m.refuseLocked(db, source, id, fi, clash)
		m.unlock()
		return
	}
	if m.entries[db.ID] != rival {
		m.unlock()
		m.rescan(true) // the pool made it known just now
		return
	}
	if rival != nil {
		m.removeLocked(rival) // the ID has moved to another file
	}
	done := make(chan struct{})
	m.sniffing[db.ID] = done // keeps the pool from opening it meanwhile
	m.unlock()

	if twin == nil { // otherwise it is a database that was renamed, and may be open
		err = sniff(db.Path, fi.Size())
	}
	prefix, prefixErr := m.prefixOf(db)

	m.mu.Lock()
	defer m.unlock()
	delete(m.sniffing, db.ID)
	close(done)
	if err != nil {
		m.refuseLocked(db, source, id, fi, err)
		return
	}
	if m.phase >= phaseClosing || m.entries[db.ID] != nil {
		return
	}
	e := m.addLocked(db, id, prefix, prefixErr, source)
	e.seen = seq
	m.events = append(m.events, Event{Type: EventAdded, ID: db.ID, Path: db.Path})
	// Its first copy has no precedence over the Syncs of others.
	m.fleet.Seen(e.item, db.ModTime, m.cfg.now())
}

func (m *Manager) refuseLocked(db Database, source int, id fileID, fi os.FileInfo, err error) {
	m.ignored[db.ID] = refusal{source: source, seen: m.scans, path: db.Path, id: id, size: fi.Size(), time: fi.ModTime(), err: err}
	m.events = append(m.events, Event{Type: EventIgnored, ID: db.ID, Path: db.Path, Err: opError("discover", db.ID, err)})
}

const sqliteMagic = "SQLite format 3\x00"

// sniff reads the first bytes of a file that this process does not have open:
// closing a descriptor drops the process's locks on the file, so it is done
// once per file, and not at all where a WAL, a journal or a shared-memory file
// beside it says that somebody uses it as a database.
func sniff(path string, size int64) error {
	if size == 0 {
		return nil // a database to be
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var b [len(sqliteMagic)]byte
	if _, err := io.ReadFull(f, b[:]); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return err
	}
	if string(b[:]) != sqliteMagic {
		return ErrNotDatabase
	}
	return nil
}
