package multidb

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store/s3"
)

// Reason is the kind of thing that keeps a database from being replicated, coarse
// enough to count and to alert by.
type Reason uint8

// The reasons. Their number stays small, whatever errors there are.
const (
	ReasonOther        Reason = iota // none of those below
	ReasonUnreachable                // the replica does not answer, or is not mounted: ErrUnreachable, ErrReplicaAway
	ReasonThrottled                  // it asks to slow down: ErrThrottled
	ReasonAccessDenied               // it refuses the credentials, or there are none: ErrAccessDenied, ErrNoCredentials
	ReasonNoBucket                   // the bucket does not exist, or is in another region: ErrNoBucket
	ReasonFenced                     // another writer owns the prefix: ErrFenced
	ReasonConflict                   // the prefix is another database's, or has backups of one that would be made anew: ErrConflict, ErrBackupExists
	ReasonDiskFull                   // of the database, its state directory or a file replica
	ReasonCorrupt                    // the file is malformed, or no database: ErrCorrupt, ErrNotDatabase
	ReasonMissing                    // the file has gone: ErrMissing
	ReasonBusy                       // another connection keeps it locked
	ReasonPermission                 // it cannot be read or written: ErrReadOnly
	ReasonDescriptors                // the process has too many files open

	reasons = iota
)

var reasonNames = [reasons]string{"other", "unreachable", "throttled", "access denied", "no bucket", "fenced",
	"conflict", "disk full", "corrupt", "missing", "busy", "permission", "descriptors"}

// String returns the reason in one or two words, as "disk full".
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Reasons returns all of them, in order.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// ReasonOf returns the kind of an error of Status, Sync or an Event. Of several
// it is the one to fix first.
func ReasonOf(err error) Reason {
	for _, c := range causes {
		for _, target := range c.errs {
			if errors.Is(err, target) {
				return c.reason
			}
		}
	}
	return ReasonOther
}

// causes are sorted by precedence, the first to fix first. A constant table.
var causes = []struct {
	reason Reason
	errs   []error
}{
	{ReasonFenced, []error{ErrFenced}},
	{ReasonConflict, []error{ErrConflict, ErrBackupExists}},
	{ReasonMissing, []error{ErrMissing, ErrRootMissing}},
	{ReasonDiskFull, []error{sqlitedb.ErrDiskFull, syscall.ENOSPC, syscall.EDQUOT}},
	{ReasonDescriptors, []error{syscall.EMFILE, syscall.ENFILE}},
	{ReasonCorrupt, []error{ErrCorrupt, ErrNotDatabase}},
	{ReasonNoBucket, []error{ErrNoBucket, s3.ErrWrongRegion}},
	{ReasonAccessDenied, []error{ErrAccessDenied, ErrNoCredentials}},
	{ReasonThrottled, []error{ErrThrottled}},
	{ReasonUnreachable, []error{ErrUnreachable, ErrReplicaAway, context.DeadlineExceeded,
		syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ETIMEDOUT}},
	{ReasonPermission, []error{ErrReadOnly, fs.ErrPermission, syscall.EROFS}},
	{ReasonBusy, []error{sqlitedb.ErrBusy}},
}

// ByReason is a number for each Reason: an array, so that Stats is a plain value.
type ByReason [reasons]int64

// Total is the sum.
func (b ByReason) Total() int64 {
	var n int64
	for _, v := range b {
		n += v
	}
	return n
}
