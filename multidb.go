package multidb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb/internal/budget"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/notify"
	"github.com/multidb-go/multidb/internal/pool"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/rounds"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/worker"
)

// Manager follows a fleet of SQLite databases. Make it with New, then Start it,
// and Close it when done. Its methods are safe for concurrent use.
type Manager struct {
	cfg   config
	epoch time.Time // of every moment

	// Made by Start, not changed afterwards.
	dir        string // the state directory
	catalog    *catalog.Catalog
	cache      *levels.Cache // nil: none
	replicator *replicate.Replicator
	// sessions are the runs whose files at the replica are ours.
	sessions *catalog.Sessions
	workers  *worker.Pool
	pool     *pool.Pool[*entry, *tenant]
	ctx      context.Context // ends when Close has finished with everything
	cancel   context.CancelFunc
	joined   sync.WaitGroup // the scanner and the catalog's flusher

	stopScan   context.CancelFunc // the watchers' too
	discovered []Discoverer       // the options', without the state directory
	roots      registry.Roots     // of all discoverers
	closing    chan struct{}      // one Close at a time: whoever has put something in; before mu

	scanning sync.WaitGroup          // the watchers and the scanner
	rounds   *rounds.Rounds[unknown] // from the watchers to the scanner

	counters counters
	trouble  notify.Errors // of the state directory, from whoever met it, under whatever lock
	watched  atomic.Bool   // all discoverers tell of changes

	jobs sync.Pool // of *job
	age  *fsid.AgeClock
	logs *replicate.Logs

	// mu guards what follows, the entries' fields that say so, and the schedule.
	// It is the innermost lock but for the pool's, and nothing does I/O or calls
	// user code under it; release it with unlock, which tells the events.
	mu       sync.Mutex
	life     life.Life
	telling  *notify.Order[ID, Event]
	reg      *registry.Registry[entry]
	silent   time.Time         // when the replica last did not say whether it has a backup
	absent   *replicate.Absent // what spares WithRestoreOnOpen a listing
	lastDir  lastDir
	sniffing map[ID]chan struct{}
	fleet    *schedule.Fleet[*entry]
	fresh    []*entry                     // unread
	wals     *budget.Budget[*entry]       // the sizes of their WALs
	events   []Event                      // to be told by unlock
	runs     map[*entry]*job              // in progress, as many as there are workers
	strays   map[*entry]fsid.ID           // the file of a lease that was given back when it was no longer theirs
	orders   map[*entry]*order            // for the next run
	opening  map[*entry]*order            // for the pool, when it opens the database
	backlogs map[*entry]replicate.Backlog // of those of which the replica lacks something
	deferred int                          // entries with a change left local on purpose
	unwell   ByReason                     // entries by what their health has as error
	scanErr  map[int]scanTrouble          // the last one told, by discoverer
}

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
		reg:      registry.New(func(e *entry) *registry.Entry { return &e.Entry }),
		absent:   replicate.NewAbsent(cfg.grace / 2),
		sniffing: map[ID]chan struct{}{},
		scanErr:  map[int]scanTrouble{},
		telling:  notify.NewOrder(func(ev Event) ID { return ev.ID }),
		closing:  make(chan struct{}, 1),
		runs:     map[*entry]*job{},
		backlogs: map[*entry]replicate.Backlog{},
		logs:     replicate.NewLogs(cfg.now),
		strays:   map[*entry]fsid.ID{},
		orders:   map[*entry]*order{},
		opening:  map[*entry]*order{},

		rounds: rounds.New[unknown](unknownQueue),
	}
	m.age = &fsid.AgeClock{Keep: max(cfg.retention, cfg.l0Retention)}
	m.fleet = schedule.New(cfg.limits(), cfg.rand, m.onTier)
	m.wals = budget.New[*entry](cfg.maxTotalWALSize)
	return m, nil
}

// Start opens the state directory, loads what is known, and returns when the
// first discovery is done. It makes no request to the replica, whose troubles
// become statuses and events. ctx bounds only Start. The Manager can be started
// once; if Start fails, or Close is called meanwhile, nothing is left running, and
// the Manager is closed: make a new one to try again.
//
// A discovery root that does not exist is ErrRootMissing, before anything is made
// (see WithMissingRoots). A volume that is not the one that the state directory
// remembers is EventScanFailed, see WithEmptiedVolumes; no database at all is
// EventEmpty.
func (m *Manager) Start(ctx context.Context) (err error) {
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	m.mu.Lock()
	may := m.life.Start(func() { abort(ErrClosed) })
	m.unlock()
	if !may {
		return fmt.Errorf("multidb: start: %w", errors.New("a Manager can be started only once, and not after Close"))
	}
	served := false // also where a discoverer or the observer panics
	defer func() {
		m.mu.Lock()
		m.life.Started(served)
		m.unlock()
	}()
	if err = m.start(ctx); err != nil && errors.Is(context.Cause(ctx), ErrClosed) {
		err = fmt.Errorf("multidb: start: %w", ErrClosed)
	}
	served = err == nil
	return err
}

// start does what Start does. If it fails, or panics, nothing of it is left.
func (m *Manager) start(ctx context.Context) (err error) {
	dir, err := m.stateDir()
	if err != nil {
		return fmt.Errorf("multidb: start: %w", err)
	}
	if err := m.findRoots(dir); err != nil {
		return fmt.Errorf("multidb: start: %w", err)
	}
	m.dir = dir
	m.catalog, err = catalog.Open(ctx, dir, catalog.Options{OnError: func(err error) { m.trouble.Add(err) }})
	if errors.Is(err, catalog.ErrLocked) {
		return fmt.Errorf("multidb: start: %w: %w; give each Manager its own WithStateDir", ErrInUse, err)
	} else if err != nil {
		return fmt.Errorf("multidb: start: state directory (see WithStateDir): %w", err)
	}
	whole := false
	defer func() {
		if whole {
			return
		}
		if m.cancel != nil {
			m.cancel()
		}
		m.scanning.Wait()
		if m.pool != nil {
			err = errors.Join(err, m.pool.Close(context.Background()))
		}
		err = errors.Join(err, m.catalog.Abandon())
	}()
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
		return fmt.Errorf("multidb: start: load catalog: %w", err)
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if err := m.identify(); err != nil {
		return fmt.Errorf("multidb: start: %w", err)
	}
	spool := filepath.Join(dir, spoolDir)
	if err := resetDir(spool); err != nil {
		return fmt.Errorf("multidb: start: %w", err)
	}
	self := session()
	if m.sessions, err = m.catalog.Begin(ctx, self); err != nil {
		return fmt.Errorf("multidb: start: %w", err)
	}
	if m.sessions.Copied() {
		m.emit(Event{Type: EventState, Path: dir, Err: errCopied})
	}
	m.cache = levels.NewCache(m.cfg.cacheSize)
	m.replicator = m.newReplicator(spool, self)
	m.pool = m.newPool()
	m.workers = worker.New(source{m}, m.cfg.uploadConcurrency, m.cfg.now)

	m.age.Trusted(m.cfg.now())

	scanCtx, stop := context.WithCancel(m.ctx)
	m.stopScan = stop
	if err := m.watch(scanCtx); err != nil {
		m.emit(Event{Type: EventWatch, Err: err})
	}
	began := time.Now()
	if err := m.scan(ctx); err != nil {
		return fmt.Errorf("multidb: start: first discovery: %w", err)
	}
	took := time.Since(began)
	m.warnIfEmpty()
	m.workers.Start()
	m.scanning.Go(func() { m.goRound(scanCtx, took) })
	m.joined.Go(func() { m.catalog.Run(m.ctx, catalogInterval) })
	whole = true
	return nil
}

// spoolDir is the directory of unfinished files, in the state directory.
const spoolDir = "spool"

// catalogInterval is how often the catalog's changes are written, for the whole
// fleet at once. They are hints: what they lack costs a look at the replica.
const catalogInterval = time.Second

// Close ships what is left and stops everything, in this order: nothing is
// admitted any more; leases are waited for; what is not at the replica is
// shipped, in parallel; the workers stop; the catalog is closed. A Start in progress
// is ended first.
//
// It returns nil only if every commit of every database is at the replica.
// If ctx ends first the error says which are not (ErrNotDurable), and Close may
// be called again to go on where it was. If the replica refuses, Close gives up on
// those databases after a few attempts, finishes, and names them, as each later
// call does: their files are whole, and the next Start ships them.
func (m *Manager) Close(ctx context.Context) error {
	select {
	case m.closing <- struct{}{}:
		defer func() { <-m.closing }()
	case <-ctx.Done():
		return fmt.Errorf("multidb: close: another Close is in progress: %w", context.Cause(ctx))
	}
	for {
		m.mu.Lock()
		wait, goOn := m.life.Close()
		left := m.life.Left
		m.unlock()
		switch {
		case goOn:
			return m.close(ctx)
		case wait == nil:
			return left
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("multidb: close: Start is in progress: %w", context.Cause(ctx))
		}
	}
}

// close does what is left of Close, stage by stage.
func (m *Manager) close(ctx context.Context) error {
	l := &m.life
	late := func(err error) error {
		return errors.Join(fmt.Errorf("multidb: close: %w", context.Cause(ctx)), err)
	}
	if l.Stage == life.Drain {
		m.stopScan()
		if err := waitFor(ctx, &m.scanning); err != nil {
			return late(m.undurable(err))
		}
		if err := m.pool.Close(ctx); err != nil && ctx.Err() != nil {
			return errors.Join(fmt.Errorf("multidb: close: %w", err), m.undurable(ctx.Err()))
		} else if err != nil {
			m.emit(Event{Type: EventState, Err: fmt.Errorf("close databases: %w", err)})
		}
		l.Stage = life.Ship
	}
	if l.Stage == life.Ship {
		left := m.shipAll(ctx)
		if ctx.Err() != nil {
			return late(left)
		}
		m.mu.Lock()
		l.Left = left
		m.unlock()
		l.Stage = life.Stop
	}
	if l.Stage == life.Stop {
		if err := m.workers.Stop(ctx); err != nil {
			return late(l.Left)
		}
		m.persistAll()
		l.Stage = life.Record
	}
	if l.Stage == life.Record {
		if err := m.catalog.Close(ctx); err != nil {
			return errors.Join(fmt.Errorf("multidb: close catalog: %w", err), l.Left)
		}
		m.cancel()
		l.Stage = life.End
	}
	if err := waitFor(ctx, &m.joined); err != nil {
		return late(l.Left)
	}
	if c, ok := m.cfg.replica.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	m.mu.Lock()
	l.Closed()
	m.unlock()
	return l.Left
}

// waitFor waits for goroutines until ctx ends. Then they are waited for by whoever
// calls it next.
func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serving returns nil if the Manager is between Start and Close.
func (m *Manager) servingLocked() error { return m.life.Serving() }

// errCopied is told once by a state directory that is found to be a copy.
var errCopied = errors.New("the state directory is a copy of another one, or on another machine now; what its former runs wrote is compared before anything is written")

// newReplicator makes what runs are done with, in this run of the program.
func (m *Manager) newReplicator(spool string, self uint32) *replicate.Replicator {
	c := &m.cfg
	return replicate.New(replicate.Config{
		Ship: ship.New(ship.Config{
			SpoolDir: spool,
			Node:     uint32(m.sessions.NodeID()), Session: self,
			Mine: m.isOurs, Copied: m.sessions.WasCopied(), Boot: c.boot, Window: c.grace / 2,
			Now: c.now, Stat: func(path string) (fsid.Fingerprint, error) { return c.stat(path, "") },
		}),
		Replicated: c.replica != nil,
		Cache:      m.cache, Logs: m.logs, Mine: m.isOurs, Aged: m.age.Trusted,
		Now: c.now, Boot: c.boot, Stat: c.stat, Flush: c.flush, Logger: c.logger,
		PagesDir: filepath.Join(m.dir, "pages"),
		Policy:   c.policy(), RetentionInterval: c.retentionInterval,
		SyncInterval: c.syncInterval, MaxBackoff: maxBackoff,
		CheckpointPages: c.checkpointPages, MaxWALSize: c.maxWALSize,
		RestoreOnOpen: c.restoreOpen, TakeOverUnknown: c.takeover == TakeoverUnknown,
	})
}

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
	m.events = append(m.events, Event{Type: EventTier, ID: it.Value.id(), From: tierOf(from), To: tierOf(to)})
}
