package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

var (
	_ litestream.ReplicaClient = (*memClient)(nil)
	_ multidb.FileLister       = (*memClient)(nil)
	_ multidb.MetadataStore    = (*memClient)(nil)
	_ multidb.ReplicaFactory   = memReplica{}
	_ multidb.ReplicaObjects   = memReplica{}
)

// memReplica keeps files in memory at next to no cost, the same for both sides,
// so that what is measured is not the replica. A client is one database's.
type memReplica struct{}

func (memReplica) ReplicaClient(multidb.Database) (litestream.ReplicaClient, error) {
	return newMemClient(), nil
}

type memKey struct {
	level    int
	min, max ltx.TXID
}

type memFile struct {
	data []byte
	at   time.Time
}

type memClient struct {
	mu       sync.Mutex
	files    map[memKey]memFile
	metadata []byte
}

func newMemClient() *memClient { return &memClient{files: map[memKey]memFile{}} }

func (c *memClient) Type() string               { return "memory" }
func (c *memClient) Init(context.Context) error { return nil }
func (c *memClient) SetLogger(*slog.Logger)     {}

func (c *memClient) list(keep func(memKey) bool) []*ltx.FileInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*ltx.FileInfo
	for k, f := range c.files {
		if keep(k) {
			out = append(out, &ltx.FileInfo{Level: k.level, MinTXID: k.min, MaxTXID: k.max,
				Size: int64(len(f.data)), CreatedAt: f.at})
		}
	}
	slices.SortFunc(out, func(a, b *ltx.FileInfo) int {
		switch {
		case a.Level != b.Level:
			return a.Level - b.Level
		case a.MinTXID < b.MinTXID:
			return -1
		case a.MinTXID > b.MinTXID:
			return 1
		}
		return 0
	})
	return out
}

func (c *memClient) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	return ltx.NewFileInfoSliceIterator(c.list(func(k memKey) bool { return k.level == level && k.min >= seek })), nil
}

func (c *memClient) AllLTXFiles(context.Context, bool) ([]*ltx.FileInfo, error) {
	return c.list(func(memKey) bool { return true }), nil
}

func (c *memClient) OpenLTXFile(_ context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	c.mu.Lock()
	f, ok := c.files[memKey{level, minTXID, maxTXID}]
	c.mu.Unlock()
	if !ok {
		return nil, fs.ErrNotExist
	}
	data := f.data[min(offset, int64(len(f.data))):]
	if size > 0 && size < int64(len(data)) {
		data = data[:size]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (c *memClient) WriteLTXFile(_ context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	k, now := memKey{level, minTXID, maxTXID}, time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.files[k]; ok && level == 0 {
		return nil, fs.ErrExist
	}
	c.files[k] = memFile{data, now}
	return &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: int64(len(data)), CreatedAt: now}, nil
}

func (c *memClient) DeleteLTXFiles(_ context.Context, infos []*ltx.FileInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range infos {
		delete(c.files, memKey{i.Level, i.MinTXID, i.MaxTXID})
	}
	return nil
}

func (c *memClient) DeleteAll(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.files)
	return nil
}

func (c *memClient) WriteMetadata(_ context.Context, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.metadata = slices.Clone(data)
	return nil
}

func (c *memClient) ReadMetadata(context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.metadata == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(c.metadata), nil
}

// Objects returns an empty directory of plain objects, at next to no cost too.
func (memReplica) Objects(string) (multidb.ObjectStore, error) {
	return &memObjects{objects: map[string]memObject{}}, nil
}

// Dir is what a fleet log calls a database.
func (memReplica) Dir(db multidb.Database) (string, error) { return string(db.ID), nil }

// DatabaseAt is the inverse of Dir, as far as a scenario needs it.
func (memReplica) DatabaseAt(dir string) (multidb.Database, error) {
	return multidb.Database{ID: multidb.ID(dir)}, nil
}

type memObject struct {
	data []byte
	at   time.Time
}

type memObjects struct {
	mu      sync.Mutex
	objects map[string]memObject
	names   []string // sorted
}

func (o *memObjects) Create(_ context.Context, name string, data []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.objects[name]; ok {
		return fs.ErrExist
	}
	o.objects[name] = memObject{bytes.Clone(data), time.Now()}
	i, _ := slices.BinarySearch(o.names, name)
	o.names = slices.Insert(o.names, i, name)
	return nil
}

func (o *memObjects) CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error {
	data, err := io.ReadAll(io.LimitReader(r, size))
	if err != nil {
		return err
	}
	return o.Create(ctx, name, data)
}

func (o *memObjects) Open(_ context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, ok := o.objects[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	n := int64(len(f.data))
	if offset < 0 {
		offset = max(n+offset, 0)
	}
	data := f.data[min(offset, n):]
	if size > 0 {
		data = data[:min(size, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (o *memObjects) List(_ context.Context, prefix, after string) iter.Seq2[multidb.ObjectInfo, error] {
	return func(yield func(multidb.ObjectInfo, error) bool) {
		o.mu.Lock()
		var all []multidb.ObjectInfo
		i, _ := slices.BinarySearch(o.names, prefix)
		for _, name := range o.names[i:] {
			if !strings.HasPrefix(name, prefix) {
				break
			}
			if name > after {
				f := o.objects[name]
				all = append(all, multidb.ObjectInfo{Name: name, Size: int64(len(f.data)), Created: f.at})
			}
		}
		o.mu.Unlock()
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (o *memObjects) Delete(_ context.Context, names ...string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range names {
		if i, ok := slices.BinarySearch(o.names, name); ok {
			o.names = slices.Delete(o.names, i, i+1)
			delete(o.objects, name)
		}
	}
	return nil
}
