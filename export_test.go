package multidb

import "github.com/multidb-go/multidb/internal/watch"

// WithClock sets the Manager's clock.
var WithClock = withClock

// WithFlush sets what flushes a WAL to disk.
var WithFlush = withFlush

// WatchThrough makes a discoverer watch through other sources than the system's.
func WatchThrough(g *GlobDiscoverer, open func() (watch.Source, error)) *GlobDiscoverer {
	g.notifications = open
	return g
}

// CacheBytes is the memory that the cache of files takes.
func CacheBytes(m *Manager) int64 { return m.cache.Size() }
