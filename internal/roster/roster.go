package roster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/store"
)

// Config is what a Roster works with. All but Warn is required.
type Config struct {
	Objects store.Objects // the directory of the fleet log
	// Shard is that of a database; false: it has none here.
	Shard func(registry.Database) (int, bool)
	// Found makes the databases of pages known that were asked for with Load. It is called by
	// Run alone, and again after an error.
	Found func(ctx context.Context, pages []*Page) error
	// Pause is how long changes are collected before they are written, and Again how long what
	// failed rests.
	Pause, Again time.Duration
	Warn         func(msg string, args ...any)
}

// Roster keeps the pages of the shards that a node serves. Safe for concurrent use. Note and the
// others of its kind make no request and never block: Run writes what they say.
type Roster struct {
	cfg  Config
	kick chan struct{}
	one  chan struct{} // held by whoever writes pages

	hearing sync.Mutex

	mu      sync.Mutex
	said    []saying // that is not sorted into shards yet
	shards  map[int]*shard
	settled chan struct{} // closed when nothing is to be loaded; nil: nothing is
	finding bool          // Found is being told
}

// shard is what is known of one.
type shard struct {
	page    *Page             // as read or written last; nil: not known
	changes map[string]change // by ID, that the page may lack
	load    bool              // Found has yet to be told
	writes  int
	served  bool
}

// change is what a page is to say of an ID.
type change struct {
	tenant Tenant
	gone   bool
}

// saying is what somebody says of a database.
type saying struct {
	db     registry.Database
	change change
	again  bool
}

// New returns a Roster that knows nothing.
func New(cfg Config) *Roster {
	if cfg.Warn == nil {
		cfg.Warn = func(string, ...any) {}
	}
	return &Roster{cfg: cfg, kick: make(chan struct{}, 1), one: make(chan struct{}, 1), shards: map[int]*shard{}}
}

// Note says that the replica has a backup of a database, and that it is in service.
func (r *Roster) Note(db registry.Database) { r.say(saying{db: db}) }

// Removed says that a database was taken out of service, and until when its backups stay.
func (r *Roster) Removed(db registry.Database, at, until time.Time) {
	r.say(saying{db: db, change: change{tenant: Tenant{Removed: at, EraseAfter: until}}})
}

// Erased says that nothing is left of a database.
func (r *Roster) Erased(db registry.Database) { r.say(saying{db: db, change: change{gone: true}}) }

// Again has a database made known again that went, if its backups are there all the same: its
// file was deleted, which on a node is a cache.
func (r *Roster) Again(db registry.Database) { r.say(saying{db: db, again: true}) }

// say takes what others say, who may hold locks: its shard is found out later.
func (r *Roster) say(s saying) {
	if r == nil {
		return
	}
	s.change.tenant.ID = s.db.ID
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, s)
	r.wake()
}

// hear sorts what was said into the shards.
func (r *Roster) hear() {
	r.hearing.Lock() // else a later saying could be taken for an earlier one
	defer r.hearing.Unlock()
	r.mu.Lock()
	said := r.said
	r.said = nil
	r.mu.Unlock()
	for _, s := range said {
		if at, ok := r.cfg.Shard(s.db); ok {
			r.mu.Lock()
			if s.again {
				r.againLocked(at, s.db.ID)
			} else {
				r.changeLocked(at, s.change)
			}
			r.mu.Unlock()
		}
	}
}

func (r *Roster) changeLocked(at int, c change) {
	s := r.shardLocked(at)
	if _, pending := s.changes[c.tenant.ID]; !pending && s.page != nil && s.page.says(c) {
		return
	}
	s.changes[c.tenant.ID] = c
	r.wake()
}

func (r *Roster) againLocked(at int, id string) {
	s := r.shards[at]
	if s == nil || !s.served {
		return
	}
	c, pending := s.changes[id]
	listed := pending && !c.gone && c.tenant.Removed.IsZero()
	if !pending && s.page != nil {
		t, ok := s.page.Find(id)
		listed = ok && t.Removed.IsZero()
	}
	if listed {
		s.load = true
		r.loadingLocked()
	}
}

func (r *Roster) shardLocked(at int) *shard {
	s := r.shards[at]
	if s == nil {
		s = &shard{changes: map[string]change{}}
		r.shards[at] = s
	}
	return s
}

func (r *Roster) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Pending is what the page of a shard is yet to be told of a database, if anything is.
func (r *Roster) Pending(shard int, id string) (t Tenant, erased, pending bool) {
	r.hear()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shards[shard] == nil {
		return t, false, false
	}
	c, pending := r.shards[shard].changes[id]
	return c.tenant, c.gone, pending
}

// Load has the databases of shards made known, which this node serves from now on. It makes no
// request.
func (r *Roster) Load(shards []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range shards {
		s := r.shardLocked(at)
		s.served, s.load, s.page = true, true, nil // others may have written it
	}
	r.loadingLocked()
}

func (r *Roster) loadingLocked() {
	if r.settled == nil {
		r.settled = make(chan struct{})
	}
	r.wake()
}

// Leave says that this node does not serve shards any more. What their pages lack is written all
// the same, unless another process has taken over: then it knows better.
func (r *Roster) Leave(shards []int, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if lost {
		r.said = nil
	}
	for _, at := range shards {
		s := r.shards[at]
		if s == nil {
			continue
		}
		s.served, s.load, s.page = false, false, nil
		if lost || len(s.changes) == 0 {
			delete(r.shards, at)
		}
	}
	r.settledLocked()
}

func (r *Roster) settledLocked() {
	if r.settled == nil || r.finding {
		return
	}
	for _, s := range r.shards {
		if s.load {
			return
		}
	}
	close(r.settled)
	r.settled = nil
}

// Settled reports whether the databases of all shards that are served are known.
func (r *Roster) Settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled == nil
}

// Wait returns when the databases of all shards that are served are known, or ctx ends.
func (r *Roster) Wait(ctx context.Context) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	settled := r.settled
	r.mu.Unlock()
	if settled == nil {
		return nil
	}
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Dirty reports whether the page of a shard lacks something.
func (r *Roster) Dirty(at int) bool {
	r.hear()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shards[at] != nil && len(r.shards[at].changes) > 0
}

// Run makes known what is asked for, and writes what changes, until ctx ends.
func (r *Roster) Run(ctx context.Context) {
	failed := false
	for {
		if !failed {
			select {
			case <-r.kick:
			case <-ctx.Done():
				return
			}
		}
		err := r.load(ctx)
		if err == nil && ctxio.Sleep(ctx, r.cfg.Pause) == nil {
			err = r.Flush(ctx, func(int) bool { return true })
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failed {
			r.cfg.Warn("multidb: which databases there are could not be read or written down", "again", r.cfg.Again, "err", err)
		}
		if failed = err != nil; failed && ctxio.Sleep(ctx, r.cfg.Again) != nil {
			return
		}
	}
}

// load reads the pages that are asked for, and has their databases made known.
func (r *Roster) load(ctx context.Context) error {
	r.hear()
	r.mu.Lock()
	r.finding = true
	var shards []int
	var pages []*Page
	for at, s := range r.shards {
		switch {
		case s.load && s.page != nil:
			pages = append(pages, s.page)
			s.load = false
		case s.load:
			shards = append(shards, at)
		}
	}
	r.mu.Unlock()
	var failed error
	if len(shards) > 0 {
		var read []*Page
		read, failed = r.read(ctx, shards)
		pages = append(pages, read...)
	}
	var err error
	if len(pages) > 0 {
		err = r.cfg.Found(ctx, pages)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finding = false
	if err != nil {
		for _, p := range pages {
			if s := r.shards[p.Shard]; s != nil {
				s.load = s.served
			}
		}
	}
	r.settledLocked()
	return errors.Join(failed, err)
}

// atOnce is how many pages are read or written at the same time.
const atOnce = 8

// read reads pages, and keeps those of shards that are served still.
func (r *Roster) read(ctx context.Context, shards []int) (pages []*Page, err error) {
	prefix := dir
	if len(shards) == 1 {
		prefix = shardDir(shards[0])
	}
	began := map[int]int{}
	r.mu.Lock()
	for _, at := range shards {
		if s := r.shards[at]; s != nil {
			began[at] = s.writes
		}
	}
	r.mu.Unlock()
	numbers, _, err := newest(ctx, r.cfg.Objects, prefix)
	if err != nil {
		return nil, err
	}
	err = some(shards, func(at int) error {
		p := &Page{Shard: at}
		if numbers[at] > 0 {
			var err error
			if p, err = read(ctx, r.cfg.Objects, at, numbers[at]); err != nil {
				return err
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		switch s := r.shards[at]; {
		case s == nil || !s.served || !s.load:
		case s.writes != began[at]: // p may be older, and name what has gone since
			r.wake()
		default:
			s.load, s.page = false, p
			pages = append(pages, p)
		}
		return nil
	})
	return pages, err
}

// some calls fn for shards, some at once.
func some(shards []int, fn func(at int) error) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, at := range shards {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := fn(at)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && len(errs) < 3 { // they fail for one reason, mostly
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Flush writes what the pages of shards lack, and returns when that is done.
func (r *Roster) Flush(ctx context.Context, in func(shard int) bool) error {
	if r == nil {
		return nil
	}
	select {
	case r.one <- struct{}{}:
		defer func() { <-r.one }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.hear()
	r.mu.Lock()
	var shards []int
	for at, s := range r.shards {
		if len(s.changes) > 0 && in(at) {
			shards = append(shards, at)
		}
	}
	r.mu.Unlock()
	slices.Sort(shards)
	return some(shards, func(at int) error {
		if err := r.write(ctx, at); err != nil {
			return fmt.Errorf("write down the databases of shard %d: %w", at, err)
		}
		return nil
	})
}

// Write writes what the page of a database's shard lacks, and returns when that is done.
func (r *Roster) Write(ctx context.Context, db registry.Database) error {
	at, ok := r.cfg.Shard(db)
	if !ok {
		return nil
	}
	return r.Flush(ctx, func(shard int) bool { return shard == at })
}

// write brings the page of a shard up to date. Others may write it at the same time, as a node
// that does not know yet that it was taken over: each adds what it knows to what is there.
func (r *Roster) write(ctx context.Context, at int) error {
	for range tries {
		r.mu.Lock()
		s := r.shards[at]
		if s == nil {
			r.mu.Unlock()
			return nil // lost meanwhile
		}
		page, changes := s.page, maps.Clone(s.changes)
		r.mu.Unlock()
		var old []string
		if page == nil {
			var err error
			if page, err = read(ctx, r.cfg.Objects, at, 0); err != nil {
				return err
			}
		}
		next := page.with(changes)
		if next == page {
			r.written(at, page, changes)
			return nil
		}
		b, err := next.encode()
		if err != nil {
			return err
		}
		failpoint.Hit("roster.write.before")
		err = r.cfg.Objects.Create(ctx, pageName(at, next.Number), b)
		if err == nil {
			failpoint.Hit("roster.write.created")
			// Where others have gone on by more than one page the number may have been free again.
			var numbers map[int]uint64
			if numbers, old, err = newest(ctx, r.cfg.Objects, shardDir(at)); err == nil && numbers[at] == next.Number {
				r.written(at, next, changes)
				if len(old) > 0 { // what stays is listed the next time
					_ = r.cfg.Objects.Delete(ctx, old...)
				}
				return nil
			} else if err == nil {
				err = fs.ErrExist
			}
		}
		// Another one has the number, or the answer was lost: then the page is read as it is by now.
		r.mu.Lock()
		s.page = nil
		r.mu.Unlock()
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return errBusy
}

// written notes that a page says what was to change.
func (r *Roster) written(at int, page *Page, changes map[string]change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[at]
	if s == nil {
		return
	}
	s.writes++
	for id, c := range changes {
		if now, ok := s.changes[id]; ok && now.same(c) {
			delete(s.changes, id)
		}
	}
	switch {
	case s.served: // also if Found is to be told of it: of what has gone since it must not be
		s.page = page
	case !s.served && len(s.changes) == 0:
		delete(r.shards, at)
	}
	if len(s.changes) > 0 {
		r.wake()
	}
}

// says reports whether a page has it as a change would have it.
func (p *Page) says(c change) bool {
	t, ok := p.Find(c.tenant.ID)
	return ok != c.gone && (c.gone || t.same(c.tenant))
}

func (c change) same(other change) bool { return c.gone == other.gone && c.tenant.same(other.tenant) }

func (t Tenant) same(other Tenant) bool {
	return t.ID == other.ID && t.Removed.Equal(other.Removed) && t.EraseAfter.Equal(other.EraseAfter)
}

// with is the page after changes: itself, if they change nothing.
func (p *Page) with(changes map[string]change) *Page {
	same := true
	for _, c := range changes {
		same = same && p.says(c)
	}
	if same {
		return p
	}
	next := &Page{Shard: p.Shard, Number: p.Number + 1}
	for _, t := range p.Tenants {
		if _, changed := changes[t.ID]; !changed {
			next.Tenants = append(next.Tenants, t)
		}
	}
	for _, c := range changes {
		if !c.gone {
			next.Tenants = append(next.Tenants, c.tenant)
		}
	}
	slices.SortFunc(next.Tenants, func(a, b Tenant) int { return strings.Compare(a.ID, b.ID) })
	return next
}
