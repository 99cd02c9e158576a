package multidb

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/multidb-go/multidb/internal/tenancy"
)

// WithRemovedRetention sets for how long the backups of a database that Remove took out of
// service are kept, from then on; after that they are erased. Default 30 days.
func WithRemovedRetention(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return invalid("WithRemovedRetention", "%v; want a duration above zero", d)
		}
		c.removedRetention = d
		return nil
	}
}

// Remove takes a database out of service. It waits until every lease is released, which ctx
// bounds, ships what is left, deletes the local files, and writes to its prefix that it was
// removed. Its backups stay for WithRemovedRetention, then they are erased. Until then
// Undelete puts it into service again; Acquire returns ErrRemoved, also on another machine,
// and so does making the same ID anew.
//
// Once nobody has it leased the removal goes on by itself, also after a restart: where the
// replica does not answer, the error says so, and nothing is deleted until everything that was
// committed is there. Other errors leave the database in service: ErrNotFound, ErrNoReplica,
// ErrFenced, ErrInUse where it is leased or another program has it open; all as *Error.
func (m *Manager) Remove(ctx context.Context, id ID) error {
	err := m.servesReplica()
	if err == nil {
		err = m.node.elsewhere(ctx, id, func() error { return m.tenancy.Remove(ctx, string(id)) })
	}
	return opError("remove", id, err)
}

// Undelete puts a database into service again that was removed, here or on another machine,
// and is not erased yet. It has no local file; the next Acquire brings it back. ctx bounds
// it. Errors: ErrNotFound where nothing of it is there, ErrInUse where it is in service,
// ErrRemoved where it is being erased; all as *Error.
func (m *Manager) Undelete(ctx context.Context, id ID) error {
	err := m.servesReplica()
	if err == nil {
		err = m.node.elsewhere(ctx, id, func() error { return m.tenancy.Undelete(ctx, string(id)) })
	}
	return opError("undelete", id, err)
}

// RemovedDatabase is a database that was taken out of service.
type RemovedDatabase struct {
	Database
	RemovedAt  time.Time // when Remove was called
	EraseAfter time.Time // when its backups are erased
}

// Removed returns the databases that this Manager's state directory knows to be removed, in
// the order of their IDs, those whose removal is under way among them.
func (m *Manager) Removed() iter.Seq[RemovedDatabase] {
	return func(yield func(RemovedDatabase) bool) {
		if m.servesReplica() != nil {
			return
		}
		for r := range m.tenancy.Removed() {
			if !yield(RemovedDatabase{databaseOf(r.Database), r.At, r.EraseAfter}) {
				return
			}
		}
	}
}

// Erasure is what Erase did, for the record: what was deleted, and what is left and why.
type Erasure struct {
	ID     ID
	Prefix string    // at the replica
	At     time.Time // when it began
	// Objects is how many objects of the replica were deleted, Versions how many older
	// versions and delete markers that the storage had kept, and Bytes their sizes.
	Objects, Versions, Bytes int64
	Local                    []string // the files on this machine that were deleted
	// LogUntil is when the last object of the fleet log that has something of it is deleted;
	// zero: none has.
	LogUntil time.Time
	Left     []ErasureLeft
}

// ErasureLeft is something that an erasure could not delete.
type ErasureLeft struct {
	What string // an object, with its version; empty where it is not known what there is
	Why  string
}

// Complete reports whether nothing is left, now and, in the fleet log, after LogUntil.
func (e Erasure) Complete() bool { return len(e.Left) == 0 }

// Erase deletes everything of a database for good, as a request under a privacy law asks:
// every object at its prefix, with the versions that the storage keeps where the rights
// allow, what the fleet log has of it (see Erasure.LogUntil), its row in the catalog, its
// page hashes, its local files and those that were set aside of it. It may be in service
// (Erase waits for its leases, which ctx bounds, and ships nothing), removed, or known only
// at the replica. The ID may be made anew afterwards. A second call proves that nothing is
// left: its Erasure is empty.
//
// Once nobody has it leased it goes on by itself, also after a restart, and the ID is
// refused with ErrRemoved until it has ended; call Erase again for the rest of the record.
// What cannot be deleted for want of a right or because of an object lock is in Left, and no
// error. Not reached are copies that others have made: another bucket that this one is
// replicated to, backups of this machine's disk. Errors: ErrNotFound where no pattern makes the
// ID, ErrFenced where another machine writes to the prefix, ErrInUse, those of the replica;
// all as *Error.
func (m *Manager) Erase(ctx context.Context, id ID) (Erasure, error) {
	if err := m.servesReplica(); err != nil {
		return Erasure{}, opError("erase", id, err)
	}
	var done tenancy.Erasure
	err := m.node.elsewhere(ctx, id, func() (err error) {
		done, err = m.tenancy.Erase(ctx, string(id))
		return err
	})
	e := Erasure{
		ID: id, Prefix: done.Prefix, At: done.At, Objects: done.Objects, Versions: done.Versions, Bytes: done.Bytes,
		Local: done.Local, LogUntil: done.LogUntil,
	}
	for _, l := range done.Left {
		what := l.Name
		if l.Version != "" {
			what = fmt.Sprintf("%s (version %s)", l.Name, l.Version)
		}
		e.Left = append(e.Left, ErasureLeft{what, fmt.Sprint(l.Err)})
	}
	return e, opError("erase", id, err)
}

// Rename gives a database another ID, which a pattern must make and nothing may have yet, here
// or at the replica. Its file gets the path of that ID, its backups the prefix, with their
// history; they are copied by the storage where it can. It waits for the leases, which ctx
// bounds; who acquires the old ID afterwards makes another database.
//
// Until everything is at the new prefix an error or a crash leaves the database as it was.
// From then on it is renamed, whatever comes, and the rest goes on by itself, also after a
// restart. The fleet log's finer history stays behind. In a cluster one node must own both IDs, by
// their prefixes; else the NotOwnerError names the ID that it does not own. Errors: ErrNotFound, ErrExists,
// ErrConflict, ErrFenced, ErrInUse, ErrInvalidOption for the same ID, those of the replica; all
// as *Error.
func (m *Manager) Rename(ctx context.Context, from, to ID) error {
	err := m.servesReplica()
	if err == nil && from == to {
		err = fmt.Errorf("%w: it is called %q already", ErrInvalidOption, to)
	}
	resident := false
	if err == nil {
		err = m.node.both(ctx, from, to, func() (err error) {
			resident, err = m.tenancy.Rename(ctx, string(from), string(to))
			return err
		})
	}
	if err == nil && resident {
		lease, err := m.opener.Lease(ctx, string(to))
		if err != nil { // it is renamed all the same, and the next Acquire says what is wrong
			m.cfg.logger.Warn("multidb: a renamed database has no local file yet", "id", string(to), "err", err)
			return nil
		}
		lease.Release()
	}
	return opError("rename", from, err)
}

// ForkOptions says which state of a database is forked. With neither field it is all that was
// committed before the call.
type ForkOptions struct {
	TXID      TXID      // the state after exactly this transaction, as RestoreOptions has it
	Timestamp time.Time // the newest state written before it
}

// Fork makes a database dst of a state of src, which goes on in service: a pattern must make
// the ID of dst, and nothing may have it yet, here or at the replica. The backups that the
// state needs are copied to its prefix, by the storage where it can; it has no local file, and
// the first Acquire brings one. Its history begins with what src was. src may also be a
// removed database, or one that is known only at the replica. In a cluster it is done by the
// owner of dst; of a src that is another node's it takes what that one's Sync has promised.
//
// ctx bounds all of it; an error or a crash leaves nothing of dst. Errors: ErrNotFound,
// ErrExists, ErrConflict, ErrNoBackup where the replica does not have the state, ErrInvalidOption
// for the same ID or two states at once, those of the replica; all as *Error.
func (m *Manager) Fork(ctx context.Context, src, dst ID, opt ForkOptions) error {
	err := m.servesReplica()
	switch {
	case err != nil:
	case src == dst:
		err = fmt.Errorf("%w: a database is not forked to its own ID", ErrInvalidOption)
	case opt.TXID != 0 && !opt.Timestamp.IsZero():
		err = fmt.Errorf("%w: ForkOptions has both a TXID and a Timestamp", ErrInvalidOption)
	default:
		err = m.node.elsewhere(ctx, dst, func() error { // who owns src is asked nothing: the bucket has what it promised
			return m.tenancy.Fork(ctx, string(src), string(dst), opt.TXID, opt.Timestamp)
		})
	}
	return opError("fork", src, err)
}
