package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

var (
	_ litestream.ReplicaClient   = (*Snapshot)(nil)
	_ litestream.ReplicaClientV3 = (*Snapshot)(nil)
)

// Snapshot is a prefix for reading, as one listing found it. A restore asks for
// every level, twice, and for v0.3 generations; here that is one LIST instead
// of 21.
//
// When a file turns out to be gone, removed by retention meanwhile, the prefix
// is listed again before the next question, so that a restore's second plan
// differs from its first. Safe for concurrent use. Methods that write fail with
// errors.ErrUnsupported.
type Snapshot struct {
	p *Prefix

	mu    sync.Mutex
	l     *Listing
	stale bool
}

// Snapshot returns a client that answers from l.
func (p *Prefix) Snapshot(l *Listing) *Snapshot { return &Snapshot{p: p, l: l} }

// RestoreClient lists the prefix once and returns a client to restore from.
// useMetadata is for a restore to a timestamp.
func (p *Prefix) RestoreClient(ctx context.Context, useMetadata bool) (litestream.ReplicaClient, error) {
	l, err := p.Listing(ctx, useMetadata)
	if err != nil {
		return nil, err
	}
	return p.Snapshot(l), nil
}

// listing returns the current listing. It is replaced, never changed. Two
// callers at once may both list; the later one wins.
func (s *Snapshot) listing(ctx context.Context, exact bool) (*Listing, error) {
	s.mu.Lock()
	l, stale := s.l, s.stale
	s.mu.Unlock()
	if !stale && (l.Exact || !exact) {
		return l, nil
	}
	l, err := s.p.Listing(ctx, exact || l.Exact)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l, s.stale = l, false
	return l, nil
}

// opened notes whether a file was there.
func (s *Snapshot) opened(rc io.ReadCloser, err error) (io.ReadCloser, error) {
	if isMissing(err) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stale = true
	}
	return rc, err
}

// Type returns "s3".
func (s *Snapshot) Type() string { return s.p.Type() }

// Init does nothing more than Prefix.Init.
func (s *Snapshot) Init(ctx context.Context) error { return s.p.Init(ctx) }

// SetLogger does nothing, as Prefix.SetLogger.
func (s *Snapshot) SetLogger(*slog.Logger) {}

// LTXFiles returns the files of one level from seek on. With useMetadata and a
// listing that is not exact, the prefix is listed again, exactly.
func (s *Snapshot) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	l, err := s.listing(ctx, useMetadata)
	if err != nil {
		return nil, err
	}
	return store.Level(l.Files, level, seek), nil
}

// OpenLTXFile is Prefix.OpenLTXFile.
func (s *Snapshot) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	return s.opened(s.p.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size))
}

// GenerationsV3 returns the generations of a v0.3 backup, sorted.
func (s *Snapshot) GenerationsV3(ctx context.Context) ([]string, error) {
	l, err := s.listing(ctx, false)
	if err != nil {
		return nil, err
	}
	return slices.Clone(l.v3.generations), nil
}

// SnapshotsV3 returns the snapshots of a generation, sorted by index.
func (s *Snapshot) SnapshotsV3(ctx context.Context, generation string) ([]litestream.SnapshotInfoV3, error) {
	l, err := s.listing(ctx, false)
	if err != nil {
		return nil, err
	}
	return slices.Clone(l.v3.snapshots[generation]), nil
}

// WALSegmentsV3 returns the WAL segments of a generation, sorted by index, then
// by offset.
func (s *Snapshot) WALSegmentsV3(ctx context.Context, generation string) ([]litestream.WALSegmentInfoV3, error) {
	l, err := s.listing(ctx, false)
	if err != nil {
		return nil, err
	}
	return slices.Clone(l.v3.segments[generation]), nil
}

// OpenSnapshotV3 is Prefix.OpenSnapshotV3.
func (s *Snapshot) OpenSnapshotV3(ctx context.Context, generation string, index int) (io.ReadCloser, error) {
	return s.opened(s.p.OpenSnapshotV3(ctx, generation, index))
}

// OpenWALSegmentV3 is Prefix.OpenWALSegmentV3.
func (s *Snapshot) OpenWALSegmentV3(ctx context.Context, generation string, index int, offset int64) (io.ReadCloser, error) {
	return s.opened(s.p.OpenWALSegmentV3(ctx, generation, index, offset))
}

var errReadOnly = fmt.Errorf("s3: this view is for restoring only: %w", errors.ErrUnsupported)

// WriteLTXFile fails.
func (s *Snapshot) WriteLTXFile(context.Context, int, ltx.TXID, ltx.TXID, io.Reader) (*ltx.FileInfo, error) {
	return nil, errReadOnly
}

// DeleteLTXFiles fails.
func (s *Snapshot) DeleteLTXFiles(context.Context, []*ltx.FileInfo) error { return errReadOnly }

// DeleteAll fails.
func (s *Snapshot) DeleteAll(context.Context) error { return errReadOnly }
