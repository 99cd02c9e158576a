package file

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/litestream"
	stock "github.com/benbjohnson/litestream/file"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

var _ litestream.ReplicaClient = (*Client)(nil)

const (
	metadataName = "metadata.json"
	tempSuffix   = ".tmp" // listings know a file by its name, so they skip these
	// tempAge is the age from which a temporary file counts as left by a crash: no
	// writer can still be using it.
	tempAge = 24 * time.Hour
)

// Client is one database's directory. Names and listings are those of
// litestream's client; writing is not: that client overwrites, ignores contexts,
// lets two writers share a temporary file, and sets the time of a file (which a
// restore to a timestamp relies on) only after the file can be seen. Safe for
// concurrent use, also by several processes.
type Client struct {
	root   *directory // of the Store; directories are fsynced upwards to here
	prefix string
	layout *stock.ReplicaClient
	stats  *counters

	// ready says of each level's directory, and last of the prefix, that it was
	// there and durable, so that only the first write has to check.
	ready [litestream.SnapshotLevel + 2]atomic.Bool
}

const prefixSlot = litestream.SnapshotLevel + 1

// Type returns the type of litestream's client for files.
func (c *Client) Type() string { return stock.ReplicaClientType }

// SetLogger does nothing: errors say all there is to say.
func (c *Client) SetLogger(*slog.Logger) {}

// Init does nothing; directories are made by the first write.
func (c *Client) Init(ctx context.Context) error { return ctx.Err() }

// LTXFiles lists a level from seek on.
func (c *Client) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.stats.list.Add(1)
	infos, err := c.listLevel(ctx, level, seek)
	if err != nil {
		return nil, c.stats.count(err)
	}
	return ltx.NewFileInfoSliceIterator(infos), nil
}

// listLevel lists a level's directory, a thousand names at a time, and returns
// its files sorted by TXID. useMetadata makes no difference: a file's time is that
// of its header.
func (c *Client) listLevel(ctx context.Context, level int, seek ltx.TXID) (infos []*ltx.FileInfo, err error) {
	root, err := c.root.enter(false)
	if err != nil {
		return nil, err
	}
	defer root.close()
	dir, err := root.openRoot(c.layout.LTXLevelDir(level))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // only read from
	names, err := dir.Open(".")
	if err != nil {
		return nil, noSuchFile(err)
	}
	defer func() { _ = names.Close() }()
	for {
		page, err := names.ReadDir(1000)
		for _, entry := range page {
			minTXID, maxTXID, err := ltx.ParseFilename(entry.Name())
			if err != nil || minTXID < seek {
				continue
			}
			info, err := dir.Lstat(entry.Name()) // not entry.Info, which goes by path
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted just now
			} else if err != nil {
				return nil, err
			}
			infos = append(infos, &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: info.Size(), CreatedAt: info.ModTime().UTC()})
		}
		if err == io.EOF {
			slices.SortFunc(infos, func(a, b *ltx.FileInfo) int {
				return cmp.Or(cmp.Compare(a.MinTXID, b.MinTXID), cmp.Compare(a.MaxTXID, b.MaxTXID))
			})
			return infos, nil
		}
		if err = cmp.Or(err, ctx.Err(), untrusted.CheckFiles(len(infos), untrusted.MaxFiles)); err != nil {
			return nil, err
		}
	}
}

// AllLTXFiles returns the files of every level, sorted by level, then by TXID.
func (c *Client) AllLTXFiles(ctx context.Context, _ bool) ([]*ltx.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all []*ltx.FileInfo
	for level := range litestream.SnapshotLevel + 1 {
		c.stats.list.Add(1)
		infos, err := c.listLevel(ctx, level, 0)
		all = append(all, infos...)
		if err == nil {
			err = untrusted.CheckFiles(len(all), untrusted.MaxFiles)
		}
		if err != nil {
			return nil, c.stats.count(err)
		}
	}
	return all, nil
}

// OpenLTXFile opens a file at an offset, for size bytes, or to its end if size is 0.
func (c *Client) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.stats.get.Add(1)
	f, err := c.openLTX(level, minTXID, maxTXID, offset)
	if err != nil {
		return nil, c.stats.count(err)
	}
	return c.stats.reader(ctx, f, size), nil
}

// reader reads size bytes of a file, or all that is left if size is 0, and counts them.
func (s *counters) reader(ctx context.Context, f *os.File, size int64) io.ReadCloser {
	var r io.Reader = f
	if size > 0 {
		r = io.LimitReader(f, size)
	}
	return &ctxio.Reader{Ctx: ctx, R: r, C: f, N: &s.bytesIn}
}

func (c *Client) openLTX(level int, minTXID, maxTXID ltx.TXID, offset int64) (*os.File, error) {
	root, err := c.root.enter(false)
	if err != nil {
		return nil, err
	}
	defer root.close()
	path := c.layout.LTXFilePath(level, minTXID, maxTXID)
	f, err := root.open(path)
	if err != nil {
		return nil, litestream.NewLTXError("open", path, level, uint64(minTXID), uint64(maxTXID), err)
	}
	if offset > 0 {
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// WriteLTXFile creates a file, which is on disk when it returns. An existing file
// is left alone, and the error wraps fs.ErrExist.
func (c *Client) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if level < 0 || level > litestream.SnapshotLevel {
		return nil, fmt.Errorf("write ltx file: there is no level %d", level)
	}
	hdr, body, err := ltx.PeekHeader(&ctxio.Reader{Ctx: ctx, R: r})
	if err != nil {
		return nil, c.stats.count(fmt.Errorf("read LTX header: %w", err))
	}
	createdAt := time.UnixMilli(hdr.Timestamp).UTC()

	size, err := c.publish(writing{
		slot:       level,
		path:       c.layout.LTXFilePath(level, minTXID, maxTXID),
		createOnly: true,
		modTime:    createdAt,
		body:       body,
	})
	if err != nil {
		return nil, err
	}
	return &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: size, CreatedAt: createdAt}, nil
}

// DeleteLTXFiles removes files. One that is not there is no error.
func (c *Client) DeleteLTXFiles(ctx context.Context, infos []*ltx.FileInfo) error {
	root, err := c.root.enter(false) // what is not there must be gone, not away
	if err != nil {
		return c.stats.count(err)
	}
	defer root.close()
	for _, info := range infos {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.remove(c.layout.LTXFilePath(info.Level, info.MinTXID, info.MaxTXID)); err != nil {
			return err
		}
		failpoint.Hit("file.delete.after")
	}
	return ctx.Err()
}

// DeleteAll removes what this client writes and nothing else: the prefix of
// another database may lie below this one's.
func (c *Client) DeleteAll(ctx context.Context) error {
	root, err := c.root.enter(false) // what is not there must be gone, not away
	if err != nil {
		return c.stats.count(err)
	}
	defer root.close()
	for level := range litestream.SnapshotLevel + 1 {
		if err := c.clearDir(ctx, level, c.layout.LTXLevelDir(level), func(name string) bool {
			_, _, err := ltx.ParseFilename(name)
			return err == nil
		}); err != nil {
			return err
		}
	}
	if err := removeEmptyDir(litestream.LTXDir(c.prefix)); err != nil {
		return c.stats.count(err)
	}
	return c.clearDir(ctx, prefixSlot, c.prefix, func(name string) bool { return name == metadataName })
}

// clearDir removes the files of dir that are ours, and dir if it is then empty.
func (c *Client) clearDir(ctx context.Context, slot int, dir string, ours func(name string) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.ready[slot].Store(false)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return c.stats.count(err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.IsDir() || !ours(e.Name()) && !isTemp(e.Name()) {
			continue
		}
		if err := c.remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return c.stats.count(removeEmptyDir(dir))
}

func (c *Client) remove(path string) error {
	c.stats.delete.Add(1)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c.stats.count(err)
	}
	return nil
}

// WriteMetadata replaces metadata.json.
func (c *Client) WriteMetadata(ctx context.Context, data []byte) error {
	_, err := c.publish(writing{
		slot: prefixSlot,
		path: filepath.Join(c.prefix, metadataName),
		body: &ctxio.Reader{Ctx: ctx, R: bytes.NewReader(data)},
	})
	return err
}

// ReadMetadata returns metadata.json; fs.ErrNotExist if there is none.
func (c *Client) ReadMetadata(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.stats.get.Add(1)
	data, err := c.readMetadata()
	c.stats.bytesIn.Add(int64(len(data)))
	return data, c.stats.count(err)
}

func (c *Client) readMetadata() ([]byte, error) {
	root, err := c.root.enter(false)
	if err != nil {
		return nil, err
	}
	defer root.close()
	f, err := root.open(filepath.Join(c.prefix, metadataName))
	if err != nil {
		return nil, err
	}
	data, err := untrusted.ReadMetadata(f)
	return data, errors.Join(err, f.Close())
}
