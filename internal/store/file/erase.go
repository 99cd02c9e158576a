package file

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

var (
	_ store.Eraser = (*Client)(nil)
	_ store.Sizer  = (*Client)(nil)
	_ store.Copier = (*Client)(nil)
)

// errLink: a symbolic link may lead to what is somebody else's.
var errLink = errors.New("it is a symbolic link: neither it nor what it leads to was deleted")

// ErasePrefix deletes every file below the prefix's directory, whoever wrote it, and the
// directories that are empty then, its own included; metadata.json last. What was deleted
// stays deleted after a power failure. The prefixes of other databases that lie below it
// are left, and symbolic links. A file system keeps no older versions that this would know
// of: snapshots of the volume are not looked for.
func (c *Client) ErasePrefix(ctx context.Context) (done store.ErasedPrefix, err error) {
	err = c.below(ctx, func(top *os.Root, others *store.Others) error {
		for i := range c.ready {
			c.ready[i].Store(false)
		}
		e := &erasure{c: c, others: others, done: &done}
		e.walk = walk{
			ctx: ctx, file: e.remove,
			link: func(name string) {
				done.Left = append(done.Left, store.LeftObject{Name: filepath.Join(c.prefix, filepath.FromSlash(name)), Err: errLink})
			},
			left: func(d *os.Root, changed bool) error {
				if !changed {
					return nil
				}
				return syncDir(d)
			},
		}
		if err := e.dir(top, ""); err != nil {
			return err
		}
		if err := e.metadata(top); err != nil {
			return err
		}
		done.Left = append(done.Left, others.Left(c.prefix+string(filepath.Separator))...)
		return nil
	})
	if err != nil {
		return done, c.stats.count(err)
	}
	if err := removeEmptyDir(c.prefix); err != nil {
		return done, c.stats.count(err)
	}
	if err := durable.SyncDir(filepath.Dir(c.prefix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return done, c.stats.count(err)
	}
	return done, nil
}

// PrefixSize counts the files that an erasure would delete.
func (c *Client) PrefixSize(ctx context.Context) (objects, bytes int64, err error) {
	err = c.below(ctx, func(top *os.Root, others *store.Others) error {
		w := &walk{ctx: ctx, file: func(_ *os.Root, dir, name string, info fs.FileInfo) error {
			if !others.Has(dir + name) {
				objects, bytes = objects+1, bytes+info.Size()
			}
			return nil
		}}
		return w.dir(top, "")
	})
	return objects, bytes, c.stats.count(err)
}

// below calls do with the prefix's directory and the prefixes of others in it, unless it is
// missing.
func (c *Client) below(ctx context.Context, do func(top *os.Root, others *store.Others) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := c.root.enter(false) // what is not there must be gone, not away
	if err != nil {
		return err
	}
	defer root.close()
	c.stats.list.Add(1)
	top, err := root.openRoot(c.prefix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	var others store.Others
	w := &walk{ctx: ctx, file: func(_ *os.Root, dir, name string, _ fs.FileInfo) error {
		others.See(dir + name)
		return nil
	}}
	if err := w.dir(top, ""); err != nil {
		return err
	}
	return do(top, &others)
}

// walk goes through all regular files below a directory.
type walk struct {
	ctx  context.Context
	file func(d *os.Root, dir, name string, info fs.FileInfo) error // dir ends in a slash, or is ""
	link func(name string)                                          // nil: nothing
	left func(d *os.Root, changed bool) error                       // a directory was gone through, and those in it that are empty are removed; nil: nothing
}

func (w *walk) dir(d *os.Root, name string) error {
	entries, err := readDir(d)
	if err != nil {
		return err
	}
	changed := false
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		info, err := d.Lstat(e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted just now
		case err != nil:
			return err
		case info.IsDir():
			below, err := d.OpenRoot(e.Name())
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			err = w.dir(below, name+e.Name()+"/")
			if err = errors.Join(err, below.Close()); err != nil {
				return err
			}
			if w.left != nil {
				if err := d.Remove(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
					return err
				}
				changed = true
			}
		case info.Mode()&fs.ModeSymlink != 0:
			if w.link != nil {
				w.link(name + e.Name())
			}
		default:
			if err := w.file(d, name, e.Name(), info); err != nil {
				return err
			}
			changed = true
		}
	}
	if w.left != nil {
		return w.left(d, changed)
	}
	return nil
}

func readDir(d *os.Root) (entries []fs.DirEntry, err error) {
	f, err := d.Open(".")
	if err != nil {
		return nil, noSuchFile(err)
	}
	entries, err = f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

func syncDir(d *os.Root) error {
	f, err := d.Open(".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// erasure is the walk of one ErasePrefix.
type erasure struct {
	walk
	c      *Client
	others *store.Others
	last   bool // metadata.json is deleted too
	done   *store.ErasedPrefix
}

// metadata deletes metadata.json, unless something is left whose owner it tells.
func (e *erasure) metadata(top *os.Root) error {
	info, err := top.Lstat(metadataName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	} else if err != nil {
		return err
	}
	if len(e.done.Left) > 0 {
		e.done.Left = append(e.done.Left, store.LeftObject{Name: filepath.Join(e.c.prefix, metadataName), Err: store.ErrKept})
		return nil
	}
	e.last = true
	if err := e.remove(top, "", metadataName, info); err != nil {
		return err
	}
	return syncDir(top)
}

// remove deletes a file, unless it is another database's. What the file system does not
// allow to be deleted is left.
func (e *erasure) remove(d *os.Root, dir, name string, info fs.FileInfo) error {
	if e.others.Has(dir+name) || dir+name == metadataName && !e.last {
		return nil
	}
	e.c.stats.delete.Add(1)
	switch err := d.Remove(name); {
	case err == nil:
		e.done.Objects, e.done.Bytes = e.done.Objects+1, e.done.Bytes+info.Size()
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, fs.ErrPermission):
		e.done.Left = append(e.done.Left, store.LeftObject{Name: filepath.Join(e.c.prefix, filepath.FromSlash(dir), name), Err: e.c.stats.count(err)})
	default:
		return err
	}
	failpoint.Hit("file.delete.after")
	return nil
}

// CopyLTXFile gives a file of another prefix of the same Store a second name, or copies it
// where the file system has no such names; it is on disk when CopyLTXFile returns. Files are
// never changed, so that the two names have nothing to do with each other.
//
// An existing file is left alone: the same bytes count as copied, and others are an error
// that wraps fs.ErrExist. A client of another Store is an error that wraps
// errors.ErrUnsupported.
func (c *Client) CopyLTXFile(ctx context.Context, from litestream.ReplicaClient, info *ltx.FileInfo) error {
	source, ok := from.(*Client)
	if !ok || source.root != c.root {
		return &fs.PathError{Op: "copy", Path: c.prefix, Err: errors.ErrUnsupported}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	path := c.layout.LTXFilePath(info.Level, info.MinTXID, info.MaxTXID)
	err := c.link(source.layout.LTXFilePath(info.Level, info.MinTXID, info.MaxTXID), path, info)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	same, sameErr := store.SameFile(ctx, source, c, info)
	switch {
	case sameErr != nil:
		return errors.Join(err, sameErr)
	case same: // and the name is on disk, by the call that made it or by this one
		return durable.SyncDir(filepath.Dir(path))
	}
	return err
}

func (c *Client) link(from, to string, info *ltx.FileInfo) (err error) {
	c.stats.put.Add(1)
	defer func() { err = c.stats.count(err) }()
	root, err := c.root.enter(true)
	if err != nil {
		return err
	}
	defer root.close()
	f, err := root.open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for attempt := 1; ; attempt++ {
		if !c.ready[info.Level].Load() {
			if err := makeDirs(c.root.dir, filepath.Dir(to)); err != nil {
				return err
			}
			c.ready[info.Level].Store(true)
		}
		err = os.Link(from, to)
		if attempt == 3 || !errors.Is(err, fs.ErrNotExist) {
			break
		}
		c.ready[info.Level].Store(false) // the directory was removed meanwhile
	}
	failpoint.Hit("file.link.after")
	switch {
	case err == nil:
		return errors.Join(root.holds(to, f), durable.SyncDir(filepath.Dir(to)))
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return err
	}
	stat, err := f.Stat() // no second names here, or too many
	if err != nil {
		return err
	}
	_, err = c.publish(writing{slot: info.Level, path: to, createOnly: true, modTime: stat.ModTime(), body: io.LimitReader(f, stat.Size())})
	return err
}
