package multidbtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/benbjohnson/litestream"

	"github.com/multidb-go/multidb"
)

var (
	_ multidb.ReplicaFactory  = (*Replica)(nil)
	_ multidb.ReplicaPrefixer = (*Replica)(nil)
	_ multidb.ReplicaVars     = (*Replica)(nil)
	_ multidb.ReplicaChecker  = (*Replica)(nil)
	_ multidb.ReplicaStats    = (*Replica)(nil)
	_ multidb.ReplicaObjects  = (*Replica)(nil)
)

// Replica is a multidb.ReplicaFactory that keeps every LTX file in memory. It
// is as strict as a store can be: writes are create-only, a file that is not an LTX
// file of the TXIDs in its name is refused, and a read that starts at or after the
// end of a file is an error, as on S3.
//
// It is safe for concurrent use, and so are its clients. Make one with
// NewReplica.
type Replica struct {
	template *multidb.Template // nil: the prefix is the ID
	err      error             // of the template

	mu       *sync.Mutex        // one for all views of what is stored
	spaces   map[string]*space  // by prefix
	objects  map[string]file    // by directory and name
	faults   []*Injection       // replaced, never changed in place
	inside   map[*Injection]int // operations that wait in a fault, which may be spent
	ops      []Operation
	opsFirst int           // number of operations before ops[0]
	changed  chan struct{} // closed and replaced at every operation
	stats    multidb.RequestStats
}

// Option configures a Replica.
type Option func(*Replica)

// WithPathTemplate makes the prefix of a database what template expands to, as
// S3Config.Path does ("litestream/{{project}}/{{database}}"). By default it is
// the database's ID. A wrong template is reported by Prefix, ReplicaClient and
// Check.
func WithPathTemplate(template string) Option {
	return func(r *Replica) { r.template, r.err = multidb.ParseTemplate(template) }
}

// NewReplica returns an empty replica.
func NewReplica(opts ...Option) *Replica {
	r := &Replica{mu: new(sync.Mutex), spaces: make(map[string]*space), objects: make(map[string]file), inside: make(map[*Injection]int), changed: make(chan struct{})}
	for _, opt := range opts {
		opt(r)
	}
	return r
}

// View returns a Replica over what this one stores, with faults, operations and statistics of
// its own: give each node of a cluster one, and a fault is that of one node.
// It has the template of this one, unless an option says otherwise.
func (r *Replica) View(opts ...Option) *Replica {
	v := &Replica{
		template: r.template, err: r.err, mu: r.mu, spaces: r.spaces, objects: r.objects,
		inside: make(map[*Injection]int), changed: make(chan struct{}),
	}
	for _, opt := range opts {
		opt(v)
	}
	return v
}

// Prefix returns the database's place in the replica: its ID, or what the path
// template expands to. Faults, the log and the helpers name a database by it.
func (r *Replica) Prefix(db multidb.Database) (string, error) {
	switch {
	case r.err != nil:
		return "", r.err
	case r.template == nil && db.ID.IsZero():
		return "", fmt.Errorf("the database at %q has no ID", db.Path)
	case r.template == nil:
		return string(db.ID), nil
	}
	return r.template.Expand(db)
}

// Vars returns the variables of the path template, nil without one.
func (r *Replica) Vars() []string {
	if r.template == nil {
		return nil
	}
	return r.template.Vars()
}

// Check returns the error of the path template, or that of a fault on OpCheck.
func (r *Replica) Check(ctx context.Context) error {
	if r.err != nil {
		return r.err
	}
	return r.do(ctx, Operation{Op: OpCheck, Level: AllLevels}, func() error { return nil })
}

// ReplicaClient returns a client of the database's prefix. It also implements
// multidb.FileLister and multidb.MetadataStore. Any number of clients may use
// one prefix: the second is another writer, for tests of fencing.
func (r *Replica) ReplicaClient(db multidb.Database) (litestream.ReplicaClient, error) {
	prefix, err := r.Prefix(db)
	if err != nil {
		return nil, err
	}
	return &client{replica: r, prefix: prefix}, nil
}

// RequestStats counts the operations so far as requests to a store, including those
// that a fault made fail. Init and Check do not count.
func (r *Replica) RequestStats() multidb.RequestStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

func (r *Replica) countLocked(op Operation) {
	s := &r.stats
	switch op.Op {
	case OpWrite, OpWriteMetadata, OpCreateObject:
		s.Put++
		s.BytesOut += op.Size
	case OpOpen, OpReadMetadata, OpOpenObject:
		s.Get++
		s.BytesIn += op.Size
	case OpList, OpListObjects:
		s.List++
	case OpDelete, OpDeleteAll, OpDeleteObjects:
		s.Delete++
	default:
		return
	}
	if op.Err != nil && !errors.Is(op.Err, fs.ErrNotExist) && !errors.Is(op.Err, fs.ErrExist) {
		s.Errors++
	}
}

// do runs every operation: context, fault, apply, log.
func (r *Replica) do(ctx context.Context, op Operation, apply func() error) error {
	return r.doSized(ctx, &op, apply)
}

// doSized is do for an apply that sets op.Size.
func (r *Replica) doSized(ctx context.Context, op *Operation, apply func() error) error {
	err := ctx.Err()
	if err == nil {
		if in := r.take(*op); in != nil {
			err = in.run(ctx, apply)
		} else {
			err = apply()
		}
	}
	r.record(*op, err)
	return err
}
