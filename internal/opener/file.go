package opener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/superfly/ltx"
)

// How long a new database waits for the replica to say whether it has a backup, and for
// how long nobody asks again once it did not answer: the application does not wait for
// the replica.
const (
	askTimeout = 5 * time.Second
	askPause   = 30 * time.Second
)

// ensureFile makes a missing file: from the replica, if that is wanted and it has one, or
// empty, which m notes.
func (o *Opener) ensureFile(ctx context.Context, e *fleet.Entry, m *making) error {
	if done, err := o.carryOut(ctx, e); done && (err != nil || !o.fleet.Evicted(e)) {
		return err // else there is no file yet
	}
	if fi, err := os.Stat(e.Path()); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is no regular file", sqlitedb.ErrNotDatabase, e.Path())
	} else if err == nil {
		if err := o.found(ctx, e); !errors.Is(err, errAway) {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// A restored or an empty one would stand below the mount point, and take commits that
	// vanish when the volume comes back.
	if err := o.cfg.Volumes.MayMake(e); err != nil {
		return err
	}
	evicted := o.fleet.Evicted(e)
	if o.fleet.BeginMaking(e) && !o.cfg.RestoreOnOpen && !evicted {
		// It stood here when it was last looked at. Should it really be gone, the next
		// scan says so, and then an empty one may take its place.
		return missingError(e)
	}
	moved, err := o.cfg.Logs.SetAsideOrphans(e.Path())
	o.fleet.SetAside(e, moved)
	if err != nil {
		return err
	}
	if evicted {
		err := o.bringBack(ctx, e)
		if o.cfg.Shared && errors.Is(err, localfile.ErrExists) {
			return o.found(ctx, e)
		}
		if err != nil {
			return fmt.Errorf("bring back from the replica: %w", err)
		}
		return nil
	}
	o.beginMaking(e.Path(), m)
	if o.cfg.RestoreOnOpen && o.cfg.Replicated {
		switch err := o.restore(ctx, e); {
		case err == nil:
			o.fleet.NoteFile(e, fsid.OrZero(e.Path()))
			return nil
		case o.cfg.Shared && errors.Is(err, localfile.ErrExists):
			return o.found(ctx, e)
		case !errors.Is(err, restore.ErrNoBackup):
			return fmt.Errorf("restore on open: %w", err)
		}
	}
	if !o.isWanted(e) {
		return errUnwanted
	}
	if !o.cfg.RestoreOnOpen {
		if err := o.mayMake(ctx, e); err != nil {
			return err
		}
	}
	return o.makeFile(ctx, e, m)
}

// found goes on with a file that is there. Also with one that an opening has made from before this
// node lost the database, for which nobody waits any more: it may be old.
func (o *Opener) found(ctx context.Context, e *fleet.Entry) error {
	o.fleet.NoteFile(e, fsid.OrZero(e.Path()))
	o.fleet.Found(e)
	return o.refresh(ctx, e)
}

// restore makes the missing file of a database from the replica. It returns
// restore.ErrNoBackup if there is nothing to make it from. The pool calls it once for any
// number of callers.
func (o *Opener) restore(ctx context.Context, e *fleet.Entry) error {
	client, err := o.cfg.Client(e.Database())
	if err != nil {
		return err
	}
	opt, err := o.restoreOptions(e)
	if err != nil {
		return err
	}
	missing := replicate.Missing{ID: e.ID(), Path: e.Path(), Client: client, Opt: opt}
	if gone, ok := o.fleet.Remains(e); ok {
		missing.Remains = &gone
	}
	now, err := o.cfg.Replicator.Restore(ctx, missing)
	if err != nil {
		return err
	}
	o.fleet.Restored(e, now)
	return nil
}

// bringBack makes the file of an evicted database. Unlike restore, that there is no backup is
// an error of its own: it was there when the file was deleted.
func (o *Opener) bringBack(ctx context.Context, e *fleet.Entry) error {
	size := o.fleet.Size(e)
	if o.cfg.Room != nil {
		release, err := o.cfg.Room(ctx, size)
		if err != nil {
			return err
		}
		defer release()
	}
	err := o.restore(ctx, e)
	if errors.Is(err, syscall.ENOSPC) && o.cfg.Full != nil {
		if err := o.cfg.Full(ctx, size); err != nil {
			return err
		}
		err = o.restore(ctx, e)
	}
	if err != nil {
		return err
	}
	o.fleet.NoteFile(e, fsid.OrZero(e.Path()))
	return nil
}

// spoolFor is where a file that is to be linked to path is made: in the state directory,
// where the next Start clears up what a crash leaves, if that is on the same file system;
// "" if it is not: beside path.
func (o *Opener) spoolFor(path string) (string, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if !fsid.SameMount(dir, o.cfg.SpoolDir) {
		return "", nil
	}
	return o.cfg.SpoolDir, nil
}

// mayMake reports whether a new file may take the place of a missing one: not if the
// replica has a backup, whose newest state an empty database would become. It costs one
// listing, which the first write then need not make again.
//
// A replica that does not answer within 5 s, or did not within the last 30 s, is no
// reason to refuse: the application's writes do not depend on it. If it turns out to
// have a backup when the first of them is to be shipped, that is refused with ErrFenced.
func (o *Opener) mayMake(ctx context.Context, e *fleet.Entry) error {
	if !o.cfg.Replicated || o.cfg.TakeOverUnknown {
		return nil
	}
	now := o.cfg.Now()
	o.mu.Lock()
	silent := !o.silent.IsZero() && now.Sub(o.silent) < askPause && now.Sub(o.silent) >= 0
	o.mu.Unlock()
	if silent {
		o.fleet.ReplicaHasNone(e, 0)
		return nil
	}
	asked := o.cfg.Boot()
	newest, err := o.newestBackup(ctx, e)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		o.mu.Lock()
		o.silent = now
		o.mu.Unlock()
		o.cfg.Warn("multidb: new databases are made without knowing whether the replica has them", "id", e.ID(), "pause", askPause, "err", err)
		asked = 0
	case newest != 0:
		if client, err := o.cfg.Client(e.Database()); err == nil {
			if md, err := metadata.At(ctx, client); err == nil && md.Unusable() != nil {
				return md.Unusable()
			}
		}
		return fmt.Errorf("%w, up to transaction %s, and its file %s is missing: restore it first (WithRestoreOnOpen, or Restore), or say that new files shall replace backups (WithTakeover)", replicate.ErrBackupExists, newest, e.Path())
	}
	o.fleet.ReplicaHasNone(e, asked)
	return nil
}

// newestBackup is the last transaction that the replica has of a database; 0: none.
func (o *Opener) newestBackup(ctx context.Context, e *fleet.Entry) (newest ltx.TXID, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client, err := o.cfg.Client(e.Database())
	if err != nil {
		return 0, err
	}
	return store.Newest(ctx, client)
}
