package s3

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/pierrec/lz4/v4"
)

// v3Listing is a backup of litestream v0.3, which is only ever read:
//
//	generations/<generation>/snapshots/<index>.snapshot.lz4
//	generations/<generation>/wal/<index>_<offset>.wal.lz4
type v3Listing struct {
	generations []string
	snapshots   map[string][]litestream.SnapshotInfoV3
	segments    map[string][]litestream.WALSegmentInfoV3
	known       map[string]struct{} // the generations, of which there may be a million
	count       int                 // of all objects added
}

// add adds an object if it belongs to such a backup. name is the key
// relative to the prefix.
func (l *v3Listing) add(name string, o types.Object) {
	part := strings.Split(name, "/")
	if len(part) != 4 || part[0] != litestream.GenerationsDirV3 || !litestream.IsGenerationIDV3(part[1]) {
		return
	}
	gen, dir, file := part[1], part[2], part[3]
	l.count++
	if l.snapshots == nil {
		l.snapshots = make(map[string][]litestream.SnapshotInfoV3)
		l.segments = make(map[string][]litestream.WALSegmentInfoV3)
		l.known = make(map[string]struct{})
	}
	if _, ok := l.known[gen]; !ok {
		l.known[gen] = struct{}{}
		l.generations = append(l.generations, gen)
	}
	size, created := aws.ToInt64(o.Size), aws.ToTime(o.LastModified).UTC()
	switch dir {
	case litestream.SnapshotsDirV3:
		if index, err := litestream.ParseSnapshotFilenameV3(file); err == nil {
			l.snapshots[gen] = append(l.snapshots[gen], litestream.SnapshotInfoV3{
				Generation: gen, Index: index, Size: size, CreatedAt: created,
			})
		}
	case litestream.WALDirV3:
		if index, offset, err := litestream.ParseWALSegmentFilenameV3(file); err == nil {
			l.segments[gen] = append(l.segments[gen], litestream.WALSegmentInfoV3{
				Generation: gen, Index: index, Offset: offset, Size: size, CreatedAt: created,
			})
		}
	}
}

func (l *v3Listing) sort() {
	slices.Sort(l.generations)
	for _, s := range l.snapshots {
		slices.SortFunc(s, func(a, b litestream.SnapshotInfoV3) int { return cmp.Compare(a.Index, b.Index) })
	}
	// By number: the offset's digits in the file name vary.
	for _, s := range l.segments {
		slices.SortFunc(s, func(a, b litestream.WALSegmentInfoV3) int {
			return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Offset, b.Offset))
		})
	}
}

// listV3 lists what is under dir, which ends in a slash.
func (p *Prefix) listV3(ctx context.Context, dir string) (*v3Listing, error) {
	pages, err := p.pages(ctx, dir, "")
	if err != nil {
		return nil, err
	}
	l := new(v3Listing)
	for pages.more() {
		objects, err := pages.next(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			l.add(strings.TrimPrefix(aws.ToString(o.Key), p.key("")), o)
		}
		if err := untrusted.CheckFiles(l.count, untrusted.MaxFiles); err != nil {
			return nil, fmt.Errorf("s3: list %s: %w", p, err)
		}
	}
	l.sort()
	return l, nil
}

// GenerationsV3 returns the generations of a v0.3 backup, sorted. Like the other
// methods named V3 it lists the store each time; Snapshot lists once.
func (p *Prefix) GenerationsV3(ctx context.Context) ([]string, error) {
	l, err := p.listV3(ctx, litestream.GenerationsDirV3+"/")
	if err != nil {
		return nil, err
	}
	return l.generations, nil
}

// SnapshotsV3 returns the snapshots of a generation, sorted by index.
func (p *Prefix) SnapshotsV3(ctx context.Context, generation string) ([]litestream.SnapshotInfoV3, error) {
	l, err := p.listV3(ctx, litestream.SnapshotsPathV3("", generation)+"/")
	if err != nil {
		return nil, err
	}
	return l.snapshots[generation], nil
}

// WALSegmentsV3 returns the WAL segments of a generation, sorted by index, then
// by offset.
func (p *Prefix) WALSegmentsV3(ctx context.Context, generation string) ([]litestream.WALSegmentInfoV3, error) {
	l, err := p.listV3(ctx, litestream.WALPathV3("", generation)+"/")
	if err != nil {
		return nil, err
	}
	return l.segments[generation], nil
}

// OpenSnapshotV3 opens a snapshot, decompressed. An error wraps fs.ErrNotExist
// if there is none.
func (p *Prefix) OpenSnapshotV3(ctx context.Context, generation string, index int) (io.ReadCloser, error) {
	return p.openLZ4(ctx, p.key(litestream.SnapshotPathV3("", generation, index)))
}

// OpenWALSegmentV3 opens a WAL segment, decompressed. An error wraps
// fs.ErrNotExist if there is none.
func (p *Prefix) OpenWALSegmentV3(ctx context.Context, generation string, index int, offset int64) (io.ReadCloser, error) {
	return p.openLZ4(ctx, p.key(litestream.WALSegmentPathV3("", generation, index, offset)))
}

func (p *Prefix) openLZ4(ctx context.Context, key string) (io.ReadCloser, error) {
	out, err := p.get(ctx, key, "")
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{lz4.NewReader(out.Body), out.Body}, nil
}
