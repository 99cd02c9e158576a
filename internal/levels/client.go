package levels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// readAhead is the size up to which a source is read as soon as it is opened, so that a
// compaction of many small files does not hold a connection for each of them.
const readAhead = 64 << 10

// compactClient is the replica for one compaction: it lists the files of the run from
// memory, checks what is opened and records what is written.
type compactClient struct {
	litestream.ReplicaClient
	v       *Inventory
	shelf   *shelf // v's
	dst     int
	sources []*ltx.FileInfo
	files   untrusted.Files

	compare  bool   // the destination exists: compare it instead of writing it
	opened   int    // sources opened so far; the compactor opens them in order
	pageSize uint32 // of the sources
	written  int64

	// Atomic, because a compactor that failed may go on reading in the background for a
	// moment.
	read    atomic.Int64
	missing atomic.Bool
}

func (c *compactClient) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	if level != c.dst-1 || seek > c.sources[0].MinTXID {
		return nil, fmt.Errorf("levels: unexpected listing of level %d from %s", level, seek)
	}
	return ltx.NewFileInfoSliceIterator(c.sources), nil
}

func (c *compactClient) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	rc, err := c.open(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil {
		return nil, err
	}
	if c.opened == len(c.sources) { // opened again, after a broken connection
		return rc, nil
	}
	checked, err := c.check(rc, c.sources[c.opened])
	if err != nil {
		_ = rc.Close()
		return nil, fmt.Errorf("level %d %s: %w", level, ltx.FormatFilename(minTXID, maxTXID), err)
	}
	c.opened++
	return checked, nil
}

// open reads a file from memory if its bytes are kept, or else from the replica.
func (c *compactClient) open(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if data := c.shelf.get(key{level, minTXID, maxTXID}); data != nil && offset == 0 && size == 0 {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	rc, err := c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			c.missing.Store(true)
		}
		return nil, err
	}
	guarded, err := c.files.Wrap(level, minTXID, maxTXID, offset, rc)
	if err != nil {
		_ = rc.Close() // not read from
		return nil, err
	}
	return &countedReader{guarded, &c.read}, nil
}

// check reads the header of a source. The compactor reads it later, but an error that it
// finds could only be recognized by its text.
func (c *compactClient) check(rc io.ReadCloser, info *ltx.FileInfo) (io.ReadCloser, error) {
	var r io.Reader = rc
	if info.Size <= readAhead {
		data, err := io.ReadAll(io.LimitReader(rc, info.Size+1))
		if err != nil {
			return nil, err
		}
		if int64(len(data)) > info.Size {
			return nil, fmt.Errorf("%w: a file longer than the %d bytes it was listed with", untrusted.ErrDamaged, info.Size)
		}
		r = bytes.NewReader(data)
	}
	hdr, r, err := ltx.PeekHeader(r)
	if err != nil {
		return nil, fmt.Errorf("read LTX header: %w", err)
	}
	if hdr.MinTXID != info.MinTXID || hdr.MaxTXID != info.MaxTXID {
		return nil, fmt.Errorf("file holds TXIDs %s to %s", hdr.MinTXID, hdr.MaxTXID)
	}
	if c.opened > 0 && hdr.PageSize != c.pageSize {
		return nil, fmt.Errorf("%w: from %d to %d bytes", ErrPageSize, c.pageSize, hdr.PageSize)
	}
	c.pageSize = hdr.PageSize
	if info.Size > readAhead {
		return struct {
			io.Reader
			io.Closer
		}{r, rc}, nil
	}
	return io.NopCloser(r), rc.Close()
}

// compareWith compares the destination, which exists already, with the bytes that r would
// write. The error is ErrForeign if they are different changes.
func (c *compactClient) compareWith(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	rc, err := c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, 0, 0)
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	existing := &countedReader{rc, &n}
	_, same, err := ltxfile.Same(r, untrusted.NewLTX(existing))
	if err = errors.Join(err, rc.Close()); err != nil {
		return nil, err
	} else if !same {
		return nil, ErrForeign
	}
	info := &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: n.Load(), CreatedAt: c.sources[len(c.sources)-1].CreatedAt}
	c.v.Add(info)
	return info, nil
}

func (c *compactClient) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if c.compare {
		return c.compareWith(ctx, level, minTXID, maxTXID, r)
	}
	var n atomic.Int64
	c.v.MarkStray(level, minTXID, maxTXID)
	failpoint.Hit("compact.put.before")
	src := &countedReader{io.NopCloser(r), &n}
	var body io.Reader = src
	var copied *limitedBuffer
	if c.shelf != nil {
		copied = &limitedBuffer{most: maxKept}
		body = io.TeeReader(src, copied)
	}
	info, err := c.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, body)
	failpoint.Hit("compact.put.after")
	c.written = n.Load()
	if err != nil {
		return nil, err
	}
	created := c.sources[len(c.sources)-1].CreatedAt
	if info != nil && !info.CreatedAt.IsZero() {
		created = info.CreatedAt
	}
	info = &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: c.written, CreatedAt: created}
	c.v.Wrote(info, copied.all())
	return info, nil
}

// limitedBuffer keeps what is written to it, unless that is more than most bytes.
type limitedBuffer struct {
	most int
	buf  []byte
	over bool
}

func (h *limitedBuffer) Write(p []byte) (int, error) {
	if h.over = h.over || len(h.buf)+len(p) > h.most; h.over {
		h.buf = nil
	} else {
		h.buf = append(h.buf, p...)
	}
	return len(p), nil
}

// all returns everything that was written, or nil if that was too much.
func (h *limitedBuffer) all() []byte {
	if h == nil || h.over {
		return nil
	}
	return h.buf
}

// countedReader adds what is read to n.
type countedReader struct {
	io.ReadCloser
	n *atomic.Int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n.Add(int64(n))
	return n, err
}
