package multidb

import "context"

// DiscovererWatcher is an optional power of a Discoverer: it tells of changes
// when they happen, between two listings. See WithWatch.
type DiscovererWatcher interface {
	// Watch begins to watch. From its return on, every change of a database that
	// a later Discover may not have listed is told: as WatchChanged, or, where
	// the watcher cannot say which, as WatchRescan. That is all it promises, so
	// it may begin to watch a directory when Discover comes to it, before reading.
	//
	// The caller calls run once, in a goroutine of its own, even after an error
	// elsewhere: it works until ctx ends and frees what Watch took. Without an
	// error Watch returns a run that is not nil.
	//
	// notify is called from run and from Discover; it is quick, never blocks for
	// long and does not call the Discoverer. A database that is written without
	// end is told a few times a second at most. A watcher opens no database file,
	// as Discover does not.
	Watch(ctx context.Context, notify func(WatchEvent)) (run func(), err error)
}

// WatchEvent is what a DiscovererWatcher tells.
type WatchEvent struct {
	Type WatchEventType
	// Database was changed (WatchChanged): as Discover would yield it, or only
	// its Path if it is listed under another one. A zero ModTime is looked up.
	Database Database
	// Err is why, of WatchRescan and WatchPolls; it may be nil.
	Err error
}

// WatchEventType says what a WatchEvent is about.
type WatchEventType uint8

// The events of a watcher.
const (
	WatchChanged WatchEventType = iota + 1 // a database was written, or appeared
	WatchGone                              // something was removed or moved: a listing shows what
	WatchRescan                            // changes were missed: everything has to be listed again
	WatchPolls                             // from now on directories are looked at, since the system's watches ran out
)
