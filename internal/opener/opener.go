// Package opener opens databases for the application: it finds them or makes them,
// brings missing or lagging files back from the replica, and sees to it that what is
// leased is the file that is at its path. What it keeps open is a pool; every lease
// goes through it. Safe for concurrent use.
package opener

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/inquiry"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/pool"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/volume"
)

// Config is what an Opener works with.
type Config struct {
	Fleet      *fleet.Fleet
	Conductor  *conduct.Conductor
	Replicator *replicate.Replicator
	Volumes    *volume.Volumes
	Logs       *replicate.Logs

	Replicated    bool // there is a replica
	RestoreOnOpen bool // what is missing or lags is brought back from it
	// Shared: other nodes may have gone on with a database whose file is here. It is opened
	// only when it is known to be the newest; what only the file has is set aside.
	Shared bool
	// DropEmptyLogs: a log in which nothing is goes with its index when a database is closed,
	// as 100,000 of them take room.
	DropEmptyLogs bool
	// TakeOverUnknown: a new file may take the place of a backup.
	TakeOverUnknown bool
	// Check, Unchecked: how what is brought back is checked.
	Check     sqlitedb.Depth
	Unchecked bool
	SpoolDir  string // for unfinished files
	// Room returns when the disk has room for a file of that many bytes, or all that could
	// make some is in use; release is to be called when the file is there, or will not be.
	// Full is called where the disk was full all the same. Nil: there is no limit.
	Room func(ctx context.Context, size int64) (release func(), err error)
	Full func(ctx context.Context, size int64) error

	MaxOpen     int
	IdleTimeout time.Duration
	BusyTimeout time.Duration
	MaxConns    int  // to one database
	LeaseTraces bool // it is noted where each lease was taken

	// Locate asks the discoverers where an ID would be, and which of them says so.
	Locate func(id string) (db registry.Database, source int, ok bool)
	Prefix func(registry.Database) fleet.Prefix
	Client func(registry.Database) (litestream.ReplicaClient, error)
	Hook   func(context.Context, registry.Database, *sql.DB) error // nil: none
	// Statements are run on every new connection, then ConnHook is called with it; nil: none.
	Statements []string
	ConnHook   func(context.Context, registry.Database, *sql.Conn) error
	Now        func() time.Time
	Boot       func() time.Duration
	Stat       func(path, suffix string) (fsid.Fingerprint, error)
	Warn       func(msg string, args ...any) // logs
}

// Opener opens the databases of a Fleet.
type Opener struct {
	cfg       Config
	fleet     *fleet.Fleet
	conductor *conduct.Conductor
	pool      *pool.Pool[*fleet.Entry, *tenant]
	inquiry   *inquiry.Inquiry[backup] // of IDs that are not known here
	traces    *traces                  // of the leases; nil: none

	mu        sync.Mutex
	silent    time.Time                   // when the replica last did not say whether it has a backup
	exclusive map[*fleet.Entry]*exclusive // orders that the next opening carries out
	wanted    map[*fleet.Entry]int        // who waits for these wants a new file where there is none

	// dirs is held while directories are looked at and removed, as no two may do that at a
	// time: only who makes a new database waits for it. Nothing is locked under it.
	dirs    sync.Mutex
	newDirs map[string]int // made for databases that are being made, of how many
}

// tenant is what the pool keeps open, and whose file it is.
type tenant struct {
	db   *sql.DB
	file fsid.ID
}

// New returns an Opener that has nothing open.
func New(cfg Config) *Opener {
	o := &Opener{cfg: cfg, fleet: cfg.Fleet, conductor: cfg.Conductor, exclusive: map[*fleet.Entry]*exclusive{}, wanted: map[*fleet.Entry]int{}, newDirs: map[string]int{}}
	o.inquiry = o.newInquiry()
	if cfg.LeaseTraces {
		o.traces = &traces{of: map[*trace]struct{}{}}
	}
	o.pool = pool.New(pool.Config[*fleet.Entry, *tenant]{
		Max:         cfg.MaxOpen,
		IdleTimeout: cfg.IdleTimeout,
		Open:        o.open,
		Close:       o.close,
		OnCloseError: func(e *fleet.Entry, err error) {
			o.fleet.Emit(fleet.Event{Type: fleet.EventState, ID: e.ID(), Path: e.Path(), Op: "close", Err: err})
		},
	})
	return o
}

// Stats is what the pool has open.
func (o *Opener) Stats() pool.Stats { return o.pool.Stats() }

// Close waits until everything is released, and closes it. What is asked for after that
// is refused. ctx bounds the waiting; then the error names what is still leased, and Close
// may be called again.
func (o *Opener) Close(ctx context.Context) error {
	err := o.pool.Close(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(o.unreleased(), err)
	}
	return errors.Join(err, o.inquiry.Close(ctx))
}

// Waiting is of how many databases something is kept beside what is open.
func (o *Opener) Waiting() int {
	o.dirs.Lock()
	dirs := len(o.newDirs)
	o.dirs.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.exclusive) + len(o.wanted) + dirs
}

// Peek returns which file of a database is open, and how many leases of it are out.
func (o *Opener) Peek(e *fleet.Entry) (file fsid.ID, leases int, open bool) {
	t, leases, open := o.pool.Peek(e)
	if open {
		file = t.file
	}
	return file, leases, open
}

// Evict closes what is open of a database, when its last lease is released.
func (o *Opener) Evict(e *fleet.Entry) { o.pool.Evict(e) }

// Closed returns when nothing is open any more of a database that was evicted, or ctx ends.
func (o *Opener) Closed(ctx context.Context, e *fleet.Entry) error {
	return o.pool.EvictAndWait(ctx, e)
}

// Lease is the right to use one open database until Release. The zero Lease is a
// released one.
type Lease struct {
	o     *Opener
	entry *fleet.Entry
	lease pool.Lease[*fleet.Entry, *tenant]
	file  fsid.ID // that is leased
	trace *trace  // nil: it is not noted where it was taken
}

// DB is the database. It panics after Release.
func (l Lease) DB() *sql.DB { return l.lease.Value().db }

// ID is the database's, empty for the zero Lease.
func (l Lease) ID() string {
	if l.entry == nil {
		return ""
	}
	return l.entry.ID()
}

// Release gives the lease back. Only the first call does something.
func (l Lease) Release() {
	if l.entry == nil {
		return
	}
	at, err := fsid.At(l.entry.Path())
	stray := err == nil && at != l.file || errors.Is(err, fs.ErrNotExist)
	if l.lease.Release() {
		l.o.traces.drop(l.trace)
		l.o.fleet.Released(l.entry, l.file, stray)
	}
}

// Lease opens a database, or shares what is open of it.
func (o *Opener) Lease(ctx context.Context, id string) (Lease, error) {
	return o.leaseOf(ctx, id, o.cfg.Locate, true)
}

// LeaseKnown is Lease for a database that is known: one that has gone meanwhile is not made
// anew, it is registry.ErrNotFound.
func (o *Opener) LeaseKnown(ctx context.Context, id string) (Lease, error) {
	return o.leaseOf(ctx, id, func(string) (db registry.Database, source int, ok bool) { return db, 0, false }, false)
}

// errNoPattern is why a database is not made: its ID is not one that the discoverers could
// find, which is easily mistyped where a pattern has several names.
var errNoPattern = fmt.Errorf("%w: no pattern makes a file of this ID", registry.ErrNotFound)

// leaseOf leases a database that is known, or that locate finds. anew: one that has neither a
// file nor a backup is made.
func (o *Opener) leaseOf(ctx context.Context, id string, locate func(id string) (registry.Database, int, bool), anew bool) (Lease, error) {
	e, err := o.hold(ctx, id, locate)
	if anew && err == registry.ErrNotFound { // not one that says more, as of a file that was refused
		err = errNoPattern
	}
	if err != nil {
		return Lease{}, err
	}
	defer o.conductor.LetGo(e)
	if anew {
		o.want(e)
		defer o.unwant(e)
	}
	lease, err := o.lease(ctx, e)
	for anew && errors.Is(err, errUnwanted) { // that opening had begun before somebody wanted it
		lease, err = o.lease(ctx, e)
	}
	if o.cfg.Shared && o.fleet.Get(id) != e {
		// Another node has taken over since it was held: what is opened is a file that nobody
		// ships, or that is set aside, and the ID may be served here again by now.
		if err == nil {
			o.pool.Evict(e)
			lease.Release()
		}
		return Lease{}, fleet.ErrElsewhere
	}
	if err != nil {
		return Lease{}, err
	}
	if anew {
		o.inquiry.Forget(id)
	}
	o.fleet.Leased(e)
	return Lease{o: o, entry: e, lease: lease, file: lease.Value().file, trace: o.traces.take(e)}, nil
}

// hold finds a database, or makes one of an ID that no scan has listed, and keeps scans
// from forgetting it until LetGo.
func (o *Opener) hold(ctx context.Context, id string, locate func(id string) (registry.Database, int, bool)) (*fleet.Entry, error) {
	var located *fleet.Candidate
	for {
		h, err := o.fleet.Hold(id, located)
		switch {
		case err != nil:
			return nil, err
		case h.Barred != nil:
			select {
			case <-h.Barred.Lifted():
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		case h.Unread:
			if err := o.conductor.CheckHeader(ctx, h.Entry); err != nil {
				return nil, err
			}
			continue
		case h.Entry != nil:
			if h.Missing {
				o.pool.Evict(h.Entry)
			}
			return h.Entry, nil
		}
		db, source, ok := locate(id)
		if !ok {
			return nil, registry.ErrNotFound
		}
		located = &fleet.Candidate{Database: db, Source: source, Prefix: o.cfg.Prefix(db), Policy: o.conductor.AskPolicy(db)}
		if located.Prefix.Err != nil {
			return nil, located.Prefix.Err // it could never be replicated
		}
	}
}

// exchangeTries bounds how often a lease is tried whose file is another one each time.
const exchangeTries = 16

// lease leases what the pool keeps open of a database, if it is the file that is at
// its path now. Else it would write to a file without a name, or with another, which
// nobody ships.
func (o *Opener) lease(ctx context.Context, e *fleet.Entry) (pool.Lease[*fleet.Entry, *tenant], error) {
	for range exchangeTries {
		lease, err := o.pool.Acquire(ctx, e)
		if errors.Is(err, pool.ErrClosed) {
			return lease, life.ErrClosed
		} else if err != nil {
			return lease, err
		}
		at, err := fsid.At(e.Path())
		if err == nil && at == lease.Value().file {
			return lease, nil
		}
		missing := errors.Is(err, fs.ErrNotExist)
		away := missing && o.cfg.Volumes.Unmounted(e)
		if err != nil && (away || !missing || !o.cfg.RestoreOnOpen) {
			// Who has it leased may keep it: nobody waits for that to hear that it is gone.
			lease.Release()
			o.pool.CloseIdle(e)
			if away {
				err = volume.ErrUnmounted(e.Path())
			} else if missing {
				err = missingError(e)
			}
			return pool.Lease[*fleet.Entry, *tenant]{}, err
		}
		o.pool.Evict(e) // stale before it is released, or others would get it again
		lease.Release()
	}
	return pool.Lease[*fleet.Entry, *tenant]{}, fmt.Errorf("%w: another file was put at %s each time it was opened", conduct.ErrInUse, e.Path())
}

func missingError(e *fleet.Entry) error { return fmt.Errorf("%w: %s", ship.ErrMissing, e.Path()) }

// stat looks at the files of a database without opening them.
func (o *Opener) stat(e *fleet.Entry) (fsid.Files, error) {
	st, err := fsid.StatFiles(e.Path(), o.cfg.Stat)
	if errors.Is(err, fs.ErrNotExist) {
		err = missingError(e)
	}
	return st, err
}

// open opens a database for the pool, which has nothing open of it.
func (o *Opener) open(ctx context.Context, e *fleet.Entry) (t *tenant, err error) {
	var m making
	returned := false
	defer func() {
		undone := o.endMaking(e, &m, t != nil)
		if returned {
			err = errors.Join(err, undone)
		} else if undone != nil { // the panic says what is wrong, but not that
			o.fleet.Emit(fleet.Event{Type: fleet.EventState, ID: e.ID(), Path: e.Path(), Op: "open", Err: undone})
		}
	}()
	t, err = o.openFile(ctx, e, &m)
	returned = true
	return t, err
}

func (o *Opener) openFile(ctx context.Context, e *fleet.Entry, m *making) (*tenant, error) {
	if err := o.ensureFile(ctx, e, m); err != nil {
		return nil, err
	}
	if err := o.claim(ctx, e); err != nil {
		return nil, err
	}
	if err := o.expelLog(e); err != nil {
		return nil, err
	}
	o.cfg.Volumes.Note(e)
	file, err := fsid.At(e.Path())
	if err != nil {
		return nil, err
	}
	db, err := sqlitedb.Open(ctx, e.Path(), sqlitedb.Options{
		BusyTimeout: o.cfg.BusyTimeout,
		MaxConns:    o.cfg.MaxConns,
		DropWAL:     !o.cfg.Replicated, // which nobody ships
		Statements:  o.cfg.Statements,
		Hook:        o.connHook(e),
	})
	if err != nil {
		return nil, sqlitedb.Explain(e.Path(), err)
	}
	// What was opened is what stood there before and after.
	if after, err := fsid.At(e.Path()); err != nil || after != file {
		return nil, errors.Join(fmt.Errorf("%w: another file was put at %s while it was opened", conduct.ErrInUse, e.Path()), err, db.Close())
	}
	if st, err := o.stat(e); err == nil {
		o.cfg.Logs.Note(e.ID(), st)
	}
	if err := o.hook(ctx, e, db); err != nil {
		return nil, errors.Join(fmt.Errorf("open hook: %w", err), db.Close())
	}
	return &tenant{db: db, file: file}, nil
}

// hook calls the application's open hook. Whatever it does, the pool does not keep what
// it was given open.
func (o *Opener) hook(ctx context.Context, e *fleet.Entry, db *sql.DB) error {
	if o.cfg.Hook == nil {
		return nil
	}
	returned := false
	defer func() {
		if !returned { // it panics
			_ = db.Close() // the panic says what is wrong
		}
	}()
	err := o.cfg.Hook(ctx, e.Database(), db)
	returned = true
	return err
}

// connHook is the application's function for new connections of a database; nil: none.
func (o *Opener) connHook(e *fleet.Entry) func(context.Context, *sql.Conn) error {
	if o.cfg.ConnHook == nil {
		return nil
	}
	db := e.Database()
	return func(ctx context.Context, conn *sql.Conn) error { return o.cfg.ConnHook(ctx, db, conn) }
}

// close closes a database for the pool.
func (o *Opener) close(e *fleet.Entry, t *tenant) error {
	shut := t.db.Close
	if st, err := fsid.StatFiles(e.Path(), o.cfg.Stat); o.cfg.DropEmptyLogs && err == nil && st.WAL.Size == 0 {
		shut = func() error { return sqlitedb.CloseAndDropWAL(t.db) }
	}
	err := sqlitedb.Classify(shut())
	o.mu.Lock()
	ordered := o.exclusive[e] != nil // whose run cuts the log; the one after that would ask the replica again
	o.mu.Unlock()
	if o.cfg.Replicated && !ordered {
		o.fleet.PoolClosed(e)
	}
	return err
}

// expelLog sets the log aside that was left of a file that another has taken the place
// of, before the first connection to the new file.
func (o *Opener) expelLog(e *fleet.Entry) error {
	st, err := o.stat(e)
	if err != nil {
		return err
	}
	moved, err := o.cfg.Logs.SetAsideForeign(e.ID(), e.Path(), st)
	o.fleet.SetAside(e, moved)
	return err
}

// claim refuses a second name of a file that is known by another.
func (o *Opener) claim(ctx context.Context, e *fleet.Entry) error {
	for {
		file := fsid.OrZero(e.Path())
		if file.IsZero() {
			break
		}
		other := o.fleet.Claim(e, file)
		if other == nil {
			return nil
		}
		if fsid.OrZero(other.Path()) == file {
			o.fleet.Disclaim(e, file)
			return fmt.Errorf("%w: it is the same file as %s", registry.ErrConflict, other.Path())
		}
		// The other's file has changed its name. SQLite would share the log's index with
		// a connection that is still open by the old one, though the log may have stayed
		// there.
		o.pool.CloseIdle(other)
		_, leases, _ := o.pool.Peek(other)
		if _, err := os.Stat(other.Path() + "-wal"); leases > 0 && err == nil {
			return fmt.Errorf("%w: it is the file of %q, which was renamed while it is leased; release that first", registry.ErrConflict, other.ID())
		}
		if leases == 0 {
			if err := o.closed(ctx, other); err != nil {
				return err
			}
		}
		o.fleet.ForgetFile(other, file)
	}
	_, err := os.Stat(e.Path())
	return err
}

// closed waits until no connection of ours to a database is open: the pool may be at
// closing it, and a run may have one. The error is that of ctx.
func (o *Opener) closed(ctx context.Context, e *fleet.Entry) error {
	if err := o.pool.EvictAndWait(ctx, e); err != nil {
		return err
	}
	if !o.fleet.Running(e) {
		return nil
	}
	// What the run after that fails of is its own to report: its file is gone.
	if _, err := o.conductor.Perform(ctx, e, replicate.OrderCut); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// EvictAndCut closes what is open of a database, waits for its leases, and then until
// what is in its log was shipped and the log is cut, if the replica takes it. The error
// is that of ctx.
func (o *Opener) EvictAndCut(ctx context.Context, e *fleet.Entry) error {
	if err := o.pool.EvictAndWait(ctx, e); err != nil {
		return err
	}
	if !o.cfg.Replicated {
		return nil // SQLite has cut the log
	}
	// What fails of shipping the status says: a file that is to be exchanged may be one
	// that cannot be shipped.
	if _, err := o.conductor.Perform(ctx, e, replicate.OrderCut); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// restoreOptions are those of a file that is brought back.
func (o *Opener) restoreOptions(e *fleet.Entry) (opt restore.Options, err error) {
	opt = restore.Options{
		Check: o.cfg.Check, Unchecked: o.cfg.Unchecked,
		Warn: func(warning string) {
			o.fleet.Emit(fleet.Event{Type: fleet.EventIntegrity, ID: e.ID(), Path: e.Path(), Err: errors.New(warning)})
		},
	}
	opt.TempDir, err = o.spoolFor(e.Path())
	return opt, err
}
