package multidb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb/internal/budget"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/pool"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/table"
	"github.com/multidb-go/multidb/internal/worker"
)

// Manager follows a fleet of SQLite databases. Make it with New, then Start it,
// and Close it when done. Its methods are safe for concurrent use.
type Manager struct {
	cfg   config
	epoch time.Time // of every moment

	// Made by Start, not changed afterwards.
	dir     string // the state directory
	catalog *catalog.Catalog
	ship    *ship.Shipper
	cache   *levels.Cache // nil: none
	// sessions are the runs whose files at the replica are ours.
	sessions *catalog.Sessions
	workers  *worker.Pool
	pool     *pool.Pool[*entry, *tenant]
	ctx      context.Context // ends when Close has finished with everything
	cancel   context.CancelFunc
	joined   sync.WaitGroup // the scanner and the catalog's flusher

	stopScan   context.CancelFunc // the watchers' too
	discovered []Discoverer       // the options', without the state directory
	rootList   []*root            // of all discoverers
	closeMu    sync.Mutex         // one Close at a time; taken before mu

	watching    sync.WaitGroup // the watchers
	unknown     chan unknown   // from the watchers to the scanner
	rescanSoon  chan struct{}  // likewise: a scan is wanted
	rescanLater chan struct{}  // likewise, but it can wait

	counters counters
	watched  atomic.Bool // all discoverers tell of changes

	firstScan time.Duration // what Start's took
	jobs      sync.Pool     // of *job
	age       *ageClock

	// mu guards what follows, the entries' fields that say so, and the schedule.
	// It is the innermost lock but for the pool's, and nothing does I/O or calls
	// user code under it; release it with unlock, which tells the events.
	mu       sync.Mutex
	phase    phase
	entries  *table.Table[ID, entry]
	files    *table.Table[fileID, entry]
	prefixes *table.Table[prefix, entry]
	mores    []*knownMore
	refusals int // entries refused because of another's prefix
	ignored  map[ID]refusal
	silent   time.Time // when the replica last did not say whether it has a backup
	absent   map[ID]absent
	volumes  volumes
	lastDir  lastDir
	sniffing map[ID]chan struct{}
	fleet    *schedule.Fleet[*entry]
	fresh    []*entry               // unread
	wals     *budget.Budget[*entry] // the sizes of their WALs
	events   []Event
	scans    uint32
	runs     map[*entry]*runState // in progress, as many as there are workers
	logs     map[*entry]logOf     // seen beside the databases that have one
	strays   map[*entry]bool      // a lease of a file that is no longer theirs was given back
	orders   map[*entry]*order    // for the next run
	opening  map[*entry]*order    // for the pool, when it opens the database
	behind   map[*entry]behind    // of those of which the replica lacks something
	left     int                  // entries with a change left local on purpose
	unwell   ByReason             // entries by what their health has as error
	scanErr  map[int]scanTrouble  // the last one told, by discoverer
}

type phase uint8

const (
	phaseNew phase = iota
	phaseStarting
	phaseServing
	phaseClosing
	phaseClosed
)

// New makes a Manager from options. It does no I/O and starts nothing. All
// errors wrap ErrInvalidOption and are joined.
func New(opts ...Option) (*Manager, error) {
	cfg, err := build(opts)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg:      cfg,
		epoch:    cfg.now(),
		ignored:  map[ID]refusal{},
		absent:   map[ID]absent{},
		sniffing: map[ID]chan struct{}{},
		scanErr:  map[int]scanTrouble{},
		runs:     map[*entry]*runState{},
		behind:   map[*entry]behind{},
		logs:     map[*entry]logOf{},
		strays:   map[*entry]bool{},
		orders:   map[*entry]*order{},
		opening:  map[*entry]*order{},

		unknown:     make(chan unknown, unknownQueue),
		rescanSoon:  make(chan struct{}, 1),
		rescanLater: make(chan struct{}, 1),
	}
	seed := maphash.MakeSeed()
	m.entries = table.New(func(e *entry) ID { return e.db.ID },
		func(id ID) uint64 { return maphash.String(seed, string(id)) }, func(a, b ID) bool { return a == b })
	m.files = table.New(func(e *entry) fileID { return e.file },
		func(id fileID) uint64 { return maphash.Comparable(seed, id) }, func(a, b fileID) bool { return a == b })
	m.prefixes = table.New(func(e *entry) prefix { return e.db.prefix() },
		func(p prefix) uint64 { return p.hash(seed) }, prefix.equal)
	m.age = &ageClock{keep: max(cfg.retention, cfg.l0Retention)}
	m.fleet = schedule.New(cfg.limits(), cfg.rand, m.onTier)
	m.wals = budget.New[*entry](cfg.maxTotalWALSize)
	return m, nil
}

// Start opens the state directory, loads what is known, and returns when the
// first discovery is done. It makes no request to the replica, whose troubles
// become statuses and events. ctx bounds only Start. The Manager can be started
// once; if Start fails nothing is left running.
//
// A discovery root that does not exist is ErrRootMissing, before anything is made
// (see WithMissingRoots). A volume that is not the one that the state directory
// remembers is EventScanFailed, see WithEmptiedVolumes; no database at all is
// EventEmpty.
func (m *Manager) Start(ctx context.Context) (err error) {
	m.mu.Lock()
	if m.phase != phaseNew {
		m.mu.Unlock()
		return fmt.Errorf("multidb: start: %w", errors.New("a Manager can be started only once"))
	}
	m.phase = phaseStarting
	m.mu.Unlock()

	dir, err := m.stateDir()
	if err != nil {
		return fmt.Errorf("multidb: start: %w", err)
	}
	if err := m.findRoots(dir); err != nil {
		return fmt.Errorf("multidb: start: %w", err)
	}
	m.dir = dir
	m.catalog, err = catalog.Open(ctx, dir, catalog.Options{OnError: func(err error) {
		m.emit(Event{Type: EventState, Path: dir, Err: err})
	}})
	if errors.Is(err, catalog.ErrLocked) {
		return fmt.Errorf("multidb: start: %w: %w; give each Manager its own WithStateDir", ErrInUse, err)
	} else if err != nil {
		return fmt.Errorf("multidb: start: state directory (see WithStateDir): %w", err)
	}
	if lost := m.catalog.Recovered(); lost != nil {
		m.emit(Event{Type: EventState, Path: dir, Err: lost})
	}
	m.discovered = nil
	for _, d := range m.cfg.discoverers {
		if x, ok := d.(excluder); ok {
			d = x.excluding(dir)
		}
		m.discovered = append(m.discovered, d)
	}
	m.loadRoots()
	if err := m.load(ctx); err != nil {
		return errors.Join(fmt.Errorf("multidb: start: load catalog: %w", err), m.catalog.Abandon())
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if err := m.identify(); err != nil {
		return errors.Join(fmt.Errorf("multidb: start: %w", err), m.catalog.Abandon())
	}
	spool := filepath.Join(dir, spoolDir)
	if err := resetDir(spool); err != nil {
		return errors.Join(fmt.Errorf("multidb: start: %w", err), m.catalog.Abandon())
	}
	self := session()
	if m.sessions, err = m.catalog.Begin(ctx, self); err != nil {
		return errors.Join(fmt.Errorf("multidb: start: %w", err), m.catalog.Abandon())
	}
	if m.sessions.Copied() {
		m.emit(Event{Type: EventState, Path: dir, Err: errCopied})
	}
	m.ship = ship.New(ship.Config{
		SpoolDir: spool,
		Node:     uint32(m.sessions.NodeID()), Session: self,
		Mine: m.isOurs, Former: m.sessions.Former, Boot: m.cfg.boot, Window: m.cfg.grace / 2,
		Now: m.cfg.now, Stat: func(path string) (ship.Fingerprint, error) { return m.cfg.stat(path, "") },
	})
	m.cache = levels.NewCache(m.cfg.cacheSize)
	m.pool = m.newPool()
	m.workers = worker.New(source{m}, m.cfg.uploadConcurrency, m.cfg.now)

	m.age.trusted(m.cfg.now())

	scanCtx, stop := context.WithCancel(m.ctx)
	m.stopScan = stop
	if err := m.watch(scanCtx); err != nil {
		m.emit(Event{Type: EventWatch, Err: err})
	}
	began := time.Now()
	if err := m.scan(ctx); err != nil {
		m.cancel()
		m.watching.Wait()
		return errors.Join(fmt.Errorf("multidb: start: first discovery: %w", err),
			m.pool.Close(context.Background()), m.catalog.Abandon())
	}
	m.firstScan = time.Since(began)
	m.warnIfEmpty()
	m.workers.Start()
	m.joined.Go(func() { m.scanLoop(scanCtx) })
	m.joined.Go(func() { m.catalog.Run(m.ctx, catalogInterval) })

	m.mu.Lock()
	m.phase = phaseServing
	m.unlock()
	return nil
}

// spoolDir is the directory of unfinished files, in the state directory.
const spoolDir = "spool"

// catalogInterval is how often the catalog's changes are written, for the whole
// fleet at once. They are hints: what they lack costs a look at the replica.
const catalogInterval = time.Second

// Close ships what is left and stops everything, in this order: nothing is
// admitted any more; leases are waited for; what is not at the replica is
// shipped, in parallel; the workers stop; the catalog is closed.
//
// It returns nil only if every commit of every database is at the replica.
// If ctx ends first the error says which are not (ErrNotDurable), and Close may
// be called again to go on. If the replica refuses, Close gives up on those
// databases after a few attempts, finishes, and names them: their files are
// whole, and the next Start ships them.
func (m *Manager) Close(ctx context.Context) error {
	m.closeMu.Lock()
	defer m.closeMu.Unlock()
	m.mu.Lock()
	was := m.phase
	switch was {
	case phaseNew, phaseStarting:
		m.phase = phaseClosed
	case phaseServing:
		m.phase = phaseClosing
	}
	m.unlock()
	if was == phaseNew || was == phaseStarting || was == phaseClosed {
		return nil
	}
	m.stopScan()
	m.watching.Wait()
	if err := m.pool.Close(ctx); err != nil && ctx.Err() != nil {
		return errors.Join(fmt.Errorf("multidb: close: %w", err), m.undurable(ctx.Err()))
	} else if err != nil {
		m.emit(Event{Type: EventState, Err: fmt.Errorf("close databases: %w", err)})
	}
	left := m.shipAll(ctx)
	if err := ctx.Err(); err != nil {
		return errors.Join(fmt.Errorf("multidb: close: %w", context.Cause(ctx)), left)
	}
	err := m.workers.Stop(ctx)
	if ctx.Err() != nil {
		return errors.Join(fmt.Errorf("multidb: close: %w", context.Cause(ctx)), err, left)
	}
	m.persistAll()
	if err := m.catalog.Close(ctx); err != nil {
		return errors.Join(fmt.Errorf("multidb: close catalog: %w", err), left)
	}
	m.cancel()
	m.joined.Wait()
	if c, ok := m.cfg.replica.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	m.mu.Lock()
	m.phase = phaseClosed
	m.unlock()
	return left
}

// serving returns nil if the Manager is between Start and Close.
func (m *Manager) servingLocked() error {
	switch m.phase {
	case phaseServing:
		return nil
	case phaseNew, phaseStarting:
		return ErrNotStarted
	}
	return ErrClosed
}

// unlock releases mu and then tells the events that came up under it.
func (m *Manager) unlock() {
	evs := m.events
	m.events = nil
	m.mu.Unlock()
	m.emitAll(evs)
}

// errCopied is told once by a state directory that is found to be a copy.
var errCopied = errors.New("the state directory is a copy of another one, or on another machine now; what its former runs wrote is compared before anything is written")

// isOurs reports whether a run of a node was one of this state directory.
func (m *Manager) isOurs(node, session uint32) bool {
	return node == uint32(m.sessions.NodeID()) && m.sessions.Has(session)
}

// stateDir is where the catalog is.
func (m *Manager) stateDir() (string, error) {
	dir := m.cfg.stateDir
	for _, d := range m.cfg.discoverers {
		if dir != "" {
			break
		}
		if r, ok := d.(DiscovererRoot); ok && r.Root() != "" {
			dir = filepath.Join(r.Root(), ".multidb")
		}
	}
	if dir == "" {
		return "", fmt.Errorf("%w: the discoverers have no root; add multidb.WithStateDir(dir)", ErrInvalidOption)
	}
	return filepath.Abs(dir)
}

// resetDir makes an empty directory. What a crash left in it was temporary.
func resetDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o700)
}

// session names this run in what it writes.
func session() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint32(b[:])
}

// onTier is called by the schedule, under mu.
func (m *Manager) onTier(it *schedule.Item[*entry], from, to schedule.Tier) {
	switch {
	case to == schedule.Cold:
		m.counters.demotions.Add(1)
	case from == schedule.Cold:
		m.counters.promotions.Add(1)
	}
	m.events = append(m.events, Event{Type: EventTier, ID: it.Value.db.ID, From: tierOf(from), To: tierOf(to)})
}
