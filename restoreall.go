package multidb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/reading"
	"github.com/multidb-go/multidb/internal/nearest"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/restoreall"
)

// RestoreAllOptions says which databases to restore, and where to. Only Dir is required.
type RestoreAllOptions struct {
	// Dir is the directory to restore into, made if it is missing. Each database goes to
	// its ID and ".db": acme/orders to Dir/acme/orders.db. What a file name should not have
	// is written as %XX.
	Dir string
	// Pattern chooses databases by their IDs, as path.Match does: * and ? stand for
	// anything but a slash. An ID matches itself. Empty: all.
	Pattern string
	// Parallel is how many are restored at once, 1 to 1,000. Default 16.
	Parallel int
	// Timestamp restores the newest states written before it. Zero: the newest. Ago does so
	// for a moment so long ago; a call that goes on with another one takes the moment of that.
	Timestamp time.Time
	Ago       time.Duration
	// IntegrityCheck is how each result is checked. Zero: IntegrityFull.
	IntegrityCheck IntegrityCheck
	// DryRun makes nothing, and says by OnProgress what would be restored: for a listing of
	// each prefix it also finds those that have no backup.
	DryRun bool
	// Databases are those to choose from. Nil: what ListTenants has. Databases that were
	// removed are not among those.
	Databases iter.Seq2[Database, error]
	// Place is what the replica is called in messages. A directory is gone on with only
	// under the same one. Default: the type of the factory.
	Place string
	// OnProgress is called once when the listing is done, with an empty Database, and with each
	// database, one at a time. What takes long there holds everything up. Nil: nobody is told.
	OnProgress func(RestoreAllProgress)
}

// RestoreStatus is what became of a database.
type RestoreStatus string

// The statuses.
const (
	RestoreDone    = RestoreStatus(restoreall.Restored)
	RestoreExists  = RestoreStatus(restoreall.Exists)  // it was there before, and was left alone
	RestorePlanned = RestoreStatus(restoreall.Planned) // of a dry run: it would be restored
	RestoreFailed  = RestoreStatus(restoreall.Failed)
)

// RestoreAllProgress says what became of one database, and how far all of it is.
type RestoreAllProgress struct {
	Database Database // only its ID may be known of one that could not be listed, or not even that
	Path     string   // of the file
	Status   RestoreStatus
	Err      error    // an *Error where it failed
	Warnings []string // of the check; see RestoreOptions.Warn
	Bytes    int64    // of LTX files that a planned one would read; 0: not known

	Todo             int // how many were to be restored when the listing was done
	RestoreAllResult     // so far
}

// RestoreAllResult counts what became of the databases.
type RestoreAllResult struct {
	Restored int
	Existed  int // were there before
	Planned  int // of a dry run
	Failed   int
}

// RestoreAll is RestoreAllFrom for what the Manager's replica holds, of any machine. It may
// run at any time after Start, beside replication. Its Dir is best outside of what the
// patterns find.
func (m *Manager) RestoreAll(ctx context.Context, opt RestoreAllOptions) (RestoreAllResult, error) {
	if err := m.servesReplica(); err != nil {
		return RestoreAllResult{}, fmt.Errorf("multidb: restore all: %w", err)
	}
	factory := m.cfg.replica
	if r, ok := newFleetReader(factory, m.cfg.logged().Path); ok && m.cfg.fleetLog != nil {
		factory = r
	}
	return RestoreAllFrom(ctx, factory, opt)
}

// RestoreAllFrom restores every database that factory holds into a directory, some at once,
// from the replica alone: on a new machine, say. A fleet log is read once, as by
// ReadFleetLog; pass a factory of that, or of IgnoreFleetLog, for another one than the
// default, or none.
//
// Nothing is overwritten: what exists is taken to be done and left alone, so the same call
// goes on where it was after a crash, the end of ctx, or failures. What fails is among the
// errors, and the rest goes on. A full disk ends it. One process at a time restores into a
// directory, where .multidb-restore-all holds what is unfinished, until all is done.
//
// nil means that each is there. Otherwise the error is an *AllError, or says why it did not
// begin: ErrInvalidOption; ErrNoBackup where there is no database; ErrNotFound where none
// matches; fs.ErrNotExist where the directory of a file replica is not there, which may be
// a mistyped one. The result counts in any case. ctx bounds all of it. Safe for concurrent use.
func RestoreAllFrom(ctx context.Context, factory ReplicaFactory, opt RestoreAllOptions) (r RestoreAllResult, err error) {
	if err := opt.check(); err != nil {
		return r, err
	}
	if opt.Place == "" {
		opt.Place = fmt.Sprintf("a %T", factory)
	}
	if _, ok := factory.(*fleetReader); !ok {
		if of, err := ReadFleetLog(factory, ""); err == nil {
			factory = of
		} // else it keeps no plain objects, and so no log
	}
	plan := restoreall.Plan{Source: opt.Place}
	if opt.Ago > 0 {
		opt.Timestamp, plan.Ago = time.Now().Add(-opt.Ago), opt.Ago.String()
	}
	if !opt.Timestamp.IsZero() {
		plan.Timestamp = opt.Timestamp.Format(time.RFC3339Nano)
	}
	all := &AllError{Op: "restore"}
	todo, begun := 0, false
	tell := func(p RestoreAllProgress) {
		if opt.OnProgress != nil {
			p.Todo, p.RestoreAllResult = todo, r
			opt.OnProgress(p)
		}
	}
	var ids []string
	src := opt.source(ctx, factory, &ids)
	err = restoreall.Run(ctx, src, restoreall.Options{Dir: opt.Dir, Plan: plan, Parallel: cmp.Or(opt.Parallel, 16), DryRun: opt.DryRun},
		func(n int, so restoreall.Result) {
			todo, begun, r = n, true, RestoreAllResult(so)
			tell(RestoreAllProgress{})
		},
		func(o restoreall.Outcome[Database], so restoreall.Result) {
			r = RestoreAllResult(so)
			o.DB.ID = ID(o.ID)
			if o.Err != nil {
				all.add(o.DB.ID, o.Err)
			}
			tell(RestoreAllProgress{Database: o.DB, Path: o.Path, Status: RestoreStatus(o.Status), Err: opError("restore", o.DB.ID, o.Err),
				Warnings: o.Warnings, Bytes: o.Size})
		})
	switch {
	case errors.Is(err, restoreall.ErrNone):
		return r, fmt.Errorf("multidb: restore all: %w: there is no database at %s", ErrNoBackup, opt.Place)
	case errors.Is(err, restoreall.ErrNoMatch):
		return r, fmt.Errorf("multidb: restore all: %w: %s", ErrNotFound, noMatch(opt.Pattern, opt.Place, ids))
	case err != nil && !begun:
		return r, fmt.Errorf("multidb: restore all: %w", err)
	}
	all.Stopped = err
	return r, all.orNil()
}

// source is the databases of a factory. ids gets those that are listed.
func (o *RestoreAllOptions) source(ctx context.Context, factory ReplicaFactory, ids *[]string) restoreall.Source[Database] {
	list := o.Databases
	if list == nil {
		list = ListTenants(ctx, factory)
	}
	return restoreall.Source[Database]{
		List: func(yield func(Database, error) bool) {
			for db, err := range list {
				if err == nil && o.Pattern != "" {
					*ids = append(*ids, string(db.ID))
				}
				if !yield(db, err) {
					return
				}
			}
		},
		Unlisted: func(err error) string {
			var of *Error
			if errors.As(err, &of) {
				return string(of.ID)
			}
			return ""
		},
		ID:    func(db Database) string { return string(db.ID) },
		Match: func(id string) bool { return matchesID(o.Pattern, id) },
		Twice: func(db Database) error {
			at := "another"
			if p, ok := factory.(ReplicaPrefixer); ok {
				if prefix, err := p.Prefix(db); err == nil {
					at = prefix
				}
			}
			return fmt.Errorf("%w: a second prefix has this ID: %s; restore it by itself", ErrConflict, at)
		},
		Restore: func(ctx context.Context, db Database, to restoreall.Target) error {
			return RestoreFrom(ctx, factory, db, RestoreOptions{OutputPath: to.Path, TempDir: to.TempDir, Timestamp: to.Before,
				IntegrityCheck: o.IntegrityCheck, Warn: to.Warn})
		},
		Size: func(ctx context.Context, db Database, before time.Time) (int64, error) {
			client, err := readingClient(factory, "", db)
			if err != nil {
				return 0, err
			}
			if c, ok := client.(*reading.Client); ok && !before.IsZero() {
				c.History()
			}
			return restore.Size(ctx, client, restore.Options{Timestamp: before})
		},
	}
}

// noMatch says of a pattern that it matches none of the IDs.
func noMatch(pattern, place string, ids []string) string {
	s := fmt.Sprintf("no database matches %q at %s, which has %d", pattern, place, len(ids))
	if near := nearest.Names(pattern, ids, 3); len(near) > 0 {
		s += fmt.Sprintf("; the nearest: %q", near)
	}
	return s
}

// check returns what is wrong with the options.
func (o *RestoreAllOptions) check() error {
	switch {
	case o.Dir == "":
		return invalid("RestoreAllOptions.Dir", "it is empty; name a directory to restore into")
	case o.Parallel < 0 || o.Parallel > 1000:
		return invalid("RestoreAllOptions.Parallel", "%d; want 1 to 1000, or 0 for 16", o.Parallel)
	case o.Ago < 0:
		return invalid("RestoreAllOptions.Ago", "%v; want how long ago, or 0", o.Ago)
	case o.Ago > 0 && !o.Timestamp.IsZero():
		return invalid("RestoreAllOptions.Ago", "there is a Timestamp too; want one of them")
	case !o.IntegrityCheck.valid():
		return invalid("RestoreAllOptions.IntegrityCheck", "%d", int(o.IntegrityCheck))
	}
	return checkIDs("RestoreAllOptions.Pattern", o.Pattern)
}
