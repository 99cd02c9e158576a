package multidb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// drillParts is what drills work with. Nothing of it is asked before Start.
type drillParts struct {
	now     func() time.Time
	rand    func() float64
	logger  *slog.Logger
	replica ReplicaFactory
	log     string // the directory of the fleet log; empty: none
	limited bool   // there is a WithMaxDisk
	fleet   func() *fleet.Fleet
	catalog func() *catalog.Catalog
}

// newDrills makes what WithDrills asks for; nil: nothing.
func newDrills(opt *DrillOptions, p drillParts) *drill.Drills {
	if opt == nil {
		return nil
	}
	cfg := drill.Config{
		PerDay: opt.PerDay, MaxAge: opt.MaxAge, Now: p.now, Rand: p.rand, Logger: p.logger, Free: drill.Free,
		Tenant: func(id string) (drill.Tenant, bool) {
			b, ok := p.fleet().Backup(id)
			return drill.Tenant{TXID: b.TXID, Size: b.Size}, ok
		},
		Client: func(id string) (litestream.ReplicaClient, error) {
			b, ok := p.fleet().Backup(id)
			if !ok {
				return nil, ErrNotFound
			}
			return readingClient(p.replica, p.log, databaseOf(b.Database))
		},
		Damage: func(err error) bool {
			for _, damage := range []error{ErrCorrupt, ErrNotDatabase, ErrDamaged, ErrArchived, ErrNoBackup} {
				if errors.Is(err, damage) {
					return true
				}
			}
			return false
		},
		Passing: func(err error) bool { return ReasonOf(err) != ReasonOther },
		Put: func(id string, note []byte) {
			p.catalog().PutNote(catalog.Note{Kind: drill.Kind, ID: id, Value: note})
		},
		Told: func(id string, txid ltx.TXID, failed error) {
			ev := fleet.Event{Type: fleet.EventDrill, ID: id, TXID: txid}
			if failed != nil {
				ev = fleet.Event{Type: fleet.EventDrillFailed, ID: id, TXID: txid, Op: "drill", Err: fmt.Errorf("%w: %w", ErrUnproved, failed)}
			}
			p.fleet().Emit(ev)
		},
	}
	if p.limited {
		cfg.Reserve = func(size int64) (release func(), ok bool) {
			return func() { p.fleet().Unreserve(size) }, p.fleet().TryReserve(size, false)
		}
	}
	return drill.New(cfg)
}

// loadDrills takes in what earlier drills have proved.
func loadDrills(ctx context.Context, d *drill.Drills, c *catalog.Catalog) (err error) {
	if d == nil {
		return nil
	}
	d.Load(func(yield func(string, []byte) bool) {
		for n, e := range c.Notes(ctx, drill.Kind) {
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

// forgetProof drops what drills have proved of a database that is known no more, in this
// process or, where it has none, in another.
func forgetProof(d *drill.Drills, c *catalog.Catalog, id string) {
	if d == nil {
		c.PutNote(catalog.Note{Kind: drill.Kind, ID: id})
		return
	}
	d.Forget(id)
}
