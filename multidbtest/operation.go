package multidbtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/superfly/ltx"
)

// Op is a kind of operation on a replica.
type Op string

// The operations, each named after the client method that does it.
const (
	OpInit          Op = "init"           // Init
	OpWrite         Op = "write"          // WriteLTXFile, CopyLTXFile
	OpOpen          Op = "open"           // OpenLTXFile
	OpList          Op = "list"           // LTXFiles, and AllLTXFiles, ErasePrefix and PrefixSize with Level AllLevels
	OpDelete        Op = "delete"         // DeleteLTXFiles, and the files of ErasePrefix; one operation per call
	OpDeleteAll     Op = "delete all"     // DeleteAll, and the deletion of metadata.json by ErasePrefix
	OpWriteMetadata Op = "write metadata" // WriteMetadata
	OpReadMetadata  Op = "read metadata"  // ReadMetadata
	OpCheck         Op = "check"          // the factory's Check; it has no prefix

	// Those of an ObjectStore; the prefix is its directory.
	OpCreateObject  Op = "create object"  // Create
	OpOpenObject    Op = "open object"    // Open
	OpListObjects   Op = "list objects"   // List; one operation for each 1,000 names
	OpDeleteObjects Op = "delete objects" // Delete; one operation per call
)

// AllLevels is the Level of an operation that is not about one level.
const AllLevels = -1

// maxOperations bounds the log, so that a long run does not use up the memory.
const maxOperations = 10_000

// Operation is one finished call to a client of the replica. It is a plain
// value, safe to copy.
type Operation struct {
	Op     Op
	Prefix string // of the database; empty for OpCheck
	// Object is the name of the object created or opened, of a listing the name that
	// it starts behind, of a deletion the first name; empty for everything else.
	Object string
	// Level is AllLevels where the operation is not about one level.
	Level int
	// Min and Max are the TXIDs of the file written or opened; of a listing Min
	// is where it starts; of a deletion they span what was asked for.
	Min, Max ltx.TXID
	// Size is the number of bytes written or read. A fault's Match sees it for
	// writes only.
	Size int64
	// Err is what the caller got, nil on success.
	Err error
	// At is when the operation ended.
	At time.Time
}

// String returns the operation in one line, for failure messages.
func (o Operation) String() string {
	s := fmt.Sprintf("%s %q level %d %s-%s, %d bytes", o.Op, o.Prefix, o.Level, o.Min, o.Max, o.Size)
	switch o.Op {
	case OpCreateObject, OpOpenObject, OpListObjects, OpDeleteObjects:
		s = fmt.Sprintf("%s %q %q, %d bytes", o.Op, o.Prefix, o.Object, o.Size)
	}
	if o.Err != nil {
		s += ": " + o.Err.Error()
	}
	return s
}

// Operations returns the operations that ended since the replica was made or
// ResetOperations was called, oldest first. The log holds the last 10,000.
func (r *Replica) Operations() []Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops[max(0, len(r.ops)-maxOperations):])
}

// ResetOperations empties the log. RequestStats continues to count.
func (r *Replica) ResetOperations() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opsFirst += len(r.ops)
	r.ops = nil
}

// WaitFor returns the first operation in the log, already there or still to
// come, for which match returns true. It waits until ctx ends, and then returns
// ctx's error. match is called once per operation, in order, without a lock
// held; it may use the replica.
func (r *Replica) WaitFor(ctx context.Context, match func(Operation) bool) (Operation, error) {
	next := 0
	for {
		r.mu.Lock()
		next = max(next, r.opsFirst)
		ops, changed := slices.Clone(r.ops[next-r.opsFirst:]), r.changed
		r.mu.Unlock()

		for _, op := range ops {
			if match(op) {
				return op, nil
			}
		}
		next += len(ops)

		select {
		case <-ctx.Done():
			return Operation{}, ctx.Err()
		case <-changed:
		}
	}
}

// record ends an operation: it is logged, counted and announced.
func (r *Replica) record(op Operation, err error) {
	op.Err, op.At = err, time.Now()

	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ops) >= 2*maxOperations {
		// Cut by half, so that the copy is paid once in maxOperations calls.
		cut := len(r.ops) - maxOperations
		r.ops = slices.Clone(r.ops[cut:])
		r.opsFirst += cut
	}
	r.ops = append(r.ops, op)
	r.countLocked(op)
	close(r.changed)
	r.changed = make(chan struct{})
}
