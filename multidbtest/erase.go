package multidbtest

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

var (
	_ multidb.PrefixEraser = (*client)(nil)
	_ multidb.PrefixSizer  = (*client)(nil)
	_ multidb.LTXCopier    = (*client)(nil)
)

// ErasePrefix implements multidb.PrefixEraser: a listing, an OpDelete of the files and
// an OpDeleteAll of metadata.json. There are no older versions, and prefixes are no
// directories: nothing lies below one. A fault whose error wraps fs.ErrPermission leaves what
// it hits.
func (c *client) ErasePrefix(ctx context.Context) (done multidb.ErasedPrefix, err error) {
	files, err := c.AllLTXFiles(ctx, false)
	if err != nil {
		return done, err
	}
	r := c.replica
	for batch := range slices.Chunk(files, objectsPage) {
		var gone multidb.ErasedPrefix
		op := Operation{Op: OpDelete, Prefix: c.prefix, Level: AllLevels, Min: batch[0].MinTXID, Max: batch[0].MaxTXID}
		for _, f := range batch {
			op.Min, op.Max = min(op.Min, f.MinTXID), max(op.Max, f.MaxTXID)
		}
		err := r.do(ctx, op, func() error {
			r.mu.Lock()
			defer r.mu.Unlock()
			s := r.spaces[c.prefix]
			for _, info := range batch {
				key := fileKey{info.Level, info.MinTXID, info.MaxTXID}
				if s == nil {
					break
				} else if f, ok := s.files[key]; ok {
					gone.Objects, gone.Bytes = gone.Objects+1, gone.Bytes+int64(len(f.data))
					delete(s.files, key)
				}
			}
			return nil
		})
		switch {
		case err == nil:
			done.Objects, done.Bytes = done.Objects+gone.Objects, done.Bytes+gone.Bytes
		case errors.Is(err, fs.ErrPermission):
			for _, info := range batch {
				key := fileKey{info.Level, info.MinTXID, info.MaxTXID}
				done.Left = append(done.Left, multidb.LeftObject{Name: c.prefix + " " + key.String(), Err: err})
			}
		default:
			return done, err
		}
	}
	if len(done.Left) > 0 {
		return done, nil // metadata.json tells whose they are
	}
	err = r.do(ctx, Operation{Op: OpDeleteAll, Prefix: c.prefix, Level: AllLevels}, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		s := r.spaces[c.prefix]
		if s == nil {
			return nil
		}
		if s.metadata != nil {
			done.Objects, done.Bytes, s.metadata = done.Objects+1, done.Bytes+int64(len(s.metadata)), nil
		}
		if len(s.files) == 0 {
			delete(r.spaces, c.prefix)
		}
		return nil
	})
	if errors.Is(err, fs.ErrPermission) {
		done.Left, err = append(done.Left, multidb.LeftObject{Name: c.prefix + " metadata", Err: err}), nil
	}
	return done, err
}

// PrefixSize implements multidb.PrefixSizer.
func (c *client) PrefixSize(ctx context.Context) (objects, bytes int64, err error) {
	err = c.replica.do(ctx, Operation{Op: OpList, Prefix: c.prefix, Level: AllLevels}, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		s := c.replica.spaces[c.prefix]
		if s == nil {
			return nil
		}
		for f := range maps.Values(s.files) {
			objects, bytes = objects+1, bytes+int64(len(f.data))
		}
		if s.metadata != nil {
			objects, bytes = objects+1, bytes+int64(len(s.metadata))
		}
		return nil
	})
	return objects, bytes, err
}

// CopyLTXFile implements multidb.LTXCopier. The bytes are shared.
func (c *client) CopyLTXFile(ctx context.Context, from litestream.ReplicaClient, info *ltx.FileInfo) error {
	source, ok := from.(*client)
	key := fileKey{info.Level, info.MinTXID, info.MaxTXID}
	if !ok || source.replica != c.replica {
		return pathError("copy", c.prefix, key, errors.ErrUnsupported)
	}
	op := &Operation{Op: OpWrite, Prefix: c.prefix, Level: info.Level, Min: info.MinTXID, Max: info.MaxTXID}
	return c.replica.doSized(ctx, op, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		_, f, err := c.replica.fileLocked("copy", source.prefix, key)
		if err != nil {
			return err
		}
		s := c.replica.ensureSpaceLocked(c.prefix)
		if there, ok := s.files[key]; ok {
			if string(there.data) != string(f.data) {
				return pathError("copy", c.prefix, key, fs.ErrExist)
			}
			return nil
		}
		s.files[key] = f
		return nil
	})
}
