// Package client puts the fleet log in front of the tenants' prefixes, at the seam of
// litestream.ReplicaClient: level 0 files are appended to the log, and are listed and read
// from the log and the prefix together; the other levels pass through. Of a tenant's level
// 0 it keeps what the prefix lacks, its tail, until Unpack has written that to the prefix.
//
// Log.mu guards the tails. No request is made and nothing of others is called under it.
// Safe for concurrent use, but one tenant is written by one caller at a time.
package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// Config is what a Log works with.
type Config struct {
	Journal *journal.Journal
	Objects store.Objects // the directory of the fleet log
	// MaxMemory bounds the bytes of files that are kept in memory although they are durable:
	// the others are read from their objects when they are unpacked. Default 64 MiB.
	MaxMemory int64
	// Durable is called when a tenant's transactions up to txid are durable, or, with an
	// error, when this process will never know them to be. No lock is held. The tenant is
	// what Client was told.
	Durable func(tenant string, txid ltx.TXID, err error)
}

// Log is the tails of all tenants.
type Log struct {
	cfg Config

	mu        sync.Mutex
	tails     map[string][]*tailFile // by prefix, in the order of their TXIDs
	waiting   map[*tailFile][]chan error
	durable   []*tailFile    // those with their data, the oldest first; some are unpacked
	memory    int64          // bytes of their data
	pending   map[object]int // files that are durable and in a tail, by the object that has their records
	tailBytes int64          // of all tails
	unpacks   int64
	ready     bool  // the tails of the logs that were taken over are known
	err       error // this process will never know what is not durable to be
}

// tailFile is a level 0 file that is not in its prefix.
type tailFile struct {
	min, max ltx.TXID
	created  time.Time
	size     int64
	data     []byte // nil: it is to be read from the object
	object   string
	offset   int64
	crc      uint32
	place    object // that has its record, of a durable one
	durable  bool
}

// object is one of a log.
type object struct{ epoch, seq uint64 }

func (f *tailFile) info() *ltx.FileInfo {
	return &ltx.FileInfo{MinTXID: f.min, MaxTXID: f.max, Size: f.size, CreatedAt: f.created}
}

// New returns a Log without tails.
func New(cfg Config) *Log {
	if cfg.MaxMemory == 0 {
		cfg.MaxMemory = 64 << 20
	}
	return &Log{cfg: cfg, tails: map[string][]*tailFile{}, waiting: map[*tailFile][]chan error{}, pending: map[object]int{}}
}

// Read returns a Log that only reads: what the logs of a store have, as they are now.
func Read(ctx context.Context, objects store.Objects) (*Log, error) {
	logs, err := journal.Read(ctx, objects)
	if err != nil {
		return nil, err
	}
	l := New(Config{Objects: objects})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loadLocked(logs)
	return l, nil
}

// begin makes known what the logs have that were taken over, some of which may be in the
// prefixes by now. Nothing may be read or written of a tenant before.
func (l *Log) begin(ctx context.Context) error {
	l.mu.Lock()
	ready, lost := l.ready, l.err
	l.mu.Unlock()
	if lost != nil || ready {
		return lost
	}
	logs, err := l.cfg.Journal.Join(ctx)
	if err != nil {
		return fenced(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ready {
		l.loadLocked(logs)
	}
	return nil
}

// fenced says of an error that another process has taken over that it fences the database.
func fenced(err error) error {
	if errors.Is(err, fleetlog.ErrFenced) {
		return fmt.Errorf("%w: %w", ship.ErrFenced, err)
	}
	return err
}

// loadLocked makes known what logs have.
func (l *Log) loadLocked(logs []*format.Log) {
	l.ready = true
	for _, log := range logs {
		for _, r := range log.Records {
			f := &tailFile{
				min: ltx.TXID(r.Min), max: ltx.TXID(r.Max), created: time.UnixMilli(r.Time).UTC(), size: r.Size,
				object: format.ObjectName(log.Epoch, log.Seq), offset: r.Offset, crc: r.CRC,
				place: object{log.Epoch, log.Seq}, durable: true,
			}
			if r.Large != 0 {
				f.object, f.offset = format.LargeName(log.Epoch, r.Large), 0
			}
			l.addLocked(r.Prefix, f)
		}
	}
	for _, tail := range l.tails {
		slices.SortStableFunc(tail, func(a, b *tailFile) int { return cmp.Compare(a.min, b.min) })
	}
}

// FinishFormer finishes the logs that were taken over and of which no tail has a file any
// more.
func (l *Log) FinishFormer(ctx context.Context) error {
	var errs []error
	for _, epoch := range l.cfg.Journal.Former() {
		if !l.holds(epoch) {
			errs = append(errs, l.cfg.Journal.Finish(ctx, epoch))
		}
	}
	return errors.Join(errs...)
}

// holds reports whether a tail has a file of an epoch.
func (l *Log) holds(epoch uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for o := range l.pending {
		if o.epoch == epoch {
			return true
		}
	}
	return false
}

// Client returns the client of a prefix: inner, with the log in front of it. Durable gets
// tenant.
func (l *Log) Client(tenant, prefix string, inner litestream.ReplicaClient) *Client {
	return &Client{ReplicaClient: inner, log: l, tenant: tenant, prefix: prefix}
}

// Client is a prefix with the log in front of it. What it lists and reads of level 0 may
// not be durable yet.
type Client struct {
	litestream.ReplicaClient
	log    *Log
	tenant string
	prefix string
	taken  ltx.TXID // the last that the log has taken of this client; guarded by Log.mu
}

// WriteLTXFile takes a file of level 0 into the log's queue, from which it goes out after
// those that were taken before. Files of other levels go to the prefix.
func (c *Client) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if level != 0 {
		if err := c.Await(ctx, maxTXID); err != nil { // a snapshot is of the newest state (F5)
			return nil, err
		}
		return c.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
	}
	if c.log.cfg.Journal == nil {
		return nil, fmt.Errorf("write to a fleet log that is only read: %w", errors.ErrUnsupported)
	}
	if err := c.log.begin(ctx); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	hdr, _, err := ltx.PeekHeader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	f := &tailFile{min: minTXID, max: maxTXID, created: time.UnixMilli(hdr.Timestamp).UTC(), size: int64(len(data)), data: data}
	rec := format.Record{Prefix: c.prefix, Min: uint64(minTXID), Max: uint64(maxTXID), Time: hdr.Timestamp}
	l := c.log
	l.mu.Lock()
	tail := l.tails[c.prefix]
	if n := len(tail); n > 0 && tail[n-1].max >= minTXID {
		l.mu.Unlock()
		return nil, fmt.Errorf("transaction %s of %s in the fleet log: %w", minTXID, c.prefix, fs.ErrExist)
	}
	l.addLocked(c.prefix, f) // before it may be durable
	l.mu.Unlock()
	if err := l.cfg.Journal.Append(ctx, format.File{Record: rec, Data: data}, func(at journal.Place, err error) { l.settled(c.tenant, f, at, err) }); err != nil {
		l.drop(c.prefix, f)
		return nil, fenced(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.taken = maxTXID
	return f.info(), nil
}

// Durable returns the last transaction that is durable of those that the log has taken of
// this client; zero: it has taken none.
func (c *Client) Durable() ltx.TXID {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.tails[c.prefix] {
		if !f.durable {
			return min(f.min-1, c.taken)
		}
	}
	return c.taken
}

// Await waits until a transaction that was taken is durable, and has the log written
// sooner. The error says that this process will never know it to be, or is that of ctx.
func (c *Client) Await(ctx context.Context, txid ltx.TXID) error {
	l := c.log
	done := make(chan error, 1)
	l.mu.Lock()
	i := slices.IndexFunc(l.tails[c.prefix], func(f *tailFile) bool { return f.max >= txid && !f.durable })
	if i < 0 || l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	f := l.tails[c.prefix][i]
	l.waiting[f] = append(l.waiting[f], done)
	l.mu.Unlock()
	l.cfg.Journal.Hurry()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// settled notes what became of a file.
func (l *Log) settled(tenant string, f *tailFile, at journal.Place, err error) {
	err = fenced(err)
	l.mu.Lock()
	if err != nil && l.err == nil {
		l.err = err
	}
	if f.durable = err == nil; f.durable {
		f.place = object{at.Epoch, at.Seq}
		l.pending[f.place]++
		f.object, f.offset, f.crc = format.ObjectName(at.Epoch, at.Seq), at.Offset, format.Checksum(f.data)
		l.durable, l.memory = append(l.durable, f), l.memory+f.size
		l.shrinkLocked()
	}
	waiting := l.waiting[f]
	delete(l.waiting, f)
	l.mu.Unlock()
	for _, done := range waiting {
		done <- err
	}
	l.cfg.Durable(tenant, f.max, err)
}

// shrinkLocked keeps the memory within its bound.
func (l *Log) shrinkLocked() {
	n := 0
	for n < len(l.durable) && (l.memory > l.cfg.MaxMemory || l.durable[n].data == nil) {
		l.forgetLocked(l.durable[n])
		n++
	}
	l.durable = l.durable[n:]
}

// forgetLocked drops the data of a durable file of this process.
func (l *Log) forgetLocked(f *tailFile) {
	if f.data != nil {
		f.data, l.memory = nil, l.memory-f.size
	}
}

// drop forgets a file that the log has not taken.
func (l *Log) drop(prefix string, f *tailFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(prefix, func(g *tailFile) bool { return g == f })
}

// tail is a copy of a tenant's tail.
func (l *Log) tail(prefix string) (tail []*tailFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.tails[prefix] {
		c := *f
		tail = append(tail, &c)
	}
	return tail
}

// LTXFiles lists the prefix, and for level 0 the tail behind it.
func (c *Client) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	if level != 0 {
		return c.ReplicaClient.LTXFiles(ctx, level, seek, useMetadata)
	}
	if err := c.log.begin(ctx); err != nil {
		return nil, err
	}
	tail := c.log.tail(c.prefix) // first: what is unpacked meanwhile is in both, not in neither (M2)
	itr, err := c.ReplicaClient.LTXFiles(ctx, level, seek, useMetadata)
	if err != nil {
		return nil, err
	}
	var all []*ltx.FileInfo
	for err == nil && itr.Next() {
		all = append(all, itr.Item())
		err = untrusted.CheckFiles(len(all), untrusted.MaxFiles)
	}
	if err = errors.Join(err, itr.Err(), itr.Close()); err != nil {
		return nil, err
	}
	return ltx.NewFileInfoSliceIterator(behind(all, tail, seek)), nil
}

// AllLTXFiles lists all levels, and the tail behind level 0.
func (c *Client) AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error) {
	if err := c.log.begin(ctx); err != nil {
		return nil, err
	}
	tail := c.log.tail(c.prefix)
	all, err := store.Files(ctx, c.ReplicaClient, useMetadata)
	if err != nil {
		return nil, err
	}
	n := 0
	for n < len(all) && all[n].Level == 0 {
		n++
	}
	return append(behind(slices.Clone(all[:n]), tail, 0), all[n:]...), nil
}

// behind adds to the level 0 of a prefix the files of the tail that it lacks: it is the
// same history, so those that it has are left out. What is behind a gap came after the
// reading began, and is left out too (M2).
func behind(prefix []*ltx.FileInfo, tail []*tailFile, seek ltx.TXID) []*ltx.FileInfo {
	var last ltx.TXID
	for _, f := range prefix {
		last = max(last, f.MaxTXID)
	}
	next := last
	for _, f := range tail {
		if f.min <= last {
			continue
		} else if next != 0 && f.min != next+1 {
			break
		}
		if next = f.max; f.max >= seek {
			prefix = append(prefix, f.info())
		}
	}
	return prefix
}

// OpenLTXFile opens a file of the tail, or of the prefix.
func (c *Client) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if level == 0 {
		if err := c.log.begin(ctx); err != nil {
			return nil, err
		}
		for _, f := range c.log.tail(c.prefix) {
			if f.min == minTXID && f.max == maxTXID {
				return c.log.open(ctx, f, offset, size)
			}
		}
	}
	return c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
}

// open reads a file of a tail: from memory, or from its object.
func (l *Log) open(ctx context.Context, f *tailFile, offset, size int64) (io.ReadCloser, error) {
	if offset < 0 || offset > f.size {
		return nil, fmt.Errorf("read from byte %d of a file of %d: %w", offset, f.size, fs.ErrInvalid)
	}
	if size <= 0 || size > f.size-offset {
		size = f.size - offset
	}
	if f.data != nil {
		return io.NopCloser(bytes.NewReader(f.data[offset : offset+size])), nil
	}
	if size == 0 { // for a store it means all that is left
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return l.cfg.Objects.Open(ctx, f.object, f.offset+offset, size)
}

// Prefix is the client of the prefix alone.
func (c *Client) Prefix() litestream.ReplicaClient { return c.ReplicaClient }

// Unpack writes the tail to the prefix; see Log.Unpack.
func (c *Client) Unpack(ctx context.Context) (*ltx.FileInfo, error) {
	return c.log.Unpack(ctx, c.prefix, c.ReplicaClient)
}

// Lacks is the first transaction that the prefix lacks; zero: none.
func (c *Client) Lacks() ltx.TXID {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if tail := l.tails[c.prefix]; len(tail) > 0 {
		return tail[0].min
	}
	return 0
}

// Tail is how many files, of how many bytes, the prefix lacks.
func (c *Client) Tail() (files int, size int64) {
	t := c.log.Tail(c.prefix)
	return t.Files, t.Bytes
}

// Unpack writes what is durable of a tenant's tail to its prefix, as one file of level 0,
// and forgets it. info is that file; nil if there was nothing. Where the page size changes
// the file ends, as none has pages of two sizes: call Unpack again for the rest. Only what is durable is unpacked (F5): else a
// process that is fenced meanwhile would write another history.
func (l *Log) Unpack(ctx context.Context, prefix string, inner litestream.ReplicaClient) (info *ltx.FileInfo, err error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	tail := l.tail(prefix)
	if n := slices.IndexFunc(tail, func(f *tailFile) bool { return !f.durable }); n >= 0 {
		tail = tail[:n]
	}
	if len(tail) == 0 {
		return nil, nil
	}
	last := tail[len(tail)-1].max
	tail, err = l.lacking(ctx, inner, tail)
	if err != nil {
		return nil, err
	}
	if len(tail) > 0 {
		if info, err = l.merge(ctx, inner, tail); err != nil {
			return nil, err
		}
		last = info.MaxTXID
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(prefix, func(f *tailFile) bool {
		if f.max > last { // it came meanwhile
			return false
		}
		if l.cfg.Journal != nil {
			l.cfg.Journal.Unpacked(f.place.epoch, f.place.seq)
		}
		return true
	})
	l.unpacks++
	return info, nil
}

// lacking is what a prefix lacks of a tail: another life may have unpacked some of it.
func (l *Log) lacking(ctx context.Context, inner litestream.ReplicaClient, tail []*tailFile) ([]*tailFile, error) {
	itr, err := inner.LTXFiles(ctx, 0, tail[0].min, false)
	if err != nil {
		return nil, err
	}
	var last ltx.TXID
	for itr.Next() {
		last = max(last, itr.Item().MaxTXID)
	}
	if err := errors.Join(itr.Err(), itr.Close()); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(tail), func(f *tailFile) bool { return f.max <= last }), nil
}

// merge writes files that follow each other as one, as far as they have one page size.
func (l *Log) merge(ctx context.Context, inner litestream.ReplicaClient, tail []*tailFile) (*ltx.FileInfo, error) {
	var files []io.Reader
	var pageSize uint32
	for i, f := range tail {
		if i > 0 && f.min != tail[i-1].max+1 {
			return nil, fmt.Errorf("%w: the fleet log has transaction %s after %s", untrusted.ErrDamaged, f.min, tail[i-1].max)
		}
		data := f.data
		if data == nil {
			rc, err := l.open(ctx, f, 0, 0)
			if err != nil {
				return nil, err
			}
			data, err = io.ReadAll(io.LimitReader(rc, f.size+1))
			if err = errors.Join(err, rc.Close()); err != nil {
				return nil, err
			}
			if err := (format.Record{Size: f.size, CRC: f.crc}).Check(data); err != nil {
				return nil, err
			}
		}
		hdr, _, err := ltx.PeekHeader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%w: transaction %s in the fleet log: %w", untrusted.ErrDamaged, f.min, err)
		}
		if i > 0 && hdr.PageSize != pageSize {
			tail = tail[:i]
			break
		}
		pageSize = hdr.PageSize
		files = append(files, bytes.NewReader(data))
	}
	minTXID, maxTXID := tail[0].min, tail[len(tail)-1].max
	if len(files) == 1 {
		return inner.WriteLTXFile(ctx, 0, minTXID, maxTXID, files[0])
	}
	var merged bytes.Buffer
	c, err := ltx.NewCompactor(&merged, files)
	if err != nil {
		return nil, err
	}
	c.HeaderFlags = ltx.HeaderFlagNoChecksum
	if err := c.Compact(ctx); err != nil {
		return nil, fmt.Errorf("merge transactions %s to %s: %w", minTXID, maxTXID, err)
	}
	return inner.WriteLTXFile(ctx, 0, minTXID, maxTXID, &merged)
}
