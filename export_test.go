package multidb

import (
	"context"
	"io/fs"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/watch"
)

// The options that only tests need: the clock, the stamps of files by that
// clock, and the source of jitter.
var (
	WithClock = withClock
	WithStat  = withStat
	WithRand  = withRand
)

// WithBoot sets the clock that counts suspended time, and for how long level 0 files
// stay at least.
var WithBoot = withBoot

// ErrCopied is told by a state directory that is a copy.
var ErrCopied = errCopied

// WithFlush sets what flushes a WAL to disk.
var WithFlush = withFlush

// WatchThrough makes a discoverer watch through other sources than the system's.
func WatchThrough(g *GlobDiscoverer, open func() (watch.Source, error)) *GlobDiscoverer {
	g.glob.Notifications = open
	return g
}

// CacheBytes is the memory that the cache of files takes.
func CacheBytes(m *Manager) int64 { return m.cache.Size() }

// RunOnce runs a database once, as a worker does when it is due, and reports
// whether a look at unchanged files was or would be enough.
func RunOnce(ctx context.Context, m *Manager, id ID) bool {
	e, err := m.fleet.Lookup(string(id))
	return err == nil && m.conductor.RunOnce(ctx, e) && m.fleet.IsClean(e)
}

// FlushCatalog writes what the catalog has queued.
func FlushCatalog(ctx context.Context, m *Manager) error { return m.catalog.Flush(ctx) }

// OwnerOf is who owns a file, where the system says so.
func OwnerOf(fi fs.FileInfo) (uid, gid int, ok bool) {
	a := fsid.AccessOf(fi)
	return a.UID, a.GID, a.Owned
}

// AcquireUntraced is Acquire without a look at the tracer.
func AcquireUntraced(ctx context.Context, m *Manager, id ID) (Handle, error) {
	return m.acquire(ctx, id)
}

// ForgetErased deletes the files of what other nodes have erased, as a node does from time to time.
func ForgetErased(ctx context.Context, m *Manager) (files int, err error) {
	return m.node.tenants.Forget(ctx)
}

// SyncOf is Sync of a database that was looked up before it is called.
func SyncOf(m *Manager, id ID) (func(context.Context) error, error) {
	e, err := m.fleet.Lookup(string(id))
	return func(ctx context.Context) error {
		_, err := m.conductor.Sync(ctx, e)
		return err
	}, err
}
