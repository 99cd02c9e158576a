package multidb

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// ReplicaFactory gives every database its place in the replica. It is called
// when a database is first shipped or restored and must be cheap: 100,000
// clients may exist in a process, so they share one connection pool. Safe for
// concurrent use.
//
// The client returned is safe for concurrent use: a restore reads several files
// at once. It writes LTX files under a prefix that no other database of this
// Manager has. Writes should be create-only at every level: an existing
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

// PrefixEraser is an optional interface of a replica client: it deletes every object
// below its prefix, whoever wrote it, with the older versions and delete markers that the
// storage keeps; metadata.json last, so that the prefix tells what it is until then. The
// prefixes of other databases that lie below it are left. What cannot be deleted is in
// Left with its reason, and so is that older versions may be left where they cannot be
// listed. The error is that of a request that failed otherwise, a listing say; what was
// done until then is returned with it, and another call does the rest. Without this
// interface DeleteAll is called.
type PrefixEraser interface {
	ErasePrefix(ctx context.Context) (ErasedPrefix, error)
}

// ErasedPrefix is what an erasure of a prefix did: how many Objects it deleted, how many
// older Versions and delete markers beside them, and their Bytes. Left is what it could
// not delete. Versioned says that the storage keeps older versions, or that this cannot be
// told: then other objects that had something of the database have versions of their own.
// If nothing was there, the numbers are 0 and Left is empty.
type ErasedPrefix = store.ErasedPrefix

// LeftObject is what an erasure of a prefix could not delete: its Name as the storage names
// it (a key, a path; of a directory with a slash at its end), its Version if it is one, and
// in Err the reason.
type LeftObject = store.LeftObject

// PrefixSizer is an optional interface of a replica client: it counts the objects that
// an erasure would delete, older versions left out, and their bytes, by listing them.
// Without it the LTX files and metadata.json are counted.
type PrefixSizer interface {
	PrefixSize(ctx context.Context) (objects, bytes int64, err error)
}

// LTXCopier is an optional interface of a replica client: it copies a file from another
// prefix of the same storage to its own, under the same name and with the same time,
// without moving the bytes through this process. info is as the other prefix lists it.
//
// An existing file is left alone: if it has the same bytes it counts as copied, so that a
// copy can go on after a crash, otherwise the error wraps fs.ErrExist. If there is no file
// to copy it wraps fs.ErrNotExist, and errors.ErrUnsupported if this cannot be done, as from
// is of another storage: then, and without this interface, the file is read and written.
type LTXCopier interface {
	CopyLTXFile(ctx context.Context, from litestream.ReplicaClient, info *ltx.FileInfo) error
}

// ReplicaObjects is an optional interface of a ReplicaFactory: directories of plain
// objects beside the databases' prefixes, which a fleet log is kept in.
// multidbtest.TestReplicaObjects proves an implementation. Safe for concurrent use.
type ReplicaObjects interface {
	// Objects returns the objects below a directory, whose name is a path with slashes
	// and without a leading or trailing one, below the bucket or the replica's
	// directory. It does no I/O. The error wraps fs.ErrInvalid.
	Objects(dir string) (ObjectStore, error)
	// Dir returns the directory of a database's prefix, as Objects names directories.
	// It is what a fleet log calls the database, so it says nothing of where the bucket
	// or the replica's directory is. It does no I/O.
	Dir(db Database) (string, error)
	// DatabaseAt is the inverse of Dir, as far as the directory tells: the database that
	// expands to it, as TenantAt says where there is no metadata.json. It does no I/O.
	DatabaseAt(dir string) (Database, error)
}

// ObjectStore is a directory of objects, which are created once and never changed.
//
// A name is a path with slashes, as fs.ValidPath says, without control characters. No
// part of it begins with ".multidb-" or ends in ".tmp": these are names of the store's
// own. No name may be that of a directory of another one ("a" and "a/b"), and two names
// must differ in more than the case of letters, for the sake of file systems. A wrong
// name is an error that wraps fs.ErrInvalid.
//
// What a call has done can be seen by every call that begins after it has returned, in
// whatever process. Every ctx bounds the call, and the reading of what it returned.
// Safe for concurrent use, by several processes too.
type ObjectStore interface {
	// Create creates an object. When it returns nil, the object is durable and has
	// these bytes. If the error wraps fs.ErrExist, another one has the name: it was
	// left alone, and nothing that this call began can change that any more.
	//
	// Every other error leaves it open whether the object was created, or will be:
	// the answer may be lost, or the request still be under way. A store that asks
	// again by itself after such an attempt and is refused then compares what is
	// there: the same bytes count as created. So objects that have to tell who
	// created them must differ in their bytes.
	//
	// A store that would let a second create succeed refuses all of them, with
	// ErrNoConditionalWrites.
	Create(ctx context.Context, name string, data []byte) error
	// CreateFrom is Create with the next size bytes of r, of which it keeps no more in
	// memory than it must. If r fails or has fewer, no object appears, and the error wraps
	// that of r or io.ErrUnexpectedEOF. An r that is also an io.Seeker and an io.ReaderAt,
	// as *os.File is, may be read several times.
	//
	// A store may send a large object in parts, and let two such creates of one name, that
	// end at the same moment, both succeed: give each attempt a name of its own.
	CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error
	// Open reads size bytes from offset on, all up to the end if size is 0. A negative
	// offset counts from the end: -8 means the last 8 bytes, or all of an object that
	// is shorter. What would lie behind the end is left out: a range that begins there
	// is empty. The error wraps fs.ErrNotExist if there is no such object, and
	// fs.ErrInvalid if size is negative. The caller closes what it returns.
	Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error)
	// List yields the objects whose names begin with prefix (any text, not only a
	// directory) and are greater than after, in the order of the names' bytes. Both may
	// be empty. What is created or deleted meanwhile may be among them or not. An
	// error is the last pair: what was yielded before it is not all.
	List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error]
	// Delete deletes objects, any number of them. Those that are not there are no
	// error. On an error some may be deleted. With S3Config.NoDelete it does nothing.
	Delete(ctx context.Context, names ...string) error
}

// ObjectInfo is one object in a listing.
type ObjectInfo struct {
	Name    string
	Size    int64     // in bytes
	Created time.Time // by the store's clock
}

// objectStore is a store of an internal package.
type objectStore struct{ store.Objects }

func (s objectStore) List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error] {
	return func(yield func(ObjectInfo, error) bool) {
		for info, err := range s.Objects.List(ctx, prefix, after) {
			if !yield(ObjectInfo(info), err) {
				return
			}
		}
	}
}

// innerObjects is an ObjectStore as the inner packages know it.
type innerObjects struct{ ObjectStore }

func (o innerObjects) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		for info, err := range o.ObjectStore.List(ctx, prefix, after) {
			if !yield(store.ObjectInfo(info), err) {
				return
			}
		}
	}
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
