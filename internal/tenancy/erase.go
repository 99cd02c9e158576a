package tenancy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
)

// Erasure is what an erasure did.
type Erasure struct {
	ID, Prefix string
	At         time.Time
	store.ErasedPrefix
	Local    []string  // files that were deleted
	LogUntil time.Time // when the fleet log has nothing of it any more; zero: it has nothing
}

// errOtherLog is why something of an erased database may be left in a fleet log.
var errOtherLog = errors.New("the prefix named this fleet log, which this process does not write: erase it once more with WithFleetLog")

// Erase deletes everything of a database: of one that is in service after its leases are
// gone, which ctx bounds, of one that was removed, and of one of which only the replica has
// something. From the time that the leases are gone it goes on by itself.
func (t *Tenancy) Erase(ctx context.Context, id string) (done Erasure, err error) {
	ctx, end, err := t.begin(ctx, id)
	if err != nil {
		return done, err
	}
	defer func() { end(&err) }()
	n := t.noted(id)
	switch {
	case n != nil && n.Op == opErase:
		return t.erase(ctx, n)
	case n != nil && n.Op != opRemove && n.Op != opRemoved:
		return Erasure{}, n.why()
	case n != nil:
		return t.eraseNoted(ctx, n.DB, t.cfg.Fleet.Get(id))
	}
	if err := t.withheld(id); err != nil {
		return Erasure{}, err
	}
	e, err := t.cfg.Fleet.Lookup(id)
	if errors.Is(err, registry.ErrNotFound) {
		c, err := t.candidate(id)
		if err != nil {
			return Erasure{}, err
		}
		return t.eraseNoted(ctx, identityOf(c.Database), nil)
	} else if err != nil {
		return Erasure{}, err
	}
	return t.eraseNoted(ctx, identityOf(e.Database()), e)
}

// eraseNoted erases what nothing is noted of, or that it was removed.
func (t *Tenancy) eraseNoted(ctx context.Context, db identity, e *fleet.Entry) (done Erasure, err error) {
	n := &note{Op: opErase, DB: db, Since: t.cfg.Now()}
	if e == nil {
		if err := t.set(ctx, n); err != nil {
			return done, err
		}
		if t.cfg.Fleet.Has(db.ID) {
			return done, errors.Join(fmt.Errorf("%w: somebody has made it meanwhile", conduct.ErrInUse), t.end(ctx, n))
		}
		return t.erase(ctx, n)
	}
	if err := t.cfg.Fleet.Refused(e); err != nil {
		return done, fmt.Errorf("%w: TakeOver says that the prefix is this one's to erase", err)
	}
	err = t.cfg.Opener.Alone(ctx, e, nil, func() error {
		resident := !t.cfg.Fleet.Evicted(e)
		// That finds out whether another machine has gone on, whose history it would be.
		if err := t.vacate(ctx, e); err != nil && !errors.Is(err, restore.ErrNoBackup) && !replicate.IsLocal(err) {
			return err
		}
		if err := t.set(ctx, n); err != nil {
			return err
		}
		vacated := resident && t.cfg.Fleet.Evicted(e)
		if err := waitFor(ctx, t.cfg.Fleet.Drop(e)); err != nil {
			return err
		}
		t.cfg.Conductor.Removed(e)
		done, err = t.erase(ctx, n)
		if vacated {
			done.Local = append(done.Local, e.Path())
		}
		return err
	})
	return done, err
}

// over reports whether an erasure that is noted is not to go on. Its tombstone says that it is, or that of the removal which it
// ends (expire). Without that, another node that had the database in between has ended it, or has served on what it did not know to be
// erased; or the prefix was claimed since it began, as the state directory is an old one that was put back: then another database has the ID.
func (t *Tenancy) over(ctx context.Context, n *note) (bool, error) {
	client, err := t.cfg.Client(n.DB.database())
	if err != nil {
		return false, err
	}
	md, err := metadata.At(ctx, client)
	if err != nil || md.RemovedAt != nil && md.RemovedAt.Equal(n.Since) {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.old[n.DB.ID] || md.RemovedAt == nil && md.CreatedAt.After(n.Since), nil
}

// erase deletes what there is, in an order that leaves nothing that could be taken for a
// database if it ends half-way.
func (t *Tenancy) erase(ctx context.Context, n *note) (done Erasure, err error) {
	done, err = t.eraseAll(ctx, n)
	if err != nil {
		return done, fmt.Errorf("it goes on by itself: %w", err)
	}
	t.drop(n)
	ev := fleet.Event{Type: fleet.EventErased, ID: n.DB.ID, Path: n.DB.Path}
	if len(done.Left) > 0 {
		ev.Err = fmt.Errorf("%d things are left, the first of them %s: %w", len(done.Left), done.Left[0].Name, done.Left[0].Err)
	}
	t.cfg.Fleet.Emit(ev)
	return done, nil
}

func (t *Tenancy) eraseAll(ctx context.Context, n *note) (done Erasure, err error) {
	db := n.DB.database()
	done = Erasure{ID: db.ID, Prefix: t.cfg.Prefix(db).Path, At: n.Since}
	if done.Local, err = deleteLocal(db.Path); err != nil {
		return done, err
	}
	failpoint.Hit("life.erase.local")
	if err := t.cfg.DropPages(db.ID); err != nil {
		return done, err
	}
	client, err := t.cfg.Client(db)
	if err != nil {
		return done, err
	}
	objects, _, err := store.Size(ctx, client)
	if err != nil {
		return done, fmt.Errorf("list the prefix: %w", err)
	}
	var log string                     // that may have something of it
	if objects > 0 || t.names != nil { // of a node's database there may be what the log has alone
		md, err := metadata.At(ctx, client)
		if err != nil {
			return done, err
		}
		log = md.FleetLog
		if t.names != nil { // so that its next node goes on with it (Told)
			t.names.Removed(db, n.Since, n.Since)
			if err := t.names.Write(ctx, db); err != nil {
				return done, err
			}
			failpoint.Hit("life.erase.told")
		}
		if err := t.mark(ctx, client, n.DB, erasedAt(n.Since)); err != nil {
			return done, fmt.Errorf("write the tombstone: %w", err)
		}
	}
	failpoint.Hit("life.erase.marked")
	if t.cfg.Forget != nil {
		if done.LogUntil, err = t.cfg.Forget(ctx, db); err != nil {
			return done, fmt.Errorf("have the fleet log forget it: %w", err)
		}
	}
	failpoint.Hit("life.erase.forgotten")
	if done.ErasedPrefix, err = store.Erase(ctx, client); err != nil {
		return done, fmt.Errorf("erase the prefix: %w", err)
	}
	if log != "" && log != t.cfg.FleetLog {
		done.Left = append(done.Left, store.LeftObject{Name: log, Err: errOtherLog})
	} else if !done.LogUntil.IsZero() && done.Versioned {
		done.Left = append(done.Left, store.LeftObject{Name: t.cfg.FleetLog, Err: store.ErrLogVersions})
	}
	failpoint.Hit("life.erase.erased")
	t.nameless(db)
	if err := t.cfg.Catalog.Erase(ctx, db.ID); err != nil {
		return done, err
	}
	failpoint.Hit("life.erase.ended")
	return done, nil
}

// Drop deletes what this machine has of a database that another node has erased, which nobody opens or
// makes here meanwhile. It leaves one alone that something is being done to.
func (t *Tenancy) Drop(ctx context.Context, db registry.Database) error {
	end, busy, err := t.tryBegin(db.ID)
	if err != nil || busy != nil {
		return err
	}
	defer end()
	if t.noted(db.ID) != nil {
		return nil
	}
	if _, err := deleteLocal(db.Path); err != nil {
		return err
	}
	if err := t.cfg.DropPages(db.ID); err != nil {
		return err
	}
	return t.cfg.Catalog.Erase(ctx, db.ID)
}

// LocalFiles are the names that the files of a database may have, what stands beside it, and
// what was set aside of it.
func LocalFiles(path string) (names []string, err error) {
	dir, base := filepath.Dir(path), filepath.Base(path)
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		names = append(names, path+suffix)
	}
	// What is set aside has a name that continues this one: see replicate.Logs, localfile.
	for _, at := range []string{dir, filepath.Join(dir, localfile.KeptDir)} {
		all, err := os.ReadDir(at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, f := range all {
			rest, ok := strings.CutPrefix(f.Name(), base)
			kept := at != dir && (strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, ".incoming"))
			aside := at == dir && (strings.HasPrefix(rest, ".lost-") || strings.HasPrefix(rest, ".replaced-"))
			if ok && f.Type().IsRegular() && (kept || aside) {
				names = append(names, filepath.Join(at, f.Name()))
			}
		}
	}
	return names, nil
}

// deleteLocal deletes the LocalFiles of a database that nobody in this process has open.
func deleteLocal(path string) (deleted []string, err error) {
	names, err := LocalFiles(path)
	if err != nil {
		return nil, err
	}
	dirs := map[string]bool{}
	for _, name := range names {
		err := os.Remove(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return deleted, err
		}
		deleted = append(deleted, name)
		dirs[filepath.Dir(name)] = true
	}
	slices.Sort(deleted)
	for at := range dirs {
		if err := durable.SyncDir(at); err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}
