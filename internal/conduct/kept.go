package conduct

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/localfile"
)

// keptNote is the kind of note of a file that this node has set aside, as others have served its
// database without what only the file has. Its ID is the path.
const keptNote = "kept"

// NoteKept notes that a file was set aside, and when, so that DropKept finds it.
func (c *Conductor) NoteKept(path string) {
	c.cfg.Catalog.PutNote(catalog.Note{Kind: keptNote, ID: path, Value: binary.AppendVarint(nil, c.cfg.Now().UnixNano())})
}

// DropKept deletes the files that were set aside longer ago than they are to be kept. Only what NoteKept was
// told of is touched. One that is gone is forgotten; one that cannot be deleted is tried again
// by the next call.
func (c *Conductor) DropKept(ctx context.Context, retention time.Duration) (dropped int, err error) {
	old := c.cfg.Age.Trusted(c.cfg.Now()).Add(-retention)
	var paths []string
	for n, err := range c.cfg.Catalog.Notes(ctx, keptNote) {
		if err != nil {
			return 0, err
		}
		if at, ok := binary.Varint(n.Value); ok > 0 && time.Unix(0, at).Before(old) {
			paths = append(paths, n.ID)
		}
	}
	var errs []error
	for _, path := range paths {
		if err := localfile.Drop(path); err != nil {
			errs = append(errs, err)
			continue
		}
		c.cfg.Catalog.PutNote(catalog.Note{Kind: keptNote, ID: path})
		dropped++
	}
	return dropped, errors.Join(errs...)
}
