package ship

import (
	"context"
	"fmt"
	"time"

	"github.com/superfly/ltx"
)

// DefaultWindow is half of the 5 minutes for which every writer keeps each level 0
// file (levels.Policy.Grace). All writers of a prefix must agree on it, so it is
// no option.
const DefaultWindow = 150 * time.Second

// Confirm makes sure that the replica still ends at the state, if that was last
// known longer ago than Config.Window: one listing of level 0 from the state's own
// file on. It returns ErrStale where the replica ends elsewhere. It comes before
// everything that is written or deleted: a file that is created only if it does not
// exist cannot tell that one of its name existed and was deleted, but within twice
// the window nobody deletes it. DESIGN.md has the proof.
func (s *Shipper) Confirm(ctx context.Context, db *DB) error {
	if db.Placed != 0 && s.cfg.Boot()-db.Placed <= s.cfg.Window {
		return nil
	}
	return s.confirm(ctx, db, db.State.TXID)
}

// confirmLate is Confirm for the end of a write of txid, which has been
// acknowledged: if it took so long that another writer's file of that name may have
// come and gone, the replica is listed before anybody is told.
func (s *Shipper) confirmLate(ctx context.Context, db *DB, txid ltx.TXID) error {
	if db.Placed != 0 && s.cfg.Boot()-db.Placed <= s.cfg.Window+s.cfg.Window/2 {
		return nil
	}
	return s.confirm(ctx, db, txid)
}

// confirm lists level 0 from txid on, which must be the last there is. What may
// have been written by an attempt whose answer was lost is judged by the write.
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
	case beyond != nil && beyond.MaxTXID == txid+1 && len(db.pending) > 0:
	case beyond != nil:
		return fmt.Errorf("%w: it goes on to transaction %s, we know of %s", ErrStale, beyond.MaxTXID, txid)
	case !there:
		return fmt.Errorf("%w: transaction %s is not there", ErrStale, txid)
	}
	db.Placed = began
	return nil
}
