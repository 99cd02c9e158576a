// Package tenancy takes databases through what is not their daily life: out of service and
// back, to another name, into a copy, and away for good.
//
// What it does to a database is a note in the catalog from before the first step to after
// the last one, so that a crash at any step leaves it begun, and Run goes on with it, or not
// begun. Each step can be done again. As long as there is a note nobody opens or makes the
// database. Safe for concurrent use; one operation of a database at a time.
package tenancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/opener"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
)

// Config is what a Tenancy works with.
type Config struct {
	Fleet     *fleet.Fleet
	Conductor *conduct.Conductor
	Opener    *opener.Opener
	Catalog   *catalog.Catalog

	// Serves reports whether this node serves a database; nil: it serves all.
	Serves func(registry.Database) bool
	// Locate is where an ID would be, and which discoverer says so; Prefix its place at the
	// replica.
	Locate func(id string) (db registry.Database, source int, ok bool)
	Prefix func(registry.Database) fleet.Prefix
	// Client returns the client of a prefix alone, and Reading one that reads the fleet log
	// too. Forget has the fleet log forget a database, and returns when nothing is left of it
	// there; zero: nothing is. Nil: there is no log.
	Client  func(registry.Database) (litestream.ReplicaClient, error)
	Reading func(registry.Database) (litestream.ReplicaClient, error)
	Forget  func(context.Context, registry.Database) (until time.Time, err error)
	// FleetLog is the log's directory, for metadata.json; "": there is none.
	FleetLog string
	// DropPages deletes the page hashes of a database.
	DropPages func(id string) error

	Retention time.Duration // of what was removed
	Now       func() time.Time
	// Unpack gives a prefix what the fleet log has of a database; nil: there is none.
	Unpack func(context.Context, registry.Database) error
	Age    *fsid.AgeClock // from which the retention is counted
}

// Names is roster.Roster.
type Names interface {
	Note(registry.Database)
	Removed(db registry.Database, at, until time.Time)
	Erased(registry.Database)
	Write(context.Context, registry.Database) error
}

// Tenancy does it.
type Tenancy struct {
	cfg  Config
	wake chan struct{}

	names   Names
	closing context.Context // ends when Close is called
	close   context.CancelFunc

	mu    sync.Mutex
	notes map[string]*note         // what is done to which ID
	busy  map[string]chan struct{} // the IDs that somebody works on now; closed when not any more
	old   map[string]bool          // the IDs whose note is from before another node may have had the database
}

// New returns a Tenancy that has nothing to do.
func New(cfg Config) *Tenancy {
	t := &Tenancy{cfg: cfg, wake: make(chan struct{}, 1), notes: map[string]*note{}, busy: map[string]chan struct{}{}, old: map[string]bool{}}
	t.closing, t.close = context.WithCancel(context.Background())
	return t
}

// SetNames says who is told which databases there are, where several nodes have them.
func (t *Tenancy) SetNames(n Names) { t.names = n }

// noteKind is the kind of its notes in the catalog.
const noteKind = "life"

// What is done to a database.
const (
	opRemove  = "remove"  // it is shipped, and its local files go
	opRemoved = "removed" // its backups stay for a while
	opErase   = "erase"   // nothing stays
	opBack    = "back"    // a removed one whose tombstone goes: its way back into service
	opCopy    = "copy"    // a rename whose new prefix lacks something: given up after a crash
	opMove    = "move"    // a rename whose old prefix is superfluous
	opFork    = "fork"    // its prefix is being made: given up after a crash
)

// note is what is done to a database.
type note struct {
	Op    string    `json:"op"`
	DB    identity  `json:"db"`
	Other *identity `json:"other,omitempty"` // the new name, or what is forked
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // when a removed one is erased
}

// identity is a database, whose row in the catalog may be gone.
type identity struct {
	ID      string         `json:"id"`
	Path    string         `json:"path"`
	RelPath string         `json:"rel_path,omitempty"`
	Vars    []registry.Var `json:"vars,omitempty"`
}

func identityOf(db registry.Database) identity {
	return identity{db.ID, db.Path, db.RelPath, db.Vars}
}

func (i identity) database() registry.Database {
	return registry.Database{ID: i.ID, Path: i.Path, RelPath: i.RelPath, Vars: i.Vars}
}

// why is what who wants to open the database is told.
func (n *note) why() error {
	switch n.Op {
	case opRemoved:
		return metadata.Metadata{RemovedAt: &n.Since, EraseAfter: &n.Until}.Unusable()
	case opRemove:
		return fmt.Errorf("%w: it is being taken out of service; Undelete ends that", metadata.ErrRemoved)
	case opErase:
		return fmt.Errorf("%w: it is being erased", metadata.ErrRemoved)
	case opBack:
		return fmt.Errorf("%w: it is being put into service again", conduct.ErrInUse)
	case opCopy, opMove:
		return fmt.Errorf("%w: %q is being renamed to %q", conduct.ErrInUse, n.DB.ID, n.Other.ID)
	}
	return fmt.Errorf("%w: it is being made of %q", conduct.ErrInUse, n.Other.ID)
}

// ids are the IDs that nobody opens or makes meanwhile.
func (n *note) ids() []string {
	if n.Op == opCopy || n.Op == opMove {
		return []string{n.DB.ID, n.Other.ID}
	}
	return []string{n.DB.ID}
}

// set writes a note, which takes the place of the one that the database had, and withholds
// the database.
func (t *Tenancy) set(ctx context.Context, n *note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	// Whoever stops waiting is told that nothing was begun, and then nothing may be noted.
	if err := t.cfg.Catalog.SetNotes(context.WithoutCancel(ctx), catalog.Note{Kind: noteKind, ID: n.DB.ID, Value: b}); err != nil {
		return fmt.Errorf("note it in the state directory: %w", err)
	}
	t.keep(n)
	failpoint.Hit("life." + n.Op + ".noted")
	return nil
}

func (t *Tenancy) keep(n *note) {
	t.mu.Lock()
	t.notes[n.DB.ID] = n
	delete(t.old, n.DB.ID)
	t.mu.Unlock()
	for _, id := range n.ids() {
		t.cfg.Fleet.Withhold(id, n.why())
	}
}

// end drops a note, writes others with it, and withholds the database no longer.
func (t *Tenancy) end(ctx context.Context, n *note, others ...catalog.Note) error {
	others = append(others, catalog.Note{Kind: noteKind, ID: n.DB.ID})
	if err := t.cfg.Catalog.SetNotes(context.WithoutCancel(ctx), others...); err != nil {
		return fmt.Errorf("note it in the state directory: %w", err)
	}
	t.drop(n)
	failpoint.Hit("life." + n.Op + ".ended")
	return nil
}

// drop forgets a note that is in the catalog no more.
func (t *Tenancy) drop(n *note) {
	t.mu.Lock()
	delete(t.notes, n.DB.ID)
	delete(t.old, n.DB.ID)
	t.mu.Unlock()
	for _, id := range n.ids() {
		t.cfg.Fleet.Withhold(id, nil)
	}
}

func (t *Tenancy) noted(id string) *note {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.notes[id]
}

// begin takes IDs for what somebody asks for, until end is called with what came of it; what
// is noted then Run goes on with. It waits until nothing else is done to them, also by Run,
// which ctx bounds. Close ends the context that it returns.
func (t *Tenancy) begin(ctx context.Context, ids ...string) (_ context.Context, end func(*error), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.closing, func() { cancel(life.ErrClosed) })
	for {
		done, busy, err := t.tryBegin(ids...)
		if err == nil && busy == nil && !t.serves(ids...) { // asked after Settle can see it
			done()
			err = fleet.ErrElsewhere
		}
		switch {
		case err != nil:
		case busy == nil:
			return ctx, func(err *error) {
				if *err != nil && errors.Is(context.Cause(ctx), life.ErrClosed) && !errors.Is(*err, life.ErrClosed) {
					*err = fmt.Errorf("%w: %w", life.ErrClosed, *err)
				}
				stop()
				cancel(nil)
				done()
				t.laterNoted(ids) // Run may have passed them over meanwhile
			}, nil
		default:
			if err = waitFor(ctx, busy); err == nil {
				continue
			}
			err = fmt.Errorf("%w: another operation on it is under way: %w", conduct.ErrInUse, err)
		}
		stop()
		cancel(nil)
		return nil, nil, err
	}
}

// of is the database that has an ID, or would have.
func (t *Tenancy) of(id string) (db registry.Database, ok bool) {
	if e := t.cfg.Fleet.Get(id); e != nil {
		return e.Database(), true
	}
	db, _, ok = t.cfg.Locate(id)
	return db, ok
}

// serves reports whether this node serves databases; of what no pattern allows it does not say no.
func (t *Tenancy) serves(ids ...string) bool {
	return t.cfg.Serves == nil || !slices.ContainsFunc(ids, func(id string) bool {
		db, ok := t.of(id)
		return ok && !t.cfg.Serves(db)
	})
}

// Settle waits until nothing is done to databases of shards that are not served any more, so that their
// next node finds no other one at work.
func (t *Tenancy) Settle(ctx context.Context, in func(shard int) bool) error {
	t.mu.Lock()
	busy := maps.Clone(t.busy)
	t.mu.Unlock()
	for id, over := range busy {
		if db, ok := t.of(id); ok && in(t.cfg.Prefix(db).Shard) {
			if err := waitFor(ctx, over); err != nil {
				return fmt.Errorf("%q: %w: an operation on it is under way: %w", id, conduct.ErrInUse, err)
			}
		}
	}
	return nil
}

// Close interrupts what somebody asked for, and returns when nothing of it goes on: another
// process may be the next one to go on with it. ctx bounds the waiting; then it may be called
// again.
func (t *Tenancy) Close(ctx context.Context) error {
	t.close()
	for {
		var busy <-chan struct{}
		t.mu.Lock()
		for _, busy = range t.busy {
			break
		}
		t.mu.Unlock()
		if busy == nil {
			return nil
		}
		if err := waitFor(ctx, busy); err != nil {
			return err
		}
	}
}

// tryBegin is begin for who does not wait; busy is closed when what is in the way has ended.
func (t *Tenancy) tryBegin(ids ...string) (end func(), busy <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing.Err() != nil {
		return nil, nil, life.ErrClosed
	}
	for _, id := range ids {
		if other, taken := t.busy[id]; taken {
			return nil, other, nil
		}
	}
	over := make(chan struct{})
	for _, id := range ids {
		t.busy[id] = over
	}
	return func() {
		t.cfg.Opener.Forget(ids...)
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, id := range ids {
			delete(t.busy, id)
		}
		close(over)
	}, nil, nil
}

// withheld is why nothing can be begun with a database that something is noted of under
// another ID: it is the new name of one that is being renamed.
func (t *Tenancy) withheld(id string) error {
	if err := t.cfg.Fleet.Withheld(id); err != nil {
		return fmt.Errorf("%q: %w", id, err)
	}
	return nil
}

// Load takes in what the process before has not finished. The databases of the catalog are
// known, and no scan was made.
func (t *Tenancy) Load(ctx context.Context) error {
	for of, err := range t.cfg.Catalog.Notes(ctx, noteKind) {
		if err != nil {
			return err
		}
		n := new(note)
		if err := json.Unmarshal(of.Value, n); err != nil {
			return fmt.Errorf("what is noted of the life of %q: %w", of.ID, err)
		}
		t.keep(n)
		t.hide(n)
	}
	return nil
}

// hide forgets databases that are not in service. What was renamed is gone by its old name,
// and what is being made is made known when all of it is there.
func (t *Tenancy) hide(n *note) {
	var gone []string
	switch n.Op {
	case opRemoved, opErase, opBack, opFork:
		gone = []string{n.DB.ID}
	case opMove:
		gone = n.ids()
	}
	for _, id := range gone {
		if e := t.cfg.Fleet.Get(id); e != nil {
			t.cfg.Fleet.Drop(e)
		}
	}
}

// Hide is called when databases of the catalog were made known since Load, as this node serves their shards
// from now on: those that are not in service are forgotten again, before anybody may open them, and what was begun with them
// goes on. old says of a shard whether another node may have had it since that was noted.
func (t *Tenancy) Hide(old func(shard int) bool) {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.notes))
	t.mu.Unlock()
	for _, n := range all {
		if old(t.cfg.Prefix(n.DB.database()).Shard) {
			t.mu.Lock()
			t.old[n.DB.ID] = true
			t.mu.Unlock()
		}
	}
	for _, n := range all {
		t.hide(n)
	}
	t.later()
}

// Told takes in what another node did, as the page of a shard has it: that a database was taken out of service at a
// time, or that its erasure was begun, which goes on here; or, where at is zero, that it is in service. What is noted here
// from an earlier time, and what that node had no time to do, yields to what the prefix says. serves: it is in service.
func (t *Tenancy) Told(ctx context.Context, db registry.Database, at time.Time) (serves bool, err error) {
	n := t.noted(db.ID)
	if at.IsZero() == (n == nil) || n != nil && n.Op != opRemoved && !(n.Op == opErase && at.IsZero()) {
		return at.IsZero(), nil // nothing new, or something is being done
	}
	end, busy, err := t.tryBegin(db.ID)
	if err != nil || busy != nil {
		return at.IsZero(), nil //nolint:nilerr // somebody works on it, and knows better
	}
	defer end()
	if t.noted(db.ID) != n {
		return at.IsZero(), nil
	}
	client, err := t.cfg.Client(db)
	if err != nil {
		return false, err
	}
	md, err := metadata.At(ctx, client)
	if err != nil {
		return false, err
	}
	switch {
	case n != nil && n.Op == opErase:
		if over, err := t.over(ctx, n); err != nil || !over {
			return false, err
		}
		return true, t.end(ctx, n)
	case n != nil && md.Unusable() == nil:
		return true, t.end(ctx, n)
	case n == nil && md.RemovedAt != nil && md.RenamedTo == "":
		of := note{Op: opErase, DB: identityOf(db), Since: *md.RemovedAt}
		if md.EraseAfter != nil {
			of.Op, of.Until = opRemoved, *md.EraseAfter
		}
		if err := t.set(ctx, &of); err != nil {
			return false, err
		}
		if e := t.cfg.Fleet.Get(db.ID); e != nil { // as the catalog had it
			t.cfg.Fleet.Drop(e)
		}
		t.later()
	case n == nil && md.Unusable() == nil: // the page was written before, or the tombstone is gone and it was not yet
		if client, err = t.cfg.Reading(db); err != nil {
			return false, err
		}
		newest, err := store.Newest(ctx, client)
		if err != nil {
			return false, err
		} else if newest == 0 {
			t.nameless(db)
			return false, nil
		}
		t.named(db)
		return true, nil
	}
	return at.IsZero(), nil
}

func (t *Tenancy) named(db registry.Database) {
	if t.names != nil {
		t.names.Note(db)
	}
}

func (t *Tenancy) nameless(db registry.Database) {
	if t.names != nil {
		t.names.Erased(db)
	}
}

// Removed is a database that was taken out of service, or is about to be.
type Removed struct {
	registry.Database
	At, EraseAfter time.Time
}

// Removed yields them, ordered by ID.
func (t *Tenancy) Removed() iter.Seq[Removed] {
	t.mu.Lock()
	var all []Removed
	for _, n := range t.notes {
		if n.Op == opRemove || n.Op == opRemoved {
			all = append(all, Removed{n.DB.database(), n.Since, n.Until})
		}
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b Removed) int { return strings.Compare(a.ID, b.ID) })
	return slices.Values(all)
}

// pause is how long what failed rests before it goes on.
const pause = 10 * time.Second

// longest is how long Run rests at most: a clock may be set.
const longest = time.Hour

// Run goes on with what was begun, and erases what was removed long enough ago, until ctx
// ends.
func (t *Tenancy) Run(ctx context.Context) {
	for {
		next := longest
		for _, n := range t.pending() {
			if left := n.Until.Sub(t.cfg.Age.Trusted(t.cfg.Now())); n.Op == opRemoved && left > 0 {
				next = min(next, left)
			} else if err := t.goOn(ctx, n); err != nil && ctx.Err() == nil {
				next = min(next, pause)
				t.cfg.Fleet.Emit(fleet.Event{Type: fleet.EventFailed, ID: n.DB.ID, Path: n.DB.Path, Op: n.Op, Err: err})
			}
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-t.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// later has Run look again.
func (t *Tenancy) later() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// laterNoted has Run look again if something is noted of these.
func (t *Tenancy) laterNoted(ids []string) {
	for _, id := range ids {
		if t.noted(id) != nil {
			t.later()
		}
	}
}

func (t *Tenancy) pending() (all []*note) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range t.notes {
		if _, busy := t.busy[id]; !busy {
			all = append(all, n)
		}
	}
	return all
}

// goOn goes on with what is noted of a database.
func (t *Tenancy) goOn(ctx context.Context, n *note) error {
	end, busy, err := t.tryBegin(n.ids()...)
	if err != nil || busy != nil {
		return nil //nolint:nilerr // somebody does, whose end wakes Run; or nobody will
	}
	defer end()
	if t.noted(n.DB.ID) != n {
		return nil
	}
	if t.cfg.Serves != nil && !t.cfg.Serves(n.DB.database()) && (n.Other == nil || !t.cfg.Serves(n.Other.database())) {
		return nil // another node's now; Served wakes Run
	}
	switch n.Op {
	case opRemove:
		return t.remove(ctx, n)
	case opRemoved:
		return t.expire(ctx, n)
	case opErase:
		if over, err := t.over(ctx, n); err != nil {
			return err
		} else if over {
			return t.end(ctx, n)
		}
		_, err := t.erase(ctx, n)
		return err
	case opBack:
		return t.back(ctx, n)
	case opCopy:
		return t.undoCopy(ctx, n, n.Other.database())
	case opMove:
		return t.moveOn(ctx, n)
	case opFork:
		return t.undoCopy(ctx, n, n.DB.database())
	}
	return fmt.Errorf("the state directory notes %q of it, which this version does not know: use a newer one", n.Op)
}

// goesOn reports whether an operation that failed is to go on later: it was begun, and what
// failed may work then.
func goesOn(ctx context.Context, err error) bool {
	return ctx.Err() != nil || !errors.Is(err, conduct.ErrInUse) && !isFinal(err)
}

// candidate is a database of an ID that a pattern allows.
func (t *Tenancy) candidate(id string) (c fleet.Candidate, err error) {
	db, source, ok := t.cfg.Locate(id)
	if !ok {
		return c, fmt.Errorf("%w: no pattern makes the ID %q", registry.ErrNotFound, id)
	}
	c = fleet.Candidate{Database: db, Source: source, Prefix: t.cfg.Prefix(db)}
	return c, c.Prefix.Err
}

// waitFor waits for what is closed when something has ended, or for the end of ctx.
func waitFor(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
