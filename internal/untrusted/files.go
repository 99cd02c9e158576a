package untrusted

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// Files guards the LTX files that one restore or compaction opens, even if it opens a file
// again in the middle after its connection broke. The zero value is ready to use. Safe for
// concurrent use, but of several readers of one file only the last may be read.
type Files struct {
	mu    sync.Mutex
	files map[fileKey]*scanner
}

type fileKey struct {
	level    int
	min, max ltx.TXID
}

// Wrap returns a reader of rc that is guarded like LTX. The client must have opened rc at
// offset, to read to the end of the file.
func (f *Files) Wrap(level int, minTXID, maxTXID ltx.TXID, offset int64, rc io.ReadCloser) (io.ReadCloser, error) {
	k := fileKey{level, minTXID, maxTXID}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.files[k]
	switch {
	case offset == 0:
		if f.files == nil {
			f.files = map[fileKey]*scanner{}
		}
		s = newScanner()
		f.files[k] = s
	case s == nil || s.pos != offset:
		return nil, fmt.Errorf("%s: opened at byte %d, which nobody has read up to", ltx.FormatFilename(minTXID, maxTXID), offset)
	case s.err != nil:
		return nil, s.err
	}
	return guarded{&LTX{rc, s}, rc}, nil
}

type guarded struct {
	*LTX
	io.Closer
}

// Client returns a client whose LTX files are guarded, for one restore. Of the optional
// interfaces of c it has only that for backups of litestream v0.3.
func Client(c litestream.ReplicaClient) litestream.ReplicaClient {
	g := &client{ReplicaClient: c, files: new(Files)}
	if v3, ok := c.(litestream.ReplicaClientV3); ok {
		return clientV3{g, v3}
	}
	return g
}

type client struct {
	litestream.ReplicaClient
	files *Files
}

func (c *client) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	rc, err := c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil || size > 0 { // nobody decodes a part of a file
		return rc, err
	}
	g, err := c.files.Wrap(level, minTXID, maxTXID, offset, rc)
	if err != nil {
		_ = rc.Close() // not read from
		return nil, err
	}
	return g, nil
}

type clientV3 struct {
	*client
	litestream.ReplicaClientV3
}
