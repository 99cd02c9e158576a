package replicate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb/internal/ship"
)

// fewPages is the number of pages up to which shipping the whole state costs no more than
// finding out what differs. For such a database no hashes are kept.
const fewPages = 16

// pagesPath is where the page hashes of a database at rest are kept.
func (p *Replicator) pagesPath(id string) string {
	sum := sha256.Sum256([]byte(id))
	name := hex.EncodeToString(sum[:16])
	return filepath.Join(p.cfg.PagesDir, name[:2], name[2:])
}

// DropPages deletes the page hashes of a database that is gone.
func (p *Replicator) DropPages(id string) error { return p.savePages(id, nil) }

// savePages writes the hashes to the state directory for the time at which the database is
// at rest. Nothing depends on them: without them, or if a crash damages them, a resync
// ships everything.
func (p *Replicator) savePages(id string, pages *ship.Pages) error {
	path := p.pagesPath(id)
	if pages == nil || pages.Len() <= fewPages {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := pages.AppendBinary(nil)
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

// loadPages returns the hashes that savePages has kept, or nil.
func (p *Replicator) loadPages(id string) *ship.Pages {
	b, err := os.ReadFile(p.pagesPath(id))
	if err != nil {
		return nil
	}
	pages := new(ship.Pages)
	if pages.UnmarshalBinary(b) != nil {
		return nil
	}
	return pages
}
