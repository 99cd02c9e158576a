package multidb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/registry"
)

// Status is what is known of one database.
type Status struct {
	Database
	Tier   Tier
	Prefix string // of its replica
	TXID   TXID   // last one the replica acknowledged: it is durable, in the prefix or in the fleet log
	// UnpackedTXID is the last one that the prefix is known to have, where programs find it
	// that do not know the fleet log; TXID without one. What this process has not looked at
	// yet of a fleet log counts as not being in the prefix.
	UnpackedTXID TXID
	// SyncedAt is when the replica was last known to have everything; zero if
	// not since Start.
	SyncedAt time.Time
	// Lag is how long there has been something that the replica lacks, how long
	// (since its last write, where it has nothing of the database yet), how long
	// the database has been overdue to be looked at, or how long the work on it
	// has been going on, during which nobody sees what is written: the longest of
	// them, zero if none.
	Lag time.Duration
	// LagBytes is how many bytes of the WAL the replica lacks, when the database
	// was last looked at; of the whole file, where no WAL says what changed.
	LagBytes int64
	// PendingSince is when a change was made that is left local because the
	// database is cold, see ColdSyncNone; zero if there is none. It is no Lag.
	PendingSince time.Time
	LastWrite    time.Time // zero if unknown
	WALSize      int64     // of the file in bytes, when it was last looked at
	// WALPos is the local position: how many bytes of the WAL were in use when
	// it was last looked at. WALPos less LagBytes is at the replica, as TXID.
	WALPos int64
	Leased bool // the application holds a handle
	// Resident: its file is on this disk. False: Evict or WithMaxDisk has deleted it, the
	// replica has all of it, and the next Acquire brings it back.
	Resident bool
	// LocalBytes is how much of this disk it takes: its file and its WAL, by the last look.
	LocalBytes int64
	// ReplicaBytes is what its prefix holds in LTX files, and ReplicaObjects the number of
	// objects, metadata.json included (of which the bytes, a few hundred, are left out). They
	// are what this process has written and listed, without another listing: what a fleet log
	// has and the prefix lacks, and old versions in a bucket that keeps them, are not in
	// them. Both are zero as long as ReplicaSized is false: not known, since it was not worked
	// on since a Start after a crash, or was never shipped.
	ReplicaBytes   int64
	ReplicaObjects int64
	ReplicaSized   bool
	// ProvedAt is when a drill last restored its backup and found it good, whichever process
	// did; zero: none has, or there is no WithDrills. ProvedErr is why the last drill failed,
	// after that: ErrUnproved; nil if it did not.
	ProvedAt  time.Time
	ProvedErr error
	// Err is why it is not being shipped, since ErrSince; nil if all is well.
	Err      error
	ErrSince time.Time
	Failures int // attempts that failed in a row
}

// Status returns what is known of one database. The error is ErrNotFound, or why
// a file was refused (ErrNotDatabase, ErrConflict), as *Error.
func (m *Manager) Status(id ID) (Status, error) {
	var unawaited context.Context // nil: a database that is about to be served here is not waited for
	e, err := m.lookup(unawaited, id)
	if err != nil {
		return Status{}, opError("status", id, err)
	}
	return m.statusOf(m.fleet.Status(e)), nil
}

func (m *Manager) statusOf(s fleet.Status) Status {
	db := Database{ID: ID(s.ID), Path: s.Path, RelPath: s.RelPath(), Vars: registry.VarsOf[Var](s.Identity)}
	st := Status{
		Database: db, Tier: tierOf(s.Tier), Prefix: s.Prefix().String(), TXID: s.TXID, UnpackedTXID: s.UnpackedTXID, SyncedAt: s.SyncedAt,
		Lag: s.Lag, LagBytes: s.Backlog.Lag, PendingSince: s.PendingSince, LastWrite: s.LastWrite,
		WALSize: s.WALSize, WALPos: s.Backlog.WALEnd, Leased: s.Leased, Resident: !s.Evicted,
		LocalBytes: s.LocalBytes, ReplicaBytes: s.ReplicaBytes, ReplicaObjects: s.ReplicaObjects, ReplicaSized: s.ReplicaSized,
		Err: opError("sync", db.ID, s.Err), ErrSince: s.ErrSince, Failures: s.Failures,
	}
	st.ProvedAt, st.ProvedErr = m.proof(db.ID)
	return st
}

// proof is what drills say of a database.
func (m *Manager) proof(id ID) (at time.Time, err error) {
	at, failed, tried := m.drills.Proof(string(id))
	if failed != "" {
		err = opError("drill", id, fmt.Errorf("%w: the drill of %s: %s", ErrUnproved, tried.Format(time.RFC3339), failed))
	}
	return at, err
}

// unproved adds to the worst databases those whose backup is not proved as it should be.
func (m *Manager) unproved(worst []Status) []Status {
	for _, id := range m.drills.Late() {
		if len(worst) >= worstNamed {
			break
		}
		s, err := m.Status(ID(id))
		if err != nil || s.TXID == 0 && s.ProvedErr == nil || // gone, or it has no backup: that is its lag
			slices.ContainsFunc(worst, func(w Status) bool { return w.ID == s.ID }) {
			continue
		}
		switch {
		case s.Err != nil:
		case s.ProvedErr != nil:
			s.Err = s.ProvedErr
		case s.ProvedAt.IsZero():
			s.Err = opError("drill", s.ID, fmt.Errorf("%w: no drill has restored it since it is known, for more than %v; see DrillOptions.PerDay", ErrUnproved, m.cfg.drills.MaxAge))
		default:
			s.Err = opError("drill", s.ID, fmt.Errorf("%w: it was last restored at %s, more than %v ago; see DrillOptions.PerDay", ErrUnproved, s.ProvedAt.Format(time.RFC3339), m.cfg.drills.MaxAge))
		}
		worst = append(worst, s)
	}
	return worst
}

// worstNamed is how many databases Healthy names at most.
const worstNamed = 10

// Healthy reports whether every database is at the replica but for the last
// maxLag, and names the worst ten that are not: those that fail, are fenced or
// refused, wait for a replica that does not answer, hang in the work on them,
// wait for their turn, or were never shipped, be they as old and cold as they
// may; those with an error first, then by their Lag. What ColdSyncNone leaves local
// is no reason, nor is a file that is no database. A listing that was not whole is
// one (see ScanErr), and comes first, with an empty ID: databases that it lacks are
// not replicated. So does a fleet log that another process has taken over, that cannot be
// written, or that has acknowledged nothing for maxLag though something waits. What the fleet log has is
// replicated; a prefix that has lacked it for three UnpackIntervals is a reason. With
// WithDrills so is, after those that are not at the replica, a backup that did not restore
// in its last drill, and one that was not proved for DrillOptions.MaxAge: Err is
// ErrUnproved. It looks at every database, in a few milliseconds for 100,000.
func (m *Manager) Healthy(maxLag time.Duration) (ok bool, worst []Status) {
	if errs, since := m.scanErrs(); len(errs) > 0 {
		worst = append(worst, Status{Err: fmt.Errorf("discovery: %w", errors.Join(errs...)), ErrSince: since})
	}
	if since, err := m.fleetLogErr(maxLag); err != nil {
		worst = append(worst, Status{Err: err, ErrSince: since})
	}
	if since, err := m.started().unwell(m.cfg.now()); err != nil {
		worst = append(worst, Status{Err: fmt.Errorf("cluster: %w", err), ErrSince: since})
	}
	for _, s := range m.fleet.Worst(maxLag, worstNamed-len(worst)) {
		worst = append(worst, m.statusOf(s))
	}
	worst = m.unproved(worst)
	return len(worst) == 0, worst
}

// All returns the status of every database, in no order. It does not hold up
// the Manager: databases that come and go meanwhile may be in it or not.
func (m *Manager) All() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for _, e := range m.fleet.All() {
			if s := m.fleet.Status(e); !s.Removed && !yield(m.statusOf(s)) {
				return
			}
		}
	}
}

// Serving returns nil between Start and Close, ErrNotStarted before, and ErrClosed from the
// begin of Close on. Safe for concurrent use.
func (m *Manager) Serving() error { return m.fleet.Serving() }

// ScanErr returns why the last listing of the databases was not whole, nil if it
// was: of every discoverer that failed, joined, and ErrRootMissing where another
// volume is in the place of one that was known. What was not listed is not
// shipped, and so Healthy is false. A listing that says which parts it could not
// read (UnlistedError) is reported by EventScanFailed alone. Safe for concurrent use.
func (m *Manager) ScanErr() error {
	errs, _ := m.scanErrs()
	return errors.Join(errs...)
}

// scanErrs are the parts of ScanErr, and since when there have been any.
func (m *Manager) scanErrs() (errs []error, since time.Time) {
	errs, since = m.survey.Errs()
	away, first := m.volumes.Away()
	if len(away) > 0 && (since.IsZero() || first.Before(since)) {
		since = first
	}
	return append(errs, away...), since
}
