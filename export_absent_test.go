package multidb

import (
	"context"
	"io/fs"
	"path/filepath"
)

// MaxAbsent bounds what AbsentLen returns.
const MaxAbsent = 1024

// AbsentLen is of how many databases that went something is kept in memory.
func AbsentLen(m *Manager) int {
	m.mu.Lock()
	defer m.unlock()
	return m.absent.Len()
}

// PerDatabase is the sum of what is kept in memory by database, but for the absent ones.
func PerDatabase(m *Manager) int {
	m.mu.Lock()
	defer m.unlock()
	return m.reg.Kept() + len(m.sniffing) + len(m.runs) +
		len(m.logs.IDs()) + len(m.strays) + len(m.orders) + len(m.opening) + len(m.backlogs)
}

// CatalogRows writes what the catalog has queued and counts its rows.
func CatalogRows(ctx context.Context, m *Manager) (n int, err error) {
	if err := m.catalog.Flush(ctx); err != nil {
		return 0, err
	}
	for _, err := range m.catalog.Load(ctx) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// PageFiles counts the files of page hashes.
func PageFiles(m *Manager) (n int, err error) {
	err = filepath.WalkDir(filepath.Join(m.dir, "pages"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	return n, err
}
