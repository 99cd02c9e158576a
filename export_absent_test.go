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
	_, absent := m.fleet.Kept()
	return absent
}

// PerDatabase is the sum of what is kept in memory by database, but for the absent ones.
func PerDatabase(m *Manager) int {
	kept, _ := m.fleet.Kept()
	return kept + len(m.logs.IDs()) + m.opener.Waiting()
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
