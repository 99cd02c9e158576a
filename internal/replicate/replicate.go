// Package replicate takes one database through one run: what was committed since
// the last one is shipped, the files at the replica are kept in order, the log is
// cut where nobody needs it. It knows nothing of the fleet, of tiers, of who waits
// or who has the database open: a run gets an Input, and what it found comes back as
// a Report.
//
// A Replicator is shared by all databases and safe for concurrent use. A State is
// owned by one goroutine at a time: by the run in progress, and between runs by
// whoever keeps it.
package replicate

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/superfly/ltx"
)

// Errors of a run, beside those of ship, sqlitedb and the replica.
var (
	// ErrConflict: the prefix at the replica is another database's.
	ErrConflict = errors.New("replica prefix belongs to another database")
	// ErrBackupExists: the replica has a backup of a database that was made anew.
	ErrBackupExists = errors.New("the replica has a backup of this database")
	// ErrReplacing: one file was taking the place of another when it failed, so that
	// either may stand there, or none.
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
	// Logs tells whose log stands beside a database.
	Logs *Logs
	// Mine reports whether a session of a node was one of this state directory.
	Mine func(node, session uint32) bool
	// Aged is the time by which files at the replica are old: less than Now where
	// the clock was set forward.
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

	Policy            levels.Policy
	RetentionInterval time.Duration // between two deletions at one prefix
	SyncInterval      time.Duration
	MaxBackoff        time.Duration // between two attempts at maintenance
	CheckpointPages   int           // size of a log from which it is checkpointed
	MaxWALSize        int64         // in bytes, of one that the replica does not take

	// RestoreOnOpen: a file that only lags behind the replica is brought up to date
	// when it is opened next, and is no error until then.
	RestoreOnOpen bool
	// TakeOverUnknown: the local file wins where it is not known who wrote last.
	TakeOverUnknown bool
	Logger          *slog.Logger
}

// Replicator runs databases.
type Replicator struct {
	cfg Config
	// runs are of *run. Without them each look at an idle database allocates; see
	// TestLookingAtAnIdleHotDatabaseAllocatesNothing in the root.
	runs sync.Pool
}

// New returns a Replicator.
func New(cfg Config) *Replicator { return &Replicator{cfg: cfg} }

// Order is what a run is to do besides shipping.
type Order uint8

const (
	// OrderNone: nothing.
	OrderNone Order = iota
	// OrderCheck: see whether the local file is the newest, and bring it up to date
	// if it only lags. Nobody has it open.
	OrderCheck
	// OrderAdopt: the replica wins. The local file is set aside. Nobody has it open.
	OrderAdopt
	// OrderTakeOver: the local file wins.
	OrderTakeOver
	// OrderHandOver: ship the rest, then take nothing for granted.
	OrderHandOver
	// OrderCut: leave no log behind, if all of it is at the replica.
	OrderCut
)

// Input is what a run begins with.
type Input struct {
	ID     string
	Path   string
	Caller Caller
	Order  Order

	Demote  bool // it has been idle: seal it if it still is
	Cold    bool // it is cold, so that nobody polls it
	Relieve bool // its log is to be cut, whether or not the replica takes it
	Asked   bool // somebody waits for it to be shipped
	// Overdue: it has something to ship, and more than one run has failed.
	Overdue bool
	// MayDefer: what is found changed may stay local until the database is active.
	MayDefer bool
	// LastErr is why the run before failed; nil if it did not.
	LastErr error
	// RetainAt is the Unix time in milliseconds from which the replica has something
	// to delete; 0: never.
	RetainAt int64
}

// Caller is what a run asks of whoever began it, and tells him while it goes on. Its
// methods are called by the run's goroutine; the Report is good until they return.
type Caller interface {
	// Client returns the client of the database's prefix.
	Client() (litestream.ReplicaClient, error)
	// Vars are the values that go into metadata.json.
	Vars() map[string]string
	// Progress: the run has found another file at the path (Exchanged), or
	// something to ship (Pending), and perhaps how much (Backlog).
	Progress(*Report)
	// Settled: all is shipped that can be, or Err says why not; maintenance comes
	// next. Err may be replaced by one that explains it better.
	Settled(*Report)
	// MayCut reports whether the log is to be cut (wanted) where this run found the
	// database at rest (idle): no one in this process may use it.
	MayCut(idle bool) bool
	// MayReplace reports whether the local file may be replaced now. From then on
	// nobody opens it until the run has ended.
	MayReplace() bool
}

// Report is what a run has found out. It is a plain value.
type Report struct {
	Started time.Time
	Outcome schedule.Outcome
	// Err is why something is not shipped; nil if it is, or was not to be.
	Err error
	// Maintenance is what keeping the replica or the log in order fails of.
	Maintenance error
	// Failed are errors to be counted that are in neither of these.
	Failed []error

	Files   fsid.Files // before anything was read; zero: they could not be looked at
	WALSize int64      // of the log, when it was last looked at
	// Position is how far the replica has come.
	Position ship.State

	Exchanged bool      // another file stands at the path than the one that was shipped
	Pending   bool      // there was something to ship
	Drained   bool      // everything that stood there at Files is at the replica
	MayDefer  bool      // as in Input, but false where it was not allowed after all
	Deferred  bool      // a change was left local
	Lagging   bool      // another has gone on from the local file, which has nothing of its own
	Shipped   int       // transactions
	Acked     time.Time // when the last of them was acknowledged; zero: none has a lag that means anything
	Backlog   Backlog   // when it was last looked at
	Measured  bool      // it was

	// Replaced: the replica's newest state took the place of the local file, or was
	// about to. Kept is where the local file is now.
	Replaced bool
	Kept     string

	// TookOver: the local file has won, so that the rest of the order is shipping.
	TookOver bool

	// RetainKnown: RetainAt is when the replica has something to delete; zero: never.
	RetainKnown bool
	RetainAt    time.Time

	Counts Counts
	Events []Event // in their order
}

// Backlog is how far a database is ahead of its replica.
type Backlog struct {
	WALEnd int64 // how many bytes of the log are in use
	Lag    int64 // how many of them the replica lacks
}

// Counts are what a run did.
type Counts struct {
	Transactions, Bytes, Resyncs, Compactions, Snapshots int64
}

// Event is something that happened in a run.
type Event struct {
	Type EventType
	Path string // where it is not the database's
	TXID ltx.TXID
	Err  error
}

// EventType says what an Event is about.
type EventType uint8

// The events.
const (
	EventResync      EventType = iota + 1 // the whole state was shipped
	EventSnapshot                         // a snapshot was written
	EventWALLimit                         // the log was cut though it was not shipped
	EventAdopted                          // the replica's state took the place of the local file, which is at Path
	EventLogSetAside                      // a log was set aside, under Path
	EventState                            // the state directory is in trouble
)

// IsLocal reports whether an error is of the local file, not of the replica.
func IsLocal(err error) bool {
	for _, target := range []error{ship.ErrMissing, sqlitedb.ErrCorrupt, sqlitedb.ErrNotDatabase, sqlitedb.ErrReadOnly,
		sqlitedb.ErrBusy, sqlitedb.ErrDiskFull, sqlitedb.ErrNoFile, ship.ErrUnsettled} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
