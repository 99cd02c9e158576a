package multidb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/schedule"
)

// found by a watcher, and not known.
type unknown struct {
	db     Database
	source int
}

// unknownQueue is how many of them wait for the scanner at most. A full queue
// becomes a scan.
const unknownQueue = 4096

// watch starts the watchers among the discoverers, before the first scan, so
// that nothing can change between the two. They end with ctx; m.scanning is
// waited for. It returns an error only of a watcher that did not start, which
// leaves the scans.
func (m *Manager) watch(ctx context.Context) error {
	if !m.cfg.watch {
		return nil
	}
	m.watched.Store(true)
	var errs []error
	for i, d := range m.discovered {
		w, ok := d.(DiscovererWatcher)
		if !ok {
			m.watched.Store(false)
			continue
		}
		start := w.Watch
		if s, ok := w.(sparingWatcher); ok {
			start = func(ctx context.Context, notify func(WatchEvent)) (func(), error) {
				return s.watch(ctx, notify, m.needless)
			}
		}
		run, err := start(ctx, func(ev WatchEvent) { m.heard(ev, i) })
		if err != nil {
			errs = append(errs, err)
			m.watched.Store(false)
			continue
		}
		m.scanning.Go(run)
	}
	return errors.Join(errs...)
}

// heard takes an event of a watcher.
func (m *Manager) heard(ev WatchEvent, source int) {
	switch ev.Type {
	case WatchChanged:
		m.changed(ev.Database, source)
	case WatchGone:
		m.rounds.Ask(false)
	case WatchRescan:
		m.rounds.Ask(true)
	case WatchPolls:
		m.watched.Store(false)
		m.emit(Event{Type: EventWatch, Err: fmt.Errorf(
			"directories are polled, as they cannot be watched: %w (see fs.inotify.max_user_watches)", ev.Err)})
	}
}

// changed takes a change of a database that a watcher saw.
func (m *Manager) changed(db Database, source int) {
	m.mu.Lock()
	e := m.reg.Get(string(db.ID))
	m.unlock()
	if e == nil || e.Path != db.Path {
		id := fsid.OrZero(db.Path) // the file may be known by another name
		m.mu.Lock()
		e = m.reg.ByFile(id)
		m.unlock()
		if e == nil || fsid.OrZero(e.Path) != id {
			m.appeared(db, source)
			return
		}
	}
	m.look(e)
}

// needless reports whether a write to a database is found out in time by itself:
// a hot one is looked at every SyncInterval, and many times before it goes cold.
func (m *Manager) needless(db Database) bool {
	m.mu.Lock()
	defer m.unlock()
	return m.needlessLocked(db)
}

func (m *Manager) needlessLocked(db Database) bool {
	if m.cfg.replica == nil || m.cfg.syncInterval > m.cfg.hotDuration/4 {
		return false
	}
	e := m.reg.Get(string(db.ID))
	return e != nil && e.Path == db.Path && e.item.Tier() == schedule.Hot && !e.item.Running() &&
		e.item.Failures() == 0 && e.early == 0 && e.Held == 0
}

// look judges a known database that was touched.
func (m *Manager) look(e *entry) {
	st, err := m.statFiles(e.Path)
	if err != nil {
		return // a scan says what became of it
	}
	m.mu.Lock()
	before, was := m.fleet.Wake()
	m.touchedLocked(e, st, m.cfg.now())
	after, is := m.fleet.Wake()
	m.unlock()
	if is && (!was || after.Before(before)) {
		m.workers.Poke()
	}
}

// touchedLocked makes a database due if its files are not as the last run left
// them. What runs now may itself be what touched them, so that is judged when it
// ends; and so is the making of a file for an Acquire, before which nobody else
// may open it.
func (m *Manager) touchedLocked(e *entry, st fsid.Files, now time.Time) {
	if e.item.Running() || e.Held > 0 && st.Main.Ino != e.File.Ino {
		e.touched = true
		return
	}
	// Nobody runs, so nobody but the lock owns e.state.
	known := e.peekLocked()
	if known.Seen(st, now) {
		return
	}
	mod := st.ModTime()
	cold := e.item.Tier() == schedule.Cold
	if !known.IsOwn(mod) {
		m.fleet.Seen(e.item, mod, now)
	}
	// A change of a cold one is shipped now, whether it promotes or not, and not
	// when a scan's would be; but that of one that fails does not shorten its
	// back-off. The first thing that a writer touches is no commit yet.
	switch {
	case m.cfg.replica == nil || e.item.Failures() > 0 || !cold && e.early == 0:
		return
	case cold:
		e.early = earlyLooks
	default:
		e.early--
	}
	m.fleet.Request(e.item, now)
}

// earlyLooks is how often what a watcher sees of a database that has just become hot
// makes it due at once, until something of it is shipped: a writer makes a log, its
// header and frames before its commit, which would else wait for the interval.
const earlyLooks = 4

// appeared hands a database that is not known to the scanner, who alone takes
// in new ones: it opens a new file once, which nobody may do twice.
func (m *Manager) appeared(db Database, source int) {
	if db.ID == "" {
		return // a listing knows its ID
	}
	m.rounds.Found(unknown{db, source})
}

// takeIn takes in what a watcher found.
func (m *Manager) takeIn(u unknown) {
	m.mu.Lock()
	seq := m.reg.Scan()
	m.mu.Unlock()
	m.found(listed{Database: u.db}, u.source, seq, true)
	m.workers.Poke()
}
