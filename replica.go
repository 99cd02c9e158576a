package multidb

import (
	"context"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// ReplicaFactory gives every database its place in the replica. It is called
// when a database is first shipped or restored and must be cheap: 100,000
// clients may exist in a process, so they share one connection pool. Safe for
// concurrent use.
//
// The client returned writes LTX files under a prefix that no other database
// of this Manager has. Writes should be create-only at every level: an existing
// file stays as it is and the error wraps fs.ErrExist. A client that cannot do that
// gives no protection against two writers on one prefix.
type ReplicaFactory interface {
	ReplicaClient(db Database) (litestream.ReplicaClient, error)
}

// ReplicaPrefixer is an optional interface of a ReplicaFactory: the place of a
// database as text ("s3://bucket/litestream/project0/db0"). The Manager refuses
// two databases with one prefix (ErrConflict) before the first write.
type ReplicaPrefixer interface {
	Prefix(db Database) (string, error)
}

// ReplicaVars is an optional interface of a ReplicaFactory: the template variables
// that it expands. New refuses those that no discoverer captures.
type ReplicaVars interface {
	Vars() []string
}

// ReplicaChecker is an optional interface of a ReplicaFactory: it proves that the
// storage can be reached and written with the given credentials. The error is
// one line that says what to fix.
type ReplicaChecker interface {
	Check(ctx context.Context) error
}

// ReplicaStats is an optional interface of a ReplicaFactory: requests made so far.
type ReplicaStats interface {
	RequestStats() RequestStats
}

// RequestStats counts requests to the replica since the factory was made.
// Retries count as requests.
type RequestStats struct {
	Put, Get, List, Head, Delete int64 // requests by kind
	Errors                       int64 // requests that failed, 404 and 412 not included
	Throttled                    int64 // 503 and 429 answers
	BytesOut, BytesIn            int64 // bodies, in bytes
}

// Total is the number of requests of every kind.
func (s RequestStats) Total() int64 { return s.Put + s.Get + s.List + s.Head + s.Delete }

// FileLister is an optional interface of a replica client: all LTX files of the
// prefix, of every level, in one listing, sorted by level, then by TXID. With
// useMetadata, CreatedAt is exact (the time of the LTX header), otherwise the
// store's own. Without it the Manager lists level by level.
type FileLister interface {
	AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error)
}

// MetadataStore is an optional interface of a replica client: the small object
// metadata.json beside the levels, which says whose prefix it is.
// ReadMetadata returns fs.ErrNotExist if there is none.
type MetadataStore interface {
	WriteMetadata(ctx context.Context, data []byte) error
	ReadMetadata(ctx context.Context) ([]byte, error)
}

// ReplicaIdentity is an optional interface of a ReplicaFactory whose storage can
// be away without an error, such as a directory whose volume is not mounted. It
// recognizes its storage by an identity, which is made once and kept there, and
// refuses to read or write where it does not find it.
//
// Start calls Identify, before any client is used, with a memory in the state
// directory. Safe for concurrent use.
type ReplicaIdentity interface {
	Identify(memory IdentityMemory) error
}

// IdentityMemory keeps the identity of each place between the runs of a program.
// Safe for concurrent use.
type IdentityMemory interface {
	// Recall returns the identity of a place, "" if none is known.
	Recall(place string) (identity string, err error)
	// Remember keeps the identity of a place; when it returns nil it is on disk.
	// An error that wraps ErrClosed says that this memory is no longer used.
	Remember(place, identity string) error
	// Name says where it is, for messages that say what to delete.
	Name() string
}
