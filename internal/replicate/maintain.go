package replicate

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// MaintenanceError is a failure of maintenance: everything that was committed is at the
// replica all the same.
type MaintenanceError struct{ error }

// NewMaintenanceError makes one of an error.
func NewMaintenanceError(err error) *MaintenanceError { return &MaintenanceError{err} }

func (e *MaintenanceError) Unwrap() error { return e.error }

// maintain does what is not shipping: it keeps the log and the replica's files small, and
// demotes. If it fails (no space for a checkpoint, no permission to delete), an active
// database is shipped as often as before, and maintenance is tried again after a pause of
// its own.
func (x *run) maintain(ctx context.Context) (err error) {
	st := x.st
	if wait := st.maintainAt.Sub(x.r.Started); !x.in.Cold && x.in.Order != OrderUnpack && x.in.Order != OrderEvict && wait > 0 && wait <= x.cfg.MaxBackoff {
		x.r.Maintenance = st.maintenance
		return nil
	}
	if x.cfg.Replicated {
		err = x.tidy(ctx)
	}
	if err == nil && x.in.Demote {
		err = x.demote(ctx)
	} else if err == nil && x.r.Drained && x.r.WALSize > 0 && (x.in.Relieve || x.in.Cold) && x.cfg.Replicated {
		// A cold database must not keep a log, whoever has left it there.
		_, err = x.seal(ctx)
	} else if err == nil && st.Captured() == 0 && x.mayCut() {
		_, err = x.seal(ctx)
		if x.r.WALSize > 0 { // a reader may keep it, or another process, which removes it when it closes the database
			st.nextCut = x.r.Started.Add(checkpointPause)
		} else {
			st.mayLeaveLog, st.nextCut = false, time.Time{}
		}
	}
	if errors.Is(err, ship.ErrFenced) {
		return err
	} else if errors.Is(err, ship.ErrStale) {
		if err := x.await(ctx); err != nil {
			return err
		}
		x.unverify()
		x.r.Outcome.More, x.r.Outcome.Demoted = true, false
		return nil
	} else if err == nil {
		st.maintenance, st.maintainAt, st.maintenancePause = nil, time.Time{}, 0
		return nil
	}
	st.maintenance = &MaintenanceError{sqlitedb.Explain(x.in.Path, err)}
	st.maintenancePause = min(max(2*st.maintenancePause, x.in.SyncInterval), x.cfg.MaxBackoff)
	st.maintainAt = x.r.Started.Add(st.maintenancePause)
	x.r.Maintenance = st.maintenance
	x.r.Failed = append(x.r.Failed, err)
	if x.in.Cold {
		return st.maintenance // nobody polls it, so only the back-off after an error brings it back
	}
	return nil
}

// mayCut reports whether the log is to be cut, which is to checkpoint it and truncate it to
// nothing: all of it is at the replica, and nobody uses the database.
func (x *run) mayCut() bool {
	early := x.r.Started.Before(x.st.nextCut) && x.in.Order != OrderCut // whoever gives that order cannot wait
	return x.cfg.Replicated && x.r.Drained && x.r.WALSize > 0 && !early &&
		x.in.Caller.MayCut(x.st.mayLeaveLog && x.quiet)
}

// tidy does what a shipped database needs now and then: a checkpoint, compaction, a
// snapshot, retention. Nobody waits for it, since Settled was called before.
func (x *run) tidy(ctx context.Context) error {
	if x.in.Order == OrderUnpack || x.in.Order == OrderEvict {
		if err := x.activate(ctx); err != nil { // the tail may be of a log that was taken over
			return err
		}
	}
	if a := x.st.active; a != nil {
		if err := x.checkpoint(ctx); err != nil {
			return err
		}
		if err := x.unpack(ctx); err != nil {
			return err
		}
		if x.r.Shipped > 0 || a.due {
			if err := x.compact(ctx, false); err != nil {
				return err
			}
		}
	}
	if x.in.RetainAt != 0 && x.cfg.Aged(x.r.Started).UnixMilli() >= x.in.RetainAt {
		return x.retain(ctx)
	}
	return nil
}

// activate gets the client and the inventory of a database ready. Once in the life of the
// process it also compares the position with what the replica holds, because the state
// directory may be lost, old, or a copy.
func (x *run) activate(ctx context.Context) error {
	st := x.st
	if st.active != nil {
		return nil
	}
	client, err := x.in.Caller.Client()
	if err != nil {
		return err
	}
	a := &active{}
	db := ship.DB{Path: x.in.Path, Client: client, State: st.db.State, EndSeen: st.db.EndSeen}
	a.inv.UseCache(x.cfg.Cache)
	if a.deferred, _ = client.(Deferred); a.deferred == nil {
		db.OnWrite = a.inv.Wrote
	} else {
		db.Fenced = true
		db.OnWrite = func(info *ltx.FileInfo, data []byte) {
			if info.Level != 0 { // level 0 is in the log, until it is unpacked
				a.inv.Wrote(info, data)
			}
		}
	}
	if db.State.Commit > fewPages {
		db.Pages = x.loadPages(x.in.ID)
	}
	if st.verified {
		if err := a.inv.UnmarshalBinary(st.inventory); err == nil {
			if a.inv.Len() == 0 && a.deferred == nil {
				db.Client = x.claimingClient(client)
			}
			st.db, st.active, st.inventory = db, a, nil
			return nil
		}
	}
	l, err := x.listing(ctx, client)
	if err != nil {
		return err
	}
	if len(l.Files) == 0 && a.deferred == nil {
		db.Client = x.claimingClient(client)
	} else if len(l.Files) == 0 { // its first unpacking claims it
	} else if err := x.checkClaim(ctx, a.prefix(client)); err != nil {
		return err
	}
	if err := x.cfg.Ship.Verify(ctx, &db, l); errors.Is(err, ship.ErrBehind) {
		return fmt.Errorf("%w: %w; the local file has nothing that the replica lacks. "+
			"Adopt it (the replica wins), or use WithRestoreOnOpen, which does so when it is opened", ship.ErrFenced, err)
	} else if err != nil {
		return err
	}
	inPrefix, whole := l.Files, &a.inv
	if a.deferred != nil {
		if files, _ := a.deferred.Tail(); files > 0 { // which the inventory has when it is unpacked
			if inPrefix, err = store.Files(ctx, a.deferred.Prefix(), false); err != nil {
				return fmt.Errorf("list the replica: %w", err)
			}
			whole = new(levels.Inventory) // what the prefix will have
			whole.Reset(l.Files)
		}
	}
	a.inv.Reset(inPrefix)
	a.inv.MarkSeen(x.cfg.Now(), x.cfg.Grace)
	// A process before may have been killed after the file of another page size was durable
	// in a log, and before its snapshot was there.
	anew := a.deferred != nil && st.db.State.PageSize != 0 && db.State.PageSize != 0 && db.State.PageSize != st.db.State.PageSize
	if len(l.Files) > 0 && whole.Restorable() != nil || anew {
		a.snapshotNeeded, a.due = true, true
	}
	st.db, st.active, st.inventory = db, a, nil
	st.verified, st.takeOver, st.cache, st.sealed = true, false, false, false
	return nil
}

// listing lists the replica for ship.Verify, unless it was seen to be empty just before the
// file was made.
func (x *run) listing(ctx context.Context, client litestream.ReplicaClient) (ship.Listing, error) {
	st := x.st
	l := ship.Listing{Began: x.cfg.Boot(), TakeOverUnknown: x.cfg.TakeOverUnknown, TakeOver: st.takeOver, Cache: st.cache, Sealed: st.sealed}
	if asked := st.emptyAt; asked != 0 {
		if st.emptyAt = 0; l.Began-asked <= x.cfg.Grace/4 {
			l.Began = asked
			return l, nil
		}
	}
	files, err := store.Files(ctx, client, false)
	if err != nil {
		return l, fmt.Errorf("list the replica: %w", err)
	}
	if st.unanswered && len(files) > 0 && !l.TakeOver {
		return l, fmt.Errorf("%w: %w, which did not answer when the file was made. Adopt (the backup wins, the file is kept aside) or take over (the file becomes the newest state)", ship.ErrFenced, ErrBackupExists)
	}
	st.unanswered = false
	l.Files = files
	l.Plan = planOf(ctx, files)
	return l, nil
}

// deactivate is Rest for the database of the run.
func (x *run) deactivate() {
	if err := x.Rest(x.in.ID, x.st); err != nil {
		x.event(Event{Type: EventState, Err: err})
	}
}

// Rest drops what only an active database needs: its client, its decoded inventory, its
// page hashes in memory. An error means only that the page hashes could not be kept in the
// state directory; the database is at rest all the same.
func (p *Replicator) Rest(id string, st *State) error {
	if st.active == nil {
		return nil
	}
	st.active.inv.DropCached()
	err := p.savePages(id, st.db.Pages)
	b, unpackable := st.active.inv.AppendBinary(nil)
	if unpackable != nil {
		st.verified = false // listed again when it is needed
	}
	st.db = ship.DB{Path: st.db.Path, State: st.db.State, EndSeen: st.db.EndSeen}
	st.inventory, st.active, st.unrecorded = b, nil, true
	return err
}

// unverify makes the next run compare the position with what the replica holds, as if the
// process had just started.
func (x *run) unverify() {
	x.deactivate()
	st := x.st
	st.verified, st.clean, st.unrecorded, st.db.EndSeen = false, false, true, 0
}

// wroteLast reports whether this state directory wrote the replica's last file. Only whoever
// did so compacts and deletes files there.
func (x *run) wroteLast() bool {
	o := x.st.db.State.Origin
	return x.cfg.Mine(o.Node(), o.Session())
}

// unpackAhead gives the prefix what logs that were taken over have of a database whose file is of an earlier time.
func (x *run) unpackAhead(ctx context.Context) error {
	client, err := x.in.Caller.Client()
	if err != nil {
		return err
	}
	deferred, ok := client.(Deferred)
	if !ok {
		return nil
	}
	if _, err = deferred.Unpack(ctx, true); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// unpack gives the prefix what the client has taken, where it is due.
func (x *run) unpack(ctx context.Context) error {
	a := x.st.active
	if a.deferred == nil {
		return nil
	}
	due, all := x.unpackDue()
	if !due {
		return nil
	}
	if err := x.claimForLog(ctx); err != nil {
		return err
	}
	end := a.inv.MaxTXID()
	infos, err := a.deferred.Unpack(ctx, all)
	for _, info := range infos {
		a.inv.Wrote(info, nil)
		x.st.unrecorded, a.due = true, true
	}
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if len(infos) > 0 && infos[0].MinTXID > end+1 { // what is in between another unpacker has written, since this database has a file
		files, err := store.Files(ctx, a.deferred.Prefix(), false)
		if err != nil {
			return fmt.Errorf("list the replica: %w", err)
		}
		a.inv.Reset(files)
		a.inv.MarkSeen(x.cfg.Now(), x.cfg.Grace)
	}
	if len(infos) > 0 {
		a.unpacked = x.r.Started
	}
	return nil
}

// unpackDue reports whether a tail is to be unpacked: all of it before the database becomes
// cold and by an order; by time, by size, and where memory is short, its last file may stay.
func (x *run) unpackDue() (due, all bool) {
	a := x.st.active
	files, size := a.deferred.Tail()
	if files == 0 {
		a.unpacked = time.Time{} // the next tail is as old as its first file
		return false, false
	}
	if a.unpacked.IsZero() {
		a.unpacked = x.r.Started
		if !a.phased {
			a.unpacked, a.phased = a.unpacked.Add(-unpackPhase(x.in.ID, x.cfg.UnpackInterval)), true
		}
	}
	all = x.in.Cold || x.in.Demote || x.in.Order == OrderUnpack || x.in.Order == OrderHandOver
	return all || x.r.Started.Sub(a.unpacked) >= x.cfg.UnpackInterval || size >= x.cfg.UnpackSize || a.deferred.Pressed(), all
}

// unpackPhase is how much sooner than the others a database is unpacked for the first time.
// Otherwise all that became active together would be unpacked together, thousands of
// writes to the replica at once, for which the runs of all others wait.
func unpackPhase(id string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails (hash.Hash)
	return interval / 1024 * time.Duration(h.Sum64()%1024)
}

// compact merges small files into larger ones and writes a snapshot, where due. If all is
// set, it merges whatever can be merged, before the database becomes cold.
func (x *run) compact(ctx context.Context, all bool) error {
	a, p := x.st.active, x.in.Levels
	snapshot := a.snapshotNeeded || a.inv.SnapshotDue(p, x.cfg.Now())
	files := a.inv.Compactable(p, all)
	if !x.wroteLast() || !snapshot && !files {
		a.due = false
		return nil
	}
	a.due = true // until done
	if err := x.cfg.Ship.Confirm(ctx, &x.st.db); err != nil {
		return err
	}
	if snapshot {
		if err := x.snapshot(ctx); err != nil {
			return err
		}
	}
	if files {
		report, err := levels.Compact(ctx, x.st.db.Client, &a.inv, p, all, x.cfg.Logger)
		x.r.Counts.Compactions += int64(report.Compactions)
		switch {
		case errors.Is(err, levels.ErrPageSize):
			// Files from before this process have another page size. An epoch begins
			// after them now, and the next run compacts the rest.
			if a.inv.Restorable() != nil {
				return x.snapshot(ctx)
			}
			return nil
		case errors.Is(err, levels.ErrInventory):
			if err := x.await(ctx); err != nil {
				return err
			}
			x.deactivate()
			x.st.verified = false
			return fmt.Errorf("compact: %w", err)
		case errors.Is(err, levels.ErrForeign):
			return fmt.Errorf("%w: compact: %w", ship.ErrFenced, err)
		case err != nil:
			return fmt.Errorf("compact: %w", err)
		}
		x.st.unrecorded = x.st.unrecorded || report.Compactions > 0
	}
	a.due = false
	return nil
}

func (x *run) snapshot(ctx context.Context) error {
	a, db := x.st.active, &x.st.db
	old := db.State
	res, err := x.cfg.Ship.Snapshot(ctx, db)
	x.took(old)
	x.st.unrecorded = true
	x.count(res)
	if errors.Is(err, ship.ErrUnsettled) {
		return nil // the database changes too fast right now; the snapshot is still due
	} else if err != nil {
		a.inv.MarkStray(litestream.SnapshotLevel, 1, db.State.TXID) // it may have been written
		return fmt.Errorf("snapshot: %w", err)
	}
	if res.Empty {
		return nil
	}
	a.snapshotNeeded = false
	x.r.Counts.Snapshots++
	x.event(Event{Type: EventSnapshot, TXID: db.State.TXID})
	return nil
}

// retain deletes the files that no restore within the retention needs. If there are strays,
// it lists the prefix first.
func (x *run) retain(ctx context.Context) error {
	err := x.activate(ctx)
	if err == nil && x.st.active.inv.Strays() > 0 {
		if err := x.await(ctx); err != nil { // only this client knows when what it took is durable
			return err
		}
		x.unverify()
		err = x.activate(ctx)
	}
	if err != nil {
		return err
	}
	inv, p := &x.st.active.inv, x.in.Levels
	if !x.wroteLast() || !inv.RetentionDue(p, x.cfg.Aged(x.cfg.Now())) {
		return nil
	}
	if err := x.cfg.Ship.Confirm(ctx, &x.st.db); err != nil {
		return err
	}
	if _, err := levels.Retain(ctx, x.st.db.Client, inv, p, x.cfg.Aged(x.cfg.Now())); err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	x.st.unrecorded = true
	x.st.retained = x.cfg.Now()
	return nil
}

// nextRetention returns when there is something to delete; zero: never. Level 0 files
// become old one by one. So that each of them does not cost a request, they are deleted
// together, with a pause in between.
func (x *run) nextRetention() time.Time {
	if !x.wroteLast() {
		return time.Time{}
	}
	inv := &x.st.active.inv
	inv.MarkSeen(x.cfg.Now(), x.cfg.Grace)
	next := inv.NextRetention(x.in.Levels)
	if next.IsZero() || x.st.retained.IsZero() {
		return next
	}
	if gap := x.st.retained.Add(min(x.cfg.RetentionInterval, x.in.Levels.L0Retention)); next.Before(gap) {
		return gap
	}
	return next
}
