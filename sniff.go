package multidb

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// readFresh reads the first bytes of the files that scans and watchers brought.
func (m *Manager) readFresh(ctx context.Context) {
	for {
		m.mu.Lock()
		fresh := m.fresh
		m.fresh = nil
		m.unlock()
		if len(fresh) == 0 {
			return
		}
		for _, e := range fresh {
			if m.ensureRead(ctx, e) != nil {
				return // ctx ended; whoever needs one of the rest reads it
			}
			m.rounds.TakeOne(m.takeIn)
		}
	}
}

// ensureRead returns when the first bytes of an entry's file were read, by this
// caller or another, so that it may be opened. What is no database is let go of.
// The error is that of ctx.
func (m *Manager) ensureRead(ctx context.Context, e *entry) error {
	for {
		m.mu.Lock()
		if !e.Unread || e.Removed {
			m.unlock()
			return nil
		}
		busy := m.sniffing[e.id()]
		if busy == nil {
			break
		}
		m.unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	done := make(chan struct{})
	m.sniffing[e.id()] = done
	m.unlock()

	var sight registry.Sight
	id, fi, err := fsid.Look(e.Path)
	if err == nil {
		sight = registry.Sight{File: id, Size: fi.Size(), Main: fi.ModTime()}
		err = sniff(e.Path, sight.Size)
	}

	m.mu.Lock()
	defer m.unlock()
	delete(m.sniffing, e.id())
	close(done)
	e.Unread = false
	if errors.Is(err, ErrNotDatabase) && !e.Removed { // what else is wrong a run says
		m.failWaitersLocked(e, err)
		m.removeLocked(e)
		m.reg.Refuse(e.ID, e.Path, sight, e.Source(), err)
		m.refusedLocked(e.id(), e.Path, err)
	}
	return nil
}

// sniff reads the first bytes of a file, but not where a WAL, a journal or a
// shared-memory file beside it says that somebody uses it as a database.
func sniff(path string, size int64) error {
	if size == 0 {
		return nil // a database to be
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return nil
		}
	}
	b := make([]byte, min(size, int64(len(sqlitedb.Magic))))
	if err := readStart(path, b); err != nil {
		return err
	}
	if string(b) != sqlitedb.Magic {
		return ErrNotDatabase
	}
	return nil
}

// readStart reads through SQLite's file layer, as the application may have
// connections of its own to the file, whose locks it must not lose.
func readStart(path string, b []byte) (err error) {
	f, err := sqlitedb.OpenFile(path)
	if err != nil {
		to, e := filepath.EvalSymlinks(path)
		if e != nil || to == path {
			return err
		}
		if f, err = sqlitedb.OpenFile(to); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.ReadAt(b, 0)
	return err
}
