package multidb

import (
	"context"
	"errors"
	"io"
	"os"
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
			select {
			case u := <-m.unknown: // they need not wait for all of these
				m.takeIn(u)
			default:
			}
		}
	}
}

// ensureRead returns when the first bytes of an entry's file were read, by this
// caller or another, so that it may be opened. What is no database is let go of.
// The error is that of ctx.
func (m *Manager) ensureRead(ctx context.Context, e *entry) error {
	for {
		m.mu.Lock()
		if !e.unread || e.removed {
			m.unlock()
			return nil
		}
		busy := m.sniffing[e.db.ID]
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
	m.sniffing[e.db.ID] = done
	m.unlock()

	l := listed{Database: e.db.database()}
	id, fi, err := statID(e.db.Path)
	if err == nil {
		l.file, l.size, l.main = id, fi.Size(), fi.ModTime()
		err = sniff(e.db.Path, l.size)
	}

	m.mu.Lock()
	defer m.unlock()
	delete(m.sniffing, e.db.ID)
	close(done)
	e.unread = false
	if errors.Is(err, ErrNotDatabase) && !e.removed { // what else is wrong a run says
		m.failWaitersLocked(e, err)
		m.removeLocked(e)
		m.refuseLocked(l, int(e.source), err)
	}
	return nil
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
