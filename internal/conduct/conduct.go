// Package conduct does the work on all databases: it runs what is due, and passes on
// between a run, which knows nothing of the fleet, and the fleet, which does no I/O. It
// carries out orders and Syncs, keeps the catalog, and ships what is left at the end.
// Everything is safe for concurrent use, except where it says otherwise. It has no lock: the
// shared state is the Fleet's.
package conduct

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/lag"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/trace"
	"github.com/multidb-go/multidb/internal/volume"
	"github.com/multidb-go/multidb/internal/worker"
	"github.com/superfly/ltx"
)

// ErrInUse: somebody has what is to be used by another, or alone.
var ErrInUse = errors.New("in use")

// Config is what a Conductor works with.
type Config struct {
	Fleet      *fleet.Fleet
	Replicator *replicate.Replicator
	Catalog    *catalog.Catalog
	Volumes    *volume.Volumes
	Logs       *replicate.Logs
	Age        *fsid.AgeClock

	Replicated bool // there is a replica
	// Client returns the client of a database's prefix there, and Prefix the prefix.
	Client func(registry.Database) (litestream.ReplicaClient, error)
	Prefix func(registry.Database) fleet.Prefix
	// Locate is where an ID would be by now, and which discoverer says so.
	Locate func(id string) (db registry.Database, source int, ok bool)

	Now  func() time.Time
	Stat func(path, suffix string) (fsid.Fingerprint, error)
	// Hurry has what clients have taken made durable sooner: somebody waits.
	Hurry   func()
	Workers int           // so many databases are worked on at once
	Levels  levels.Policy // of a database that has no policy of its own
	// Policy asks the application how a database is to be treated; nil: as all others.
	Policy  func(registry.Database) (policy.Policy, error)
	Lag     *lag.Window     // of what is shipped
	Stopped <-chan struct{} // closed when nothing runs any more
	Traced  bool            // the contexts of runs say of which database they are
}

// Pool is what the application has open.
type Pool interface {
	// Peek returns which file of a database is open, and how many leases of it are out.
	Peek(e *fleet.Entry) (file fsid.ID, leases int, open bool)
	// Evict closes what is open of a database, when its last lease is released.
	Evict(e *fleet.Entry)
}

// Conductor works on the databases of a Fleet.
type Conductor struct {
	cfg     Config
	fleet   *fleet.Fleet
	pool    Pool
	workers *worker.Pool
	jobs    sync.Pool // of *job
	ahead   ahead     // of LoadShards
}

// New returns a Conductor at rest.
func New(cfg Config) *Conductor {
	c := &Conductor{cfg: cfg, fleet: cfg.Fleet}
	c.workers = worker.New(source{c}, cfg.Workers, cfg.Now)
	return c
}

// SetPool says what the application's pool is, before anything else is called.
func (c *Conductor) SetPool(p Pool) { c.pool = p }

// Start starts the work.
func (c *Conductor) Start() { c.workers.Start() }

// Stop stops the work, when what runs has ended, or ctx ends; then it may be called
// again.
func (c *Conductor) Stop(ctx context.Context) error { return c.workers.Stop(ctx) }

// Due says that something may be due earlier than it was. It takes no lock.
func (c *Conductor) Due() { c.workers.Poke() }

// RequestRetention has those databases run whose replica has something to delete.
func (c *Conductor) RequestRetention() { c.fleet.RequestRetention(c.cfg.Age.Trusted(c.cfg.Now())) }

// job is one run of one database, and what the run asks of the Conductor. It is used
// again, so that looking at an idle database allocates nothing.
type job struct {
	c  *Conductor
	do func(context.Context) // runs it, once
	fleet.Run
}

// source gives the workers what is due.
type source struct{ c *Conductor }

func (s source) Wake() (time.Time, bool) { return s.c.fleet.Wake() }

func (s source) Next(now time.Time) (func(context.Context), bool) {
	e, action, ok := s.c.fleet.Next(now)
	if !ok {
		return nil, false
	}
	j, ok := s.c.jobs.Get().(*job)
	if !ok {
		j = &job{c: s.c}
		j.do = j.run
	}
	j.Entry, j.Action = e, action
	return j.do, true
}

// RunOnce runs a database once, as a worker does when it is due. It reports false where a
// worker has it.
func (c *Conductor) RunOnce(ctx context.Context, e *fleet.Entry) bool {
	c.fleet.Request(e)
	run, ok := source{c}.Next(c.cfg.Now())
	if ok {
		run(ctx)
	}
	return ok
}

// run takes the database through a run, which owns its State until finish.
func (j *job) run(ctx context.Context) {
	c := j.c
	b := c.fleet.Begin(&j.Run)
	if b.Making {
		j.end(&replicate.Report{Started: j.Started(), Position: b.State.Position(), Drained: true})
		return
	}
	b.Input.Caller = j
	if b.Input.Evicted {
		seq := c.fleet.Evictions()
		if file := fsid.OrZero(j.Entry.Path()); !file.IsZero() && c.fleet.Returned(j.Entry, file, seq) {
			b.Input.Evicted = false
		}
	}
	if b.AskPolicy {
		b.Input.SetPolicy(c.fleet.SetPolicy(j.Entry, c.AskPolicy(j.Entry.Database())))
	}
	if c.cfg.Traced {
		ctx = trace.WithID(ctx, j.Entry.ID())
	}
	var unread error
	if b.Unread {
		unread = c.CheckHeader(ctx, j.Entry)
		b.Blocked = c.fleet.Blocked(&j.Run) // where it is no database
	}
	var r replicate.Report
	switch {
	case unread != nil:
		r = j.blocked(b.State, unread, false)
	case b.Blocked != nil:
		r = j.blocked(b.State, b.Blocked, true)
	default:
		r = c.cfg.Replicator.Run(ctx, b.State, b.Input)
	}
	j.finish(b.State, &r)
}

// blocked is the report of a run that could not be. stop: it is not tried again.
func (j *job) blocked(st *replicate.State, err error, stop bool) replicate.Report {
	r := replicate.Report{Started: j.Started(), Err: err, Position: st.Position()}
	r.Outcome.Stop = stop
	j.Settled(&r)
	return r
}

// finish passes on what a run has found: to the catalog, the statistics, the fleet.
func (j *job) finish(st *replicate.State, r *replicate.Report) {
	c, e := j.c, j.Entry
	now := c.cfg.Now()
	if r.Exchanged {
		c.exchanged(e) // during this run; the pool may still write to the file that was
	}
	if st.Unrecorded() {
		c.record(e, st)
	}
	if r.Proved {
		if c.NotCache(e.ID()); r.Kept != "" {
			c.NoteKept(r.Kept)
		}
	}
	if !r.Acked.IsZero() {
		c.cfg.Lag.Observe(r.Acked.Sub(r.Files.ModTime()), now)
	}
	c.fleet.Report(&j.Run, r)
	j.end(r)
}

// end ends the run, and the use of the job.
func (j *job) end(r *replicate.Report) {
	c, e := j.c, j.Entry
	removed, touched := c.fleet.Finish(&j.Run, r)
	if removed { // and this run may have noted its log, and written its page hashes, since
		c.cfg.Logs.Forget(e.ID())
		c.dropPages(e.ID())
	}
	if touched {
		c.Look(e)
	}
	*j = job{c: c, do: j.do}
	c.jobs.Put(j)
}

// Client returns the client of the database's prefix.
func (j *job) Client() (litestream.ReplicaClient, error) {
	return j.c.cfg.Client(j.Entry.Database())
}

// Vars are the values of the database, for metadata.json.
func (j *job) Vars() map[string]string {
	vars := map[string]string{}
	for _, v := range j.Entry.Database().Vars {
		vars[v.Name] = v.Value
	}
	return vars
}

// Progress passes on what a run has found, before it waits for the replica.
func (j *job) Progress(r *replicate.Report) {
	if r.Exchanged && !r.Pending {
		j.c.exchanged(j.Entry)
		return
	}
	j.c.fleet.Progress(&j.Run, r)
}

// Settled passes on what came of shipping, and then answers whoever waits for it.
func (j *job) Settled(r *replicate.Report) {
	c, e := j.c, j.Entry
	r.Err = c.cfg.Volumes.Explain(e, r.Err)
	if errors.Is(r.Err, ship.ErrMissing) && !c.fleet.IsLeased(e) {
		c.pool.Evict(e) // or the next lease would write to a file without a name
	}
	if r.Replaced {
		c.fleet.Replaced(&j.Run, r, fsid.OrZero(e.Path()))
	}
	answer := r.Err
	if answer == nil && r.Drained && c.fleet.Awaited(&j.Run) {
		answer = c.strayed(e)
	}
	awaited := c.fleet.Awaited(&j.Run)
	c.fleet.Settled(&j.Run, r, answer)
	if awaited && r.Captured != 0 {
		c.cfg.Hurry()
	}
	if r.Err != nil || r.Drained {
		c.fleet.Answer(&j.Run, r, answer)
	}
}

// MayCut reports whether the log is to be cut, which nobody in this process uses.
func (j *job) MayCut(idle bool) bool {
	if _, _, open := j.c.pool.Peek(j.Entry); open {
		return false // its closing asks again
	}
	return j.c.fleet.MayCut(&j.Run, idle)
}

// MayReplace reports whether the local file may be replaced now.
func (j *job) MayReplace() bool { return j.c.fleet.MayReplace(&j.Run) }

// MayVacate notes on disk that the database has no local file on purpose, which may then be
// deleted.
func (j *job) MayVacate(ctx context.Context, st *replicate.State) error {
	c, e := j.c, j.Entry
	if _, _, open := c.pool.Peek(e); open || !c.fleet.MayReplace(&j.Run) {
		return fmt.Errorf("%w: it was opened again", ErrInUse)
	}
	c.record(e, st) // with what there is to bring back, in the same commit
	if err := c.cfg.Catalog.SetNotes(ctx, c.EvictedNote(e.ID())); err != nil {
		return err
	}
	c.fleet.BeginEvict(&j.Run)
	return nil
}

// evictedNote is the kind of note of a database that has no local file on purpose. A file
// that is there all the same counts: the crash came between the two.
const evictedNote = "evicted"

// EvictedNote says that a database has no local file on purpose.
func (c *Conductor) EvictedNote(id string) catalog.Note {
	return catalog.Note{Kind: evictedNote, ID: id, Value: []byte{}}
}

// Resident notes that a database has a local file again.
func (c *Conductor) Resident(id string) {
	c.cfg.Catalog.PutNote(catalog.Note{Kind: evictedNote, ID: id})
}

// exchanged drops the handles of a file that another one has taken the place of, once:
// to drop them at every attempt would keep a fenced database from being opened at all.
func (c *Conductor) exchanged(e *fleet.Entry) {
	if file := fsid.OrZero(e.Path()); !c.fleet.NotedExchange(e, file) {
		c.pool.Evict(e)
		c.fleet.Exchanged(e, file)
	}
}

// strayed is the error of a Sync whose commits may have gone to a file that is no longer
// at the path of the database, through a lease from before it was exchanged: while that
// is out, and once after it was released.
func (c *Conductor) strayed(e *fleet.Entry) error {
	open, leases, isOpen := c.pool.Peek(e)
	file, released := c.fleet.TakeStray(e)
	if !released && (!isOpen || leases == 0) {
		return nil
	} else if !released {
		file = open
	}
	at, err := fsid.At(e.Path())
	if err == nil && at == file || err != nil && !released {
		return nil // it is in its place (again); or there is none, and the run has failed
	}
	return fmt.Errorf("%w: it was leased while another file was put at %s; what was committed through that lease since is in the file that was there, and at no replica. Evict it before its file is exchanged", ErrInUse, e.Path())
}

// Durable notes that what a client has taken of the database with a prefix is durable up to
// a transaction; see fleet.Durable.
func (c *Conductor) Durable(prefix string, txid ltx.TXID, err error) {
	for _, lag := range c.fleet.Durable(prefix, txid, err) {
		c.cfg.Lag.Observe(lag, c.cfg.Now())
	}
}

// Unacknowledged notes that what clients have taken could not be made durable; see
// fleet.Unacknowledged.
func (c *Conductor) Unacknowledged(err error) { c.fleet.Unacknowledged(err) }

// Fence refuses every database; see fleet.Fence.
func (c *Conductor) Fence(err error) { c.fleet.Fence(err) }

// Unfence ends a Fence; see fleet.Unfence.
func (c *Conductor) Unfence() { c.fleet.Unfence() }

// Look has a database run if its files changed. A scan finds out what became of one that
// cannot be looked at.
func (c *Conductor) Look(e *fleet.Entry) {
	if st, err := fsid.StatFiles(e.Path(), c.cfg.Stat); err == nil {
		c.fleet.Look(e, st)
	}
}

// CheckHeader returns when the first bytes of a database's file were read, by this
// caller or another, so that it may be opened. What is no database is removed. The
// error is that of ctx.
func (c *Conductor) CheckHeader(ctx context.Context, e *fleet.Entry) error {
	for {
		begun, busy := c.fleet.BeginCheck(e)
		if begun {
			break
		} else if busy == nil {
			return nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var sight registry.Sight
	id, fi, err := fsid.Look(e.Path())
	if err == nil {
		sight = registry.Sight{File: id, Size: fi.Size(), Main: fi.ModTime()}
		err = sqlitedb.CheckHeader(e.Path(), sight.Size)
	}
	if !errors.Is(err, sqlitedb.ErrNotDatabase) {
		err = nil // what else is wrong a run reports
	}
	c.fleet.EndCheck(e, sight, err)
	return nil
}

// Removed drops what is open and kept of a database that the fleet has removed.
func (c *Conductor) Removed(e *fleet.Entry) {
	c.pool.Evict(e)
	c.dropPages(e.ID())
}

// LetGo ends a hold.
func (c *Conductor) LetGo(e *fleet.Entry) {
	gone, touched := c.fleet.LetGo(e)
	if gone {
		c.dropPages(e.ID())
	}
	if touched {
		c.Look(e)
	}
}

// dropPages deletes the page hashes of a database that is known no more.
func (c *Conductor) dropPages(id string) {
	if !c.cfg.Replicated || c.fleet.Has(id) { // again
		return
	}
	if err := c.cfg.Replicator.DropPages(id); err != nil {
		c.fleet.Emit(fleet.Event{Type: fleet.EventState, ID: id, Err: err})
	}
}
