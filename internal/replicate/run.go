package replicate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// filesPerRun bounds how many LTX files one run writes before other databases get their
// turn.
const filesPerRun = 32

// run is one run of one database.
type run struct {
	*Replicator
	in Input
	st *State
	r  Report

	quiet bool // the files are as they were after the run before, so nobody has written
}

// Run takes a database through one run. It owns st until it returns. ctx bounds
// reading and writing.
func (p *Replicator) Run(ctx context.Context, st *State, in Input) Report {
	x, ok := p.runs.Get().(*run)
	if !ok {
		x = &run{Replicator: p}
	}
	x.in, x.st = in, st
	x.r.Started, x.r.MayDefer = p.cfg.Now(), in.MayDefer
	st.db.Path = in.Path
	cache := st.cache
	st.settle()
	if in.Evicted {
		x.absent(ctx)
	} else {
		x.do(ctx)
	}
	st.settle() // what was acknowledged before Settled was called, nobody else tells
	x.r.Position, x.r.Captured = st.Position(), st.Captured()
	x.r.Proved = cache && !st.cache
	r := x.r
	*x = run{Replicator: p}
	p.runs.Put(x)
	return r
}

func (x *run) do(ctx context.Context) {
	if x.in.Order != OrderNone { // which begins at what is durable
		if x.r.Err = x.await(ctx); x.r.Err != nil {
			x.in.Caller.Settled(&x.r)
			return
		}
	}
	x.ship(ctx)
	switch x.in.Order {
	case OrderTakeOver, OrderHandOver, OrderUnpack, OrderEvict: // and so do these end
		if x.r.Err == nil {
			x.r.Err = x.await(ctx)
		}
	}
	if x.r.Err == nil && x.r.Lagging && x.in.Order == OrderUnpack {
		x.r.Err = x.unpackAhead(ctx)
	}
	if x.r.Err == nil && x.r.Drained && x.in.Asked && x.cfg.Replicated {
		x.r.Err = x.flush()
	}
	x.st.settle()
	x.r.Position, x.r.Captured = x.st.Position(), x.st.Captured()
	x.lacks()
	x.in.Caller.Settled(&x.r)
	x.shorten(ctx)
	if x.handsOver() {
		x.handOver(ctx)
	} else if x.in.Order == OrderCheck && x.r.Err == nil && x.r.Drained && !x.r.Lagging {
		x.st.handedOver = false
	}
	if x.r.Lagging || x.handsOver() {
		// No maintenance: it would activate the database again, after handOver has made
		// the next run compare it with the replica.
		x.r.Outcome.Demoted = x.in.Demote
	} else if x.r.Err == nil && !x.r.Outcome.More && !x.r.Outcome.Stop {
		if x.r.Held = x.r.Captured != 0 && (x.in.Cold || x.in.Demote); !x.r.Held {
			x.r.Err = x.maintain(ctx)
		}
	}
	if was, is := x.r.Files.Main.Ino, x.st.db.State.Ino; was != 0 && is != 0 && was != is {
		x.r.Exchanged = true // during this run
	} else {
		x.r.Exchanged = false // Progress has reported it, and what was shipped is the new file
	}
	if x.st.active != nil {
		x.r.Sized, x.r.Size = true, SizeOf(&x.st.active.inv)
		if x.r.Shipped > 0 || x.st.unrecorded || x.in.Cold || x.in.RetainAt == RetainUnknown {
			x.r.RetainKnown, x.r.RetainAt = true, x.nextRetention()
		}
		x.lacks()
		if x.in.Order == OrderUnpack && x.r.Err == nil && x.r.Lacks != 0 {
			x.r.Err = x.r.Maintenance // else whoever has given the order would not get it
		}
		if x.r.Err == nil && x.r.Maintenance == nil && x.st.Captured() == 0 && (x.r.Outcome.Demoted || x.in.Cold && !x.r.Outcome.More) {
			x.deactivate()
		}
	}
	if x.in.Order == OrderEvict && x.r.Err == nil && !x.r.Outcome.More {
		x.r.Unvacated = x.vacate(ctx)
	}
	if x.r.Files != (fsid.Files{}) {
		seen := x.r.Files
		if x.r.WALSize == 0 {
			seen.WAL = fsid.Fingerprint{} // the log may be gone, and its inode given to another file
		}
		pos := &x.st.db.State
		x.cfg.Logs.note(x.in.ID, seen, pos.Salt1, pos.Offset != 0 && pos.Ino == seen.Main.Ino)
	}
	failedFirst := x.r.Err != nil && !x.r.Measured && !x.r.Drained && x.r.Files != (fsid.Files{}) && x.cfg.Replicated
	if failedFirst || x.r.Measured && x.r.Shipped > 0 && !x.shippedAll() {
		x.measure()
	}
	x.r.Outcome.Young = x.r.Err == nil && x.r.Drained && x.st.young
}

// ship does what has to be done before somebody who waits is answered.
func (x *run) ship(ctx context.Context) {
	switch {
	case x.in.Order == OrderAdopt:
		why := "adopted"
		if x.st.cache {
			why = unpromised
		}
		x.r.Kept, x.r.Err = x.replaceLocal(ctx, why)
		x.r.Replaced = true
	case x.in.Relieve && x.in.Overdue && !x.in.Asked && x.mayRelieve():
		// Another attempt at a replica that does not answer would take long, while the log
		// fills the disk.
		x.r.Err = x.limitWAL(ctx, x.in.LastErr)
	default:
		if x.in.Order == OrderTakeOver {
			x.unverify()
			x.st.takeOver = true
		} else if x.in.Order == OrderCheck && x.st.handedOver {
			x.unverify() // a run since the hand-over may have compared before the other machine wrote
		}
		x.r.Err = sqlitedb.Explain(x.in.Path, x.step(ctx))
	}
}

// lacks reports what the prefix lacks.
func (x *run) lacks() {
	if a := x.st.active; a != nil && a.deferred != nil {
		x.r.LacksKnown, x.r.Lacks = true, a.deferred.Lacks()
	}
}

// await waits until all that the client has taken is durable.
func (x *run) await(ctx context.Context) error {
	txid := x.st.Captured()
	if txid == 0 {
		return nil
	}
	if err := x.st.taken.Await(ctx, txid); err != nil {
		return err
	}
	x.st.settle()
	return nil
}

// shorten cuts a log that is over its limit and that the client has taken but cannot make
// durable: nothing else would, as nothing has failed.
func (x *run) shorten(ctx context.Context) {
	if x.r.Err != nil || x.r.Captured == 0 || x.in.LastErr == nil || x.r.WALSize <= x.cfg.MaxWALSize && !x.in.Relieve {
		return
	}
	old := x.st.db.State
	res, err := x.cfg.Ship.Seal(ctx, &x.st.db)
	x.took(old)
	x.count(res.Result)
	x.st.unrecorded = true
	x.noteWALSize()
	x.r.Captured = x.st.Captured()
	if err != nil && !errors.Is(err, sqlitedb.ErrBusy) && !errors.Is(err, ship.ErrUnsettled) { // else the next run tries again
		x.r.Maintenance = &MaintenanceError{err}
	}
}

// took notes what the client has taken since the state was old.
func (x *run) took(old ship.State) {
	if x.st.db.State.TXID != old.TXID {
		x.st.capture(old)
	}
}

// handsOver reports whether the run is a hand-over and has shipped everything for it.
func (x *run) handsOver() bool {
	return x.r.Err == nil && x.in.Order == OrderHandOver && x.r.Drained
}

// handOver leaves the prefix in such a state that another machine can go on from there.
func (x *run) handOver(ctx context.Context) {
	if !x.r.Lagging {
		defer func() { x.st.handedOver = x.st.handedOver || x.r.Err == nil }()
		if _, x.r.Err = x.seal(ctx); x.r.Err != nil { // the other machine may not know the log
			return
		}
		// The machine that goes on can then restore it from a few files, and not from one
		// for each commit. That it has gone on already (ErrFenced, ErrStale) is no failure.
		if err := x.compact(ctx, true); err != nil && !errors.Is(err, ship.ErrFenced) && !errors.Is(err, ship.ErrStale) {
			x.r.Maintenance = &MaintenanceError{err}
		}
		x.unverify()
	}
}

// event adds an event to the report.
func (x *run) event(ev Event) { x.r.Events = append(x.r.Events, ev) }

// count adds what a step did to the report.
func (x *run) count(res ship.Result) {
	x.r.Counts.Transactions += int64(res.Txns)
	x.r.Counts.Bytes += res.Bytes
}

// step looks at the files and ships what is new.
func (x *run) step(ctx context.Context) error {
	st, pos := x.st, &x.st.db.State
	var err error
	if x.r.Files, err = x.stat(); err != nil {
		return err
	}
	if err := x.setLogAside(x.r.Files); err != nil {
		return err
	}
	x.r.WALSize = x.r.Files.WAL.Size
	racy := x.r.Files.Racy(x.r.Started)
	if st.clean && x.r.Files == st.files && (x.in.Order == OrderNone || x.in.Order == OrderCut || x.in.Order == OrderUnpack || st.verified) {
		x.r.Drained, x.quiet = true, true
		x.r.Outcome.ModTime = st.modTime
		return nil
	}
	if pos.Ino != 0 && pos.Ino != x.r.Files.Main.Ino {
		x.r.Exchanged = true
		x.in.Caller.Progress(&x.r)
	}
	if x.mayDefer(racy) {
		return nil
	}
	st.clean = false
	if x.cfg.Replicated {
		if st.active == nil || !st.verified || x.in.LastErr != nil {
			x.measure() // now, because it may take long until a step does so
		}
		x.r.Pending = true
		x.in.Caller.Progress(&x.r)
	}
	if !x.cfg.Replicated {
		x.r.Outcome.Moved = x.r.Files != st.files
		if st.files == (fsid.Files{}) {
			// This is the first run, and there is nothing to compare with. A recent write
			// is probably what caused the run.
			x.r.Outcome.Moved = x.r.Started.Sub(x.r.Files.ModTime()) < 2*x.in.SyncInterval
		}
		x.r.Drained = true
		pos.Ino = x.r.Files.Main.Ino
		if x.r.WALSize > int64(x.cfg.CheckpointPages)*assumedPage || x.in.Relieve {
			if err := x.trim(ctx); err != nil {
				return err
			}
		}
	} else if err := x.shipNew(ctx); err != nil {
		return x.limitWAL(ctx, err)
	}
	if x.r.Drained {
		st.files, st.clean = x.r.Files, !racy
		st.modTime, st.young = x.r.Files.ModTime(), x.r.Files.Young(x.r.Started)
		x.r.Outcome.ModTime = st.modTime
		st.unrecorded = st.unrecorded || x.r.Shipped > 0
	}
	return nil
}

// mayDefer decides whether a change stays local for now. It does not if only a step can
// find out whether there is a change at all: because the time stamps are those of our own
// checkpoint, or were too young when they were taken.
func (x *run) mayDefer(racy bool) bool {
	st, mod := x.st, x.r.Files.ModTime()
	switch {
	case !x.r.MayDefer:
		return false
	case st.db.State.TXID == 0, mod.UnixNano() == st.checkpointTime, x.r.Files == st.files:
		x.r.MayDefer = false
		return false
	case mod.Equal(st.modTime) && !racy:
		return true // nothing has changed, which is also how scans decide it
	}
	x.r.Deferred = true
	x.r.Outcome.ModTime = mod
	x.measure()
	return true
}

// shipNew writes LTX files until nothing is left, or the run has had its share.
func (x *run) shipNew(ctx context.Context) error {
	err := x.activate(ctx)
	switch {
	case errors.Is(err, ship.ErrBehind) && x.in.Order == OrderCheck:
		x.r.Kept, err = x.replaceLocal(ctx, behind)
		if errors.Is(err, errInUse) { // the file stays as it is, as without the order
			x.r.Drained, x.r.Lagging = true, true
			return nil
		}
		x.r.Replaced = true
		return err
	case errors.Is(err, ship.ErrBehind) && x.cfg.RestoreOnOpen:
		// There is nothing to ship, and the file is brought up to date when it is opened next.
		x.r.Drained, x.r.Lagging = true, true
		return nil
	case err != nil:
		return err
	}
	x.r.TookOver = x.in.Order == OrderTakeOver
	db := &x.st.db
	db.OnBacklog = func(end, lag int64) {
		x.r.Backlog, x.r.Measured = Backlog{end, lag + x.st.unacknowledged()}, true
		x.in.Caller.Progress(&x.r)
	}
	defer func() { db.OnBacklog = nil }()
	for range filesPerRun {
		old := db.State
		res, err := x.cfg.Ship.Step(ctx, db)
		if err == nil || db.State.TXID != old.TXID {
			x.count(res)
		}
		x.took(old)
		if a := x.st.active; a.deferred != nil && err != nil && old.PageSize != 0 && old.PageSize != db.State.PageSize {
			a.snapshotNeeded, a.due = true, true // the file was taken, and its snapshot was not written
		}
		if errors.Is(err, ship.ErrStale) {
			if err := x.await(ctx); err != nil {
				return err
			}
			x.unverify()
			x.r.Outcome.More = true
			return nil
		} else if err != nil {
			return err
		}
		x.r.Shipped += res.Txns
		if res.Rule == ship.RuleResync {
			x.st.mayLeaveLog = true
		}
		if res.Rule == ship.RuleResync && res.Txns > 0 {
			x.resynced(old, res)
		}
		if res.Txns > 0 {
			x.r.Outcome.Moved = true
			if old.TXID != 0 { // the first state was not committed just now, so its lag means nothing
				x.r.Acked = x.cfg.Now()
			}
		}
		if !res.More {
			x.r.Drained = res.Rule != ship.RuleNone || res.Empty
			x.r.Outcome.More = !x.r.Drained && !res.Tail
			return x.beginAnew(ctx)
		}
	}
	x.r.Outcome.More = true
	return nil
}

// resynced counts and reports that the whole state was shipped. If the page size has
// changed, it begins an epoch.
func (x *run) resynced(old ship.State, res ship.Result) {
	now := &x.st.db.State
	if old.PageSize != 0 && old.PageSize != now.PageSize {
		x.st.active.inv.BeginEpoch(old.TXID) // files of two page sizes are never compacted together
	}
	if old.TXID != 0 {
		x.r.Counts.Resyncs++
		x.event(Event{Type: EventResync, TXID: now.TXID, Why: res.Why, Bytes: res.Bytes})
	}
}

// beginAnew writes a snapshot without which nothing new can be restored, before that counts
// as shipped: the page size has changed, and the snapshot that ship writes then has failed,
// or the process before was killed.
func (x *run) beginAnew(ctx context.Context) error {
	a := x.st.active
	if a.deferred == nil || !a.snapshotNeeded {
		return nil
	}
	if err := x.await(ctx); err != nil {
		return err
	}
	if err := x.snapshot(ctx); err != nil {
		return err
	}
	if a.snapshotNeeded { // it changes too fast right now
		x.r.Drained, x.r.Outcome.More = false, true
	}
	return nil
}

// flush writes the log to disk before the callers of Sync are answered. The pool's commits
// are not flushed one by one (synchronous=NORMAL). Without flush, the local database could
// be older after a power failure than what was promised to be durable, and be shipped as
// the newest state.
func (x *run) flush() error {
	if x.r.Files.WAL.Size == 0 || x.r.Files.WAL == x.st.flushed {
		return nil
	}
	f, err := os.Open(x.in.Path + "-wal") // it carries no locks
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody has checkpointed and deleted it, which flushed the database
	} else if err != nil {
		return err
	}
	if err := errors.Join(x.cfg.Flush(f), f.Close()); err != nil {
		return fmt.Errorf("flush the WAL: %w", err)
	}
	if !x.r.Files.Racy(x.r.Started) { // otherwise the next commit may leave the same stamps
		x.st.flushed = x.r.Files.WAL
	}
	return nil
}

// measure sets Backlog in the report. If the files cannot be read, it leaves it to the step
// to report that.
func (x *run) measure() {
	end, lag, err := ship.Backlog(x.in.Path, x.st.Position(), x.r.Files.Main)
	if err == nil {
		x.r.Backlog, x.r.Measured = Backlog{end, lag}, true
	}
}

// shippedAll sets Backlog in the report without a look at the log, which most commits are
// spared so: if what a step has measured before it wrote is all shipped, and the log is
// still the same. It reports whether it could.
func (x *run) shippedAll() bool {
	tip, pos := &x.st.db.State, x.st.Position()
	if !x.r.Drained || x.r.Backlog.WALEnd != tip.Offset ||
		pos.Offset == 0 || pos.Ino != tip.Ino || pos.Salt1 != tip.Salt1 || pos.Salt2 != tip.Salt2 {
		return false
	}
	x.r.Backlog.Lag = tip.Offset - pos.Offset
	return true
}

func (x *run) stat() (fsid.Files, error) {
	f, err := fsid.StatFiles(x.in.Path, x.cfg.Stat)
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%w: %s", ship.ErrMissing, x.in.Path)
	}
	return f, err
}
