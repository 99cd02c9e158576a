package store_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/store"
)

// leveled is a client of two files that lists level by level.
type leveled struct {
	litestream.ReplicaClient
	gone          bool
	levels, whole int  // listings
	exact         bool // the last was
}

func (c *leveled) files() []*ltx.FileInfo {
	if c.gone {
		return []*ltx.FileInfo{{Level: 1, MinTXID: 1, MaxTXID: 2}}
	}
	return []*ltx.FileInfo{{Level: 0, MinTXID: 1, MaxTXID: 1}, {Level: 0, MinTXID: 2, MaxTXID: 2}, {Level: 1, MinTXID: 1, MaxTXID: 2}}
}

func (c *leveled) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	c.levels++
	return store.Level(c.files(), level, seek), nil
}

func (c *leveled) OpenLTXFile(context.Context, int, ltx.TXID, ltx.TXID, int64, int64) (io.ReadCloser, error) {
	if c.gone {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader("")), nil
}

// lister lists all levels at once.
type lister struct{ *leveled }

func (c lister) AllLTXFiles(_ context.Context, exact bool) ([]*ltx.FileInfo, error) {
	c.whole++
	c.exact = exact
	return c.files(), nil
}

type listerV3 struct {
	lister
	litestream.ReplicaClientV3
}

// behindLog is a client with a log in front of a prefix.
type behindLog struct {
	lister
	prefix litestream.ReplicaClient
}

func (c behindLog) Prefix() litestream.ReplicaClient { return c.prefix }

func count(t *testing.T, c litestream.ReplicaClient, level int, seek ltx.TXID, exact bool) int {
	t.Helper()
	itr, err := c.LTXFiles(t.Context(), level, seek, exact)
	if err != nil {
		t.Fatal(err)
	}
	files, err := ltx.SliceFileIterator(itr)
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestAllLevelsAreListedAtOnceWhereTheClientCan(t *testing.T) {
	l := &leveled{}
	if files, err := store.Files(t.Context(), l, false); err != nil || len(files) != 3 || l.levels != litestream.SnapshotLevel+1 {
		t.Errorf("%d files in %d listings, %v", len(files), l.levels, err)
	}
	l = &leveled{}
	if files, err := store.Files(t.Context(), lister{l}, true); err != nil || len(files) != 3 || l.levels != 0 || l.whole != 1 || !l.exact {
		t.Errorf("%d files in %+v, %v", len(files), l, err)
	}
}

func TestARestoreFromAFileListerListsOnceUntilAFileIsGone(t *testing.T) {
	l := &leveled{}
	c, err := store.RestoreClient(t.Context(), lister{l}, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, c, 0, 2, false); n != 1 {
		t.Errorf("%d files from 2 on, want 1", n)
	}
	if n := count(t, c, 1, 0, false); n != 1 || l.whole != 1 || l.levels != 0 {
		t.Errorf("%d files, listings %+v", n, l)
	}
	// Times that the listing does not have.
	if count(t, c, 0, 0, true); l.whole != 2 || !l.exact {
		t.Errorf("asked for exact times: listings %+v", l)
	}
	if count(t, c, 0, 0, false); l.whole != 2 {
		t.Errorf("exact times do for any question: listings %+v", l)
	}
	l.gone = true
	if _, err := c.OpenLTXFile(t.Context(), 0, 1, 1, 0, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
	if n := count(t, c, 0, 0, false); n != 0 || l.whole != 3 || !l.exact {
		t.Errorf("%d files after one was gone, listings %+v", n, l)
	}
}

func TestARestoreKeepsWhatElseItsClientCanDo(t *testing.T) {
	l := &leveled{}
	if c, err := store.RestoreClient(t.Context(), l, false); err != nil || c != litestream.ReplicaClient(l) {
		t.Errorf("a client that lists level by level became %T, %v", c, err)
	}
	for _, prefix := range []litestream.ReplicaClient{lister{l}, listerV3{lister: lister{l}}} {
		_, want := prefix.(litestream.ReplicaClientV3)
		for _, from := range []litestream.ReplicaClient{prefix, behindLog{lister{l}, prefix}} {
			c, err := store.RestoreClient(t.Context(), from, false)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := c.(litestream.ReplicaClientV3); ok != want {
				t.Errorf("%T, backups of v0.3: %v, want %v", from, ok, want)
			}
		}
	}
}
