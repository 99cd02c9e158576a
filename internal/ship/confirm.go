package ship

import (
	"context"
	"fmt"
	"time"

	"github.com/superfly/ltx"
)

// DefaultWindow is half of the 5 minutes for which every writer keeps each level 0 file
// (levels.Policy.Grace). It is not an option, because all writers of a prefix must use the
// same.
const DefaultWindow = 150 * time.Second

// Confirm makes sure that the replica still ends at the state. If its end was last seen
// longer ago than Config.Window, Confirm lists level 0 from the state's own file on, and
// returns ErrStale if the replica ends elsewhere. It must be called before anything is
// written or deleted. To create a file only if it does not exist is not enough: another
// writer may have created a file of that name and deleted it again. But nobody deletes such
// a file within twice the window. DESIGN.md has the proof.
func (s *Shipper) Confirm(ctx context.Context, db *DB) error {
	if db.Fenced || db.EndSeen != 0 && s.cfg.Boot()-db.EndSeen <= s.cfg.Window {
		return nil
	}
	return s.confirm(ctx, db, db.State.TXID)
}

// confirmLate is called after the replica has acknowledged txid, and before that counts. If
// the write took so long that another writer may have created a file of the same name and
// deleted it again meanwhile, it lists the replica as Confirm does.
func (s *Shipper) confirmLate(ctx context.Context, db *DB, txid ltx.TXID) error {
	if db.Fenced || db.EndSeen != 0 && s.cfg.Boot()-db.EndSeen <= s.cfg.Window+s.cfg.Window/2 {
		return nil
	}
	return s.confirm(ctx, db, txid)
}

// confirm lists level 0 from txid on, whose file must be the last one. A file of the next
// TXID may be that of an attempt whose answer was lost; the next write finds out.
func (s *Shipper) confirm(ctx context.Context, db *DB, txid ltx.TXID) error {
	began := s.cfg.Boot()
	files, err := db.Client.LTXFiles(ctx, 0, txid, false)
	if err != nil {
		return fmt.Errorf("look at the end of the replica: %w", err)
	}
	defer func() { _ = files.Close() }()
	there := txid == 0
	var beyond *ltx.FileInfo
	for files.Next() {
		f := files.Item()
		there = there || f.MaxTXID == txid
		if f.MaxTXID > txid && (beyond == nil || f.MaxTXID > beyond.MaxTXID) {
			beyond = f
		}
	}
	if err := files.Err(); err != nil {
		return fmt.Errorf("look at the end of the replica: %w", err)
	}
	switch {
	case beyond != nil && len(db.pending) > 0 && beyond.MaxTXID == db.pending[0].txid:
	case beyond != nil:
		return fmt.Errorf("%w: it goes on to transaction %s, we know of %s", ErrStale, beyond.MaxTXID, txid)
	case !there:
		return fmt.Errorf("%w: transaction %s is not there", ErrStale, txid)
	}
	db.EndSeen = began
	return nil
}
