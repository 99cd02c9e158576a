package multidb

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb/internal/ship"
)

// fewPages is the size up to which a whole state costs no more than looking up
// what differs.
const fewPages = 16

// pagesPath is where the page hashes of a cold database are kept.
func (m *Manager) pagesPath(id ID) string {
	sum := sha256.Sum256([]byte(id))
	name := hex.EncodeToString(sum[:16])
	return filepath.Join(m.dir, "pages", name[:2], name[2:])
}

// savePages keeps the hashes while the database is cold. They are a saving, not
// a truth: without them, or if a crash garbles them, a resync ships everything.
func (m *Manager) savePages(id ID, p *ship.Pages) error {
	path := m.pagesPath(id)
	if p == nil || p.Len() <= fewPages {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := p.AppendBinary(nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// loadPages returns the hashes kept for a state, nil if there are none.
func (m *Manager) loadPages(id ID) *ship.Pages {
	b, err := os.ReadFile(m.pagesPath(id))
	if err != nil {
		return nil
	}
	p := new(ship.Pages)
	if p.UnmarshalBinary(b) != nil {
		return nil
	}
	return p
}
