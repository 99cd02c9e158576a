package multidb

import (
	"errors"
	"fmt"
	"strings"

	"github.com/multidb-go/multidb/internal/cluster"
	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/member"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store/file"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/multidb-go/multidb/internal/store/s3"
	"github.com/multidb-go/multidb/internal/survey"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/multidb-go/multidb/internal/volume"
)

// Errors of configuration.
var (
	// ErrInvalidOption is returned when an option, a pattern or a template is
	// wrong; the message says what to write instead.
	ErrInvalidOption = survey.ErrInvalid
)

// Errors of the Manager's life cycle.
var (
	// ErrNotStarted is returned when a method needs a Manager on which Start
	// has succeeded.
	ErrNotStarted = life.ErrNotStarted
	// ErrClosed is returned when the Manager is closing or closed.
	ErrClosed = life.ErrClosed
	// ErrInUse is returned when another Manager holds the state directory, or
	// when a database is leased and the operation needs it free.
	ErrInUse = conduct.ErrInUse
	// ErrRootMissing is returned by Start when a discovery root does not exist, and
	// by Acquire when a database would be created in a root that does not exist or
	// is not the directory it was before, as when its volume is not mounted.
	ErrRootMissing = volume.ErrRootMissing
	// ErrNotOwner is returned where a database belongs to another node of the cluster, as a
	// *NotOwnerError, which says to which one.
	ErrNotOwner = errors.New("it belongs to another node")
	// ErrNameTaken is returned by Start when another process that is alive has the name of
	// this node.
	ErrNameTaken = member.ErrNameTaken
	// ErrClusterSettings is returned by Start where a node is not set up as the others of its
	// cluster are: another template, or a version that divides the databases otherwise. Also by Sync of a single
	// process whose fleet log is a cluster's, and by Acquire
	// for a database that a cluster with another FleetLogConfig.Path has.
	ErrClusterSettings = cluster.ErrSettings
	// ErrNotDurable is returned by Close for every database that has commits
	// which did not reach the replica.
	ErrNotDurable = errors.New("not durable yet")
)

// Errors of one database.
var (
	// ErrNotFound is returned when no discoverer knows the database and no
	// pattern allows creating it.
	ErrNotFound = registry.ErrNotFound
	// ErrNotDatabase is returned when a file is not an SQLite database, or is
	// encrypted with an extension that the driver does not have.
	ErrNotDatabase = sqlitedb.ErrNotDatabase
	// ErrCorrupt is returned when SQLite finds the database malformed or cut.
	ErrCorrupt = sqlitedb.ErrCorrupt
	// ErrReadOnly is returned when the database or its directory cannot be
	// written, so that SQLite cannot open it in WAL mode.
	ErrReadOnly = sqlitedb.ErrReadOnly
	// ErrDiskFull is returned when SQLite finds no space where the database is.
	// (A full state directory or file replica is syscall.ENOSPC.)
	ErrDiskFull = sqlitedb.ErrDiskFull
	// ErrBusy is returned when another connection keeps the database locked for
	// longer than multidb waits.
	ErrBusy = sqlitedb.ErrBusy
	// ErrRemoved is returned where a database was taken out of service by Remove, here or on
	// another machine, is being erased, or is called something else since a Rename. The
	// message says which.
	ErrRemoved = metadata.ErrRemoved
	// ErrMissing is returned when the database file has gone, or is on a volume
	// that is not mounted now.
	ErrMissing = ship.ErrMissing
)

// Errors of replication.
var (
	// ErrConflict is returned when two databases expand to one replica prefix.
	// The one known first goes on; the other is refused before its first write.
	ErrConflict = replicate.ErrConflict
	// ErrFenced is returned when another writer has written to the prefix. The
	// database is no longer replicated by this Manager; nothing is overwritten.
	ErrFenced = ship.ErrFenced
	// ErrReplicaAway is returned when the directory of a file replica is not the
	// one that was used before: its volume is not mounted, or another one is.
	ErrReplicaAway = file.ErrAway
	// ErrDamaged is returned when the replica holds something that neither multidb
	// nor litestream can have written, and that is therefore not read: a
	// metadata.json of more than 1 MiB, an LTX file with impossible sizes, more than
	// 1,048,576 files of one database. Other databases are not affected.
	ErrDamaged = untrusted.ErrDamaged
	// ErrUnproved is why Healthy names a database whose backup did not restore in its last
	// drill, or was not proved for DrillOptions.MaxAge; see WithDrills.
	ErrUnproved = errors.New("the backup is not proved")
	// ErrNoReplica is returned by Sync and Restore on a Manager without one.
	ErrNoReplica = errors.New("no replica configured")
	// ErrNoBackup is returned by Restore when the replica has nothing that
	// answers the request.
	ErrNoBackup = restore.ErrNoBackup
	// ErrBackupExists is returned when a database would be created empty although
	// the replica has a backup of it, whose newest state would then be empty.
	ErrBackupExists = replicate.ErrBackupExists
	// ErrExists is returned by Restore when the output path, or a WAL or
	// journal left beside it, already exists.
	ErrExists = localfile.ErrExists
)

// Errors of S3. They come with a line that says what to correct.
var (
	// ErrNoBucket is returned when the bucket does not exist.
	ErrNoBucket = s3.ErrNoBucket
	// ErrAccessDenied is returned when S3 refuses the credentials, or what they
	// may do.
	ErrAccessDenied = s3.ErrAccessDenied
	// ErrNoCredentials is returned when no credentials are found.
	ErrNoCredentials = s3.ErrNoCredentials
	// ErrUnreachable is returned when the endpoint does not answer.
	ErrUnreachable = s3.ErrUnreachable
	// ErrThrottled is returned when S3 still asks to slow down after the retries.
	ErrThrottled = s3.ErrThrottled
	// ErrNoConditionalWrites is returned when the store lets a file be created
	// twice, or refuses the condition, and S3Config.AllowUnsafeWrites is not set.
	ErrNoConditionalWrites = s3.ErrNoConditionalWrites
	// ErrArchived is returned when a lifecycle rule has moved an object that has to
	// be read to an archive (Glacier): S3 has to restore it first.
	ErrArchived = s3.ErrArchived
)

// Error is a failure of one database.
type Error struct {
	Op  string // what was being done: "open", "sync", "restore", …
	ID  ID     // the database
	Err error  // the cause; use errors.Is and errors.As
}

func (e *Error) Error() string {
	return fmt.Sprintf("multidb: %s %q: %v", e.Op, string(e.ID), e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// maxAllErrors is how many failures an AllError keeps.
const maxAllErrors = 100

// AllError is the failure of something that was done to all databases, SyncAll or RestoreAll,
// and went on where some of them failed.
type AllError struct {
	Op string // "sync" or "restore"
	// Failed are the first hundred that failed, in the order in which they are listed.
	Failed []*Error
	Count  int // how many failed
	// Stopped is why it ended early; nil: it did not. Some may not have been begun then.
	Stopped error
}

func (e *AllError) add(id ID, err error) {
	if e.Count++; len(e.Failed) == maxAllErrors {
		return
	}
	var of *Error
	if !errors.As(err, &of) || of.ID != id {
		of = &Error{Op: e.Op, ID: id, Err: err}
	}
	e.Failed = append(e.Failed, of)
}

// orNil is the error, if there is anything to say.
func (e *AllError) orNil() error {
	if e.Count == 0 && e.Stopped == nil {
		return nil
	}
	return e
}

// Error names the first three that failed.
func (e *AllError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "multidb: %s all: %d failed", e.Op, e.Count)
	if e.Stopped != nil {
		fmt.Fprintf(&b, "; stopped: %v", e.Stopped)
	}
	for _, f := range e.Failed[:min(3, len(e.Failed))] {
		fmt.Fprintf(&b, "; %q: %v", string(f.ID), f.Err)
	}
	if more := e.Count - 3; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// Unwrap returns the errors of the databases, and Stopped.
func (e *AllError) Unwrap() []error { return unwrapAll(e.Failed, e.Stopped) }

// unwrapAll returns the errors of some databases, and why nothing more was done; nil: all was.
func unwrapAll(failed []*Error, stopped error) (errs []error) {
	for _, f := range failed {
		errs = append(errs, f)
	}
	if stopped != nil {
		errs = append(errs, stopped)
	}
	return errs
}

// opError wraps err, unless it is nil or already an *Error of this database.
func opError(op string, id ID, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e.ID == id {
		return err
	}
	return &Error{Op: op, ID: id, Err: err}
}
