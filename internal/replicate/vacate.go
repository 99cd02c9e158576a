package replicate

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
)

// vacate deletes the local file, which is proved to be exactly the state at the end of the
// prefix: everything was shipped, unpacked and sealed by this run.
func (x *run) vacate(ctx context.Context) error {
	st := x.st
	switch pos := &st.db.State; {
	case x.r.Maintenance != nil:
		return x.r.Maintenance
	case !x.r.Drained || !x.r.Outcome.Demoted || st.active != nil || st.Captured() != 0 || x.r.Lagging:
		return fmt.Errorf("%w: it is being written to", errInUse)
	case pos.TXID == 0:
		return fmt.Errorf("%w: %s was never shipped", restore.ErrNoBackup, x.in.Path)
	case pos.Fingerprint.IsZero():
		return fmt.Errorf("%w: it was not at rest when it was shipped", errInUse)
	}
	client, err := x.in.Caller.Client()
	if err != nil {
		return err
	}
	db := ship.DB{Path: x.in.Path, Client: client, State: st.db.State, EndSeen: st.db.EndSeen}
	if log, ok := client.(Deferred); ok {
		if lacks := log.Lacks(); lacks != 0 {
			return fmt.Errorf("%w: its prefix lacks transaction %s", errInUse, lacks)
		}
		db.Fenced = true
	}
	if err := x.cfg.Ship.Confirm(ctx, &db); err != nil {
		if errors.Is(err, ship.ErrStale) {
			x.unverify()
		}
		return err
	}
	st.db.EndSeen = db.EndSeen
	if err := x.in.Caller.MayVacate(ctx, st); err != nil {
		return err
	}
	if err := localfile.Delete(ctx, x.in.Path, st.db.State.Fingerprint); err != nil {
		return err
	}
	x.r.Vacated, x.r.WALSize, x.r.Files = true, 0, fsid.Files{}
	st.clean = false
	x.cfg.Logs.Forget(x.in.ID)
	if err := x.DropPages(x.in.ID); err != nil { // a file for each, of a disk that has too few
		x.event(Event{Type: EventState, Err: err})
	}
	return nil
}

// stillOurs returns ship.ErrFenced if the prefix of a database without a local file does not end
// where it did when the file was deleted: another machine has gone on.
func (x *run) stillOurs(ctx context.Context) error {
	st := x.st
	if st.db.State.TXID == 0 {
		return nil // it was only ever at the replica
	}
	client, err := x.in.Caller.Client()
	if err != nil {
		return err
	}
	if _, ok := client.(Deferred); ok {
		return nil // the seal of the log fences others
	}
	db := ship.DB{Path: x.in.Path, Client: client, State: st.db.State}
	if err := x.cfg.Ship.Confirm(ctx, &db); errors.Is(err, ship.ErrStale) {
		// A fork may have its end at a higher level only.
		newest, listErr := store.Newest(ctx, client)
		if listErr != nil {
			return listErr
		}
		if newest == st.db.State.TXID {
			return nil
		}
		x.unverify()
		return fmt.Errorf("%w: another machine has gone on since its local file was deleted: %w", ship.ErrFenced, err)
	} else if err != nil {
		return err
	}
	st.db.EndSeen = db.EndSeen
	return nil
}

// absent is the run of a database that has no local file on purpose: its backups become old
// all the same.
func (x *run) absent(ctx context.Context) {
	x.r.Drained = true
	x.in.Caller.Settled(&x.r)
	if x.in.Order == OrderEvict {
		x.r.Unvacated = x.stillOurs(ctx)
		return
	}
	if x.in.RetainAt == 0 || x.cfg.Aged(x.r.Started).UnixMilli() < x.in.RetainAt {
		return
	}
	err := x.retain(ctx)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, ship.ErrMissing) {
		// Another writer has gone on, with whom there is nothing to compare: it deletes.
		err = nil
	}
	if x.st.active != nil {
		x.r.RetainKnown, x.r.RetainAt = true, x.nextRetention()
		x.deactivate()
	} else if err == nil {
		x.r.RetainKnown = true
	}
	if err != nil {
		x.r.Err = &MaintenanceError{err}
	}
}
