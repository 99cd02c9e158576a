package tenancy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/superfly/ltx"
)

// copiesAtOnce is how many files of a prefix are copied at once.
const copiesAtOnce = 8

// planTries is how often what is to be copied is listed anew, since compaction deletes files.
const planTries = 3

// Rename gives a database another ID, and so another path and another prefix, with all of its
// history. It waits for the leases, which ctx bounds. Until the new prefix has everything
// an error or a crash leaves the database as it was; from then on the renaming goes on by
// itself. resident: it had a local file, which the next one who opens it brings back.
func (t *Tenancy) Rename(ctx context.Context, from, to string) (resident bool, err error) {
	ctx, end, err := t.begin(ctx, from, to)
	if err != nil {
		return false, err
	}
	defer func() { end(&err) }()
	switch n := t.noted(from); {
	case n == nil:
	case n.Op == opMove && n.Other.ID == to:
		return false, t.moveOn(ctx, n)
	case n.Op == opCopy: // of a life before, which is given up
		if err := t.undoCopy(ctx, n, n.Other.database()); err != nil {
			return false, err
		}
	default:
		return false, n.why()
	}
	if err := t.withheld(from); err != nil {
		return false, err
	}
	e, err := t.cfg.Fleet.Lookup(from)
	if err != nil {
		return false, err
	}
	if err := t.cfg.Fleet.Refused(e); err != nil {
		return false, err
	}
	c, err := t.vacant(ctx, to)
	if err != nil {
		return false, err
	}
	if c.Prefix.Path == t.cfg.Prefix(e.Database()).Path && c.Prefix.Path != "" {
		return false, fmt.Errorf("%w: the template gives both the prefix %s", registry.ErrConflict, c.Prefix.Path)
	}
	resident = !t.cfg.Fleet.Evicted(e)
	err = t.cfg.Opener.Alone(ctx, e, nil, func() error {
		other := identityOf(c.Database)
		n := &note{Op: opCopy, DB: identityOf(e.Database()), Other: &other, Since: t.cfg.Now()}
		if err := t.set(ctx, n); err != nil {
			return err
		}
		err := t.stillVacant(to)
		if err == nil {
			err = t.vacate(ctx, e)
		}
		if err == nil {
			err = t.copyAll(ctx, n)
		}
		if err != nil {
			return t.giveUp(ctx, n, c.Database, err)
		}
		of := *n
		of.Op = opMove
		if err := t.set(ctx, &of); err != nil {
			return t.giveUp(ctx, n, c.Database, err)
		}
		if err := t.move(ctx, &of); err != nil {
			return fmt.Errorf("it goes on by itself: %w", err)
		}
		return nil
	})
	return resident, err
}

// vacant is a database of an ID that there is not: neither here, nor at its path, nor at its
// prefix.
func (t *Tenancy) vacant(ctx context.Context, id string) (c fleet.Candidate, err error) {
	if t.cfg.Fleet.Has(id) {
		return c, fmt.Errorf("%w: there is a database %q", localfile.ErrExists, id)
	}
	if err := t.cfg.Fleet.Withheld(id); err != nil {
		return c, fmt.Errorf("%q: %w", id, err)
	}
	if c, err = t.candidate(id); err != nil {
		return c, err
	}
	if err := localfile.Vacant(c.Path); err != nil {
		return c, err
	}
	client, err := t.cfg.Client(c.Database)
	if err != nil {
		return c, err
	}
	objects, _, err := store.Size(ctx, client)
	if err != nil {
		return c, fmt.Errorf("list the prefix of %q: %w", id, err)
	} else if objects > 0 {
		return c, fmt.Errorf("%w: the replica has something of %q: restore it, or Erase it", localfile.ErrExists, id)
	}
	return c, nil
}

// stillVacant reports whether nobody has made a database since vacant. From now on nobody
// does: its ID is withheld.
func (t *Tenancy) stillVacant(id string) error {
	if t.cfg.Fleet.Has(id) {
		return fmt.Errorf("%w: somebody has made %q meanwhile", localfile.ErrExists, id)
	}
	return nil
}

// copyAll copies a whole prefix to another one.
func (t *Tenancy) copyAll(ctx context.Context, n *note) error {
	src, dst, err := t.clients(n.DB.database(), n.Other.database())
	if err != nil {
		return err
	}
	files, err := store.Files(ctx, src, false)
	if err != nil {
		return fmt.Errorf("list the prefix: %w", err)
	} else if len(files) == 0 {
		return restore.ErrNoBackup
	}
	if err := t.begun(ctx, src, dst, *n.Other, n.DB.ID); err != nil {
		return err
	}
	failpoint.Hit("life.rename.begun")
	if err := copyFiles(ctx, files, func(f *ltx.FileInfo) error { return store.CopyFile(ctx, src, dst, f) }); err != nil {
		return err
	}
	failpoint.Hit("life.rename.copied")
	return sameFiles(ctx, files, dst)
}

func (t *Tenancy) clients(from, to registry.Database) (src, dst litestream.ReplicaClient, err error) {
	if src, err = t.cfg.Client(from); err == nil {
		dst, err = t.cfg.Client(to)
	}
	return src, dst, err
}

// begun marks a prefix as one that is being made, before anything else is in it.
func (t *Tenancy) begun(ctx context.Context, src, dst litestream.ReplicaClient, of identity, origin string) error {
	was, err := metadata.At(ctx, src)
	if err != nil {
		return err
	}
	return t.mark(ctx, dst, of, func(md *metadata.Metadata) {
		md.Making, md.Origin = origin, origin
		md.Mode, md.UID, md.GID = was.Mode, was.UID, was.GID
	})
}

func copyFiles(ctx context.Context, files []*ltx.FileInfo, one func(*ltx.FileInfo) error) error {
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	slots := make(chan struct{}, copiesAtOnce)
	for _, f := range files {
		slots <- struct{}{}
		mu.Lock()
		failed := first != nil
		mu.Unlock()
		if failed || ctx.Err() != nil {
			<-slots
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := one(f); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = fmt.Errorf("copy %s: %w", store.FileName(f), err)
				}
			}
		})
	}
	wg.Wait()
	if first == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return first
}

// sameFiles proves that a prefix has these files, by their names and sizes.
func sameFiles(ctx context.Context, files []*ltx.FileInfo, dst litestream.ReplicaClient) error {
	there, err := store.Files(ctx, dst, false)
	if err != nil {
		return fmt.Errorf("list the new prefix: %w", err)
	}
	sizes := map[string]int64{}
	for _, f := range there {
		sizes[store.FileName(f)] = f.Size
	}
	for _, f := range files {
		if size, ok := sizes[store.FileName(f)]; !ok || size != f.Size {
			return fmt.Errorf("the copy of %s is not there, or has %d bytes of %d", store.FileName(f), size, f.Size)
		}
	}
	return nil
}

// giveUp undoes what could not be done. The error is why, and what could not be undone yet.
func (t *Tenancy) giveUp(ctx context.Context, n *note, dst registry.Database, why error) error {
	// What is left undone the next look of Run undoes.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := t.undoCopy(ctx, n, dst); err != nil {
		return fmt.Errorf("%w (what was begun is undone later: %w)", why, err)
	}
	return why
}

// undoTime bounds how long a caller waits until what failed is undone.
const undoTime = 10 * time.Second

// undoCopy deletes the unfinished copy. A fork that only lacks the end of its note is
// finished.
func (t *Tenancy) undoCopy(ctx context.Context, n *note, dst registry.Database) error {
	client, err := t.cfg.Client(dst)
	if err != nil {
		return err
	}
	origin := n.DB.ID
	if n.Op == opFork {
		origin = n.Other.ID
	}
	objects, _, err := store.Size(ctx, client)
	if err != nil {
		return err
	}
	if objects > 0 {
		md, err := metadata.At(ctx, client)
		switch {
		case err != nil:
			return err
		case md.Making == "" && md.Origin == origin && n.Op == opFork:
			c := fleet.Candidate{Database: dst, Prefix: t.cfg.Prefix(dst)}
			_, c.Source, _ = t.cfg.Locate(dst.ID)
			return t.revive(ctx, n, c)
		case md.Making != origin:
			// Somebody else has begun something here since: it is not ours to delete.
			return t.end(ctx, n)
		}
		left, err := store.Erase(ctx, client)
		if err != nil {
			return err
		}
		for _, l := range left.Left {
			if !errors.Is(l.Err, store.ErrVersionsUnknown) {
				return fmt.Errorf("%s: %w", l.Name, l.Err)
			}
		}
	}
	return t.end(ctx, n)
}

// moveOn goes on with the rest of a renaming, if the new prefix still has what the old one
// has: an old copy of the state directory may have been put back since, and the database be
// called by its old name again.
func (t *Tenancy) moveOn(ctx context.Context, n *note) error {
	src, dst, err := t.clients(n.DB.database(), n.Other.database())
	if err != nil {
		return err
	}
	was, err := store.Newest(ctx, src)
	if err != nil {
		return fmt.Errorf("list the old prefix: %w", err)
	}
	is, err := store.Newest(ctx, dst)
	if err != nil {
		return fmt.Errorf("list the new prefix: %w", err)
	}
	if is == 0 || is < was {
		err := fmt.Errorf("%w: it was being renamed to %q, whose prefix ends at transaction %s, and its own one at %s: both are left as they are", registry.ErrConflict, n.Other.ID, is, was)
		return errors.Join(err, t.end(ctx, n))
	}
	return t.move(ctx, n)
}

// move is the rest of a renaming whose new prefix has everything.
func (t *Tenancy) move(ctx context.Context, n *note) error {
	from, to := n.DB.database(), n.Other.database()
	src, dst, err := t.clients(from, to)
	if err != nil {
		return err
	}
	// The new one first: if the state directory is lost in between there are two, and not none.
	if err := t.mark(ctx, dst, *n.Other, func(md *metadata.Metadata) { md.Making = "" }); err != nil {
		return fmt.Errorf("put the new prefix into service: %w", err)
	}
	failpoint.Hit("life.rename.served")
	objects, _, err := store.Size(ctx, src)
	if err != nil {
		return err
	}
	if objects > 0 {
		if err := t.mark(ctx, src, n.DB, func(md *metadata.Metadata) { md.RenamedTo = to.ID }); err != nil {
			return fmt.Errorf("write the tombstone: %w", err)
		}
	}
	failpoint.Hit("life.rename.entombed")
	t.named(to)
	t.nameless(from)
	if err := t.introduce(ctx, to); err != nil {
		return err
	}
	if e := t.cfg.Fleet.Get(from.ID); e != nil {
		if err := waitFor(ctx, t.cfg.Fleet.Drop(e)); err != nil {
			return err
		}
		t.cfg.Conductor.Removed(e)
	}
	failpoint.Hit("life.rename.moved")
	if t.cfg.Forget != nil {
		if _, err := t.cfg.Forget(ctx, from); err != nil {
			return fmt.Errorf("have the fleet log forget the old name: %w", err)
		}
	}
	erased, err := store.Erase(ctx, src)
	if err != nil {
		return fmt.Errorf("erase the old prefix: %w", err)
	}
	failpoint.Hit("life.rename.erased")
	if err := t.cfg.Catalog.Erase(ctx, from.ID); err != nil {
		return err
	}
	t.mu.Lock()
	delete(t.notes, from.ID)
	t.mu.Unlock()
	for _, id := range n.ids() {
		t.cfg.Fleet.Withhold(id, nil)
	}
	ev := fleet.Event{Type: fleet.EventRenamed, ID: to.ID, Path: to.Path}
	for _, l := range erased.Left { // its tombstone stays beside it
		if ev.Err == nil && !errors.Is(l.Err, store.ErrVersionsUnknown) {
			ev.Err = fmt.Errorf("the old prefix still has %s: %w", l.Name, l.Err)
		}
	}
	t.cfg.Fleet.Emit(ev)
	return nil
}

// Fork makes a database of what another one was after a transaction, or before a time; with
// neither, of all that was committed before the call. Its first user brings it to this
// disk. ctx bounds all of it; an error or a crash leaves nothing.
func (t *Tenancy) Fork(ctx context.Context, from, to string, txid ltx.TXID, at time.Time) (err error) {
	ctx, end, err := t.begin(ctx, to)
	if err != nil {
		return err
	}
	defer func() { end(&err) }()
	if n := t.noted(to); n != nil && n.Op == opFork { // of a life before, which is given up
		if err := t.undoCopy(ctx, n, n.DB.database()); err != nil {
			return err
		}
	} else if n != nil {
		return n.why()
	}
	src, err := t.forked(ctx, from, txid == 0 && at.IsZero())
	if err != nil {
		return err
	}
	c, err := t.vacant(ctx, to)
	if err != nil {
		return err
	}
	if c.Prefix.Path == t.cfg.Prefix(src).Path && c.Prefix.Path != "" {
		return fmt.Errorf("%w: the template gives both the prefix %s", registry.ErrConflict, c.Prefix.Path)
	}
	other := identityOf(src)
	n := &note{Op: opFork, DB: identityOf(c.Database), Other: &other, Since: t.cfg.Now()}
	if err := t.set(ctx, n); err != nil {
		return err
	}
	if err = t.stillVacant(to); err == nil {
		err = t.copyState(ctx, n, txid, at)
	}
	if err != nil {
		return t.giveUp(ctx, n, c.Database, err)
	}
	if err := t.revive(ctx, n, c); err != nil {
		return t.giveUp(ctx, n, c.Database, err)
	}
	t.cfg.Fleet.Emit(fleet.Event{Type: fleet.EventForked, ID: to, Path: c.Path})
	return nil
}

// forked is the database that is to be forked, with everything at the replica.
func (t *Tenancy) forked(ctx context.Context, id string, newest bool) (registry.Database, error) {
	e, err := t.cfg.Fleet.Lookup(id)
	if errors.Is(err, metadata.ErrRemoved) {
		n := t.noted(id)
		if n != nil && n.Op == opRemoved {
			return n.DB.database(), nil
		}
	} else if err == nil {
		err = t.withheld(id) // the replica may lack something of it, or have nothing
	}
	if errors.Is(err, registry.ErrNotFound) {
		c, err := t.candidate(id) // the replica may have it
		return c.Database, err
	} else if err != nil {
		return registry.Database{}, err
	}
	if newest {
		if _, err := t.cfg.Conductor.Sync(ctx, e); err != nil {
			return registry.Database{}, err
		}
		if _, err := t.cfg.Conductor.Perform(ctx, e, replicate.OrderUnpack); err != nil {
			return registry.Database{}, err
		}
	}
	return e.Database(), nil
}

// copyState copies the files that one state needs.
func (t *Tenancy) copyState(ctx context.Context, n *note, txid ltx.TXID, at time.Time) error {
	src, dst, err := t.clients(n.Other.database(), n.DB.database())
	if err != nil {
		return err
	}
	reading, err := t.cfg.Reading(n.Other.database()) // the log may have what the prefix lacks
	if err != nil {
		return err
	}
	if err := t.begun(ctx, src, dst, n.DB, n.Other.ID); err != nil {
		return err
	}
	failpoint.Hit("life.fork.begun")
	for i := 1; ; i++ {
		err = copyPlan(ctx, src, reading, dst, txid, at)
		if i == planTries || !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	failpoint.Hit("life.fork.copied")
	if err := t.mark(ctx, dst, n.DB, func(md *metadata.Metadata) { md.Making = "" }); err != nil {
		return fmt.Errorf("put the new prefix into service: %w", err)
	}
	failpoint.Hit("life.fork.served")
	return nil
}

func copyPlan(ctx context.Context, src, reading, dst litestream.ReplicaClient, txid ltx.TXID, at time.Time) error {
	files, err := store.Files(ctx, reading, !at.IsZero())
	if err != nil {
		return fmt.Errorf("list the prefix: %w", err)
	} else if len(files) == 0 {
		return restore.ErrNoBackup
	}
	var inv levels.Inventory
	inv.Reset(files)
	plan, err := inv.RestorePlan(ctx, txid, at)
	if errors.Is(err, litestream.ErrTxNotAvailable) || errors.Is(err, litestream.ErrNoSnapshots) {
		return restore.Unavailable(files, txid, at, err)
	} else if err != nil {
		return err
	}
	if err := copyFiles(ctx, plan, func(f *ltx.FileInfo) error {
		err := store.CopyFile(ctx, src, dst, f)
		if errors.Is(err, fs.ErrNotExist) { // only the log has it
			err = store.StreamFile(ctx, reading, dst, f)
		}
		return err
	}); err != nil {
		return err
	}
	return sameFiles(ctx, plan, dst)
}

// introduce makes a database known that is at the replica and has no local file. Where another
// node is to serve it, that one finds it there.
func (t *Tenancy) introduce(ctx context.Context, db registry.Database) error {
	if !t.cfg.Fleet.Has(db.ID) {
		c := fleet.Candidate{Database: db, Prefix: t.cfg.Prefix(db)}
		_, c.Source, _ = t.cfg.Locate(db.ID)
		added, err := t.cfg.Fleet.AddEvicted(c)
		if errors.Is(err, fleet.ErrElsewhere) {
			return nil
		} else if err != nil {
			return err
		}
		t.cfg.Conductor.RecordNew(added)
	}
	return t.cfg.Catalog.SetNotes(ctx, t.cfg.Conductor.EvictedNote(db.ID))
}
