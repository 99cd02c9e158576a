package file

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
)

var _ store.Objects = (*Objects)(nil)

// maxReadyDirs bounds what Objects remembers of directories; beyond it they are made
// sure of again.
const maxReadyDirs = 1000

// Objects are plain objects, each a file below one directory of a Store; the slashes
// of a name are directories. One that holds none any more stays. Safe for concurrent
// use, also by several processes.
type Objects struct {
	root  *directory
	dir   string // absolute
	stats *counters

	mu sync.Mutex
	// ready has the directories that were there and durable; writes after the first
	// need not ask again.
	ready map[string]struct{}
}

// Objects returns the objects below dir. It does no I/O. The error wraps
// fs.ErrInvalid.
func (s *Store) Objects(dir string) (*Objects, error) {
	if err := store.CheckObjectDir(dir); err != nil {
		return nil, err
	}
	return &Objects{root: &s.root, dir: s.Path(dir), stats: &s.stats, ready: make(map[string]struct{})}, nil
}

func (o *Objects) path(name string) string { return filepath.Join(o.dir, filepath.FromSlash(name)) }

// Create creates an object, which is on disk with its name when it returns nil. If the
// error wraps fs.ErrExist another object is there and was left alone; every other one
// leaves it open whether it was created.
func (o *Objects) Create(ctx context.Context, name string, data []byte) error {
	return o.CreateFrom(ctx, name, bytes.NewReader(data), int64(len(data)))
}

// CreateFrom is Create with the next size bytes of r. If r fails or has fewer, no object
// appears, and the error wraps that of r or io.ErrUnexpectedEOF.
func (o *Objects) CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := cmp.Or(store.CheckObjectName(name), store.CheckObjectSize(name, size), ctx.Err()); err != nil {
		return err
	}
	path := o.path(name)
	_, err := publish(o.root, o.stats, writing{
		path:       path,
		createOnly: true,
		body:       &ctxio.Reader{Ctx: ctx, R: store.Exactly(r, size)},
	}, func() (*os.File, error) { return o.openTemp(filepath.Dir(path)) })
	if errors.Is(err, fs.ErrExist) {
		if info, statErr := os.Lstat(path); statErr == nil && info.IsDir() {
			return &fs.PathError{Op: "create", Path: path, Err: syscall.EISDIR} // no object is there
		}
	}
	return err
}

// openTemp creates a temporary file in dir, which is made if it is missing.
func (o *Objects) openTemp(dir string) (*os.File, error) {
	for attempt := 1; ; attempt++ {
		if !o.isReady(dir) {
			if err := makeDirs(o.root.dir, dir); err != nil {
				return nil, err
			}
			if err := sweepTemps(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			o.setReady(dir, true)
		}
		f, err := createTemp(dir, "object") // a name of their own could be too long with more at its end
		if attempt == 3 || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		o.setReady(dir, false) // removed meanwhile
	}
}

func (o *Objects) isReady(dir string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.ready[dir]
	return ok
}

func (o *Objects) setReady(dir string, ready bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !ready {
		delete(o.ready, dir)
		return
	}
	if len(o.ready) >= maxReadyDirs {
		clear(o.ready)
	}
	o.ready[dir] = struct{}{}
}

// Open reads size bytes from offset on, to the end if size is 0; a negative offset
// counts from the end. A range that begins at the end or behind it is empty. The error
// wraps fs.ErrNotExist if there is no such object.
func (o *Objects) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	if err := cmp.Or(store.CheckObjectName(name), store.CheckObjectRange(name, size), ctx.Err()); err != nil {
		return nil, err
	}
	o.stats.get.Add(1)
	f, err := o.open(o.path(name), offset)
	if err != nil {
		return nil, o.stats.count(err)
	}
	return o.stats.reader(ctx, f, size), nil
}

func (o *Objects) open(path string, offset int64) (*os.File, error) {
	root, err := o.root.enter(false)
	if err != nil {
		return nil, err
	}
	defer root.close()
	f, err := root.open(path)
	if errors.Is(err, syscall.ENOTDIR) { // an object has the name of a directory above
		return nil, notThere(path)
	} else if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if info.IsDir() {
		_ = f.Close() // not read from
		return nil, notThere(path)
	}
	if offset < 0 {
		offset = max(0, info.Size()+offset)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func notThere(path string) error {
	return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// List lists the objects whose names begin with prefix and are greater than after, in
// the order of their bytes. It reads one directory after another as the iteration goes
// on, only those that may have such names. An error is the last pair.
func (o *Objects) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		var none store.ObjectInfo
		if err := cmp.Or(store.CheckObjectText(prefix, after), ctx.Err()); err != nil {
			yield(none, err)
			return
		}
		o.stats.list.Add(1)
		root, err := o.root.enter(false)
		if err != nil {
			yield(none, o.stats.count(err))
			return
		}
		defer root.close()
		top, err := root.openRoot(o.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		} else if err != nil {
			yield(none, o.stats.count(err))
			return
		}
		w := &objectWalk{ctx: ctx, prefix: prefix, after: after, yield: yield}
		if err := w.dir(top, ""); err != nil && !errors.Is(err, errStopped) {
			yield(none, o.stats.count(err))
		}
	}
}

// errStopped ends a walk whose caller wants no more.
var errStopped = errors.New("stopped")

// objectWalk is one List.
type objectWalk struct {
	ctx           context.Context
	prefix, after string
	yield         func(store.ObjectInfo, error) bool
}

// dir goes through a directory, and closes it. name is what all names in it begin with.
func (w *objectWalk) dir(d *os.Root, name string) error {
	defer func() { _ = d.Close() }() // only read from
	entries, err := w.entries(d, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if sub, isDir := strings.CutSuffix(e, "/"); isDir {
			below, err := d.OpenRoot(sub)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed just now
			} else if err != nil {
				return err
			}
			if err := w.dir(below, name+e); err != nil {
				return err
			}
			continue
		}
		info, err := d.Stat(e)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted just now
		} else if err != nil {
			return err
		}
		if !w.yield(store.ObjectInfo{Name: name + e, Size: info.Size(), Created: info.ModTime().UTC()}, nil) {
			return errStopped
		}
	}
	return nil
}

// entries are the names in a directory that the walk goes on with, in order. Those of
// directories end in a slash, which is also how they are ordered: "a-b" comes before
// what is in "a".
func (w *objectWalk) entries(d *os.Root, name string) ([]string, error) {
	names, err := d.Open(".")
	if err != nil {
		return nil, noSuchFile(err)
	}
	defer func() { _ = names.Close() }() // only read from
	var all []string
	for {
		page, err := names.ReadDir(1000)
		for _, e := range page {
			entry, isDir := e.Name(), e.IsDir()
			if store.CheckObjectName(name+entry) != nil {
				continue // no object has such a name
			}
			if !isDir && !e.Type().IsRegular() {
				info, err := d.Stat(entry) // a link, perhaps
				if errors.Is(err, fs.ErrNotExist) {
					continue
				} else if err != nil {
					return nil, fmt.Errorf("list objects: %w", err)
				}
				if isDir = info.IsDir(); !isDir && !info.Mode().IsRegular() {
					continue
				}
			}
			if isDir {
				entry += "/"
			}
			if w.wants(name+entry, isDir) {
				all = append(all, entry)
			}
		}
		if err == io.EOF {
			slices.Sort(all)
			return all, nil
		}
		if err = cmp.Or(err, w.ctx.Err(), untrusted.CheckFiles(len(all), untrusted.MaxFiles)); err != nil {
			return nil, err
		}
	}
}

// wants reports whether an object is to be listed, or whether a directory may have
// one that is.
func (w *objectWalk) wants(name string, isDir bool) bool {
	if !isDir {
		return strings.HasPrefix(name, w.prefix) && name > w.after
	}
	return (strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name)) &&
		(name > w.after || strings.HasPrefix(w.after, name))
}

// Delete deletes objects. One that is not there is no error. On an error some of them
// may be deleted.
func (o *Objects) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := store.CheckObjectName(name); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := o.root.enter(false) // what is not there must be gone, not away
	if err != nil {
		return o.stats.count(err)
	}
	defer root.close()
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		o.stats.delete.Add(1)
		if err := o.remove(o.path(name)); err != nil {
			return o.stats.count(err)
		}
		failpoint.Hit("file.delete.after")
	}
	return nil
}

// remove removes a file, if one is there.
func (o *Objects) remove(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}
