package ship

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/superfly/ltx"
)

// verifyCache is Verify for a file of an earlier time, of a database that others may have served
// since. What counts is the replica's history, and the file only as far as it is a state of that,
// which has to be proved:
//
//   - it is the replica's newest state: it is used (nil);
//   - it is an earlier one: ErrBehind;
//   - anything else: ErrFenced. It has commits that the replica lacks, or nobody can tell.
//
// So nothing of the file is ever shipped. A state that was acknowledged is in the replica's
// history, whoever goes on from there; see docs/DESIGN.md, "Nodes".
func (s *Shipper) verifyCache(ctx context.Context, db *DB, l Listing, last *ltx.FileInfo, found stored) error {
	fail := func(err error) error { return fmt.Errorf("verify against transaction %s: %w", last.MaxTXID, err) }
	known := db.State
	is, err := s.fromReplica(ctx, db, last)
	if err != nil {
		return fail(err)
	}
	switch is.Origin = found.Origin; {
	case known.TXID == last.MaxTXID && s.isShippedFile(known, found):
		is = known
		is.Origin = found.Origin
	case is.Offset == 0: // the log does not have it
		is = State{}
	}
	if is.TXID != 0 {
		db.State = is
		idle, err := s.hasNothingNew(ctx, db)
		if err == nil && idle {
			return nil
		}
		if db.State = known; err != nil {
			return fail(err)
		}
	}
	was, err := s.whereItEnds(ctx, db, l.Files, last)
	if err != nil {
		return fail(err)
	} else if was != nil {
		return fmt.Errorf("%w: from transaction %s to %s, written by node %s at %s", ErrBehind,
			was.TXID, last.MaxTXID, found.Origin, time.UnixMilli(found.hdr.Timestamp).UTC().Format(time.RFC3339))
	}
	same, err := s.equals(ctx, db, l, last, found)
	if err != nil {
		return fail(err)
	} else if same {
		return nil
	}
	if _, _, err := readVerified(ctx, db, last.Level, last.MinTXID, last.MaxTXID, last.Size); err != nil {
		return fail(err)
	}
	return s.fenced(db, found, l.Files)
}

// whereItEnds is the earlier state of the replica's history that the local file is exactly in;
// nil: none is known. That is the state that db has, if the replica may have gone on from there. But
// what was written down of it may lag a second or so behind what this node has shipped: then
// the last of its files that the replica still has one by one is in the log, with nothing after it.
func (s *Shipper) whereItEnds(ctx context.Context, db *DB, files []*ltx.FileInfo, last *ltx.FileInfo) (*State, error) {
	known := db.State
	descends, err := descendsFrom(ctx, db, files, known)
	if err != nil {
		return nil, err
	}
	if known.TXID == 0 || descends && last.MaxTXID > known.TXID {
		if idle, err := s.hasNothingNew(ctx, db); err != nil || idle {
			return &known, err
		}
	}
	ours, err := s.lastOfOurs(ctx, db, files, known.TXID, last.MaxTXID)
	if err != nil || ours == nil {
		return nil, err
	}
	st, err := s.fromReplica(ctx, db, ours)
	if err != nil || st.Offset == 0 {
		return nil, err
	}
	db.State = st
	idle, err := s.hasNothingNew(ctx, db)
	if db.State = known; err != nil || !idle {
		return nil, err
	}
	return &st, nil
}

// lastOfOurs is the last of the level 0 files between two transactions that this node has
// written; nil: none. Others write only after it.
func (s *Shipper) lastOfOurs(ctx context.Context, db *DB, files []*ltx.FileInfo, after, before ltx.TXID) (*ltx.FileInfo, error) {
	var all []*ltx.FileInfo
	for _, f := range files {
		if f.Level == 0 && f.MaxTXID > after && f.MaxTXID < before {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *ltx.FileInfo) int { return cmp.Compare(a.MaxTXID, b.MaxTXID) })
	var failed error
	n, _ := slices.BinarySearchFunc(all, true, func(f *ltx.FileInfo, _ bool) int {
		if failed != nil {
			return 0
		}
		found, err := readOrigin(ctx, db, f)
		if failed = err; err == nil && found.Node() == s.cfg.Node {
			return -1
		}
		return 1
	})
	if failed != nil || n == 0 {
		return nil, failed
	}
	return all[n-1], nil
}
