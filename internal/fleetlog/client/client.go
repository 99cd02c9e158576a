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

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

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
	c.log.mu.Lock()
	tail := c.log.tails[c.prefix]
	there := len(tail) > 0 && tail[len(tail)-1].max >= minTXID
	c.log.mu.Unlock()
	if there {
		return nil, fmt.Errorf("transaction %s of %s in the fleet log: %w", minTXID, c.prefix, fs.ErrExist)
	}
	f := &tailFile{min: minTXID, max: maxTXID}
	if err := c.take(ctx, f, r); err != nil {
		return nil, fenced(err)
	}
	rec := format.Record{Prefix: c.prefix, Min: uint64(minTXID), Max: uint64(maxTXID), Time: f.created}
	if f.large != 0 {
		rec.Large, rec.Size, rec.CRC = f.large, f.size, f.crc
	}
	l := c.log
	l.mu.Lock()
	l.addLocked(c.prefix, f) // before it may be durable
	l.mu.Unlock()
	if err := l.cfg.Journal.Append(ctx, format.File{Record: rec, Data: f.data}, func(at journal.Place, err error) { l.settled(c.tenant, f, at, err) }); err != nil {
		l.drop(c.prefix, f)
		if f.large != 0 {
			l.cfg.Journal.Drop(ctx, f.large)
		}
		return nil, fenced(err)
	}
	l.mu.Lock()
	c.taken = maxTXID
	l.mu.Unlock()
	l.condense(c.prefix)
	return f.info(), nil
}

// seekable is a reader that can be read twice.
type seekable interface {
	io.Reader
	io.ReaderAt
	io.Seeker
}

// take reads a file into memory, or, if it is large and can be read twice, writes it beside
// the log.
func (c *Client) take(ctx context.Context, f *tailFile, r io.Reader) error {
	if s, ok := r.(seekable); ok {
		from, err := s.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		end, err := s.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if r = io.NewSectionReader(s, from, end-from); end-from > c.log.cfg.Large {
			return c.takeLarge(ctx, f, io.NewSectionReader(s, from, end-from))
		}
	}
	data, err := readAll(r)
	if err != nil {
		return err
	}
	hdr, _, err := ltx.PeekHeader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	f.data, f.size, f.created, f.pageSize = data, int64(len(data)), hdr.Timestamp, hdr.PageSize
	return nil
}

// readAll reads into memory, without room to spare if the size is known.
func readAll(r io.Reader) ([]byte, error) {
	s, ok := r.(*io.SectionReader)
	if !ok {
		return io.ReadAll(r)
	}
	data := make([]byte, s.Size())
	_, err := io.ReadFull(s, data)
	return data, err
}

// takeLarge writes a file beside the log. It is nobody's until a record names it.
func (c *Client) takeLarge(ctx context.Context, f *tailFile, r *io.SectionReader) error {
	hdr, _, err := ltx.PeekHeader(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		return err
	}
	crc := format.NewChecksum()
	if _, err := io.Copy(crc, io.NewSectionReader(r, 0, r.Size())); err != nil {
		return err
	}
	f.size, f.crc, f.created = r.Size(), crc.Sum32(), hdr.Timestamp
	if f.large, err = c.log.cfg.Journal.Large(ctx, r, r.Size()); err != nil {
		return err
	}
	f.place.epoch = c.log.cfg.Journal.Stats().Epoch
	return nil
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
// sooner. The error says that this process will never know it to be, or is that of an
// attempt at the store (Failed) or of ctx.
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

// LTXFiles lists the prefix, and for level 0 the tail behind it.
func (c *Client) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	if level != 0 {
		return c.ReplicaClient.LTXFiles(ctx, level, seek, useMetadata)
	}
	if err := c.log.begin(ctx); err != nil {
		return nil, err
	}
	tail, err := c.log.wholes(ctx, c.prefix) // first: what is unpacked meanwhile is in both, not in neither (M2)
	if err != nil {
		return nil, err
	}
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
	last, snapshot := lastOf(all)
	if last == 0 && len(tail) > 0 && tail[0].min > 1 { // perhaps it is compacted
		others, err := store.Files(ctx, c.ReplicaClient, false)
		if err != nil {
			return nil, err
		}
		last, snapshot = lastOf(others)
	}
	return ltx.NewFileInfoSliceIterator(c.log.behind(all, last, snapshot, tail, seek)), nil
}

// AllLTXFiles lists all levels, and the tail behind level 0.
func (c *Client) AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error) {
	if err := c.log.begin(ctx); err != nil {
		return nil, err
	}
	tail, err := c.log.wholes(ctx, c.prefix)
	if err != nil {
		return nil, err
	}
	all, err := store.Files(ctx, c.ReplicaClient, useMetadata)
	if err != nil {
		return nil, err
	}
	n := 0
	for n < len(all) && all[n].Level == 0 {
		n++
	}
	last, snapshot := lastOf(all)
	return append(c.log.behind(slices.Clone(all[:n]), last, snapshot, tail, 0), all[n:]...), nil
}

// lastOf is where the files of a prefix end, and its last snapshot: that may be of a state
// whose file of level 0 the log alone has.
func lastOf(files []*ltx.FileInfo) (last, snapshot ltx.TXID) {
	for _, f := range files {
		if f.Level == litestream.SnapshotLevel {
			snapshot = max(snapshot, f.MaxTXID)
		} else {
			last = max(last, f.MaxTXID)
		}
	}
	return last, snapshot
}

// behind adds to the level 0 of a prefix, which ends at last, and has a snapshot, the files of the tail that it
// lacks. It is the same history, so those that the prefix has are left out, unless a history
// is read: then they are finer points of it than the merged ones of the prefix, and a plan
// takes those that it needs. What is behind a gap came after the reading began, and is left
// out (M2).
func (l *Log) behind(prefix []*ltx.FileInfo, last, snapshot ltx.TXID, tail []*tailFile, seek ltx.TXID) []*ltx.FileInfo {
	has := map[[2]ltx.TXID]bool{}
	if l.what.History {
		for _, f := range prefix {
			has[[2]ltx.TXID{f.MinTXID, f.MaxTXID}] = true
		}
	}
	next := max(last, snapshot)
	for _, f := range tail {
		if f.max <= last && !l.what.History || has[[2]ltx.TXID{f.min, f.max}] {
			next = max(next, f.max)
			continue
		} else if f.min > next+1 && (next > 0 || l.cfg.Journal == nil) {
			break
		}
		if next = max(next, f.max); f.max >= seek {
			prefix = append(prefix, f.info())
		}
	}
	if l.what.History {
		slices.SortStableFunc(prefix, func(a, b *ltx.FileInfo) int {
			return cmp.Or(cmp.Compare(a.MinTXID, b.MinTXID), cmp.Compare(a.MaxTXID, b.MaxTXID))
		})
	}
	return prefix
}

// OpenLTXFile opens a file of the tail, or of the prefix.
func (c *Client) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if level == 0 {
		if err := c.log.begin(ctx); err != nil {
			return nil, err
		}
		tail, err := c.log.unmerged(ctx, c.prefix, minTXID, maxTXID)
		if err != nil {
			return nil, err
		}
		for i, f := range tail {
			if f.min != minTXID || f.max != maxTXID {
				continue
			}
			if f, err = c.log.whole(ctx, c.prefix, f); err != nil {
				return nil, err
			}
			if c.log.cfg.Journal == nil && f.data == nil && offset == 0 && size == 0 {
				c.log.readAhead(ctx, tail[i:])
			}
			rc, err := c.log.open(ctx, f, offset, size)
			if !errors.Is(err, fs.ErrNotExist) {
				return rc, err
			}
			// It was unpacked and deleted since the log was read. The prefix may have it
			// by another name; a listing says so.
			c.log.outdated()
			break
		}
	}
	return c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
}

// Prefix is the client of the prefix alone.
func (c *Client) Prefix() litestream.ReplicaClient { return c.ReplicaClient }

// Unpack writes the tail to the prefix; see Log.Unpack.
func (c *Client) Unpack(ctx context.Context, all bool) ([]*ltx.FileInfo, error) {
	return c.log.Unpack(ctx, c.prefix, c.ReplicaClient, all)
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
