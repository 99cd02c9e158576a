package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/control"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/localfile"
	restoring "github.com/multidb-go/multidb/internal/restore"
)

// wouldOwn says what an order about the owner of a prefix does to a database.
func wouldOwn(verb string, s multidb.Status, fenced bool) string {
	switch {
	case verb == control.HandOver:
		return fmt.Sprintf("would ship what is left of %s (%s) and have another machine go on from %s", s.Path, showBytes(s.LagBytes), s.Prefix)
	case verb == control.TakeOver && fenced:
		return "would make the local file " + s.Path + " the newest state"
	case verb == control.TakeOver:
		return "is not fenced; would make sure that its local file is the newest state"
	case fenced:
		return "would set " + s.Path + " aside in " + filepath.Join(filepath.Dir(s.Path), ".multidb-kept") + " and restore the newest state there"
	}
	return "is not fenced, and would all the same set " + s.Path + " aside and restore the newest state there"
}

// wouldLive says what an order about a database's life would do. It fails where the order would,
// as far as that can be told without doing it.
func (s *served) wouldLive(ctx context.Context, o control.Order, st multidb.Status, out *control.Outcome) (err error) {
	switch o.Verb {
	case control.Erase:
		return s.wouldErase(ctx, st, out)
	case control.Undelete:
		return s.wouldUndelete(st, out)
	case control.Fork:
		return s.wouldFork(ctx, o, st, out)
	}
	if st.ID == "" {
		_, err := s.m.Status(multidb.ID(out.ID))
		return err
	}
	switch o.Verb {
	case control.Evict:
		switch {
		case !st.Resident:
			out.Would = "has no local file; there is nothing to do"
		case s.m.Stats().Disk.Limit == 0: // as Manager.Evict does
			out.Would = fmt.Sprintf("would ship what is left and cut the log of %s, which stays: there is no max-disk", st.Path)
		default:
			out.Would = fmt.Sprintf("would ship what is left and delete %s (%s)", st.Path, showBytes(st.LocalBytes))
		}
	case control.Remove:
		out.Would = fmt.Sprintf("would ship what is left, delete %s (%s), and keep the backups at %s for undelete", st.Path, showBytes(st.LocalBytes), st.Prefix)
	case control.Rename:
		db, err := s.vacant(ctx, o.To)
		if err != nil {
			return err
		}
		out.Would = fmt.Sprintf("would move %s to %s, and the backups at %s to %s", st.Path, db.Path, st.Prefix, s.prefix(db))
	}
	return nil
}

func (s *served) wouldUndelete(st multidb.Status, out *control.Outcome) error {
	for r := range s.m.Removed() {
		if string(r.ID) == out.ID {
			out.Path = r.Path
			out.Would = fmt.Sprintf("would put it into service again as %s, from its backups", r.Path)
			return nil
		}
	}
	if st.ID != "" {
		return fmt.Errorf("%w: it is in service", multidb.ErrInUse)
	}
	_, err := s.m.Status(multidb.ID(out.ID))
	return err
}

func (s *served) wouldFork(ctx context.Context, o control.Order, st multidb.Status, out *control.Outcome) error {
	src := st.Database
	for r := range s.m.Removed() {
		if string(r.ID) == out.ID {
			src = r.Database
		}
	}
	if src.ID == "" {
		_, err := s.m.Status(multidb.ID(out.ID))
		return err
	}
	dst, err := s.vacant(ctx, o.To)
	if err != nil {
		return err
	}
	factory, err := s.replica()
	if err != nil {
		return err
	}
	files, err := multidb.ReplicaFiles(ctx, factory, src, !o.Timestamp.IsZero())
	if err != nil {
		return err
	}
	txid, what := multidb.TXID(o.TXID), "the newest state"
	if txid != 0 {
		what = "the state at transaction " + txid.String()
	} else if !o.Timestamp.IsZero() {
		what = "the state before " + o.Timestamp.Format(time.RFC3339)
	}
	var inv levels.Inventory
	inv.Reset(files)
	plan, err := inv.RestorePlan(ctx, txid, o.Timestamp)
	if errors.Is(err, litestream.ErrTxNotAvailable) {
		return restoring.Unavailable(files, txid, o.Timestamp, err)
	} else if err != nil {
		return err
	}
	var size int64
	for _, f := range plan {
		size += f.Size
	}
	out.Would = fmt.Sprintf("would copy %s of %s, %s in %d files, from %s to %s", what, out.ID, showBytes(size), len(plan), s.prefix(src), s.prefix(dst))
	return nil
}

// vacant is where a database of a new ID would be. It fails if there is anything already.
func (s *served) vacant(ctx context.Context, to string) (db multidb.Database, err error) {
	id := multidb.ID(to)
	if other, err := s.m.Status(id); err == nil {
		return db, fmt.Errorf("%w: %s has the ID %s", multidb.ErrExists, other.Path, to)
	}
	for r := range s.m.Removed() {
		if r.ID == id {
			return db, fmt.Errorf("%w: %s was removed, and is not erased yet", multidb.ErrExists, to)
		}
	}
	db, ok := s.locate(id)
	if !ok {
		return db, fmt.Errorf("%w: no pattern of the configuration makes the ID %s", multidb.ErrNotFound, to)
	}
	if err := localfile.Vacant(db.Path); err != nil {
		return db, err
	}
	factory, err := s.replica()
	if err != nil {
		return db, err
	}
	files, err := multidb.ReplicaFiles(ctx, factory, db, false)
	if err == nil && len(files) > 0 {
		err = fmt.Errorf("%w: the replica has something of %s", multidb.ErrExists, to)
	}
	return db, err
}

// prefix is a database's place at the replica, as far as that tells it.
func (s *served) prefix(db multidb.Database) string {
	factory, err := s.replica()
	if err != nil {
		return ""
	}
	return (&source{factory: factory}).prefix(db)
}
