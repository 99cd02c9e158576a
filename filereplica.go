package multidb

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store/file"
)

var (
	_ ReplicaFactory  = (*FileReplica)(nil)
	_ ReplicaPrefixer = (*FileReplica)(nil)
	_ ReplicaVars     = (*FileReplica)(nil)
	_ ReplicaChecker  = (*FileReplica)(nil)
	_ ReplicaStats    = (*FileReplica)(nil)
	_ ReplicaIdentity = (*FileReplica)(nil)
	_ ReplicaObjects  = (*FileReplica)(nil)
	_ FileLister      = (*file.Client)(nil)
	_ MetadataStore   = (*file.Client)(nil)
	_ PrefixEraser    = (*file.Client)(nil)
	_ PrefixSizer     = (*file.Client)(nil)
	_ LTXCopier       = (*file.Client)(nil)
)

// FileReplica keeps every database's LTX files below one directory, such as a
// second disk or a mounted share, in the layout of litestream's file replica:
//
//	<dir>/<expanded template>/ltx/<level>/<min>-<max>.ltx
//	<dir>/<expanded template>/metadata.json
//
// so that `litestream restore -o out.db file://<dir>/<expanded template>`
// restores from it. (litestream percent-encodes a file URL's path once more: a
// prefix with a space or another character that URLs encode is restored with
// `path:` in a litestream configuration instead.) A file is on disk (fsync of the file and of its directory)
// before its write returns. LTX files are create-only, by a hard link: a file
// system without hard links is refused by Check.
//
// The directory has a marker, .multidb-replica, made when it is first written to.
// If this FileReplica used the directory before, or a Manager with its state
// directory did, and it is now missing, or has no marker or another replica's,
// every read and write fails with ErrReplicaAway: a volume that is not mounted must
// not look like an empty replica, nor be written to below its mount point. A
// FileReplica that makes the directory itself puts a copy of the marker beside it
// (/backup: /.backup.multidb-replica), from which every program of this machine
// knows it. The marker belongs to the backup: copy it with the rest. A directory
// with backups of an older multidb gets its marker at the next write.
//
// It holds no descriptor between calls. It is safe for concurrent use, and so
// are its clients, also those of several processes on one directory.
type FileReplica struct {
	store    *file.Store
	template *Template
}

// NewFileReplica returns a FileReplica that keeps a database at pathTemplate,
// expanded, below dir: NewFileReplica("/backup", "{{project}}/{{database}}").
// dir may be relative to the current working directory. It does no I/O:
// dir is made by the first write. The error wraps ErrInvalidOption.
func NewFileReplica(dir, pathTemplate string) (*FileReplica, error) {
	if dir == "" {
		return nil, fmt.Errorf("%w: file replica: no directory; write the one that backups shall be kept in", ErrInvalidOption)
	}
	if strings.ContainsRune(dir, 0) {
		return nil, fmt.Errorf("%w: file replica: directory %q has a NUL byte", ErrInvalidOption, dir)
	}
	template, err := ParseTemplate(pathTemplate)
	if err != nil {
		return nil, fmt.Errorf("file replica: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: file replica: directory %q: %w", ErrInvalidOption, dir, err)
	}
	return &FileReplica{store: file.New(abs), template: template}, nil
}

// Prefix returns the absolute directory of the database's backup.
func (r *FileReplica) Prefix(db Database) (string, error) {
	path, err := r.template.Expand(db)
	if err != nil {
		return "", fmt.Errorf("file replica: %w", err)
	}
	return r.store.Path(path), nil
}

// Vars returns the variables of the path template.
func (r *FileReplica) Vars() []string { return r.template.Vars() }

// ReplicaClient returns the client of the database's directory. It does no I/O
// and holds nothing. It implements FileLister and MetadataStore too.
func (r *FileReplica) ReplicaClient(db Database) (litestream.ReplicaClient, error) {
	path, err := r.template.Expand(db)
	if err != nil {
		return nil, fmt.Errorf("file replica: %w", err)
	}
	return r.store.Client(path), nil
}

// Check makes the directory if it is missing and never was there, and proves that
// a file can be written, linked and removed in it. The error wraps ErrReplicaAway
// if it is not the directory that was used before.
func (r *FileReplica) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.store.Check(); err != nil {
		return fmt.Errorf("file replica: %w", err)
	}
	return nil
}

// RequestStats counts the calls of all clients as if they were requests: a
// listing of one level is one. Throttled is always zero.
func (r *FileReplica) RequestStats() RequestStats { return RequestStats(r.store.Stats()) }

// Dir implements ReplicaObjects: it is what the path template expands to.
func (r *FileReplica) Dir(db Database) (string, error) {
	dir, err := r.template.Expand(db)
	if err != nil {
		return "", fmt.Errorf("file replica: %w", err)
	}
	return dir, nil
}

// DatabaseAt implements ReplicaObjects.
func (r *FileReplica) DatabaseAt(dir string) (Database, error) { return TenantAt(r.template, dir, nil) }

// Objects implements ReplicaObjects: objects are files below <replica>/<dir>, as
// durable as LTX files, and refused alike where the replica is away.
func (r *FileReplica) Objects(dir string) (ObjectStore, error) {
	o, err := r.store.Objects(dir)
	if err != nil {
		return nil, fmt.Errorf("file replica: %w", err)
	}
	return objectStore{o}, nil
}

// Identify implements ReplicaIdentity. What the memory knows takes
// precedence over what was found so far.
func (r *FileReplica) Identify(memory IdentityMemory) error {
	return r.store.Identify(fileMemory{memory})
}

// fileMemory gives a memory of the identity to a store that does not know ErrClosed.
type fileMemory struct{ IdentityMemory }

func (m fileMemory) Remember(place, identity string) error {
	err := m.IdentityMemory.Remember(place, identity)
	if errors.Is(err, ErrClosed) {
		return file.ErrMemoryClosed
	}
	return err
}
