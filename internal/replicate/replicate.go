// Package replicate takes one database through one run: it ships what was committed since
// the last run, compacts and deletes files at the replica, and truncates the log where
// nobody needs it. It knows nothing of the fleet, of tiers, of who waits, or of who has the
// database open: a run gets an Input, and returns what it found as a Report. "The log" is
// the WAL file throughout; to cut it is to checkpoint it and truncate it to nothing.
//
// A Replicator is shared by all databases and safe for concurrent use. A State is owned by
// one goroutine at a time: by the run in progress, and between runs by whoever keeps it.
package replicate

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/superfly/ltx"
)

// Errors of a run, beside those of ship, sqlitedb and the replica.
var (
	// ErrConflict: the prefix at the replica is another database's.
	ErrConflict = errors.New("replica prefix belongs to another database")
	// ErrBackupExists: the replica has a backup of a database that was just created.
	ErrBackupExists = errors.New("the replica has a backup of this database")
	// ErrReplacing: replacing the local file failed half-way, so that the old file, the
	// new one or none may be at the path.
	ErrReplacing = errors.New("the local file could not be replaced by the replica's")
)

// Config is what all databases share. Every field is required, but for Cache.
type Config struct {
	Ship *ship.Shipper
	// Replicated is false where there is no replica: then a run only looks whether
	// something was written, and keeps the log short.
	Replicated bool
	// Cache keeps the bytes of small files for their compaction; nil: none.
	Cache *levels.Cache
	// Logs knows which log belongs to which database file.
	Logs *Logs
	// Mine reports whether a session of a node was one of this state directory, and not
	// of a copy.
	Mine func(node, session uint32) bool
	// Aged returns the time from which the age of files at the replica is counted: now,
	// or an earlier time if the clock was set forward.
	Aged func(now time.Time) time.Time
	Now  func() time.Time
	// Boot is a clock that counts the time in which the machine was suspended.
	Boot func() time.Duration
	// Stat takes the fingerprint of the file at path+suffix without opening it.
	Stat func(path, suffix string) (fsid.Fingerprint, error)
	// Flush writes a file to disk.
	Flush func(*os.File) error
	// PagesDir has the page hashes of databases at rest.
	PagesDir string

	// Grace is how long every level 0 file is kept at least; see levels.Policy.
	Grace             time.Duration
	RetentionInterval time.Duration // between two deletions at one prefix
	MaxBackoff        time.Duration // between two attempts at maintenance
	CheckpointPages   int           // a log of so many pages or more is checkpointed
	MaxWALSize        int64         // in bytes; a longer log is cut even if it cannot be shipped

	// UnpackInterval is how often the prefix of a hot database gets what a Deferred client
	// has taken, and UnpackSize the size of a tail from which it gets it sooner, in bytes.
	UnpackInterval time.Duration
	UnpackSize     int64
	// FleetLog is the directory of the log that a Deferred client writes to, for
	// metadata.json.
	FleetLog string
	// OtherLog returns an error if a fleet log that the clients do not read has transactions
	// of a database that its prefix lacks: a file without them must not be replicated.
	OtherLog func(ctx context.Context, id, dir string) error
	// RestoreOnOpen: if another writer has gone on from the local file, and the file has
	// nothing that the replica lacks, that is no error: the file is brought up to date
	// when it is opened next.
	RestoreOnOpen bool
	// TakeOverUnknown: the local file counts if it cannot be found out who wrote last.
	TakeOverUnknown bool
	Logger          *slog.Logger
}

// Replicator runs databases.
type Replicator struct {
	cfg Config
	// runs has values of type *run. Without it, every run of an idle database allocates:
	// TestLookingAtAnIdleHotDatabaseAllocatesNothing, in the root, measures that.
	runs sync.Pool
}

// New returns a Replicator.
func New(cfg Config) *Replicator { return &Replicator{cfg: cfg} }

// Order is what a run is to do besides shipping.
type Order uint8

const (
	// OrderNone: nothing.
	OrderNone Order = iota
	// OrderCheck: find out whether the local file is the newest state. If it only lags
	// behind the replica, bring it up to date. Nobody has it open.
	OrderCheck
	// OrderAdopt: the replica's state counts. The local file is set aside and replaced.
	// Nobody has it open.
	OrderAdopt
	// OrderTakeOver: the local file counts, whoever wrote to the replica last.
	OrderTakeOver
	// OrderHandOver: ship everything, and compare with the replica before the next write,
	// because another machine may go on from here.
	OrderHandOver
	// OrderCut: cut the log, if all of it is at the replica.
	OrderCut
	// OrderUnpack: leave nothing with the client that the prefix lacks.
	OrderUnpack
	// OrderEvict: delete the local file, once the prefix is proved to have all of it. Nobody
	// has it open.
	OrderEvict
)

// Input is what a run begins with.
type Input struct {
	ID     string
	Path   string
	Caller Caller
	Order  Order

	Demote  bool // it was idle: seal it if it still is
	Cold    bool // it is cold, so that nobody polls it
	Relieve bool // its log is to be cut, even if it cannot be shipped
	Asked   bool // somebody waits for it to be shipped
	// Overdue: it has something to ship, and more than one run has failed.
	Overdue bool
	// MayDefer: a change may stay local until the database is active.
	MayDefer bool
	// Evicted: the database has no local file on purpose.
	Evicted bool
	// LastErr is why the run before failed; nil if it did not.
	LastErr error
	// Levels says when the prefix is compacted and what it keeps. SyncInterval is how often
	// the database is looked at while it is hot.
	Levels       levels.Policy
	SyncInterval time.Duration
	// RetainAt is the Unix time in milliseconds from which the replica has something
	// to delete; 0: never. RetainUnknown: the policy has changed since that was found out.
	RetainAt int64
}

// RetainUnknown is an Input.RetainAt: the run finds out what there is to delete, and when.
const RetainUnknown = 1

// SetPolicy sets what a policy says.
func (in *Input) SetPolicy(p policy.Policy) {
	in.Levels, in.SyncInterval = p.Levels, p.Pace.SyncInterval
}

// Caller is what a run needs from whoever started it, and how it reports while it is in
// progress. The methods are called by the run's goroutine. A Report passed to them is valid
// until they return.
type Caller interface {
	// Client returns the client of the database's prefix.
	Client() (litestream.ReplicaClient, error)
	// Vars returns the values for metadata.json.
	Vars() map[string]string
	// Progress is called when the run has found another file at the path (Exchanged), or
	// something to ship (Pending), and perhaps how much (Backlog).
	Progress(*Report)
	// Settled is called when everything is shipped that can be, or when Err says why it
	// is not; maintenance comes next. Settled may replace Err by one that explains it
	// better.
	Settled(*Report)
	// MayCut reports whether to cut the log: there is a reason to, and nobody in this
	// process has the database open. idle is a reason: the database is unchanged, and a
	// run may have left the log behind.
	MayCut(idle bool) bool
	// MayReplace reports whether the local file may be replaced now. If it returns true,
	// nobody may open the file until the run has ended.
	MayReplace() bool
	// MayVacate returns nil if the local file may be deleted now, whose State is st. It is
	// on disk then that the database has none on purpose, and nobody may open it until the
	// run has ended.
	MayVacate(ctx context.Context, st *State) error
}

// Report is what a run has found out. It is a plain value.
type Report struct {
	Started time.Time
	Outcome schedule.Outcome
	// Err is why something is not shipped; nil if everything is, or was not to be.
	Err error
	// Maintenance is why maintenance fails; nil if it does not.
	Maintenance error
	// Failed has the errors to be counted of attempts at maintenance in this run.
	Failed []error

	Files   fsid.Files // what stat said before anything was read; zero: stat failed
	WALSize int64      // of the log in bytes, when it was last looked at
	// Position is how far the replica has come.
	Position ship.State
	// Captured is the last transaction that a Deferred client has taken; zero if all that
	// it has taken is durable. Drained means then that nothing is left to take.
	Captured ltx.TXID
	// Held: what is to be done with a database that is cold, or becomes so, could not be
	// done, because not all is durable. A run is to follow when it is.
	Held bool
	// LacksKnown: Lacks is the first transaction that a Deferred client has taken and the
	// prefix lacks; zero: the prefix has them all.
	LacksKnown bool
	Lacks      ltx.TXID

	Exchanged bool      // another file than the one that was shipped is at the path
	Pending   bool      // there was something to ship
	Drained   bool      // everything that was committed when Files was taken is at the replica
	MayDefer  bool      // as in Input, but false if this run had to look for changes all the same
	Deferred  bool      // a change was found and stays local
	Lagging   bool      // another writer has gone on from the local file, which has nothing that the replica lacks
	Shipped   int       // transactions
	Acked     time.Time // when the last of them was acknowledged, or captured; zero: none, or only the first of all, whose lag means nothing
	Backlog   Backlog   // what the replica lacked when that was last measured
	Measured  bool      // Backlog is set

	// Replaced: the replica's newest state has taken the place of the local file, or
	// Err says why it could not. Kept is where the local file is now.
	Replaced bool
	Kept     string

	// Proved: what was a cache (State.MarkCache) is the newest state.
	Proved bool

	// Vacated: the local file is deleted, as OrderEvict says; else Unvacated is why it is not,
	// though nothing is wrong with the database.
	Vacated   bool
	Unvacated error

	// TookOver: OrderTakeOver is carried out, except that its changes may not be shipped
	// yet.
	TookOver bool

	// RetainKnown: RetainAt is when the replica has something to delete; zero: never.
	RetainKnown bool
	RetainAt    time.Time

	// Sized: Size is what the prefix holds.
	Sized bool
	Size  Size

	Counts Counts
	Events []Event // in their order
}

// Backlog is what the replica of a database lacks, in bytes.
type Backlog struct {
	WALEnd int64 // how many bytes of the log are in use
	Lag    int64 // how many of them the replica lacks
}

// Counts are what a run did.
type Counts struct {
	Transactions, Bytes, Resyncs, Compactions, Snapshots int64
	Gaps                                                 int64 // logs that were cut although they were not shipped
}

// Event is something that happened in a run.
type Event struct {
	Type EventType
	Path string // where it is not the database's
	TXID ltx.TXID
	Err  error
	// Of EventResync: why it was needed, and how many bytes were written.
	Why   string
	Bytes int64
}

// EventType says what an Event is about.
type EventType uint8

// The events.
const (
	EventResync      EventType = iota + 1 // the whole state was shipped
	EventSnapshot                         // a snapshot was written
	EventWALLimit                         // the log was cut although it was not shipped
	EventAdopted                          // the replica's state has replaced the local file, which is now at Path
	EventLogSetAside                      // a log was set aside and is now at Path
	EventSetAside                         // so has that of a database that others have served, with commits that nobody promised
	EventState                            // something could not be written to the state directory
)

// IsLocal reports whether the local file, and not the replica, is the reason of an error.
func IsLocal(err error) bool {
	for _, target := range []error{ship.ErrMissing, sqlitedb.ErrCorrupt, sqlitedb.ErrNotDatabase, sqlitedb.ErrReadOnly,
		sqlitedb.ErrBusy, sqlitedb.ErrDiskFull, sqlitedb.ErrNoFile, ship.ErrUnsettled} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
