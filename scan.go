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
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/rounds"
)

// goRound lists what the discoverers have every scan interval and when a watcher wants
// it, takes in what watchers found, reads what is new, and looks for what the replica
// may forget every retention interval.
func (m *Manager) goRound(ctx context.Context, took time.Duration) {
	m.rounds.Run(ctx, rounds.Work[unknown]{
		Interval: m.cfg.scanInterval, Told: m.watched.Load,
		Round: func(ctx context.Context) {
			if err := m.scan(ctx); err != nil && ctx.Err() == nil {
				m.emit(Event{Type: EventScanFailed, Err: err})
			}
		},
		Take: m.takeIn, After: m.readFresh,
		Every: m.cfg.retentionInterval, Regular: m.requestRetention,
	}, took)
}

// scan lists every discoverer once. Only what a listing has covered is let go of.
func (m *Manager) scan(ctx context.Context) error {
	m.mu.Lock()
	seq := m.reg.NextScan()
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
			m.rounds.TakeOne(m.takeIn)
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
		m.forget(registry.FromCatalog, seq, extents...)
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
	m.mu.Lock()
	gone, refused := m.reg.Unlisted(source, seq, func(e *entry) bool { return e.item.Pinned() })
	m.unlock()
	maps.DeleteFunc(refused, func(id, path string) bool { return kept(ID(id), path) })
	m.mu.Lock()
	m.reg.ForgetRefusals(refused, source, seq)
	m.unlock()
	for _, e := range gone {
		if kept(e.id(), e.Path) {
			continue
		}
		unmounted := m.unmounted(e)
		m.mu.Lock()
		switch {
		case m.reg.SeenIn(e, seq) || e.item.Pinned() || e.Held > 0: // found meanwhile
			m.unlock()
			continue
		case unmounted:
			if m.reg.SetAway(e) {
				m.fleet.Request(e.item, m.cfg.now()) // which says so
			}
			m.unlock()
			continue
		}
		m.removeLocked(e)
		m.unlock()
		m.pool.Evict(e)
		m.dropPages(e.id())
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
	f := registry.Found{ID: string(l.ID), Path: l.Path, Sight: registry.Sight{File: l.file, Size: l.size, Main: l.main}, Source: source, Scan: seq, Last: last}
	now := m.cfg.now()
	m.mu.Lock()
	if e := m.reg.Listed(f); e != nil {
		if h := &e.health; h.txid == 0 && h.dirtySince != 0 && h.syncedAt == 0 && !e.item.Running() && !l.ModTime.IsZero() {
			h.dirtySince = min(h.dirtySince, m.momentOfFile(l.ModTime)) // the catalog may not know when it was written
		}
		if e.Held == 0 { // otherwise its file may be in the making, and nobody else may open it
			m.fleet.Seen(e.item, l.ModTime, now)
		}
		back, look, recalled := m.reg.State(e)
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
	e, done := m.foundNew(l, f)
	if e != nil {
		m.noteVolume(e)
	}
	return done
}

// foundNew decides whether a file that is not known is a new database. It is not
// opened here: a first listing of 100,000 would take five times as long.
func (m *Manager) foundNew(l listed, f registry.Found) (e *entry, done bool) {
	if f.File.IsZero() {
		id, fi, err := fsid.Look(l.Path)
		if err != nil {
			return nil, true // gone already, or the next scan says why
		}
		f.Sight = registry.Sight{File: id, Size: fi.Size(), Main: fi.ModTime()}
	}
	m.mu.Lock()
	q, ask := m.reg.Ask(f)
	m.unlock()
	if !ask {
		return nil, true
	}
	var rival, twin fsid.ID
	if q.Rival != nil {
		rival = fsid.OrZero(q.Rival.Path)
	}
	if q.Twin != nil {
		twin = fsid.OrZero(q.Twin.Path)
	}
	prefix, prefixErr := m.prefixOf(l.Database)

	m.mu.Lock()
	defer m.unlock()
	d := m.reg.Decide(f, q, rival, twin)
	switch {
	case d.Later:
		return nil, false
	case d.Refused != nil:
		m.refusedLocked(l.ID, l.Path, d.Refused)
	case d.Changed:
		m.rounds.Ask(true) // the pool made it known just now
	case d.Add && !m.life.Closing():
		if d.Moved != nil {
			m.removeLocked(d.Moved) // the ID has moved to another file
		}
		e = m.addLocked(l.Database, f.File, prefix, prefixErr, f.Source)
		m.neverShippedLocked(e, l.ModTime)
		if e.Unread = d.Unread; e.Unread {
			m.fresh = append(m.fresh, e)
		}
		m.events = append(m.events, Event{Type: EventAdded, ID: e.id(), Path: e.Path})
		// Its first copy has no precedence over the Syncs of others.
		m.fleet.Seen(e.item, l.ModTime, m.cfg.now())
	}
	return e, true
}

// refusedLocked tells of a file that was refused.
func (m *Manager) refusedLocked(id ID, path string, err error) {
	m.events = append(m.events, Event{Type: EventIgnored, ID: id, Path: path, Err: opError("discover", id, err)})
}
