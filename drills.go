package multidb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/drill"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/superfly/ltx"
)

// DrillOptions says how often backups are proved. See WithDrills.
type DrillOptions struct {
	// PerDay is how many databases are restored a day, at most. Required, 1 to 1,000,000. Each
	// comes round in as many days as there are databases for each drill of a day, but none
	// sooner than 20 hours after it was proved, or half of MaxAge.
	PerDay int
	// MaxAge is how old a proof may become before Healthy names the database; one that was
	// never proved has that time since it became known, or since drills were first on. Zero:
	// any age will do, and Healthy names only those whose last drill failed.
	MaxAge time.Duration
}

// WithDrills proves in the background that backups restore: at all times of the day a
// database is restored, as Restore does it, to a file in the state directory, checked
// (IntegrityFull), compared with the transaction that the replica had acknowledged, and
// deleted. Those that were never proved come first, by their ID, then whoever was proved the
// longest ago; a failed one is tried again after a day. When each was proved is kept in the
// state directory.
//
// One is restored at a time. None is begun where the file system of the state directory lacks
// its size and 64 MiB. A drill costs what a restore costs: a listing and a GET for each
// file, with a fleet log what reading that costs too. Where the replica does not answer, or
// the disk is full, nothing is said about the backup: it is tried again after an hour.
//
// A backup that does not restore is EventDrillFailed, Status.ProvedErr, and a reason of
// Healthy until a drill succeeds. It is restored a second time before that is said. Default:
// no drills. It needs a replica.
func WithDrills(opt DrillOptions) Option {
	return func(c *config) error {
		switch {
		case opt.PerDay < 1 || opt.PerDay > 1_000_000:
			return invalid("WithDrills", "PerDay is %d; want 1 to 1,000,000 drills a day", opt.PerDay)
		case opt.MaxAge < 0:
			return invalid("WithDrills", "MaxAge is %v; want 0 or a duration above zero", opt.MaxAge)
		}
		c.drills = &opt
		return nil
	}
}

// checkDrills checks WithDrills against the other options.
func (c *config) checkDrills() error {
	if c.drills != nil && c.replica == nil {
		return invalid("WithDrills", "there is no replica; add multidb.WithReplica")
	}
	return nil
}

// DrillStats is what drills did since the Manager was made, and what they have proved.
type DrillStats struct {
	Done      int64 // drills that found a backup good
	Failed    int64 // drills that found one that does not restore
	Postponed int64 // drills that could say nothing, as the replica did not answer, or the disk was full
	Unproved  int   // databases now whose backup no drill has found good yet, those without one included
	Failing   int   // databases now whose last drill failed
	// Oldest is when the drill ended that is the longest ago of the last ones of all databases
	// that had one; zero: there was none.
	Oldest time.Time
}

// newDrills makes what WithDrills asks for; nil: nothing.
func (m *Manager) newDrills() *drill.Drills {
	c := &m.cfg
	if c.drills == nil {
		return nil
	}
	return drill.New(drill.Config{
		PerDay: c.drills.PerDay, MaxAge: c.drills.MaxAge, Now: c.now, Rand: c.rand, Logger: c.logger,
		Tenant: func(id string) (drill.Tenant, bool) {
			b, ok := m.fleet.Backup(id)
			return drill.Tenant{TXID: b.TXID, Size: b.Size}, ok
		},
		Client: func(id string) (litestream.ReplicaClient, error) {
			b, ok := m.fleet.Backup(id)
			if !ok {
				return nil, ErrNotFound
			}
			return readingClient(c.replica, c.logged().Path, databaseOf(b.Database))
		},
		Free: drill.Free,
		Damage: func(err error) bool {
			for _, damage := range []error{ErrCorrupt, ErrNotDatabase, ErrDamaged, ErrArchived, ErrNoBackup} {
				if errors.Is(err, damage) {
					return true
				}
			}
			return false
		},
		Passing: func(err error) bool { return ReasonOf(err) != ReasonOther },
		Put:     func(id string, note []byte) { m.catalog.PutNote(catalog.Note{Kind: drill.Kind, ID: id, Value: note}) },
		Told: func(id string, txid ltx.TXID, failed error) {
			ev := fleet.Event{Type: fleet.EventDrill, ID: id, TXID: txid}
			if failed != nil {
				ev = fleet.Event{Type: fleet.EventDrillFailed, ID: id, TXID: txid, Op: "drill", Err: fmt.Errorf("%w: %w", ErrUnproved, failed)}
			}
			m.fleet.Emit(ev)
		},
	})
}

// loadDrills takes in what earlier drills have proved.
func (m *Manager) loadDrills(ctx context.Context) (err error) {
	if m.drills == nil {
		return nil
	}
	m.drills.Load(func(yield func(string, []byte) bool) {
		for n, e := range m.catalog.Notes(ctx, drill.Kind) {
			if e != nil {
				err = fmt.Errorf("load what drills have proved: %w", e)
				return
			}
			if !yield(n.ID, n.Value) {
				return
			}
		}
	})
	return err
}

// proof is what drills say of a database.
func (m *Manager) proof(id ID) (at time.Time, err error) {
	at, failed, tried := m.drills.Proof(string(id))
	if failed != "" {
		err = opError("drill", id, fmt.Errorf("%w: the drill of %s: %s", ErrUnproved, tried.Format(time.RFC3339), failed))
	}
	return at, err
}

// forgetProof drops what drills have proved of a database that is known no more.
func (m *Manager) forgetProof(id string) {
	if m.drills == nil { // as there may have been in another run
		m.catalog.PutNote(catalog.Note{Kind: drill.Kind, ID: id})
		return
	}
	m.drills.Forget(id)
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
