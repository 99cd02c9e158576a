// Package reading joins prefixes and fleet logs for whoever only reads, from the store alone.
package reading

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/client"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/superfly/ltx"
)

// DefaultDir is the directory of a fleet log where none is given.
const DefaultDir = "fleet"

// BadDir says why a directory cannot be that of a fleet log; "" if it can.
func BadDir(dir string) string {
	switch {
	case strings.Contains(dir, "{{"):
		return "it is one directory for all tenants, so it has no variables"
	case store.CheckObjectDir(dir) != nil:
		return "want a relative path with slashes, such as \"fleet\", without . or .. and without a slash at its ends"
	}
	return ""
}

// Logs are the fleet logs of a replica. Each is read once, at its first use, and shared:
// it is as it was then. Safe for concurrent use.
type Logs struct {
	// Open returns the objects of a log's directory.
	Open func(dir string) (store.Objects, error)
	// Default is the directory of the log of prefixes whose metadata.json names none; "":
	// they have none. If it cannot be read and Denied says so of the error, there is none.
	Default string
	Denied  func(error) bool

	mu   sync.Mutex
	logs map[string]*logFlight // by directory
}

// logFlight is the reading of one log: log belongs to whoever has put something in slot.
type logFlight struct {
	slot chan struct{}
	read bool
	log  *client.Log
}

// Read returns the log of a directory; nil: there is none. Where that fails, the next call tries again. ctx
// bounds it, and the waiting for another caller who reads it.
func (l *Logs) Read(ctx context.Context, dir string) (*client.Log, error) {
	l.mu.Lock()
	f := l.logs[dir]
	if f == nil {
		if l.logs == nil {
			l.logs = map[string]*logFlight{}
		}
		f = &logFlight{slot: make(chan struct{}, 1)}
		l.logs[dir] = f
	}
	l.mu.Unlock()
	select {
	case f.slot <- struct{}{}:
		defer func() { <-f.slot }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if f.read {
		return f.log, nil
	}
	log, err := l.read(dir, func(objects store.Objects) (*client.Log, error) { return client.Read(ctx, objects) })
	if err != nil {
		return nil, err
	}
	f.read, f.log = true, log
	return log, nil
}

func (l *Logs) read(dir string, read func(store.Objects) (*client.Log, error)) (*client.Log, error) {
	objects, err := l.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("the fleet log %s: %w", dir, err)
	}
	log, err := read(objects)
	if err != nil && dir == l.Default && l.Denied(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the fleet log %s: %w", dir, err)
	}
	return log, nil
}

// errReadOnly is returned by what would change a prefix.
var errReadOnly = fmt.Errorf("this client reads a prefix with its fleet log, and writes nothing: %w", errors.ErrUnsupported)

// Client reads a prefix together with the fleet log, in which a later part of its history
// may be. Nothing is requested before the first call that has a ctx. Safe for concurrent
// use.
type Client struct {
	litestream.ReplicaClient // of the prefix alone
	logs                     *Logs
	log                      string // directory of the fleet log; "": metadata.json says it
	tenant                   string // what the log calls the prefix
	history                  bool

	mu     sync.Mutex // not held during I/O; two that ask at once get the same
	joined litestream.ReplicaClient
	asked  bool // metadata and err are what ReadMetadata has returned
	data   []byte
	err    error
}

// Client returns a client of a prefix. log is the directory of its fleet log if that is
// known; otherwise the prefix's metadata.json names it, or it is the Default. Without a
// log the prefix is read by the same requests as without this Client.
func (l *Logs) Client(prefix litestream.ReplicaClient, log, tenant string) *Client {
	return &Client{ReplicaClient: prefix, logs: l, log: log, tenant: tenant}
}

// join returns the client that reads both, or that of the prefix alone.
func (c *Client) join(ctx context.Context) (litestream.ReplicaClient, error) {
	c.mu.Lock()
	joined := c.joined
	c.mu.Unlock()
	if joined != nil {
		return joined, nil
	}
	log, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	if joined = c.ReplicaClient; log != nil {
		joined = log.Client("", c.tenant, c.ReplicaClient)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined = joined
	return joined, nil
}

// History makes the client read all that the log still has, not only what the prefix may
// lack: the finest history, for a restore to a transaction or a time. Before the first call.
func (c *Client) History() { c.history = true }

// read returns the log of the prefix; nil: it has none.
func (c *Client) read(ctx context.Context) (*client.Log, error) {
	dir := cmp.Or(c.log, c.named(ctx), c.logs.Default)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	switch {
	case dir == "":
		return nil, nil
	case !c.history:
		return c.logs.Read(ctx, dir)
	}
	return c.logs.read(dir, func(objects store.Objects) (*client.Log, error) {
		return client.ReadTenant(ctx, objects, c.tenant, true)
	})
}

// named is the fleet log of metadata.json. If that cannot be read, metadata.At says
// so when the file is given its mode.
func (c *Client) named(ctx context.Context) string {
	if c.log != "" {
		return ""
	}
	b, err := c.ReadMetadata(ctx)
	if err != nil {
		return ""
	}
	md, err := metadata.Decode(b)
	if newer := metadata.FormatError(0); err != nil && !errors.As(err, &newer) {
		return ""
	}
	return md.FleetLog
}

// Unpack writes what the log has and the prefix lacks to the prefix, and returns the last
// transaction of that; zero: the prefix lacks nothing.
func (c *Client) Unpack(ctx context.Context) (ltx.TXID, error) {
	log, err := c.read(ctx)
	if err != nil || log == nil {
		return 0, err
	}
	w := &written{ReplicaClient: c.ReplicaClient}
	_, err = log.Unpack(ctx, c.tenant, w, true)
	return w.last, err
}

// Ends returns the last transaction of the log and the prefix together, and that of the
// prefix.
func (c *Client) Ends(ctx context.Context) (both, prefix ltx.TXID, err error) {
	end := func(client litestream.ReplicaClient) (last ltx.TXID) {
		files, listErr := store.Files(ctx, client, false)
		for _, f := range files {
			last = max(last, f.MaxTXID)
		}
		err = errors.Join(err, listErr)
		return last
	}
	return end(c), end(c.ReplicaClient), err
}

// written notes the last transaction that was written through it.
type written struct {
	litestream.ReplicaClient
	last ltx.TXID
}

func (w *written) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	info, err := w.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
	if err == nil {
		w.last = max(w.last, maxTXID)
	}
	return info, err
}

// AllLTXFiles keeps a listing in one request.
func (w *written) AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error) {
	return store.Files(ctx, w.ReplicaClient, useMetadata)
}

// RestoreClient is store.RestoreClient.
func (c *Client) RestoreClient(ctx context.Context, exactTimes bool) (litestream.ReplicaClient, error) {
	joined, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	return store.RestoreClient(ctx, joined, exactTimes)
}

// AllLTXFiles lists all levels.
func (c *Client) AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error) {
	joined, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	return store.Files(ctx, joined, useMetadata)
}

// LTXFiles lists a level.
func (c *Client) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	joined, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	return joined.LTXFiles(ctx, level, seek, useMetadata)
}

// OpenLTXFile opens a file of the log or of the prefix.
func (c *Client) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	joined, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	return joined.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
}

// ReadMetadata reads metadata.json, once. An error wraps fs.ErrNotExist if there is none.
func (c *Client) ReadMetadata(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	asked, data, err := c.asked, c.data, c.err
	c.mu.Unlock()
	if asked {
		return data, err
	}
	err = fs.ErrNotExist
	if s, ok := c.ReplicaClient.(metadata.Store); ok {
		data, err = s.ReadMetadata(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.data, c.err = ctx.Err() == nil, data, err
	return data, err
}

// WriteMetadata fails.
func (c *Client) WriteMetadata(context.Context, []byte) error { return errReadOnly }

// WriteLTXFile fails.
func (c *Client) WriteLTXFile(context.Context, int, ltx.TXID, ltx.TXID, io.Reader) (*ltx.FileInfo, error) {
	return nil, errReadOnly
}

// DeleteLTXFiles fails.
func (c *Client) DeleteLTXFiles(context.Context, []*ltx.FileInfo) error { return errReadOnly }

// DeleteAll fails.
func (c *Client) DeleteAll(context.Context) error { return errReadOnly }
