package multidb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// logOf is a log and the database file that it was seen beside, by their inodes. An
// inode is used again for another file, so the log's first salt tells too: it goes up
// by one each time the log is restarted, and is drawn anew for another log.
type logOf struct {
	main, wal uint64
	salt      uint32
	salted    bool // false: nothing was read of it since it was opened here
}

// restarts is how many restarts of a log nobody here may have seen.
const restarts = 1 << 12

// noteLog remembers whose log it is that stands beside a database that was opened.
func (m *Manager) noteLog(e *entry) {
	if st, err := m.statFiles(e.db.Path); err == nil {
		m.mu.Lock()
		m.noteLogLocked(e, st, 0, false)
		m.mu.Unlock()
	}
}

func (m *Manager) noteLogLocked(e *entry, st fileStat, salt uint32, salted bool) {
	was := m.logs[e]
	now := logOf{st.main.Ino, st.wal.Ino, salt, salted}
	if !salted && was.main == now.main && was.wal == now.wal {
		return // and may have its salt
	}
	if now.wal == 0 || e.removed {
		delete(m.logs, e)
	} else if now != was {
		m.logs[e] = now
	}
}

// expelLog sets the log aside that was left of a file that another has taken the place
// of. SQLite would apply it to that one and spoil it. It must come before the first
// connection to the new file.
func (m *Manager) expelLog(e *entry) error {
	st, err := m.statFiles(e.db.Path)
	if err != nil {
		return err
	}
	return m.expelLogAs(e, st)
}

func (m *Manager) expelLogAs(e *entry, st fileStat) error {
	m.mu.Lock()
	l, known := m.logs[e]
	m.mu.Unlock()
	if !known || l.wal != st.wal.Ino || l.main == st.main.Ino || st.wal.Size == 0 {
		return nil
	}
	if l.salted {
		salt, err := logSalt(e.db.Path)
		if err != nil {
			return err
		}
		if salt-l.salt > restarts {
			return nil // another log, which got the same inode
		}
	}
	if err := m.setAside(e, "replaced"); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.logs, e)
	m.mu.Unlock()
	return nil
}

// logSalt is the first salt in a log's header (https://www.sqlite.org/fileformat.html).
// The log carries no locks. One that has no header yet has no frames either.
func logSalt(path string) (uint32, error) {
	f, err := os.Open(path + "-wal")
	if err != nil {
		return 0, err
	}
	var h [20]byte
	_, err = f.ReadAt(h[:], 0)
	return binary.BigEndian.Uint32(h[16:]), errors.Join(err, f.Close())
}

// setAside renames the log beside a database, or the journal, and the log's index to
// names that say when and why. They end as before, so that no discoverer takes them
// for databases, and who has the file they belong to can put it beside them.
func (m *Manager) setAside(e *entry, why string) error {
	base := fmt.Sprintf("%s.%s-%s", e.db.Path, why, m.cfg.now().UTC().Format("20060102T150405.000000000Z"))
	var moved []string
	// The index first: without it SQLite reads the log anew, with one of another log
	// it would not. A log that a crash leaves without its index is set aside again.
	for _, suffix := range []string{"-shm", "-wal", "-journal"} {
		if suffix == "-journal" && why == "replaced" {
			continue // it is of a file that was put there
		}
		err := os.Rename(e.db.Path+suffix, base+suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("set aside what was left of the file that was at %s: %w", e.db.Path, err)
		}
		if suffix != "-shm" {
			moved = append(moved, base+suffix)
		}
	}
	if err := syncDir(filepath.Dir(e.db.Path)); err != nil {
		return err
	}
	for _, name := range moved {
		m.emit(Event{Type: EventLogSetAside, ID: e.db.ID, Path: name,
			Err: fmt.Errorf("it belonged to a file that is no longer at %s, and may have commits of it that are nowhere else", e.db.Path)})
	}
	return nil
}

// expelOrphans sets aside what is left beside a database file that is gone, before
// another one is made in its place: it would be applied to that.
func (m *Manager) expelOrphans(e *entry) error {
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(e.db.Path + suffix); err == nil {
			return m.setAside(e, "lost")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
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
	if !e.removed {
		e.shut = true
		m.fleet.Request(e.item, m.cfg.now())
	}
	m.unlock()
	m.workers.Poke()
}

// cutsLog reports whether a run that has shipped everything is to cut the log: nobody
// in this process uses the database, and nobody else has written since the run before.
func (m *Manager) cutsLog(r *runState) bool {
	w := r.e.work
	ordered := r.order != nil && r.order.kind == orderCut // by Evict or Close, which cannot wait
	if m.cfg.replica == nil || !r.drained || r.walSize == 0 || !ordered && r.started.Before(w.nextCut) {
		return false
	}
	m.mu.Lock()
	wanted := ordered || r.e.shut || w.lingers && r.quiet || m.life.phase >= phaseClosing
	free := !r.e.item.Pinned() && r.e.held == 0
	m.mu.Unlock()
	if !wanted || !free {
		return false
	}
	_, _, open := m.pool.Peek(r.e)
	return !open // or its closing asks again
}

// noteCut notes what came of it. A reader may keep the log; and another process may
// have the database open, which cuts the log itself when it closes it.
func (m *Manager) noteCut(r *runState) {
	w := r.e.work
	if r.walSize > 0 {
		w.nextCut = r.started.Add(sealPause)
		return
	}
	w.lingers, w.nextCut = false, time.Time{}
	m.mu.Lock()
	r.e.shut = false
	m.mu.Unlock()
}

// withLogs is which databases have a log with something in it, for Close.
func (m *Manager) withLogs() (out []*entry) {
	m.mu.Lock()
	var all []*entry
	for e := range m.logs {
		if !e.removed && e.refused == nil && e.health.err == nil {
			all = append(all, e)
		}
	}
	m.mu.Unlock()
	for _, e := range all {
		if st, err := m.statFiles(e.db.Path); err == nil && st.wal.Size > 0 {
			out = append(out, e)
		}
	}
	return out
}
