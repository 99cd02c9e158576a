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
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/drill"
	"github.com/multidb-go/multidb/internal/each"
	"github.com/multidb-go/multidb/internal/evict"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fleetlog/owner"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/lag"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/opener"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store/identity"
	"github.com/multidb-go/multidb/internal/survey"
	"github.com/multidb-go/multidb/internal/tenancy"
	"github.com/multidb-go/multidb/internal/volume"
)

// Manager follows a fleet of SQLite databases. Make it with New, then Start it,
// and Close it when done. Its methods are safe for concurrent use.
type Manager struct {
	cfg config

	// Made by New.
	fleet   *fleet.Fleet    // what is known of all databases, and the only lock of it
	volumes *volume.Volumes // on which they stand
	survey  *survey.Survey  // finds them
	logs    *replicate.Logs // beside them
	lag     lag.Window      // of their commits
	drills  *drill.Drills   // of their backups; nil: none
	eachOf  each.Book       // which calls of Each there are
	closing chan struct{}   // one Close at a time: whoever has put something in

	// Made by Start, not changed afterwards.
	dir       string // the state directory
	catalog   *catalog.Catalog
	cache     *levels.Cache      // nil: none
	conductor *conduct.Conductor // works on the databases
	opener    *opener.Opener     // opens them for the application
	fleetLog  *owner.Log         // nil: none
	evictor   *evict.Evictor     // nil: the disk has no limit
	node      *node              // nil: no other process serves a part of the fleet
	tenancy   *tenancy.Tenancy   // takes databases out of service, and away
	ctx       context.Context    // ends when Close has finished with everything
	cancel    context.CancelFunc
	stopScan  context.CancelFunc // the watchers too
	joined    sync.WaitGroup     // the catalog's flusher
}

// New makes a Manager from options. It does no I/O and starts nothing. All
// errors wrap ErrInvalidOption and are joined.
func New(opts ...Option) (*Manager, error) {
	cfg, err := build(opts)
	if err != nil {
		return nil, err
	}
	if r, ok := cfg.replica.(ReplicaTracer); ok && cfg.tracer != nil {
		r.SetTracer(cfg.tracer)
	}
	m := &Manager{cfg: cfg, logs: replicate.NewLogs(cfg.now), closing: make(chan struct{}, 1)}
	m.drills = newDrills(cfg.drills, drillParts{
		now: cfg.now, rand: cfg.rand, logger: cfg.logger, replica: cfg.replica, log: cfg.logged().Path, limited: cfg.maxDisk > 0,
		fleet: func() *fleet.Fleet { return m.fleet }, catalog: func() *catalog.Catalog { return m.catalog },
	})
	m.fleet = fleet.New(fleet.Config{
		Now: cfg.now, Boot: cfg.boot, Rand: cfg.rand, Limits: cfg.limits(), Policy: cfg.common(), Asks: cfg.policyOf != nil,
		Replicated: cfg.replica != nil, RestoreOnOpen: cfg.restoreOpen,
		DeferCold: cfg.coldSyncMode == ColdSyncNone, MaxTotalWALSize: cfg.maxTotalWALSize, MaxDisk: cfg.maxDisk,
		AbsentWindow: cfg.grace / 2,
		Logged:       cfg.fleetLog != nil, UnpackWithin: unpackPatience * cfg.logged().UnpackInterval,
		Reasons: reasons, Reason: func(err error) int { return int(ReasonOf(err)) },
		Due:   func() { m.conductor.Due() },
		Added: m.drills.Add,
		Forget: func(id string) {
			m.logs.Forget(id)
			forgetProof(m.drills, m.catalog, id)
			m.catalog.Delete(id)
		},
		Resident: func(id string) { m.conductor.Resident(id) },
		Shared:   cfg.cluster != nil,
		Detached: func(id string) {
			m.logs.Forget(id)
			m.drills.Leave(id)
		},
		BackedUp: func(db registry.Database) { m.node.names().Note(db) },
		Gone:     func(db registry.Database) { m.node.names().Again(db) },
		Crowded:  func() { m.evictor.Poke() },
		Deliver:  m.deliver,
		AsEvent: func(err error) fleet.Event {
			return fleet.Event{Type: fleet.EventState, Path: m.dir, Err: err}
		},
	})
	m.volumes = volume.New(volume.Config{Fleet: m.fleet, MissingRoots: cfg.missingRoots, Emptied: cfg.emptiedVolumes, Now: cfg.now})
	m.survey = survey.New(survey.Config{
		Fleet: m.fleet, Volumes: m.volumes, Prefix: m.cfg.prefix,
		Watch: cfg.watch, Interval: cfg.scanInterval, RetentionInterval: cfg.retentionInterval,
		Now: cfg.now, Stat: cfg.stat,
	})
	return m, nil
}

// Start opens the state directory, loads what is known, and returns when the
// first discovery is done. It makes no request to the replica, whose troubles
// become statuses and events; but WithCluster makes those of a node that joins. ctx bounds only Start. The Manager can be started
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
	may := false
	m.fleet.Life(func(l *life.Life) { may = l.Start(func() { abort(ErrClosed) }) })
	if !may {
		return fmt.Errorf("multidb: start: %w", errors.New("a Manager can be started only once, and not after Close"))
	}
	served := false // also where a discoverer or the observer panics
	defer func() { m.fleet.Life(func(l *life.Life) { l.Started(served) }) }()
	if err = m.start(ctx); err != nil && errors.Is(context.Cause(ctx), ErrClosed) {
		err = ErrClosed
	}
	if served = err == nil; !served {
		return fmt.Errorf("multidb: start: %w", err)
	}
	return nil
}

// start does what Start does. If it fails, or panics, nothing of it is left.
func (m *Manager) start(ctx context.Context) (err error) {
	dir, err := m.cfg.statePath()
	if err != nil {
		return err
	}
	if err := m.volumes.Find(rootsOf(m.cfg.discoverers), dir); err != nil {
		return err
	}
	m.dir = dir
	m.catalog, err = catalog.Open(ctx, dir, catalog.Options{OnError: m.fleet.Trouble})
	if errors.Is(err, catalog.ErrLocked) {
		return fmt.Errorf("%w: %w; give each Manager its own WithStateDir", ErrInUse, err)
	} else if err != nil {
		return fmt.Errorf("state directory (see WithStateDir): %w", err)
	}
	whole := false
	defer func() {
		if !whole {
			err = errors.Join(err, m.abandon())
		}
	}()
	if lost := m.catalog.Recovered(); lost != nil {
		m.fleet.Emit(fleet.Event{Type: fleet.EventState, Path: dir, Err: lost})
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if err := m.identify(); err != nil {
		return err
	}
	if err := m.build(ctx); err != nil {
		return err
	}
	m.volumes.Load(dir)
	if m.node == nil { // else by shard, when they are served
		if err := m.conductor.Load(ctx); err != nil {
			return fmt.Errorf("load catalog: %w", err)
		}
	}
	if err := m.tenancy.Load(ctx); err != nil {
		return fmt.Errorf("load catalog: %w", err)
	}
	if m.node != nil {
		if err := m.node.start(ctx); err != nil {
			return err
		}
	}
	var scanCtx context.Context
	scanCtx, m.stopScan = context.WithCancel(m.ctx)
	if err := m.survey.Watch(scanCtx); err != nil {
		m.fleet.Emit(fleet.Event{Type: fleet.EventWatch, Err: err})
	}
	began := time.Now()
	if err := m.survey.Scan(ctx); err != nil {
		return fmt.Errorf("first discovery: %w", err)
	}
	took := time.Since(began)
	m.warnIfEmpty()
	if err := loadDrills(ctx, m.drills, m.catalog); err != nil {
		return err
	}
	m.conductor.Start()
	m.survey.Go(scanCtx, took)
	m.joined.Go(func() { m.catalog.Run(m.ctx, catalogInterval) })
	if m.drills != nil {
		m.joined.Go(func() { m.drills.Run(scanCtx, filepath.Join(m.dir, spoolDir)) })
	}
	if m.fleetLog != nil {
		m.joined.Go(func() { m.fleetLog.UnpackFormer(scanCtx) })
	}
	if m.cfg.replica != nil {
		m.joined.Go(func() { m.tenancy.Run(scanCtx) })
	}
	m.joined.Go(func() { m.evictor.Run(scanCtx) })
	if m.node != nil {
		m.joined.Go(func() { m.node.roster.Run(m.ctx) })
	}
	whole = true
	return nil
}

// abandon ends what a Start that failed has begun.
func (m *Manager) abandon() (err error) {
	if m.cancel != nil {
		m.cancel()
	}
	err = m.survey.Wait(context.Background())
	if m.node != nil {
		m.node.stop()
		err = errors.Join(err, m.node.Leave(context.Background()))
	}
	if m.opener != nil {
		err = errors.Join(err, m.opener.Close(context.Background()))
	}
	if m.fleetLog != nil {
		m.fleetLog.Stop()
	}
	return errors.Join(err, m.catalog.Abandon())
}

// build makes what works on the databases, in the state directory.
func (m *Manager) build(ctx context.Context) error {
	c := &m.cfg
	spool := filepath.Join(m.dir, spoolDir)
	if err := resetDir(spool); err != nil {
		return err
	}
	self := session()
	sessions, err := m.catalog.Begin(ctx, self)
	if err != nil {
		return err
	}
	if sessions.Copied() {
		m.fleet.Emit(fleet.Event{Type: fleet.EventState, Path: m.dir, Err: errCopied})
	}
	// isOurs reports whether a run of a node was one of this state directory.
	isOurs := func(node, session uint32) bool {
		return node == uint32(sessions.NodeID()) && sessions.Has(session)
	}
	age := &fsid.AgeClock{Keep: max(c.retention, c.l0Retention)}
	age.Trusted(c.now())
	m.cache = levels.NewCache(c.cacheSize)
	replicator := replicate.New(replicate.Config{
		Ship: ship.New(ship.Config{
			SpoolDir: spool,
			Node:     uint32(sessions.NodeID()), Session: self,
			Mine: isOurs, Copied: sessions.WasCopied(), Boot: c.boot, Window: c.grace / 2,
			Now: c.now, Stat: func(path string) (fsid.Fingerprint, error) { return c.stat(path, "") },
		}),
		Replicated: c.replica != nil,
		Cache:      m.cache, Logs: m.logs, Mine: isOurs, Aged: age.Trusted,
		Now: c.now, Boot: c.boot, Stat: c.stat, Flush: c.flush, Logger: c.logger,
		PagesDir: filepath.Join(m.dir, "pages"),
		Grace:    c.grace, RetentionInterval: c.retentionInterval, MaxBackoff: maxBackoff,
		CheckpointPages: c.checkpointPages, MaxWALSize: c.maxWALSize,
		RestoreOnOpen: c.restoreOpen, TakeOverUnknown: c.takeover == TakeoverUnknown,
		UnpackInterval: c.logged().UnpackInterval, UnpackSize: c.logged().UnpackSize, FleetLog: c.logged().Path, OtherLog: m.otherLog,
	})
	life, ended, err := m.remember(sessions.Copied())
	if err != nil {
		return err
	}
	if m.fleetLog, err = m.openFleetLog(life, ended); err != nil {
		return err
	}
	m.conductor = conduct.New(conduct.Config{
		Fleet: m.fleet, Replicator: replicator, Catalog: m.catalog, Volumes: m.volumes, Logs: m.logs,
		Age: age, Lag: &m.lag, Replicated: c.replica != nil, Client: m.client, Prefix: c.prefix, Locate: m.survey.Locate, Hurry: m.fleetLog.Hurry,
		Now: c.now, Stat: c.stat, Workers: c.uploadConcurrency, Levels: c.policy(), Policy: c.asks(), Stopped: m.ctx.Done(), Traced: c.tracer != nil,
	})
	if m.fleetLog != nil {
		m.fleetLog.SetConductor(m.conductor)
	}
	if c.maxDisk > 0 {
		m.evictor = evict.New(evict.Config{Fleet: m.fleet, MaxDisk: c.maxDisk, Workers: min(evictWorkers, c.uploadConcurrency)})
	}
	statements, connHook := c.prepare()
	m.opener = opener.New(opener.Config{
		Fleet: m.fleet, Conductor: m.conductor, Replicator: replicator, Volumes: m.volumes, Logs: m.logs,
		Replicated: c.replica != nil, RestoreOnOpen: c.restoreOpen, TakeOverUnknown: c.takeover == TakeoverUnknown,
		Check: c.integrity.depth(), Unchecked: c.integrity == IntegrityNone, SpoolDir: spool,
		MaxOpen: c.maxOpen, IdleTimeout: c.idleTimeout, BusyTimeout: c.busyTimeout, MaxConns: c.maxConns, LeaseTraces: c.leaseTraces,
		Locate: m.survey.Locate, Prefix: c.prefix, Client: m.client, Hook: c.hook(),
		Statements: statements, ConnHook: connHook,
		Shared: c.cluster != nil,
		Now:    c.now, Boot: c.boot, Stat: c.stat, Warn: c.logger.Warn,
		Room: m.evictor.Room, Full: m.evictor.Full, DropEmptyLogs: c.maxDisk > 0,
	})
	m.conductor.SetPool(m.opener)
	m.evictor.SetPool(m.opener.TryVacate, func() int { return m.opener.Stats().Open })
	m.tenancy = m.newTenancy(replicator)
	m.survey.Begin(m.conductor, surveyed(c.discoverers, m.dir))
	m.node, err = m.newNode(life, ended)
	return err
}

// evictWorkers is how many local files are deleted at once, each after a commit of the catalog
// that they share.
const evictWorkers = 16

// newTenancy makes what takes databases out of service, and away.
func (m *Manager) newTenancy(r *replicate.Replicator) *tenancy.Tenancy {
	c := &m.cfg
	cfg := tenancy.Config{
		Fleet: m.fleet, Conductor: m.conductor, Opener: m.opener, Catalog: m.catalog,
		Locate: m.survey.Locate, Prefix: c.prefix, Client: c.prefixClient, Reading: c.historyClient,
		FleetLog: c.logged().Path, DropPages: r.DropPages, Retention: c.removedRetention, Now: c.now,
		Age: &fsid.AgeClock{Keep: c.removedRetention},
	}
	if m.fleetLog != nil {
		cfg.Forget, cfg.Unpack = m.fleetLog.Erase, m.fleetLog.UnpackFor
	}
	if c.cluster != nil {
		cfg.Serves = func(db registry.Database) bool {
			at := c.prefix(db)
			return at.Err == nil && m.fleet.Serves(at.Shard)
		}
	}
	return tenancy.New(cfg)
}

// identityFile is the memory of a Manager's replica, in the state directory.
const identityFile = "replica.json"

// identify gives the replica the memory of its identity, if it has one.
func (m *Manager) identify() error {
	r, ok := m.cfg.replica.(ReplicaIdentity)
	if !ok {
		return nil
	}
	memory, err := identity.Open(filepath.Join(m.dir, identityFile), func() error {
		if m.ctx.Err() != nil {
			return ErrClosed
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.Identify(memory)
}

// warnIfEmpty says that nothing was found, which is more often a wrong pattern or volume
// than a fleet without databases.
func (m *Manager) warnIfEmpty() {
	if m.fleet.Len() == 0 && m.ScanErr() == nil {
		m.fleet.Emit(fleet.Event{Type: fleet.EventEmpty, Path: m.volumes.String(),
			Err: errors.New("no database was found; are the patterns right, and the volumes mounted?")})
	}
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
// be called again to go on where it was. If it ends while handles are not released, the
// error wraps ErrInUse and names the databases, the first ten by ID, and how many handles
// there are; WithLeaseTraces adds where they were taken. If the replica refuses, Close gives up on
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
		var wait <-chan struct{}
		var goOn bool
		var left error
		m.fleet.Life(func(l *life.Life) {
			wait, goOn = l.Close()
			left = l.Left
		})
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
	var l *life.Life // Stage belongs to this Close, and so does Left after it is set
	m.fleet.Life(func(of *life.Life) { l = of })
	late := func(err error) error {
		return errors.Join(fmt.Errorf("multidb: close: %w", context.Cause(ctx)), err)
	}
	if l.Stage == life.Drain {
		if m.node != nil {
			m.node.stop()
		}
		m.stopScan()
		if err := m.survey.Wait(ctx); err != nil {
			return late(notDurable(m.conductor.Undrained(err)))
		}
		if err := m.tenancy.Close(ctx); err != nil {
			return late(notDurable(m.conductor.Undrained(err)))
		}
		if err := m.drills.Wait(ctx); err != nil {
			return late(notDurable(m.conductor.Undrained(err)))
		}
		if err := m.opener.Close(ctx); err != nil && ctx.Err() != nil {
			return errors.Join(fmt.Errorf("multidb: close: %w", err), notDurable(m.conductor.Undrained(ctx.Err())))
		} else if err != nil {
			m.fleet.Emit(fleet.Event{Type: fleet.EventState, Err: fmt.Errorf("close databases: %w", err)})
		}
		l.Stage = life.Ship
	}
	if l.Stage == life.Ship {
		left := notDurable(m.conductor.Drain(ctx))
		if m.fleetLog != nil {
			left = errors.Join(left, m.fleetLog.Close(ctx))
		}
		m.node.leave(ctx)
		if ctx.Err() != nil {
			return late(left)
		}
		m.fleet.Life(func(l *life.Life) { l.Left = left })
		l.Stage = life.Stop
	}
	if l.Stage == life.Stop {
		if err := m.conductor.Stop(ctx); err != nil {
			return late(l.Left)
		}
		m.conductor.RecordAll()
		l.Stage = life.Record
	}
	if l.Stage == life.Record {
		if err := m.catalog.Close(ctx); err != nil {
			return errors.Join(fmt.Errorf("multidb: close catalog: %w", err), l.Left)
		}
		m.cancel()
		l.Stage = life.End
	}
	if err := ctxio.Wait(ctx, &m.joined); err != nil {
		return late(l.Left)
	}
	if c, ok := m.cfg.replica.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	m.fleet.Life((*life.Life).Closed)
	return l.Left
}

// notDurable is the error of databases that may not be durable; nil if there are none.
func notDurable(left []conduct.Unshipped) error {
	var errs []error
	for _, u := range left {
		errs = append(errs, opError("close", ID(u.ID), fmt.Errorf("%w: %w", ErrNotDurable, u.Err)))
	}
	return errors.Join(errs...)
}

// errCopied is the error of an event, once, of a state directory that is found to be a copy.
var errCopied = errors.New("the state directory is a copy of another one, or on another machine now; what its former runs wrote is compared before anything is written")

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

// replicated is a known database of a Manager with a replica.
func (m *Manager) replicated(ctx context.Context, id ID) (*fleet.Entry, error) {
	if m.cfg.replica == nil {
		return nil, ErrNoReplica
	}
	return m.lookup(ctx, id)
}

// lookup returns a known database. One of another node is a NotOwnerError; ctx bounds the
// waiting for one that is about to be this node's. Nil: nobody waits.
func (m *Manager) lookup(ctx context.Context, id ID) (e *fleet.Entry, err error) {
	err = m.node.elsewhere(ctx, id, func() (err error) {
		e, err = m.fleet.Lookup(string(id))
		return err
	})
	return e, err
}

// servesReplica returns nil between Start and Close of a Manager with a replica.
func (m *Manager) servesReplica() error {
	if m.cfg.replica == nil {
		return ErrNoReplica
	}
	return m.fleet.Serving()
}
