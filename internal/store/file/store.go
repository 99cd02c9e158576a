// Package file stores LTX files in directories, in the layout of litestream's
// file replica:
//
//	<dir>/<path>/ltx/<level>/<min TXID>-<max TXID>.ltx
//	<dir>/<path>/metadata.json
//
// A [Store] is one directory and everything below it; a [Client] is one
// database's view of it, which holds no descriptor between calls. The package
// touches nothing but that directory and one file beside it (see trace). A file
// is on disk, and so is its name, before its write returns.
//
// The directory has a marker with the identity of the replica, which distinguishes
// an empty replica from a volume that is not mounted (root.go). What is known of
// that identity is the only shared state. Its mutex is never held during I/O.
package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	stock "github.com/benbjohnson/litestream/file"
)

var (
	// ErrAway is returned when the directory is not the one that was used before.
	ErrAway = errors.New("not the replica that was used before")
	// ErrMemoryClosed is returned by a Memory that is no longer used.
	ErrMemoryClosed = errors.New("this memory of replicas is closed")
)

// Memory keeps the identity of each directory between the runs of a program. It
// is multidb.IdentityMemory, except that it fails with ErrMemoryClosed.
type Memory interface {
	Recall(place string) (identity string, err error)
	Remember(place, identity string) error
	Name() string
}

// Stats counts calls, as if they were requests. It has the fields of
// multidb.RequestStats.
type Stats struct {
	Put, Get, List, Head, Delete int64
	Errors                       int64
	Throttled                    int64
	BytesOut, BytesIn            int64
}

// Store is the directory that the databases' directories are in. Safe for
// concurrent use, also by several processes.
type Store struct {
	root  directory
	stats counters
}

// New returns the Store of a directory, whose path is absolute. It does no I/O.
func New(dir string) *Store { return &Store{root: directory{dir: dir}} }

// Path returns the absolute directory of a database. path is relative, with
// slashes.
func (s *Store) Path(path string) string { return filepath.Join(s.root.dir, filepath.FromSlash(path)) }

// Client returns the client of a database. It does no I/O.
func (s *Store) Client(path string) *Client {
	prefix := s.Path(path)
	return &Client{root: &s.root, prefix: prefix, layout: stock.NewReplicaClient(prefix), stats: &s.stats}
}

// Identify gives the Store a memory of the identity of its directory. What the
// memory knows takes precedence over what was found so far.
func (s *Store) Identify(memory Memory) error { return s.root.identify(memory) }

// Check makes the directory if it is missing and never was there, and proves that
// a file can be written, linked and removed in it.
func (s *Store) Check() error {
	root, err := s.root.enter(false) // no marker: it may be the place where a volume is to be mounted
	if errors.Is(err, ErrAway) {
		return err
	} else if err != nil {
		return fmt.Errorf("cannot make the directory: %w", err)
	}
	defer root.close()
	if root.root == nil {
		if err := s.root.make(); err != nil {
			return fmt.Errorf("cannot make the directory: %w", err)
		}
	}
	f, err := createTemp(s.root.dir, "check")
	if err != nil {
		return fmt.Errorf("the directory is not writable: %w", err)
	}
	linked := f.Name() + ".link"
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString("multidb\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write to the directory: %w", err)
	}
	if err := os.Link(f.Name(), linked); err != nil {
		return fmt.Errorf("the file system has no hard links, which create-only writes need: %w", err)
	}
	if err := os.Remove(linked); err != nil {
		return fmt.Errorf("cannot remove from the directory: %w", err)
	}
	return nil
}

// Names yields the names in a directory of the Store, "" for its own, as ls -F
// shows them: those of directories end in a slash. A missing directory has no
// names, but the Store's own must exist: a disk that is not mounted must not look
// like a replica without backups. An error is the last pair.
func (s *Store) Names(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		s.stats.list.Add(1)
		root, err := s.root.enter(false)
		if err == nil && root.root == nil {
			err = &fs.PathError{Op: "open", Path: s.root.dir, Err: syscall.ENOENT}
		}
		if err != nil {
			yield("", s.stats.count(fmt.Errorf("file replica: %w", err)))
			return
		}
		defer root.close()
		d, err := root.open(s.Path(dir))
		if errors.Is(err, fs.ErrNotExist) {
			return
		} else if err != nil {
			yield("", s.stats.count(fmt.Errorf("file replica: %w", err)))
			return
		}
		defer func() { _ = d.Close() }() // only read from
		for {
			entries, err := d.ReadDir(1000)
			for _, e := range entries {
				name := e.Name()
				if e.IsDir() {
					name += "/"
				}
				if !yield(name, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			} else if err = cmp.Or(err, ctx.Err()); err != nil {
				yield("", s.stats.count(fmt.Errorf("file replica: %w", err)))
				return
			}
		}
	}
}

// Stats returns the calls so far, of all clients. A listing of one level is one.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Put: c.put.Load(), Get: c.get.Load(), List: c.list.Load(), Delete: c.delete.Load(),
		Errors:   c.errors.Load(),
		BytesOut: c.bytesOut.Load(), BytesIn: c.bytesIn.Load(),
	}
}

// counters is the live form of Stats.
type counters struct {
	put, get, list, delete, errors, bytesOut, bytesIn atomic.Int64
}

// count returns err, counted unless it is an answer rather than a failure.
func (c *counters) count(err error) error {
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		c.errors.Add(1)
	}
	return err
}
