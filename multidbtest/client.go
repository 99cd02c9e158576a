package multidbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

var (
	_ litestream.ReplicaClient = (*client)(nil)
	_ multidb.FileLister       = (*client)(nil)
	_ multidb.MetadataStore    = (*client)(nil)
)

// client is one prefix of a Replica. Safe for concurrent use.
type client struct {
	replica *Replica
	prefix  string
}

func (c *client) Type() string { return "memory" }

// SetLogger does nothing: the replica has a log of operations instead.
func (c *client) SetLogger(*slog.Logger) {}

func (c *client) Init(ctx context.Context) error {
	return c.replica.do(ctx, Operation{Op: OpInit, Prefix: c.prefix, Level: AllLevels}, func() error { return nil })
}

func (c *client) LTXFiles(ctx context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	op := Operation{Op: OpList, Prefix: c.prefix, Level: level, Min: seek}
	infos, err := c.list(ctx, op, func(k fileKey) bool { return k.level == level && k.min >= seek })
	if err != nil {
		return nil, err
	}
	return ltx.NewFileInfoSliceIterator(infos), nil
}

func (c *client) AllLTXFiles(ctx context.Context, _ bool) ([]*ltx.FileInfo, error) {
	op := Operation{Op: OpList, Prefix: c.prefix, Level: AllLevels}
	return c.list(ctx, op, func(fileKey) bool { return true })
}

func (c *client) list(ctx context.Context, op Operation, keep func(fileKey) bool) (infos []*ltx.FileInfo, err error) {
	err = c.replica.do(ctx, op, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		infos = c.replica.spaces[c.prefix].list(keep)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return infos, nil
}

func (c *client) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	op := &Operation{Op: OpOpen, Prefix: c.prefix, Level: level, Min: minTXID, Max: maxTXID}
	key := fileKey{level, minTXID, maxTXID}
	var data []byte
	err := c.replica.doSized(ctx, op, func() error {
		c.replica.mu.Lock()
		_, f, err := c.replica.fileLocked("open", c.prefix, key)
		c.replica.mu.Unlock()
		if err != nil {
			return err
		}
		if offset < 0 || size < 0 || offset > 0 && offset >= int64(len(f.data)) {
			return pathError("open", c.prefix, key, fmt.Errorf("range of %d bytes at %d is outside of the file's %d", size, offset, len(f.data)))
		}
		data = f.data[offset:]
		if size > 0 && size < int64(len(data)) {
			data = data[:size]
		}
		op.Size = int64(len(data))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &body{ctx: ctx, r: bytes.NewReader(data)}, nil
}

func (c *client) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	op := Operation{Op: OpWrite, Prefix: c.prefix, Level: level, Min: minTXID, Max: maxTXID}
	key := fileKey{level, minTXID, maxTXID}
	data, createdAt, err := readLTX(ctx, key, r)
	op.Size = int64(len(data))
	if err != nil {
		err = pathError("write", c.prefix, key, err)
		c.replica.record(op, err)
		return nil, err
	}

	f := file{data: data, createdAt: createdAt}
	err = c.replica.do(ctx, op, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		s := c.replica.ensureSpaceLocked(c.prefix)
		if _, ok := s.files[key]; ok {
			return pathError("write", c.prefix, key, fs.ErrExist)
		}
		s.files[key] = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	return key.info(f), nil
}

// readLTX reads r to its end and refuses a file that restore could not read.
func readLTX(ctx context.Context, key fileKey, r io.Reader) ([]byte, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, time.Time{}, err
	}
	hdr, _, err := ltx.PeekHeader(bytes.NewReader(data))
	if err == nil {
		err = hdr.Validate()
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("not an LTX file: %w", err)
	}
	if hdr.MinTXID != key.min || hdr.MaxTXID != key.max {
		return nil, time.Time{}, fmt.Errorf("the LTX header says TXIDs %s-%s", hdr.MinTXID, hdr.MaxTXID)
	}
	return data, time.UnixMilli(hdr.Timestamp).UTC(), nil
}

func (c *client) DeleteLTXFiles(ctx context.Context, infos []*ltx.FileInfo) error {
	if len(infos) == 0 {
		return ctx.Err()
	}
	op := Operation{Op: OpDelete, Prefix: c.prefix, Level: infos[0].Level, Min: infos[0].MinTXID, Max: infos[0].MaxTXID}
	for _, info := range infos {
		if info.Level != op.Level {
			op.Level = AllLevels
		}
		op.Min, op.Max = min(op.Min, info.MinTXID), max(op.Max, info.MaxTXID)
	}
	return c.replica.do(ctx, op, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		if s := c.replica.spaces[c.prefix]; s != nil {
			for _, info := range infos {
				delete(s.files, fileKey{info.Level, info.MinTXID, info.MaxTXID})
			}
		}
		return nil
	})
}

func (c *client) DeleteAll(ctx context.Context) error {
	return c.replica.do(ctx, Operation{Op: OpDeleteAll, Prefix: c.prefix, Level: AllLevels}, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		delete(c.replica.spaces, c.prefix)
		return nil
	})
}

func (c *client) WriteMetadata(ctx context.Context, data []byte) error {
	op := Operation{Op: OpWriteMetadata, Prefix: c.prefix, Level: AllLevels, Size: int64(len(data))}
	stored := append([]byte{}, data...) // never nil: empty metadata is metadata
	return c.replica.do(ctx, op, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		c.replica.ensureSpaceLocked(c.prefix).metadata = stored
		return nil
	})
}

func (c *client) ReadMetadata(ctx context.Context) (data []byte, err error) {
	op := &Operation{Op: OpReadMetadata, Prefix: c.prefix, Level: AllLevels}
	err = c.replica.doSized(ctx, op, func() error {
		c.replica.mu.Lock()
		defer c.replica.mu.Unlock()
		s := c.replica.spaces[c.prefix]
		if s == nil || s.metadata == nil {
			return &fs.PathError{Op: "read", Path: c.prefix + " metadata", Err: fs.ErrNotExist}
		}
		data = bytes.Clone(s.metadata)
		op.Size = int64(len(data))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// body is an open file. As with a body from the network, reading it ends with
// the context it was opened with.
type body struct {
	ctx    context.Context
	r      io.Reader
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.closed {
		return 0, errors.New("read of a closed LTX file")
	}
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

func (b *body) Close() error {
	b.closed = true
	return nil
}
