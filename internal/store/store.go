// Package store lists and restores from any store, whose clients may be able to do
// more than litestream asks of them, and says what directories of plain objects can
// do ([Objects]). It touches nothing but the clients that it is
// given. The packages below it are the clients of one kind of store each.
package store

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// FileLister is an optional interface of a client: multidb.FileLister.
type FileLister interface {
	AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error)
}

// restoreClienter is an optional interface of a client that answers everything a
// restore asks from one listing, backups of litestream v0.3 included.
type restoreClienter interface {
	RestoreClient(ctx context.Context, exactTimes bool) (litestream.ReplicaClient, error)
}

// Newest returns the last transaction that a prefix has, of whatever level; 0: it has none.
func Newest(ctx context.Context, client litestream.ReplicaClient) (newest ltx.TXID, err error) {
	files, err := Files(ctx, client, false)
	for _, f := range files {
		newest = max(newest, f.MaxTXID)
	}
	return newest, err
}

// Files returns every LTX file of a prefix, in one listing where the client is a
// FileLister, level by level otherwise.
func Files(ctx context.Context, client litestream.ReplicaClient, exactTimes bool) ([]*ltx.FileInfo, error) {
	if l, ok := client.(FileLister); ok {
		all, err := l.AllLTXFiles(ctx, exactTimes)
		if err == nil {
			err = untrusted.CheckFiles(len(all), untrusted.MaxFiles)
		}
		if err != nil {
			return nil, err
		}
		return all, nil
	}
	var all []*ltx.FileInfo
	for level := range litestream.SnapshotLevel + 1 {
		itr, err := client.LTXFiles(ctx, level, 0, exactTimes)
		if err != nil {
			return nil, err
		}
		for err == nil && itr.Next() {
			all = append(all, itr.Item())
			err = untrusted.CheckFiles(len(all), untrusted.MaxFiles)
		}
		if err = cmp.Or(err, itr.Err()); err != nil {
			return nil, errors.Join(err, itr.Close())
		}
		if err := itr.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Level returns the files of a level from seek on.
func Level(files []*ltx.FileInfo, level int, seek ltx.TXID) ltx.FileIterator {
	var a []*ltx.FileInfo
	for _, info := range files {
		if info.Level == level && info.MinTXID >= seek {
			a = append(a, info)
		}
	}
	return ltx.NewFileInfoSliceIterator(a)
}

// RestoreClient lists a prefix once and returns a client that a restore reads from:
// litestream's asks for every level, twice. A client that cannot list all levels
// at once is returned as it is. exactTimes is for a restore to a timestamp.
func RestoreClient(ctx context.Context, client litestream.ReplicaClient, exactTimes bool) (litestream.ReplicaClient, error) {
	if c, ok := client.(restoreClienter); ok {
		return c.RestoreClient(ctx, exactTimes)
	}
	if _, ok := client.(FileLister); !ok {
		return client, nil
	}
	files, err := Files(ctx, client, exactTimes)
	if err != nil {
		return nil, err
	}
	l := &listed{ReplicaClient: client, files: files, exact: exactTimes}
	if c, ok := client.(prefixer); ok {
		client = c.Prefix()
	}
	if v3, ok := client.(litestream.ReplicaClientV3); ok {
		return listedV3{l, v3}, nil
	}
	return l, nil
}

// prefixer is a client with something in front of a prefix, which alone may have backups
// of litestream 0.3.
type prefixer interface {
	Prefix() litestream.ReplicaClient
}

// listed is a client that answers from a listing. When a file turns out to be gone,
// because the retention of another process removed it meanwhile, the prefix is listed
// again before the next answer: a restore's second plan must differ from its first.
// Safe for concurrent use.
type listed struct {
	litestream.ReplicaClient

	mu    sync.Mutex // not held during I/O; of two that list at once the later wins
	files []*ltx.FileInfo
	exact bool
	stale bool
}

func (l *listed) LTXFiles(ctx context.Context, level int, seek ltx.TXID, exact bool) (ltx.FileIterator, error) {
	l.mu.Lock()
	files, known := l.files, !l.stale && (l.exact || !exact)
	exact = exact || l.exact
	l.mu.Unlock()
	if known {
		return Level(files, level, seek), nil
	}
	files, err := Files(ctx, l.ReplicaClient, exact)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files, l.exact, l.stale = files, exact, false
	return Level(files, level, seek), nil
}

func (l *listed) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	rc, err := l.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if errors.Is(err, fs.ErrNotExist) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stale = true
	}
	return rc, err
}

type listedV3 struct {
	*listed
	litestream.ReplicaClientV3
}
