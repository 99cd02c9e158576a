package multidb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// scanShare bounds what the scans take where changes are watched for: one every
// so many times what the last one took.
const scanShare = 200

// scanLoop asks the discoverers every scan interval and when a watcher wants it,
// takes in what watchers found, reads what is new, and looks for what the replica
// may forget every retention interval.
func (m *Manager) scanLoop(ctx context.Context) {
	took := m.firstScan
	next := func() time.Duration {
		if m.watched.Load() {
			return max(m.cfg.scanInterval, scanShare*took)
		}
		return m.cfg.scanInterval
	}
	m.readFresh(ctx)
	scan := time.NewTimer(next())
	defer scan.Stop()
	retain := time.NewTicker(m.cfg.retentionInterval)
	defer retain.Stop()
	rescan := time.NewTimer(m.cfg.scanInterval)
	defer rescan.Stop()
	rescan.Stop()
	var due, ended time.Time // of the rescan, zero if none; of the last scan
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
		m.readFresh(ctx)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-scan.C:
			all()
			scan.Reset(next())
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
			m.readFresh(ctx)
		case <-retain.C:
			m.requestRetention()
		}
	}
}

// scan lists every discoverer once. Only what a listing has covered is let go of.
func (m *Manager) scan(ctx context.Context) error {
	m.mu.Lock()
	m.scans++
	seq := m.scans
	m.mu.Unlock()
	var extents []*extent
	type other struct {
		listed
		source int
	}
	var others []other // the catalog has their IDs at other places
	for i, d := range m.discovered {
		missed := &extent{d: d}
		extents = append(extents, missed)
		var failed []error
		for db, err := range list(ctx, d) {
			if err != nil {
				missed.add(err)
				failed = append(failed, err)
				continue
			}
			if !m.found(db, i, seq, false) {
				others = append(others, other{db, i})
			}
			select {
			case u := <-m.unknown: // a long scan is no reason to wait
				m.takeIn(u)
			default:
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.scanned(i, errors.Join(failed...), missed.partial())
	}
	m.judgeRoots(seq) // by what all of them have found
	for i, missed := range extents {
		if !missed.All {
			m.forget(i, seq, missed)
		}
	}
	if !slices.ContainsFunc(extents, func(x *extent) bool { return x.All }) {
		m.forget(fromCatalog, seq, extents...)
	}
	for _, o := range others {
		m.found(o.listed, o.source, seq, true)
	}
	m.mu.Lock()
	m.absent.Expire(m.cfg.boot())
	m.mu.Unlock()
	m.workers.Poke()
	return nil
}

// scanned tells a discoverer's trouble once, until it changes.
func (m *Manager) scanned(i int, err error, partial bool) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	m.mu.Lock()
	defer m.unlock()
	was := m.scanErr[i]
	if err != nil && was.err != nil && was.err.Error() == text || err == nil && was.err == nil {
		return
	}
	since := was.since
	if was.err == nil {
		since = m.cfg.now()
	}
	m.scanErr[i] = scanTrouble{err, since, partial}
	if err != nil {
		m.events = append(m.events, Event{Type: EventScanFailed, Err: err})
	}
}

// forget lets go of the databases of a discoverer that its listing lacks, but for
// those that may be in what was not covered.
func (m *Manager) forget(source int, seq uint32, missed ...*extent) {
	kept := func(id ID, path string) bool {
		return slices.ContainsFunc(missed, func(x *extent) bool { return x.may(id, path) })
	}
	var gone []*entry
	refused := make(map[ID]string)
	m.mu.Lock()
	for e := range m.entries.All() {
		if e.source == int32(source) && e.seen != seq && !e.item.Pinned() && e.held == 0 {
			gone = append(gone, e)
		}
	}
	for id, r := range m.ignored {
		if r.source == source && r.seen != seq {
			refused[id] = r.path
		}
	}
	m.unlock()
	maps.DeleteFunc(refused, kept)
	m.mu.Lock()
	for id := range refused {
		if r := m.ignored[id]; r.source == source && r.seen != seq {
			delete(m.ignored, id)
		}
	}
	m.unlock()
	for _, e := range gone {
		if kept(e.db.ID, e.db.Path) {
			continue
		}
		unmounted := m.unmounted(e)
		m.mu.Lock()
		switch {
		case e.seen == seq || e.item.Pinned() || e.held > 0: // found meanwhile
			m.unlock()
			continue
		case unmounted:
			if !e.away {
				e.away = true
				m.fleet.Request(e.item, m.cfg.now()) // which says so
			}
			m.unlock()
			continue
		}
		m.removeLocked(e)
		m.unlock()
		m.pool.Evict(e)
		m.dropPages(e.db.ID)
	}
}

// found takes in one database of a listing. It reports false, and does nothing, where
// only the catalog has the ID at another path that still stands, as in the copy of a
// root with its state directory: what no discoverer lists is let go of at the end of
// the scan, and then it is to be asked again. last: there is no such end to come.
func (m *Manager) found(l listed, source int, seq uint32, last bool) (done bool) {
	if l.ID == "" || !filepath.IsAbs(l.Path) {
		m.emit(Event{Type: EventScanFailed, ID: l.ID, Path: l.Path,
			Err: fmt.Errorf("%w: a discoverer gave a database without an ID or an absolute path", ErrInvalidOption)})
		return true
	}
	if l.ModTime.IsZero() {
		if st, err := m.statFiles(l.Path); err == nil {
			l.ModTime = st.ModTime()
		}
	}
	now := m.cfg.now()
	m.mu.Lock()
	if e := m.entries.Get(l.ID); e != nil && e.db.Path == l.Path {
		e.seen, e.source = seq, int32(source)
		m.alsoSeenLocked(l, e, seq)
		if h := &e.health; h.txid == 0 && h.dirtySince != 0 && h.syncedAt == 0 && !e.item.Running() && !l.ModTime.IsZero() {
			h.dirtySince = min(h.dirtySince, m.momentOfFile(l.ModTime)) // the catalog may not know when it was written
		}
		if e.held == 0 { // otherwise its file may be in the making, and nobody else may open it
			m.fleet.Seen(e.item, l.ModTime, now)
		}
		back, look, recalled := e.away, e.away || e.volume == 0, e.recall == recallAsked
		if back {
			m.fleet.Request(e.item, now)
		}
		m.unlock()
		if recalled {
			m.confirmVolume(e, l.file)
		} else if look {
			m.noteVolume(e)
		}
		return true
	}
	m.unlock()
	if !m.foundNew(l, source, seq, last) {
		return false
	}
	m.mu.Lock()
	e := m.entries.Get(l.ID)
	m.unlock()
	if e != nil {
		m.noteVolume(e)
	}
	return true
}

// alsoSeenLocked keeps the database whose file was listed by another name, for as
// long as an Acquire of that name is about to be refused.
func (m *Manager) alsoSeenLocked(l listed, e *entry, seq uint32) {
	if twin := m.files.Get(l.file); e.held > 0 && !l.file.IsZero() && twin != nil && twin != e {
		twin.seen = seq
	}
}

// foundNew decides whether a file that is not known is a new database. It is not
// opened here: a first listing of 100,000 would take five times as long.
func (m *Manager) foundNew(l listed, source int, seq uint32, last bool) (done bool) {
	if l.file.IsZero() {
		id, fi, err := fsid.Look(l.Path)
		if err != nil {
			return true // gone already, or the next scan says why
		}
		l.file, l.size, l.main = id, fi.Size(), fi.ModTime()
	}
	m.mu.Lock()
	r, again := m.ignored[l.ID]
	again = again && r.path == l.Path && r.id == l.file && r.size == l.size && r.time.Equal(l.main)
	if again {
		r.seen = seq
		m.ignored[l.ID] = r
		if !errors.Is(r.err, ErrConflict) { // which may be over
			m.unlock()
			return true
		}
	} else {
		delete(m.ignored, l.ID)
	}
	rival, twin := m.entries.Get(l.ID), m.files.Get(l.file)
	unlisted := rival != nil && rival.source == fromCatalog
	if rival != nil && rival.db.Path == l.Path {
		// The pool made it known meanwhile, and may have it open.
		rival.seen, rival.source = seq, int32(source)
		m.alsoSeenLocked(l, rival, seq)
		m.unlock()
		return true
	}
	m.unlock()

	// Does the ID's old file still stand, or the file's old name?
	var clash error
	sameFile := false
	if rival != nil && !fsid.OrZero(rival.db.Path).IsZero() {
		if !last && unlisted {
			return false
		}
		clash = fmt.Errorf("%w: %s has the ID %q already", ErrConflict, rival.db.Path, l.ID)
	} else if twin != nil && twin != rival && !l.file.IsZero() && fsid.OrZero(twin.db.Path) == l.file {
		clash, sameFile = fmt.Errorf("%w: it is the same file as %s", ErrConflict, twin.db.Path), true
	}
	prefix, prefixErr := m.prefixOf(l.Database)

	m.mu.Lock()
	defer m.unlock()
	switch {
	case clash != nil:
		if sameFile {
			// A listing has one name of each file. The one that is known stays,
			// though it be the other.
			twin.seen, twin.source = seq, int32(source)
		}
		if !again {
			m.refuseLocked(l, source, clash)
		}
		return true
	case m.entries.Get(l.ID) != rival:
		m.rescan(true) // the pool made it known just now
		return true
	case m.life.phase >= phaseClosing:
		return true
	}
	delete(m.ignored, l.ID)
	if rival != nil {
		m.removeLocked(rival) // the ID has moved to another file
	}
	e := m.addLocked(l.Database, l.file, prefix, prefixErr, source)
	e.seen = seq
	m.neverShippedLocked(e, l.ModTime)
	// One that was renamed may be open, and is a database.
	if e.unread = twin == nil && l.size > 0; e.unread {
		m.fresh = append(m.fresh, e)
	}
	m.events = append(m.events, Event{Type: EventAdded, ID: e.db.ID, Path: e.db.Path})
	// Its first copy has no precedence over the Syncs of others.
	m.fleet.Seen(e.item, l.ModTime, m.cfg.now())
	return true
}

func (m *Manager) refuseLocked(l listed, source int, err error) {
	m.ignored[l.ID] = refusal{source: source, seen: m.scans, path: l.Path, id: l.file, size: l.size, time: l.main, err: err}
	m.events = append(m.events, Event{Type: EventIgnored, ID: l.ID, Path: l.Path, Err: opError("discover", l.ID, err)})
}
