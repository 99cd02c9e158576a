package multidb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb/internal/boottime"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/pragma"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/ship"
)

// Option configures a Manager. Each validates its arguments; New joins the errors.
type Option func(*config) error

// config is what the options set. Every default is in defaults.
type config struct {
	discoverers []Discoverer
	replica     ReplicaFactory
	stateDir    string

	missingRoots   bool
	emptiedVolumes bool

	syncInterval     time.Duration
	coldSyncInterval time.Duration
	coldSyncMode     ColdSyncMode
	scanInterval     time.Duration
	watch            bool
	maxHot           int
	hotDuration      time.Duration
	recentModify     time.Duration
	accessCount      int
	policyOf         func(Database) Policy // nil: none has one of its own

	maxOpen     int
	idleTimeout time.Duration
	maxConns    int
	busyTimeout time.Duration
	leaseTraces bool
	restoreOpen bool
	takeover    TakeoverPolicy
	integrity   IntegrityCheck // of restoreOpen
	openHook    func(context.Context, Database, *sql.DB) error
	pragmas     []pragma.Pragma // of the pool's connections, each name once
	connHook    func(context.Context, Database, *sql.Conn) error

	fleetLog          *FleetLogConfig // nil: every tenant writes to its own prefix
	cluster           *ClusterConfig  // nil: this process has the whole fleet
	uploadConcurrency int
	snapshotInterval  time.Duration
	retention         time.Duration
	retentionInterval time.Duration
	l0Retention       time.Duration
	checkpointPages   int
	maxWALSize        int64
	maxTotalWALSize   int64
	removedRetention  time.Duration
	maxDisk           int64 // of all local files; 0: no limit
	cacheSize         int64
	drills            *DrillOptions // nil: none

	logger   *slog.Logger
	observer func(Event)
	tracer   Tracer // nil: none
	now      func() time.Time
	boot     func() time.Duration // counts the time in which the machine was suspended
	steady   func() time.Duration // boot, which goes on in virtual time too
	grace    time.Duration        // for how long every level 0 file stays at least
	flush    func(*os.File) error // of a WAL, to disk
	stat     func(path, suffix string) (fsid.Fingerprint, error)
	rand     func() float64 // in [0,1)
}

func defaults() config {
	return config{
		syncInterval:      time.Second,
		coldSyncInterval:  30 * time.Second,
		scanInterval:      30 * time.Second,
		watch:             true,
		maxHot:            1000,
		hotDuration:       5 * time.Minute,
		recentModify:      5 * time.Minute,
		accessCount:       10,
		maxOpen:           256,
		idleTimeout:       time.Minute,
		maxConns:          4,
		busyTimeout:       5 * time.Second,
		uploadConcurrency: 64,
		snapshotInterval:  24 * time.Hour,
		retention:         24 * time.Hour,
		retentionInterval: time.Hour,
		l0Retention:       5 * time.Minute,
		removedRetention:  30 * 24 * time.Hour,
		checkpointPages:   1000,
		maxWALSize:        64 << 20,
		maxTotalWALSize:   8 << 30,
		cacheSize:         32 << 20,
		logger:            slog.New(slog.DiscardHandler),
		now:               time.Now,
		boot:              boottime.Now,
		steady:            boottime.Steady(),
		grace:             failpoint.Duration("GRACE", 2*ship.DefaultWindow),
		flush:             (*os.File).Sync,
		stat:              fsid.StatWith,
		rand:              rand.Float64,
	}
}

// statePath is where the catalog is.
func (c *config) statePath() (string, error) {
	dir := c.stateDir
	for _, d := range c.discoverers {
		if dir != "" {
			break
		}
		if root := rootOf(d); root != "" {
			dir = filepath.Join(root, ".multidb")
		}
	}
	if dir == "" {
		return "", fmt.Errorf("%w: the discoverers have no root; add multidb.WithStateDir(dir)", ErrInvalidOption)
	}
	return filepath.Abs(dir)
}

// prefix asks the factory for the place of a database.
func (c *config) prefix(db registry.Database) (at fleet.Prefix) {
	if p, ok := c.replica.(ReplicaPrefixer); ok {
		at.Path, at.Err = p.Prefix(databaseOf(db))
	} else if r, ok := c.replica.(ReplicaObjects); ok && c.fleetLog != nil {
		at.Path, at.Err = r.Dir(databaseOf(db)) // by which the log says what is durable
	}
	if c.cluster != nil && at.Err == nil {
		var dir string
		if dir, at.Err = c.replica.(ReplicaObjects).Dir(databaseOf(db)); at.Err == nil {
			at.Shard = format.Shard(dir)
		}
	}
	return at
}

// hook is the open hook as the inner packages call it; nil: none.
func (c *config) hook() func(context.Context, registry.Database, *sql.DB) error {
	if c.openHook == nil {
		return nil
	}
	return func(ctx context.Context, db registry.Database, conn *sql.DB) error {
		return c.openHook(ctx, databaseOf(db), conn)
	}
}

// prepare is what the pool's connections are made with, as the inner packages take it.
func (c *config) prepare() (statements []string, hook func(context.Context, registry.Database, *sql.Conn) error) {
	for _, p := range c.pragmas {
		statements = append(statements, p.SQL())
	}
	if c.connHook != nil {
		hook = func(ctx context.Context, db registry.Database, conn *sql.Conn) error {
			return c.connHook(ctx, databaseOf(db), conn)
		}
	}
	return statements, hook
}

func invalid(option, format string, args ...any) error {
	return fmt.Errorf("multidb: %s: %w: %s", option, ErrInvalidOption, fmt.Sprintf(format, args...))
}

func positive(option string, d time.Duration, set func(*config, time.Duration)) Option {
	return func(c *config) error {
		if d <= 0 {
			return invalid(option, "%v; want a duration above zero", d)
		}
		set(c, d)
		return nil
	}
}

func atLeastOne(option string, n int, set func(*config, int)) Option {
	return func(c *config) error {
		if n < 1 {
			return invalid(option, "%d; want at least 1", n)
		}
		set(c, n)
		return nil
	}
}

// WithDiscoverer adds a source of databases; at least one is required. Where
// two report the same database, the one given first counts.
func WithDiscoverer(d Discoverer) Option {
	return func(c *config) error {
		if d == nil {
			return invalid("WithDiscoverer", "nil; want for example multidb.Glob(\"/data/{{project}}/databases/{{database}}.db\")")
		}
		c.discoverers = append(c.discoverers, d)
		return nil
	}
}

// WithReplica sets where databases are replicated. Without a replica the
// Manager only discovers, tiers and pools.
func WithReplica(f ReplicaFactory) Option {
	return func(c *config) error {
		if f == nil {
			return invalid("WithReplica", "nil factory")
		}
		if c.replica != nil {
			return invalid("WithReplica", "a replica is set already; a Manager has one")
		}
		c.replica = f
		return nil
	}
}

// WithS3 is WithReplica(NewS3Replica(cfg)).
func WithS3(cfg S3Config) Option {
	return func(c *config) error {
		f, err := NewS3Replica(cfg)
		if err != nil {
			return err
		}
		return WithReplica(f)(c)
	}
}

// WithStateDir sets the directory of the catalog and of temporary files, which
// one Manager at a time may use. Losing it costs at most one resync per
// database. Default: .multidb under the first discovery root.
func WithStateDir(dir string) Option {
	return func(c *config) error {
		if dir == "" {
			return invalid("WithStateDir", "empty path")
		}
		c.stateDir = dir
		return nil
	}
}

// WithMissingRoots sets whether Start accepts a discovery root that does not
// exist, such as a volume that is mounted later: its databases are found when it
// is there, until then Healthy is false, and no database is made or restored in
// it. The state directory must not lie in a root that is missing; see
// WithStateDir. Default false: Start fails with ErrRootMissing.
func WithMissingRoots(allow bool) Option {
	return func(c *config) error { c.missingRoots = allow; return nil }
}

// WithEmptiedVolumes sets how Start treats a volume that is not the one that the
// state directory remembers, or of which nothing is left. True says that its
// databases were deleted, or the disk replaced, on purpose: they are forgotten, and
// may be created again or restored. Use it for one start, after checking the mounts.
// Default false: the volume counts as not mounted. Its databases fail with
// ErrMissing, none is forgotten, and none is made in its place.
func WithEmptiedVolumes(allow bool) Option {
	return func(c *config) error { c.emptiedVolumes = allow; return nil }
}

// WithSyncInterval sets how often a hot database is shipped while its WAL
// moves. Default 1s.
func WithSyncInterval(d time.Duration) Option {
	return positive("WithSyncInterval", d, func(c *config, d time.Duration) { c.syncInterval = d })
}

// WithColdSyncInterval sets how often an active database is shipped while MaxHot
// others are more active, and how soon an old change is shipped that was found in
// a cold one (but see WithColdSyncMode). Default 30s.
func WithColdSyncInterval(d time.Duration) Option {
	return positive("WithColdSyncInterval", d, func(c *config, d time.Duration) { c.coldSyncInterval = d })
}

// WithScanInterval sets how often the discoverers are asked. Default 30s. While
// changes are watched for, a discoverer that takes long is asked less often, so
// that scans take half a percent of the time at most.
func WithScanInterval(d time.Duration) Option {
	return positive("WithScanInterval", d, func(c *config, d time.Duration) { c.scanInterval = d })
}

// WithWatch sets whether changes are watched for between scans, by the
// discoverers that can (DiscovererWatcher): Glob's notices a new database, and
// another process's write to a cold one, within milliseconds. It costs one
// inotify watch per directory, about 1 KB in the kernel; if the watches run out,
// directories are polled, and EventWatch says so. Default true; with false only
// scans find such changes.
func WithWatch(on bool) Option {
	return func(c *config) error { c.watch = on; return nil }
}

// WithMaxHot bounds how many databases stream at the sync interval; more active
// ones are served at the cold sync interval: slower, never dropped. Default 1000.
func WithMaxHot(n int) Option {
	return atLeastOne("WithMaxHot", n, func(c *config, n int) { c.maxHot = n })
}

// WithHotDuration sets how long after its last write a database stays hot.
// Default 5m.
func WithHotDuration(d time.Duration) Option {
	return positive("WithHotDuration", d, func(c *config, d time.Duration) { c.hotDuration = d })
}

// WithPromotion sets what makes a cold database hot besides a write through the
// pool: a change found by a scan that is younger than recentModify (default 5m;
// 0: never), or accessCount calls of Acquire within the hot duration (default
// 10; 0: never).
func WithPromotion(recentModify time.Duration, accessCount int) Option {
	return func(c *config) error {
		if recentModify < 0 || accessCount < 0 || accessCount > 65535 {
			return invalid("WithPromotion", "(%v, %d); want a duration and a count of 0 to 65535", recentModify, accessCount)
		}
		c.recentModify, c.accessCount = recentModify, accessCount
		return nil
	}
}

// WithMaxOpen bounds how many databases the pool has open at once. Default 256.
func WithMaxOpen(n int) Option {
	return atLeastOne("WithMaxOpen", n, func(c *config, n int) { c.maxOpen = n })
}

// WithIdleTimeout sets how long a database that nobody uses stays open.
// Default 1m; 0: until another database needs its place.
func WithIdleTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return invalid("WithIdleTimeout", "%v; want 0 or a duration above zero", d)
		}
		c.idleTimeout = d
		return nil
	}
}

// WithMaxConns bounds the connections of one open database; each costs about
// three descriptors. Whoever needs one more waits until one is free, see Handle.DB. Default 4.
func WithMaxConns(n int) Option {
	return atLeastOne("WithMaxConns", n, func(c *config, n int) { c.maxConns = n })
}

// WithBusyTimeout sets how long a statement of the application waits for
// another writer. Default 5s.
func WithBusyTimeout(d time.Duration) Option {
	return positive("WithBusyTimeout", d, func(c *config, d time.Duration) { c.busyTimeout = d })
}

// WithOpenHook is called once each time the pool opens a database, before
// anybody gets it: for the schema, or to check its version. An error fails the
// Acquire, and so does a panic, with its stack. Its context ends when the Manager closes. Pragmas that belong to a
// connection must not be set here, since a database has several: see WithPragma.
//
// It is called again at each opening, also of a database whose making was interrupted by a
// crash. A new database whose hook fails is not made: its file goes, with what the hook wrote.
// After a crash in the hook its commits stay, and are shipped as all commits are: make them one
// transaction, if a restore is never to have half of them.
func WithOpenHook(fn func(ctx context.Context, db Database, conn *sql.DB) error) Option {
	return func(c *config) error {
		if fn == nil {
			return invalid("WithOpenHook", "nil function")
		}
		c.openHook = fn
		return nil
	}
}

// WithRestoreOnOpen makes Acquire restore a database whose file is missing from
// the replica, once for any number of callers; a new one is made when the
// replica has nothing. It is at most a handful of requests, and no listing for a
// database whose file went while this Manager knew it. Default: off; for a missing
// file a new database is made if the replica has no backup of it, else Acquire
// fails with ErrBackupExists.
func WithRestoreOnOpen() Option {
	return func(c *config) error { c.restoreOpen = true; return nil }
}

// WithIntegrityCheck says how a database that WithRestoreOnOpen restores is
// checked. Warnings of the check are reported as EventIntegrity. Default: IntegrityFull.
func WithIntegrityCheck(check IntegrityCheck) Option {
	return func(c *config) error {
		if !check.valid() {
			return invalid("WithIntegrityCheck", "%d; want IntegrityFull, IntegrityQuick or IntegrityNone", int(check))
		}
		c.integrity = check
		return nil
	}
}

// WithUploadConcurrency bounds how many databases are worked on at once, which
// bounds uploads, memory (2 MiB each) and CPU. Default 64.
func WithUploadConcurrency(n int) Option {
	return atLeastOne("WithUploadConcurrency", n, func(c *config, n int) { c.uploadConcurrency = n })
}

// WithSnapshotInterval sets how old the last snapshot of a changing database may
// become. Default 24h. One that does not change gets none.
func WithSnapshotInterval(d time.Duration) Option {
	return positive("WithSnapshotInterval", d, func(c *config, d time.Duration) { c.snapshotInterval = d })
}

// WithRetention sets how far back a restore can reach. Default 24h. The newest
// state is always kept.
func WithRetention(d time.Duration) Option {
	return positive("WithRetention", d, func(c *config, d time.Duration) { c.retention = d })
}

// WithRetentionInterval sets how often the Manager looks for files that are older
// than the retention. Default 1h.
func WithRetentionInterval(d time.Duration) Option {
	return positive("WithRetentionInterval", d, func(c *config, d time.Duration) { c.retentionInterval = d })
}

// WithL0Retention sets for how long every single transaction can be restored.
// Further back, within the retention, a restore to a point in time may be off by
// this much at most. Default 5m. Whatever is set here, a level 0 file stays for 5
// minutes: another machine that writes to the same prefix relies on it.
func WithL0Retention(d time.Duration) Option {
	return positive("WithL0Retention", d, func(c *config, d time.Duration) { c.l0Retention = d })
}

// WithCheckpointPages sets the size of a WAL, in pages, from which it is
// checkpointed once it is shipped. Default 1000, as in SQLite.
func WithCheckpointPages(n int) Option {
	return atLeastOne("WithCheckpointPages", n, func(c *config, n int) { c.checkpointPages = n })
}

// WithMaxWALSize bounds, in bytes, the WAL of a database that cannot be shipped
// because the replica does not accept it. Past it the WAL is checkpointed: the
// local data stays whole, the states in between are missing from the replica, and
// the database is shipped whole when the replica is back. Default 64 MiB.
func WithMaxWALSize(n int64) Option {
	return func(c *config) error {
		if n < 1<<16 {
			return invalid("WithMaxWALSize", "%d; want at least 65536 bytes", n)
		}
		c.maxWALSize = n
		return nil
	}
}

// WithMaxTotalWALSize bounds, in bytes, the WALs of all databases together, as
// they were when last looked at. Past it the largest are checkpointed: first those
// that the replica has (this loses nothing), then those that it does not accept,
// as with WithMaxWALSize. A database that becomes quiet while the replica is away
// cannot go cold, and its WAL stays and counts. Default 8 GiB; 0: no bound.
func WithMaxTotalWALSize(n int64) Option {
	return func(c *config) error {
		if n != 0 && n < 1<<16 {
			return invalid("WithMaxTotalWALSize", "%d; want 0 or at least 65536 bytes", n)
		}
		c.maxTotalWALSize = n
		return nil
	}
}

// WithCacheSize bounds, in bytes for the whole fleet, the memory in which files
// of up to 64 KiB stay between their upload and their compaction. Such a file is
// compacted without a download; each of the others costs one GET. A busy
// database needs about 60 times the size of its commits, compressed. Default
// 32 MiB; 0: none.
func WithCacheSize(n int64) Option {
	return func(c *config) error {
		if n < 0 {
			return invalid("WithCacheSize", "%d; want 0 or a number of bytes above zero", n)
		}
		c.cacheSize = n
		return nil
	}
}

// WithDrills proves in the background that backups restore: at all times of the day a
// database is restored, as Restore does it, to a file in the state directory, checked
// (IntegrityFull), compared with the transaction that the replica had acknowledged, and
// deleted. Those that were never proved come first, by their ID, then whoever was proved the
// longest ago; a failed one is tried again after a day. When each was proved is kept in the
// state directory.
//
// One is restored at a time. None is begun where the file system of the state directory lacks
// its size and 64 MiB, or WithMaxDisk its size: it is tried again after an hour. A drill costs what a restore costs: a listing and a GET for each
// file, with a fleet log what reading that costs too. Where the replica does not answer, or
// the disk is full, nothing is said about the backup: it is tried again after an hour.
//
// A backup that does not restore is EventDrillFailed, Status.ProvedErr, and a reason of
// Healthy until a drill succeeds. It is restored a second time before that is said. Default:
// no drills. It needs a replica.
func WithDrills(opt DrillOptions) Option {
	return func(c *config) error {
		switch {
		case opt.PerDay < 1 || opt.PerDay > 1_000_000:
			return invalid("WithDrills", "PerDay is %d; want 1 to 1,000,000 drills a day", opt.PerDay)
		case opt.MaxAge < 0:
			return invalid("WithDrills", "MaxAge is %v; want 0 or a duration above zero", opt.MaxAge)
		}
		c.drills = &opt
		return nil
	}
}

// WithLogger sets the logger. It gets one line per change of state, never one
// per sync. Default: none.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return invalid("WithLogger", "nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithTracer sets what is told of Acquire, Sync, Restore and each request to the store, if the
// replica is a ReplicaTracer, as one of S3 is. It is set in the replica by New, so a replica that
// Managers share has that of the last one. Default: none, which costs a comparison with nil.
func WithTracer(t Tracer) Option {
	return func(c *config) error {
		if t == nil {
			return invalid("WithTracer", "nil tracer; leave the option out for none")
		}
		c.tracer = t
		return nil
	}
}

// WithObserver is called for every Event, in no particular order between
// databases, from the Manager's goroutines: it must be quick and may be called
// concurrently. It must not call the Manager's Close.
//
// A panic in it ends the process if it occurs in one of the Manager's goroutines; in a
// call of yours it reaches you, and while a database is being opened it fails the
// Acquire. If the process continues, so does the Manager, with the other events.
func WithObserver(fn func(Event)) Option {
	return func(c *config) error {
		if fn == nil {
			return invalid("WithObserver", "nil function")
		}
		c.observer = fn
		return nil
	}
}

// withClock sets the clock, for tests.
func withClock(now func() time.Time) Option {
	return func(c *config) error { c.now = now; return nil }
}

// withBoot sets the clock that counts the time in which the machine was suspended,
// and for how long level 0 files stay at least, for tests.
func withBoot(boot func() time.Duration, grace time.Duration) Option {
	return func(c *config) error { c.boot, c.steady, c.grace = boot, boot, grace; return nil }
}

// withFlush sets what flushes a WAL to disk, for tests.
func withFlush(flush func(*os.File) error) Option {
	return func(c *config) error { c.flush = flush; return nil }
}

// withStat replaces stat, for tests whose clock is not the file system's.
func withStat(stat func(path string) (fsid.Fingerprint, error)) Option {
	return func(c *config) error {
		c.stat = func(path, suffix string) (fsid.Fingerprint, error) { return stat(path + suffix) }
		return nil
	}
}

// withRand sets the source of jitter, for tests that can be repeated exactly.
func withRand(rand func() float64) Option {
	return func(c *config) error { c.rand = rand; return nil }
}

// build applies the options and checks them against each other.
func build(opts []Option) (config, error) {
	c := defaults()
	var errs []error
	for _, o := range opts {
		if o == nil {
			errs = append(errs, invalid("New", "nil option"))
			continue
		}
		errs = append(errs, o(&c))
	}
	if len(c.discoverers) == 0 {
		errs = append(errs, invalid("New", "no discoverer; add multidb.WithDiscoverer(multidb.Glob(\"/data/{{project}}/databases/{{database}}.db\"))"))
	}
	if c.coldSyncInterval < c.syncInterval {
		errs = append(errs, invalid("WithColdSyncInterval", "%v is shorter than the sync interval of %v", c.coldSyncInterval, c.syncInterval))
	}
	for _, d := range c.discoverers {
		if v, ok := d.(validator); ok {
			errs = append(errs, v.validate())
		}
	}
	if vars, ok := c.replica.(ReplicaVars); ok {
		for _, d := range c.discoverers {
			if dv, ok := d.(DiscovererVars); ok {
				errs = append(errs, dv.CheckVars(vars.Vars()))
			}
		}
	}
	errs = append(errs, c.checkCluster(), c.checkFleetLog(), c.checkMaxDisk(), c.checkDrills())
	return c, errors.Join(errs...)
}

// checkDrills checks WithDrills against the other options.
func (c *config) checkDrills() error {
	if c.drills != nil && c.replica == nil {
		return invalid("WithDrills", "there is no replica; add multidb.WithReplica")
	}
	return nil
}

// policy returns the options that the levels at the replica depend on.
func (c *config) policy() levels.Policy {
	return levels.Policy{
		Grace:            c.grace,
		L0Retention:      c.l0Retention,
		Granularity:      c.l0Retention,
		Retention:        c.retention,
		SnapshotInterval: c.snapshotInterval,
	}
}

// checkMaxDisk compares the option with the replica.
func (c *config) checkMaxDisk() error {
	if c.maxDisk > 0 && c.replica == nil {
		return invalid("WithMaxDisk", "there is no replica from where a deleted file could come back; add multidb.WithReplica")
	}
	return nil
}
