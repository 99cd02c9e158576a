// Package fleet is what a Manager knows of all its databases, and what follows from it:
// who there is, how closely each is followed, what the replica lacks of it and since
// when, who waits for it, what its next run is to do, and what the report of a run
// changes.
//
// A Fleet is a monitor: every exported method takes its lock, does one step, and
// releases it, so nobody outside holds it, and no two steps mix. It does no I/O: the
// caller looks at files and at the replica, and comes back with what was seen. Events
// are delivered when a step has ended. It is safe for concurrent use.
package fleet

import (
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/budget"
	"github.com/multidb-go/multidb/internal/disk"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/notify"
	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/superfly/ltx"
)

// Config is what a Fleet goes by. All functions but Deliver and Reason are called under
// its lock: they must not block, nor call the Fleet.
type Config struct {
	Now    func() time.Time
	Boot   func() time.Duration // counts the time in which the machine was suspended
	Rand   func() float64       // jitter in [0,1)
	Limits schedule.Limits
	// Policy is that of a database that has none of its own; its Pace is that of the Limits.
	Policy policy.Policy
	Asks   bool // the application is asked for others

	Replicated      bool  // there is a replica
	RestoreOnOpen   bool  // what is missing is brought back from it
	DeferCold       bool  // a change in a cold database stays local
	MaxTotalWALSize int64 // of all databases, in bytes; 0: no limit
	MaxDisk         int64 // of all local files, in bytes; 0: no limit
	// AbsentWindow is for how long what is kept of a database that went is of use.
	AbsentWindow time.Duration
	// Logged: what is durable may be in a fleet log, and not in the prefix. UnpackWithin is
	// how long a prefix may lack something before the database is not well.
	Logged       bool
	UnpackWithin time.Duration

	// Reasons is how many kinds of errors there are, and Reason the kind of one.
	Reasons int
	Reason  func(error) int

	// Crowded is called when the local files are more than MaxDisk.
	Crowded func()
	// Due is called when something may be due earlier than it was.
	Due func()
	// Added is called with each database that is made known; nil: nobody asks.
	Added func(id string)
	// BackedUp is called when the replica is known to have a database, for the first time since it
	// became known, or again; nil: nobody asks. It must not block, nor call the Fleet.
	BackedUp func(registry.Database)
	// Gone is called like BackedUp with each database that is removed, but not with those that another node
	// goes on with; nil: nobody asks.
	Gone func(registry.Database)
	// Forget is called with each database that is removed, and Resident with each evicted
	// one that has a local file again.
	Forget   func(id string)
	Resident func(id string)
	// Shared: several nodes serve the databases, and this one none before Serve. Detached is
	// called with each database that another one goes on with.
	Shared   bool
	Detached func(id string)
	// Deliver gets the events, those of one database in their order, and may call the
	// Fleet. AsEvent makes an event of an error that
	// Trouble was given.
	Deliver func(Event)
	AsEvent func(error) Event
}

// Fleet is the databases of a Manager.
type Fleet struct {
	cfg   Config
	epoch time.Time // of every moment
	mu    *notify.Lock[string, Event]

	life     life.Life
	reg      *registry.Registry[Entry]
	schedule *schedule.Schedule[*Entry]
	policies policies
	wals     *budget.Budget[*Entry] // the sizes of their WALs
	disk     *disk.Disk[*Entry]     // and of all local files; nil: no limit
	open     int                    // databases that are open, when DiskOver was last asked
	absent   *replicate.Absent      // of those whose file is gone

	unread   []*Entry                     // those that scans brought, whose header is to be checked
	reading  map[*Entry]chan struct{}     // those whose header is being checked
	runs     map[*Entry]*Run              // in progress, as many as there are workers
	orders   map[*Entry]*Order            // for the next run
	backlog  map[*Entry]replicate.Backlog // of those of which the replica lacks something
	strays   map[*Entry]fsid.ID           // the file of a lease that was released when it was no longer theirs
	fence    error                        // why no database may be replicated; nil: each may
	queued   map[*Entry]*queued           // of those whose files a client has taken that are not durable
	packed   map[*Entry]packed            // of those whose prefix lacks something that the fleet log has
	making   map[*Entry]struct{}          // whose file is new, and the application does not have it yet
	refusing map[*Entry]struct{}          // of which it is noted that the policy is refused
	bars     map[*Entry]*Bar              // of those that nobody may open
	shards   *shards                      // that this process serves; nil: all

	sizes     Sizes   // of all
	deferred  int     // entries with a change that is left local on purpose
	evictions uint64  // that have begun
	evicted   int     // entries without a local file on purpose
	failing   []int64 // entries by the kind of the error that they have now
	totals    Totals
}

// Totals counts what happened since the Fleet was made.
type Totals struct {
	Promotions, Demotions int64
	Shipped               int64 // databases of which something was shipped
	replicate.Counts
	Failures []int64 // by the kind of the error

	TakeOvers, Adoptions, HandOvers int64 // orders that were carried out
}

// New returns a Fleet without databases.
func New(cfg Config) *Fleet {
	f := &Fleet{
		cfg: cfg, epoch: cfg.Now(),
		mu:       notify.NewLock(func(ev Event) string { return ev.ID }, cfg.Deliver, cfg.AsEvent),
		reg:      registry.New(func(e *Entry) *registry.Entry { return &e.reg }),
		policies: policies{table: policy.NewTable(cfg.Policy)},
		wals:     budget.New[*Entry](cfg.MaxTotalWALSize),
		absent:   replicate.NewAbsent(cfg.AbsentWindow),
		reading:  map[*Entry]chan struct{}{},
		runs:     map[*Entry]*Run{},
		orders:   map[*Entry]*Order{},
		backlog:  map[*Entry]replicate.Backlog{},
		strays:   map[*Entry]fsid.ID{},
		queued:   map[*Entry]*queued{},
		packed:   map[*Entry]packed{},
		bars:     map[*Entry]*Bar{},
		making:   map[*Entry]struct{}{},
		refusing: map[*Entry]struct{}{},
		failing:  make([]int64, cfg.Reasons),
		totals:   Totals{Failures: make([]int64, cfg.Reasons)},
	}
	if cfg.Shared {
		f.shards = new(shards)
	}
	if cfg.MaxDisk > 0 {
		f.disk = disk.New[*Entry](cfg.MaxDisk)
	}
	f.schedule = schedule.New(cfg.Limits, cfg.Rand, f.onTier)
	return f
}

// Event is one change of state.
type Event struct {
	Type     EventType
	ID, Path string
	From, To schedule.Tier
	TXID     ltx.TXID
	Epoch    uint64 // of a fleet log
	Shards   int    // that a node took in or gave away
	Op       string // what Err is the error of, where it is one of the database
	Err      error
	Why      string // a resync was needed
	Bytes    int64  // that it has written
}

// EventType says what happened.
type EventType uint8

// The events, in the order of the public ones.
const (
	EventAdded EventType = iota + 1
	EventRemoved
	EventIgnored
	EventTier
	EventFailed
	EventRecovered
	EventFenced
	EventResync
	EventSnapshot
	EventWALLimit
	EventReplaced
	EventAdopted
	EventScanFailed
	EventState
	EventWatch
	EventIntegrity
	EventEmpty
	EventLogSetAside
	EventFleetLogBegun
	EventFleetLogTakenOver
	EventFleetLogFinished
	EventFleetLogFenced
	EventEvicted
	EventWithdrawn
	EventUndeleted
	EventErased
	EventRenamed
	EventForked
	EventPolicy
	EventDrill
	EventDrillFailed
	EventGained
	EventMoved
	EventMoveStuck
	EventSetAside
)

// ofRun are the events that a run reports.
var ofRun = map[replicate.EventType]EventType{
	replicate.EventResync: EventResync, replicate.EventSnapshot: EventSnapshot, replicate.EventWALLimit: EventWALLimit,
	replicate.EventAdopted: EventAdopted, replicate.EventLogSetAside: EventLogSetAside, replicate.EventSetAside: EventSetAside, replicate.EventState: EventState,
}

// Emit delivers one event.
func (f *Fleet) Emit(ev Event) {
	f.mu.Lock()
	f.mu.Note(ev)
	f.mu.Unlock()
}

// Trouble keeps an error until the next step has ended, whatever lock the caller holds.
func (f *Fleet) Trouble(err error) { f.mu.Add(err) }

// onTier is called by the schedule, under the lock.
func (f *Fleet) onTier(it *schedule.Item[*Entry], from, to schedule.Tier) {
	switch {
	case to == schedule.Cold:
		f.totals.Demotions++
	case from == schedule.Cold:
		f.totals.Promotions++
		it.Value.askPolicy = f.cfg.Asks
	}
	f.mu.Note(Event{Type: EventTier, ID: it.Value.ID(), From: from, To: to})
}

// Life calls fn with the phases of the Manager.
func (f *Fleet) Life(fn func(*life.Life)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(&f.life)
}

// Serving returns nil between Start and Close.
func (f *Fleet) Serving() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.life.Serving()
}

// Lookup returns a known database. The error says that none has the ID, or that it is
// too early or too late to ask.
func (f *Fleet) Lookup(id string) (*Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.life.Serving(); err != nil {
		return nil, err
	}
	e := f.reg.Get(id)
	if e == nil {
		return nil, f.reg.WhyNot(id)
	}
	return e, nil
}

// WhyNot is why an ID is not that of a known database.
func (f *Fleet) WhyNot(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.WhyNot(id)
}

// Has reports whether a database has the ID, at whatever time.
func (f *Fleet) Has(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Get(id) != nil
}

// At returns the database with an ID, if it is at the path.
func (f *Fleet) At(id, path string) *Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.reg.Get(id); e != nil && e.Path() == path {
		return e
	}
	return nil
}

// ByFile returns the database whose file it is; nil if none is known.
func (f *Fleet) ByFile(file fsid.ID) *Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.ByFile(file)
}

// All returns all databases, as they are now.
func (f *Fleet) All() []*Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(f.reg.All())
}

// Len is how many are known.
func (f *Fleet) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Len()
}

// Kept returns how many things are kept by database, and of how many databases that are
// gone something is kept too.
func (f *Fleet) Kept() (kept, absent int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Kept() + len(f.reading) + len(f.runs) + len(f.orders) + len(f.backlog) + len(f.strays) + len(f.queued) + len(f.packed) + len(f.bars), f.absent.Len()
}
