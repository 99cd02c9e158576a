// Package survey keeps what is known in step with what there is: it lists what the
// discoverers have, every so often and when a watcher asks, hands what it finds to the
// Fleet, and removes what a complete listing lacks. New databases are taken in by one
// goroutine. Safe for concurrent use.
package survey

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/discover"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/rounds"
	"github.com/multidb-go/multidb/internal/volume"
)

// ErrInvalid: what the user's code has given is wrong.
var ErrInvalid = errors.New("invalid option")

// Listed is a database of a listing. Where the listing looked at the file, what it saw
// saves another look.
type Listed struct {
	registry.Database
	registry.Sight // zero: not looked at
}

// Discoverer is one source of databases. Its functions are safe for concurrent use, and
// may be the user's: no lock is held when they are called.
type Discoverer struct {
	// List lists what there is now, and may yield errors in between.
	List func(context.Context) iter.Seq2[Listed, error]
	// Unlisted is what an error of List says was not listed; false: it may be anything.
	Unlisted func(error) (paths []string, ok bool)
	// Root is a directory below which all lies; "" if there is none.
	Root string
	// Locate is where an ID is, or would be, and Paths are all paths that it may be listed
	// by. Nil: that is not known.
	Locate func(id string) (registry.Database, bool)
	Paths  func(id string) []string
	// Watch starts to watch what List reads; run watches until ctx ends. Writes that are
	// needless to know need not be notified. Nil: it cannot.
	Watch func(ctx context.Context, notify func(Change), needless func(id, path string) bool) (run func(), err error)
}

// Config is what a Survey works with.
type Config struct {
	Fleet   *fleet.Fleet
	Volumes *volume.Volumes
	Prefix  func(registry.Database) fleet.Prefix

	Watch             bool
	Interval          time.Duration // between two scans
	RetentionInterval time.Duration
	Now               func() time.Time
	Stat              func(path, suffix string) (fsid.Fingerprint, error)
}

// Survey lists and watches.
type Survey struct {
	cfg         Config
	fleet       *fleet.Fleet
	conductor   *conduct.Conductor // set by Begin, as are the discoverers
	discoverers []Discoverer

	rounds  *rounds.Rounds[unknown] // from the watchers to the scanner
	watched atomic.Bool             // all discoverers notify of changes
	running sync.WaitGroup          // the watchers and the scanner

	mu       sync.Mutex
	began    time.Time       // when the listing began that goes on; zero: none does
	troubles map[int]trouble // of the last listing, by discoverer
}

// trouble is why the last listing of a discoverer was not whole.
type trouble struct {
	err     error
	since   time.Time
	partial bool // it says what it could not list; the rest is known
}

// New returns a Survey of nothing.
func New(cfg Config) *Survey {
	return &Survey{cfg: cfg, fleet: cfg.Fleet, rounds: rounds.New[unknown](unknownQueue), troubles: map[int]trouble{}}
}

// Begin says what is to be listed, before anything else is called but Errs.
func (s *Survey) Begin(c *conduct.Conductor, all []Discoverer) { s.conductor, s.discoverers = c, all }

// Go starts the scanner, which ends with ctx. took is how long the first scan took.
func (s *Survey) Go(ctx context.Context, took time.Duration) {
	s.running.Go(func() {
		s.rounds.Run(ctx, rounds.Work[unknown]{
			Interval: s.cfg.Interval, Watched: s.watched.Load,
			Round: func(ctx context.Context) {
				if err := s.Scan(ctx); err != nil && ctx.Err() == nil {
					s.fleet.Emit(fleet.Event{Type: fleet.EventScanFailed, Err: err})
				}
			},
			Take: s.takeIn, After: s.checkHeaders,
			Every: s.cfg.RetentionInterval, Regular: s.conductor.RequestRetention,
		}, took)
	})
}

// Soon asks for a listing of everything.
func (s *Survey) Soon() { s.rounds.Ask(true) }

// Wait waits until the watchers and the scanner have ended, or ctx has.
func (s *Survey) Wait(ctx context.Context) error { return ctxio.Wait(ctx, &s.running) }

// Locate asks the discoverers where an ID is, or would be, and which of them says so.
func (s *Survey) Locate(id string) (db registry.Database, source int, ok bool) {
	for i, d := range s.discoverers {
		if d.Locate == nil {
			continue
		}
		if db, ok := d.Locate(id); ok {
			return db, i, true
		}
	}
	return db, 0, false
}

// Errs returns why the last listings were not whole, one error of each discoverer, and
// since when some have not been. A listing that says which parts it lacks counts as
// whole.
func (s *Survey) Errs() (errs []error, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range slices.Sorted(maps.Keys(s.troubles)) { // Begin may be called meanwhile
		t := s.troubles[i]
		if t.err == nil || t.partial {
			continue
		}
		errs = append(errs, t.err)
		if since.IsZero() || t.since.Before(since) {
			since = t.since
		}
	}
	return errs, since
}

// Scan lists every discoverer once. Only what a listing has covered is removed.
func (s *Survey) Scan(ctx context.Context) error {
	s.lists(s.cfg.Now())
	defer s.lists(time.Time{})
	scan := s.fleet.NextScan()
	var extents []*Extent
	type other struct {
		Listed
		source int
	}
	var others []other // the catalog has their IDs at other places
	for i, d := range s.discoverers {
		missed := NewExtent(d)
		extents = append(extents, missed)
		var failed []error
		for db, err := range d.List(ctx) {
			if err != nil {
				missed.Note(err)
				failed = append(failed, err)
				continue
			}
			if !s.found(db, i, scan, false) {
				others = append(others, other{db, i})
			}
			s.rounds.TakeOne(s.takeIn)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.scanned(i, errors.Join(failed...), missed.partial())
	}
	s.cfg.Volumes.Judge(scan) // by what all of them have found
	for i, missed := range extents {
		if !missed.All {
			s.forget(i, scan, missed)
		}
	}
	if !slices.ContainsFunc(extents, func(x *Extent) bool { return x.All }) {
		s.forget(registry.FromCatalog, scan, extents...)
	}
	for _, o := range others {
		s.found(o.Listed, o.source, scan, true)
	}
	s.fleet.ExpireRemains()
	s.conductor.Due()
	return nil
}

// lists notes when the listing began that goes on; zero: it has ended.
func (s *Survey) lists(began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = began
}

// Listing returns for how long a listing has been going on; zero: none is.
func (s *Survey) Listing() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() {
		return 0
	}
	return max(s.cfg.Now().Sub(s.began), 0)
}

// scanned notes a discoverer's trouble, and delivers it once, until it changes.
func (s *Survey) scanned(i int, err error, partial bool) {
	s.mu.Lock()
	was := s.troubles[i]
	same := err == nil && was.err == nil || err != nil && was.err != nil && was.err.Error() == err.Error()
	if !same {
		since := was.since
		if was.err == nil {
			since = s.cfg.Now()
		}
		s.troubles[i] = trouble{err, since, partial}
	}
	s.mu.Unlock()
	if !same && err != nil {
		s.fleet.Emit(fleet.Event{Type: fleet.EventScanFailed, Err: err})
	}
}

// forget removes the databases of a discoverer that its listing lacks, except those that
// may be in what was not covered.
func (s *Survey) forget(source int, scan uint32, missed ...*Extent) {
	kept := func(id, path string) bool {
		return slices.ContainsFunc(missed, func(x *Extent) bool { return x.May(id, path) })
	}
	gone, refused := s.fleet.Unlisted(source, scan)
	s.fleet.ForgetRefusals(refused, source, scan, kept)
	for _, e := range gone {
		if !kept(e.ID(), e.Path()) && s.fleet.Remove(e, scan, s.cfg.Volumes.Unmounted(e)) {
			s.conductor.Removed(e)
		}
	}
}

// found takes in one database of a listing. It reports false, and does nothing, where
// only the catalog has the ID at another path where a file still is, as in the copy of a root
// with its state directory: what no discoverer lists is removed at the end of the scan,
// and then it is to be asked again. last: there is no such end to come.
func (s *Survey) found(l Listed, source int, scan uint32, last bool) (done bool) {
	if l.ID == "" || !filepath.IsAbs(l.Path) {
		s.fleet.Emit(fleet.Event{Type: fleet.EventScanFailed, ID: l.ID, Path: l.Path,
			Err: fmt.Errorf("%w: a discoverer gave a database without an ID or an absolute path", ErrInvalid)})
		return true
	}
	if l.ModTime.IsZero() {
		if st, err := fsid.StatFiles(l.Path, s.cfg.Stat); err == nil {
			l.ModTime = st.ModTime()
		}
	}
	f := registry.Found{ID: l.ID, Path: l.Path, Sight: l.Sight, Source: source, Scan: scan, Last: last}
	if known := s.fleet.Listed(f, l.ModTime); known.Entry != nil {
		if known.Evicted {
			if file := fsid.OrZero(l.Path); !file.IsZero() {
				s.fleet.Returned(known.Entry, file, known.Seq)
			}
		}
		s.conductor.SetPolicy(known.Entry, l.Database)
		if known.Confirm {
			s.cfg.Volumes.Confirm(known.Entry, l.File)
		} else if known.NoVolume {
			s.cfg.Volumes.Note(known.Entry)
		}
		return true
	}
	e, done := s.foundNew(l, f)
	if e != nil {
		s.cfg.Volumes.Note(e)
	}
	return done
}

// foundNew decides whether a file that is not known is a new database. It is not opened
// here: a first listing of 100,000 would take five times as long.
func (s *Survey) foundNew(l Listed, f registry.Found) (e *fleet.Entry, done bool) {
	if f.File.IsZero() {
		id, fi, err := fsid.Look(l.Path)
		if err != nil {
			return nil, true // gone already, or the next scan says why
		}
		f.Sight = registry.Sight{File: id, Size: fi.Size(), Main: fi.ModTime()}
	}
	q, ask := s.fleet.Ask(f)
	if !ask {
		return nil, true
	}
	var rival, twin fsid.ID
	if q.Rival != nil {
		rival = fsid.OrZero(q.Rival.Path())
	}
	if q.Twin != nil {
		twin = fsid.OrZero(q.Twin.Path())
	}
	out := s.fleet.Decide(f, q, rival, twin, fleet.Candidate{Database: l.Database, Source: f.Source, Prefix: s.cfg.Prefix(l.Database),
		Policy: s.conductor.AskPolicy(l.Database)})
	if out.Changed {
		s.rounds.Ask(true) // the pool made it known just now
	}
	return out.Entry, !out.Later
}

// checkHeaders reads the first bytes of the files that scans and watchers brought.
func (s *Survey) checkHeaders(ctx context.Context) {
	for {
		unread := s.fleet.TakeUnread()
		if len(unread) == 0 {
			return
		}
		for _, e := range unread {
			if s.conductor.CheckHeader(ctx, e) != nil {
				return // ctx ended; whoever needs one of the rest reads it
			}
			s.rounds.TakeOne(s.takeIn)
		}
	}
}

// Extent is what the listing of a discoverer did not cover.
type Extent struct {
	of Discoverer
	discover.Extent
}

// NewExtent is nothing, so far. Not safe for concurrent use.
func NewExtent(of Discoverer) *Extent { return &Extent{of: of} }

// Note takes in an error of the listing.
func (x *Extent) Note(err error) { x.Add(x.of.Unlisted(err)) }

// May reports whether the database may be in what was not covered.
func (x *Extent) May(id, path string) bool {
	switch {
	case x.All:
		return true
	case x.Complete():
		return false
	case x.Below(path):
		return true
	case x.of.Paths != nil:
		return slices.ContainsFunc(x.of.Paths(id), x.Below)
	case x.of.Locate != nil:
		db, ok := x.of.Locate(id)
		return !ok || x.Below(db.Path)
	}
	// It may be listed by a symlink, in a directory that cannot be read.
	return !fsid.OrZero(path).IsZero()
}

// partial reports whether what was not covered is less than everything: the root of the
// discoverer was read.
func (x *Extent) partial() bool {
	return !x.All && (x.of.Root == "" || !x.Below(x.of.Root))
}
