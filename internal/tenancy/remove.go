package tenancy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
)

// isFinal reports whether an error says what only somebody can change.
func isFinal(err error) bool {
	return errors.Is(err, ship.ErrFenced) || errors.Is(err, replicate.ErrConflict) || errors.Is(err, registry.ErrNotFound) ||
		errors.Is(err, metadata.ErrRemoved) || replicate.IsLocal(err)
}

// Remove takes a database out of service: it waits for the leases, which ctx bounds, ships
// what is left, deletes the local files, and leaves a tombstone at the prefix. From the
// time that the leases are gone it goes on by itself, whatever becomes of ctx or the process.
func (t *Tenancy) Remove(ctx context.Context, id string) (err error) {
	ctx, end, err := t.begin(ctx, id)
	if err != nil {
		return err
	}
	defer func() { end(&err) }()
	if n := t.noted(id); n != nil {
		switch n.Op {
		case opRemoved:
			return nil
		case opRemove:
			return t.remove(ctx, n)
		case opBack: // to its end, from where it is removed again
			if err := t.back(ctx, n); err != nil {
				return err
			}
		default:
			return n.why()
		}
	} else if err := t.withheld(id); err != nil {
		return err
	}
	e, err := t.cfg.Fleet.Lookup(id)
	if err != nil {
		return err
	}
	if err := t.cfg.Fleet.Refused(e); err != nil {
		return fmt.Errorf("%w: a database that is not replicated is not removed", err)
	}
	return t.cfg.Opener.Alone(ctx, e, nil, func() error {
		now := t.cfg.Now()
		n := &note{Op: opRemove, DB: identityOf(e.Database()), Since: now, Until: now.Add(t.cfg.Retention)}
		if err := t.set(ctx, n); err != nil {
			return err
		}
		return t.removeAlone(ctx, n, e)
	})
}

// remove goes on with a removal.
func (t *Tenancy) remove(ctx context.Context, n *note) error {
	e := t.cfg.Fleet.Get(n.DB.ID)
	if e == nil { // the crash came before its row was in the catalog, or the row was lost
		return t.removeUnknown(ctx, n)
	}
	return t.cfg.Opener.Alone(ctx, e, nil, func() error { return t.removeAlone(ctx, n, e) })
}

// removeUnknown is remove for a database that is known by its note alone. If it has a local
// file nobody can say whether all of that was shipped: its next run finds the file, and ships it.
func (t *Tenancy) removeUnknown(ctx context.Context, n *note) error {
	if _, err := os.Lstat(n.DB.Path); err == nil {
		c := fleet.Candidate{Database: n.DB.database()}
		c.Prefix = t.cfg.Prefix(c.Database)
		_, c.Source, _ = t.cfg.Locate(n.DB.ID)
		e, err := t.cfg.Fleet.AddEvicted(c)
		if err != nil {
			return err
		}
		return t.cfg.Opener.Alone(ctx, e, nil, func() error { return t.removeAlone(ctx, n, e) })
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	client, err := t.cfg.Client(n.DB.database())
	if err != nil {
		return err
	}
	if objects, _, err := store.Size(ctx, client); err != nil {
		return fmt.Errorf("list the prefix: %w", err)
	} else if objects == 0 {
		return t.end(ctx, n) // there is nothing to keep
	}
	return t.entomb(ctx, n, nil)
}

// removeAlone is what is left of a removal when nobody has the database open.
func (t *Tenancy) removeAlone(ctx context.Context, n *note, e *fleet.Entry) error {
	err := t.vacate(ctx, e)
	if errors.Is(err, restore.ErrNoBackup) {
		if err := deleteEmpty(e.Path()); err != nil {
			return errors.Join(err, t.end(ctx, n))
		}
		return t.forget(ctx, n, e) // there is nothing to keep
	} else if err != nil && !goesOn(ctx, err) {
		return errors.Join(err, t.end(ctx, n))
	} else if err != nil {
		return fmt.Errorf("it goes on by itself: %w", err)
	}
	failpoint.Hit("life.remove.vacated")
	if err := t.entomb(ctx, n, e); err != nil {
		return fmt.Errorf("it goes on by itself: %w", err)
	}
	return nil
}

// vacate deletes the local file, and proves that no other machine has gone on.
func (t *Tenancy) vacate(ctx context.Context, e *fleet.Entry) error {
	if !t.cfg.Fleet.Evicted(e) {
		if err := t.cfg.Opener.VacateAlone(ctx, e); err != nil {
			return err
		}
	}
	if err := t.cfg.Opener.VacateAlone(ctx, e); err != nil || t.cfg.Unpack == nil {
		return err
	}
	// The log of a node that was taken over may have more of a database that was never opened here.
	return t.cfg.Unpack(ctx, e.Database())
}

// deleteEmpty deletes a file of which the replica has nothing since nothing is in it.
func deleteEmpty(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if fi.Size() > 0 {
		return fmt.Errorf("%w: the replica has nothing of %s yet", conduct.ErrInUse, path)
	}
	return os.Remove(path)
}

// forget ends a removal of what was never at the replica.
func (t *Tenancy) forget(ctx context.Context, n *note, e *fleet.Entry) error {
	t.nameless(n.DB.database())
	if err := waitFor(ctx, t.cfg.Fleet.Drop(e)); err != nil {
		return err
	}
	t.cfg.Conductor.Removed(e)
	return t.end(ctx, n)
}

// entomb leaves the tombstone, and then forgets the database but for its note.
func (t *Tenancy) entomb(ctx context.Context, n *note, e *fleet.Entry) error {
	client, err := t.cfg.Client(n.DB.database())
	if err != nil {
		return err
	}
	if err := t.mark(ctx, client, n.DB, func(md *metadata.Metadata) { md.RemovedAt, md.EraseAfter = &n.Since, &n.Until }); err != nil {
		return fmt.Errorf("write the tombstone: %w", err)
	}
	failpoint.Hit("life.remove.entombed")
	if t.names != nil {
		t.names.Removed(n.DB.database(), n.Since, n.Until)
	}
	done := *n
	done.Op = opRemoved
	if err := t.set(ctx, &done); err != nil {
		return err
	}
	if e != nil {
		if err := waitFor(ctx, t.cfg.Fleet.Drop(e)); err != nil {
			return err
		}
		t.cfg.Conductor.Removed(e)
	}
	t.cfg.Fleet.Emit(fleet.Event{Type: fleet.EventWithdrawn, ID: n.DB.ID, Path: n.DB.Path})
	t.later()
	return nil
}

// mark changes the metadata.json of a prefix, or makes one. A client that keeps none has no
// tombstones: then only the state directory knows.
func (t *Tenancy) mark(ctx context.Context, client litestream.ReplicaClient, db identity, change func(*metadata.Metadata)) error {
	store, ok := client.(metadata.Store)
	if !ok {
		return nil
	}
	md := metadata.Metadata{ID: db.ID, Path: db.Path, CreatedAt: t.cfg.Now().UTC(), FleetLog: t.cfg.FleetLog}
	for _, v := range db.Vars {
		if md.Vars == nil {
			md.Vars = map[string]string{}
		}
		md.Vars[v.Name] = v.Value
	}
	b, err := store.ReadMetadata(ctx)
	if err == nil {
		md, err = metadata.Decode(b)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	change(&md)
	if b, err = md.Encode(); err != nil {
		return err
	}
	return store.WriteMetadata(ctx, b)
}

var errInService = fmt.Errorf("%w: it is in service", conduct.ErrInUse)

// Undelete puts a removed database into service again, as it was: without a local file,
// which the next one who opens it brings back. Also one that another process has removed,
// whose tombstone is at the prefix.
func (t *Tenancy) Undelete(ctx context.Context, id string) (err error) {
	ctx, end, err := t.begin(ctx, id)
	if err != nil {
		return err
	}
	defer func() { end(&err) }()
	n := t.noted(id)
	switch {
	case n == nil && t.cfg.Fleet.Has(id) && t.cfg.Serves == nil:
		return errInService
	case n == nil: // on a node its file may be from before another one removed it
		return t.undelete(ctx, id, nil)
	case n.Op == opBack:
		return t.back(ctx, n)
	case n.Op == opRemove || n.Op == opRemoved:
		return t.undelete(ctx, id, n)
	}
	return n.why()
}

// back goes on with what Undelete has begun.
func (t *Tenancy) back(ctx context.Context, n *note) error { return t.undelete(ctx, n.DB.ID, n) }

// undelete is Undelete of a database of which something is noted; nil: nothing.
func (t *Tenancy) undelete(ctx context.Context, id string, n *note) error {
	c, err := t.candidate(id) // also of a noted one: the root may have moved
	if err != nil && n == nil {
		return err
	} else if err != nil {
		c = fleet.Candidate{Database: n.DB.database()}
		c.Prefix = t.cfg.Prefix(c.Database)
	}
	client, err := t.cfg.Client(c.Database)
	if err != nil {
		return err
	}
	md, err := metadata.At(ctx, client)
	switch {
	case err != nil:
		return err
	case md.RenamedTo != "" || md.RemovedAt != nil && md.EraseAfter == nil || md.Making != "":
		if n != nil && n.Op == opBack { // another process is doing that now
			return errors.Join(md.Unusable(), t.end(ctx, n))
		}
		return md.Unusable()
	case n == nil && md.RemovedAt == nil && t.cfg.Fleet.Has(id):
		return errInService
	case n == nil && md.RemovedAt == nil:
		return fmt.Errorf("%w: it was not removed, and nothing of it is here", registry.ErrNotFound)
	}
	if n == nil || n.Op == opRemoved {
		// From here on it goes on by itself: without its tombstone it must not stay noted as
		// removed, which nobody else would know. A removal that has not ended goes on instead.
		of := note{Op: opBack, DB: identityOf(c.Database), Since: t.cfg.Now()}
		if err := t.set(ctx, &of); err != nil {
			return err
		}
		n = &of
	}
	if md.RemovedAt != nil {
		if err := t.mark(ctx, client, n.DB, func(md *metadata.Metadata) { md.RemovedAt, md.EraseAfter = nil, nil }); err != nil {
			return fmt.Errorf("take the tombstone away: it goes on by itself: %w", err)
		}
	}
	failpoint.Hit("life.undelete.unmarked")
	if err := t.revive(ctx, n, c); err != nil {
		return err
	}
	t.cfg.Fleet.Emit(fleet.Event{Type: fleet.EventUndeleted, ID: id, Path: n.DB.Path})
	return nil
}

// revive ends a note with a database in service that has no local file, unless it is known.
func (t *Tenancy) revive(ctx context.Context, n *note, c fleet.Candidate) error {
	var notes []catalog.Note
	var added *fleet.Entry
	if !t.cfg.Fleet.Has(c.ID) {
		notes = append(notes, t.cfg.Conductor.EvictedNote(c.ID))
		var err error
		added, err = t.cfg.Fleet.AddEvicted(c)
		switch {
		case errors.Is(err, fleet.ErrElsewhere):
			notes = nil // its node finds it at the replica
		case err != nil:
			return err
		default:
			t.cfg.Conductor.RecordNew(added) // in the same commit
		}
	}
	t.named(c.Database)
	if err := t.end(ctx, n, notes...); err != nil {
		if added != nil {
			t.cfg.Fleet.Drop(added) // nothing has run: it is withheld
		}
		return err
	}
	return nil
}

// expire erases what was removed long enough ago, if the tombstone still says so: another
// process may have put it into service.
func (t *Tenancy) expire(ctx context.Context, n *note) error {
	client, err := t.cfg.Client(n.DB.database())
	if err != nil {
		return err
	}
	if store, ok := client.(metadata.Store); ok {
		b, err := store.ReadMetadata(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return t.end(ctx, n) // it was erased
		} else if err != nil {
			return err
		}
		md, err := metadata.Decode(b)
		if err != nil {
			return err
		}
		switch {
		case md.RemovedAt == nil:
			return t.end(ctx, n)
		case md.EraseAfter != nil && md.EraseAfter.After(t.cfg.Age.Trusted(t.cfg.Now())):
			later := *n
			later.Since, later.Until = *md.RemovedAt, *md.EraseAfter
			return t.set(ctx, &later)
		}
	}
	of := *n
	of.Op = opErase
	if err := t.set(ctx, &of); err != nil {
		return err
	}
	_, err = t.erase(ctx, &of)
	return err
}

// erasedAt is a tombstone of what is being erased, which nobody can undelete.
func erasedAt(at time.Time) func(*metadata.Metadata) {
	return func(md *metadata.Metadata) { md.RemovedAt, md.EraseAfter = &at, nil }
}
