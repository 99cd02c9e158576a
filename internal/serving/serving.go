// Package serving takes shards of databases into service on one node of a cluster, and out of
// it. Safe for concurrent use, one Gain, Yield or Lose at a time.
package serving

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/opener"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/roster"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// Log is the fleet log of this node.
type Log interface {
	// Lacks reports whether it has something of a directory that its prefix lacks.
	Lacks(dir string) bool
	// UnpackShards gives prefixes that, also of databases that nobody here knows.
	UnpackShards(ctx context.Context, in func(shard int) bool) error
	// Away forgets what is known of a prefix.
	Away(dir string)
}

// Config is what a Serving works with.
type Config struct {
	Fleet     *fleet.Fleet
	Conductor *conduct.Conductor
	Opener    *opener.Opener
	Log       Log
	Prefix    func(registry.Database) fleet.Prefix
	Dir       func(registry.Database) (string, error)
	Now       func() time.Time
	Stat      func(path, suffix string) (fsid.Fingerprint, error)
	Move      time.Duration // how long handles are waited for
	// Expects reports whether a shard is to be served here once all is in its place.
	Expects func(shard int) bool
	// Kept is for how long files stay that were set aside.
	Kept time.Duration
	Warn func(msg string, args ...any) // logs
	// Rescan has everything listed soon.
	Rescan func()
	// Hide forgets those of the catalog that are not in service, of shards that this node serves from now on. old says of a
	// shard whether another one may have had it before. Settle waits until nothing is done to databases of shards that this one
	// serves no more.
	Hide   func(old func(shard int) bool)
	Settle func(ctx context.Context, in func(shard int) bool) error
	// Roster names the databases of the shards, of whom there need be nothing on this disk. Shard is that
	// of a directory.
	Roster *roster.Roster
	Shard  func(dir string) int
}

// Serving serves shards.
type Serving struct {
	cfg  Config
	ctx  context.Context // of settle
	stop context.CancelFunc
	wg   sync.WaitGroup // of settle

	coming sync.Mutex // held while shards come and go

	mu   sync.Mutex
	lost map[string]*fleet.Entry // that were in use when all was lost, by ID, as they were known then
}

// New returns a Serving that serves nothing.
func New(cfg Config) *Serving {
	s := &Serving{cfg: cfg, lost: map[string]*fleet.Entry{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// sweepEvery is how often it is looked for files that are to go.
const sweepEvery = time.Hour

// Start begins to delete what was set aside and is old enough, and has tenants forget what was
// erased. Stop ends it.
func (s *Serving) Start(tenants *Tenants) {
	s.wg.Go(func() {
		for wait := forgetAfter; ctxio.Sleep(s.ctx, wait) == nil; wait = sweepEvery {
			if n, err := tenants.Forget(s.ctx); err != nil && s.ctx.Err() == nil {
				s.cfg.Warn("multidb: it could not be found out of all files whether other nodes have erased their databases", "again", sweepEvery, "err", err)
			} else if n > 0 {
				s.cfg.Warn("multidb: files are deleted of databases that other nodes have erased", "databases", n)
			}
		}
	})
	s.wg.Go(func() {
		for s.ctx.Err() == nil {
			if n, err := s.cfg.Conductor.DropKept(s.ctx, s.cfg.Kept); err != nil && s.ctx.Err() == nil {
				s.cfg.Warn("multidb: files that were set aside are not deleted", "again", sweepEvery, "err", err)
			} else if n > 0 {
				s.cfg.Warn("multidb: files that were set aside are deleted, as they are older than the retention of what was removed", "files", n, "retention", s.cfg.Kept)
			}
			if ctxio.Sleep(s.ctx, sweepEvery) != nil {
				return
			}
		}
	})
}

// Stop ends what goes on in the background. No Gain follows.
func (s *Serving) Stop() {
	s.stop()
	s.wg.Wait()
}

// Lost returns ship.ErrFenced for a database that was in use when another node took it over: while
// handles from before are out, and once after that. What was committed then is in a file that
// is set aside, and a caller of Sync may ask for just that.
func (s *Serving) Lost(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.lost[id]
	if e == nil {
		return nil
	}
	if _, leases, _ := s.cfg.Opener.Peek(e); leases == 0 {
		delete(s.lost, id)
	}
	return fmt.Errorf("%w: another node has taken it over meanwhile; what was committed here before that, or through a handle from before, and was not synced by then, is served by nobody: the file that has it is set aside", ship.ErrFenced)
}

// AllLost are the IDs for which Lost has an error.
func (s *Serving) AllLost() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.lost))
}

// atOnce is how many databases are let go of at once.
const atOnce = 32

// Gain begins to serve shards. What the catalog knows of their databases is loaded first. Unless nobody
// but this node has served them since (ours), each file that is there from an earlier time is
// a cache: it is used if it is a state of the replica's history, after it was brought up to date, and set aside
// if it has what that lacks. That is decided when it is opened, or sooner: see settle.
func (s *Serving) Gain(ctx context.Context, shards []int, ours bool) error {
	s.coming.Lock()
	defer s.coming.Unlock()
	var doubtful []string
	keep := func(r *fleet.Recalled) bool {
		files, err := fsid.StatFiles(r.Path, s.cfg.Stat)
		if errors.Is(err, fs.ErrNotExist) {
			return false // it is where the replica is
		}
		// One that is as it was when it was sealed has nothing that nobody promised, and what another
		// program commits to it from now on is this node's to ship.
		r.Sealed = err == nil && r.Known != nil && asSealed(files, r.Known.Position.Fingerprint)
		if r.Cache = r.Cache || !ours; r.Cache && !r.Sealed {
			doubtful = append(doubtful, r.ID)
		}
		return true
	}
	s.cfg.Fleet.Foreign(shards, !ours)
	if err := s.cfg.Conductor.LoadShards(ctx, shards, keep, s.cfg.Expects); err != nil {
		return fmt.Errorf("load catalog: %w", err)
	}
	if err := s.cfg.Conductor.NoteCaches(ctx, doubtful); err != nil {
		return fmt.Errorf("note which files are caches: %w", err)
	}
	failpoint.Hit("cluster.gain.loaded")
	s.cfg.Hide(func(shard int) bool { return !ours && slices.Contains(shards, shard) })
	s.cfg.Fleet.Serve(shards, true)
	failpoint.Hit("cluster.gain.served")
	s.cfg.Roster.Load(shards) // who opens one of them need not wait for that
	s.cfg.Rescan()
	s.cfg.Conductor.Due()
	s.settle(doubtful)
	return nil
}

// there reports whether there is a file, as far as can be told.
func (s *Serving) there(path string) bool {
	_, err := fsid.StatFiles(path, s.cfg.Stat)
	return !errors.Is(err, fs.ErrNotExist)
}

// asSealed reports whether a database's file alone is all of it, and looks as it did when all of it was at
// the replica.
func asSealed(files fsid.Files, sealed fsid.Fingerprint) bool {
	return !sealed.IsZero() && sealed == files.Main && files.WAL.Size == 0
}

// rests reports whether a database has nothing to ship, which its file alone tells. A Sync would compare it
// with the replica, if nothing was asked of it since the process started: two requests for each of the
// thousands that a join moves.
func (s *Serving) rests(e *fleet.Entry) bool {
	if s.cfg.Fleet.Evicted(e) && !s.there(e.Path()) {
		return true
	}
	sealed, ok := s.cfg.Fleet.Sealed(e)
	if !ok {
		return false
	}
	files, err := fsid.StatFiles(e.Path(), s.cfg.Stat)
	return err == nil && asSealed(files, sealed)
}

// Yield lets go of shards: nobody opens their databases any more, the handles are waited for,
// and what was committed is given to the prefixes. Config.Move bounds that, and as much again what is shipped
// before; begins is called in between. done are the shards that nothing here touches any more; the others are served on.
func (s *Serving) Yield(ctx context.Context, shards []int, begins func()) (done []int, err error) {
	s.coming.Lock()
	defer s.coming.Unlock()
	byShard := s.databases(shards)
	shipped := s.shipBefore(ctx, shards, byShard)
	begins()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Move)
	defer cancel()
	s.cfg.Fleet.Serve(shards, false)
	byShard = s.databases(shards) // some may have come meanwhile
	var mu sync.Mutex
	failed := map[int]error{}
	verbs, ended := context.WithTimeout(ctx, s.cfg.Move/4) // a long one puts its own shard off, and no other
	for _, shard := range shards {
		if err := s.cfg.Settle(verbs, set([]int{shard})); err != nil {
			failed[shard] = err
		}
	}
	ended()
	lifts := map[*fleet.Entry]func(){}
	s.each(byShard, func(e *fleet.Entry, shard int) {
		mu.Lock()
		lost := failed[shard] != nil
		mu.Unlock()
		if lost {
			return
		}
		lift, err := s.letGo(ctx, e, shipped[e])
		mu.Lock()
		defer mu.Unlock()
		if lift != nil {
			lifts[e] = lift
		}
		if err != nil && failed[shard] == nil {
			failed[shard] = fmt.Errorf("%q: %w", e.ID(), err)
		}
	})
	for _, shard := range shards {
		if failed[shard] == nil {
			failed[shard] = s.cfg.Log.UnpackShards(ctx, func(s int) bool { return s == shard })
		}
		if failed[shard] == nil {
			done = append(done, shard)
			for _, e := range byShard[shard] {
				<-s.cfg.Fleet.Detach(e)
				s.away(e)
			}
		} else {
			s.cfg.Fleet.Serve([]int{shard}, true)
			err = errors.Join(err, fmt.Errorf("shard %d: %w", shard, failed[shard]))
		}
		for _, e := range byShard[shard] {
			if lift := lifts[e]; lift != nil {
				lift()
			}
		}
	}
	if in := set(done); slices.ContainsFunc(done, s.cfg.Roster.Dirty) {
		_ = s.cfg.Roster.Flush(ctx, in)
	}
	s.cfg.Roster.Leave(done, false)
	return done, err
}

// shipBefore ships databases before anybody has to wait, so that it need not be done while they do. It returns
// what their files looked like before, of those that have nothing more to ship as long as they look like that. That is also said of
// stamps in the future, as a clock was set back: no run trusts them, and asks the replica each time.
func (s *Serving) shipBefore(ctx context.Context, shards []int, byShard map[int][]*fleet.Entry) map[*fleet.Entry]fsid.Files {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Move)
	defer cancel()
	var mu sync.Mutex
	shipped := map[*fleet.Entry]fsid.Files{}
	s.each(byShard, func(e *fleet.Entry, _ int) {
		if s.rests(e) {
			return
		}
		now := s.cfg.Now()
		files, err := fsid.StatFiles(e.Path(), s.cfg.Stat)
		if _, failed := s.cfg.Conductor.Sync(ctx, e); err != nil || failed != nil || files.Young(now) {
			return // it is tried again once nobody has it open
		}
		mu.Lock()
		defer mu.Unlock()
		shipped[e] = files
	})
	_ = s.cfg.Roster.Flush(ctx, set(shards)) // or by and by
	return shipped
}

// letGo bars a database, and returns when all of it is in its prefix. shipped is what its files looked like
// when all of it was last shipped. lift ends the bar; nil: there is none.
func (s *Serving) letGo(ctx context.Context, e *fleet.Entry, shipped fsid.Files) (lift func(), err error) {
	lift, err = s.cfg.Opener.Keep(ctx, e, nil)
	if errors.Is(err, registry.ErrNotFound) {
		return lift, nil // it went
	} else if err != nil {
		return lift, err
	}
	if files, err := fsid.StatFiles(e.Path(), s.cfg.Stat); !s.rests(e) && (err != nil || files != shipped) {
		if _, err := s.cfg.Conductor.Sync(ctx, e); err != nil {
			return lift, s.leave(ctx, e, err)
		}
	}
	dir, err := s.cfg.Dir(e.Database())
	if err != nil {
		return lift, nil //nolint:nilerr // it has no prefix, and is nobody's to serve
	}
	if s.cfg.Log.Lacks(dir) && !s.cfg.Fleet.Evicted(e) { // UnpackShards does it for one without a file
		_, err = s.cfg.Conductor.Perform(ctx, e, replicate.OrderUnpack)
	}
	return lift, err
}

// leave decides about a database that could not be shipped, and that nobody has open: nil if it
// is let go of all the same. What may pass by itself is waited for.
func (s *Serving) leave(ctx context.Context, e *fleet.Entry, err error) error {
	switch {
	case s.cfg.Fleet.Fenced() != nil:
		return err
	case errors.Is(err, ship.ErrFenced): // the others have gone on without what its file has
		_, err = s.cfg.Opener.SetAside(ctx, e.ID(), e.Path())
		return err
	case errors.Is(err, ship.ErrMissing), errors.Is(err, sqlitedb.ErrCorrupt), errors.Is(err, sqlitedb.ErrNotDatabase),
		errors.Is(err, replicate.ErrConflict):
		return nil // nobody could ship it here either; the file stays as it is
	}
	return err
}

func (s *Serving) away(e *fleet.Entry) {
	if dir, err := s.cfg.Dir(e.Database()); err == nil {
		s.cfg.Log.Away(dir)
	}
}

// Lose stops serving everything at once: another process has taken it over. The files stay where
// they are, as caches, but for those of which handles are out: these are moved away below them, as
// what is committed through them from then on is nobody's.
func (s *Serving) Lose(ctx context.Context) error {
	s.coming.Lock()
	defer s.coming.Unlock()
	all := make([]int, fleet.Shards)
	for i := range all {
		all[i] = i
	}
	s.cfg.Fleet.Serve(all, false)
	s.cfg.Roster.Leave(all, true)
	var used []*fleet.Entry
	var runs []<-chan struct{}
	for _, e := range s.cfg.Fleet.All() {
		if st := s.cfg.Fleet.Status(e); st.Leased || st.Tier == schedule.Hot || !st.PendingSince.IsZero() {
			used = append(used, e)
			s.mu.Lock()
			s.lost[e.ID()] = e
			s.mu.Unlock()
		}
		s.cfg.Opener.Evict(e)
		runs = append(runs, s.cfg.Fleet.Detach(e))
		s.away(e)
	}
	for _, ended := range runs {
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	wait, cancel := context.WithTimeout(ctx, s.cfg.Move)
	defer cancel()
	var errs []error
	for _, e := range used {
		err := s.cfg.Opener.Closed(wait, e)
		if _, _, open := s.cfg.Opener.Peek(e); err == nil || !open {
			continue
		}
		_, err = s.cfg.Opener.SetAside(ctx, e.ID(), e.Path())
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		// Nothing is served, and the files are looked at again when their shards come back.
		s.cfg.Fleet.Emit(fleet.Event{Type: fleet.EventState, Err: err})
	}
	return nil
}

// Idle reports whether no database of a shard is leased, or was written to lately.
func (s *Serving) Idle(shard int) bool { return !s.cfg.Fleet.Busy(shard) }

// databases are those that are known, by shard.
func (s *Serving) databases(shards []int) map[int][]*fleet.Entry {
	by := map[int][]*fleet.Entry{}
	for _, shard := range shards {
		by[shard] = s.cfg.Fleet.OfShard(shard)
	}
	return by
}

// each calls fn with all databases, some at once.
func (s *Serving) each(by map[int][]*fleet.Entry, fn func(e *fleet.Entry, shard int)) {
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for shard, all := range by {
		for _, e := range all {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				fn(e, shard)
			})
		}
	}
	wg.Wait()
}

func set(shards []int) func(shard int) bool {
	return func(shard int) bool { return slices.Contains(shards, shard) }
}
