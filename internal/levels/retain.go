package levels

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/superfly/ltx"
)

// deleteBatch is the largest number of files in one request, which is what S3 accepts.
const deleteBatch = 1000

const never = math.MaxInt64

// RetentionDue reports whether Retain has something to delete at now.
func (v *Inventory) RetentionDue(p Policy, now time.Time) bool {
	next := v.NextRetention(p)
	return !next.IsZero() && !now.Before(next)
}

// NextRetention returns when the first file becomes deletable, which may be in the past,
// or the zero time if none ever does. The answer holds until the inventory changes. It
// costs a walk over all files, so callers remember it. If there are strays it is the Unix
// epoch: the prefix should be listed at once.
func (v *Inventory) NextRetention(p Policy) time.Time {
	if len(v.strays) > 0 {
		return time.Unix(0, 0).UTC()
	}
	next := int64(never)
	v.eachDeletable(p.withDefaults(), func(_ key, at int64) { next = min(next, at) })
	if next == never {
		return time.Time{}
	}
	return time.UnixMilli(next).UTC()
}

// eachDeletable calls fn with every file that the rules of the package comment allow to be
// deleted at some time, and with that time in ms.
func (v *Inventory) eachDeletable(p Policy, fn func(k key, at int64)) {
	snapshots := v.snapshots()
	// oldest[i] is when the first of snapshot i and the later ones becomes older than
	// the retention.
	oldest := make([]int64, len(snapshots)+1)
	oldest[len(snapshots)] = never
	for i, s := range slices.Backward(snapshots) {
		oldest[i] = min(oldest[i+1], olderFrom(s.created, p.Retention))
	}
	for level := range v.levels {
		files := v.levels[level].files
		for i := range max(0, len(files)-1) { // the last one stays
			f := files[i]
			var at int64
			if level == litestream.SnapshotLevel {
				at = oldest[firstEnding(snapshots, f.max+1)]
			} else {
				at = min(oldest[firstEnding(snapshots, f.max)], v.containedAt(p, level, f))
			}
			if level == 0 && p.Grace > 0 {
				at = max(at, olderFrom(v.knownAt(f.max), p.Grace))
			}
			if at != never {
				fn(key{level, f.min, f.max}, at)
			}
		}
	}
}

// containedAt returns when a file may be deleted because one of a higher level contains it.
func (v *Inventory) containedAt(p Policy, level int, f file) int64 {
	at := int64(never)
	for above := level + 1; above < litestream.SnapshotLevel; above++ {
		files := v.levels[above].files
		i := sort.Search(len(files), func(i int) bool { return files[i].min > f.min }) - 1
		if i < 0 || !files[i].contains(f) {
			continue
		}
		at = min(at, olderFrom(files[i].created, p.Retention))
		if level == 0 && (p.Granularity <= 0 || files[i].created-f.created <= p.Granularity.Milliseconds()) {
			// All files of which a level 1 file was made may be deleted at the same
			// time, since a restore can use none of them without those before it.
			at = min(at, olderFrom(files[i].created, p.L0Retention))
		}
	}
	return at
}

// olderFrom returns the first millisecond in which created is longer ago than d.
func olderFrom(created int64, d time.Duration) int64 {
	if created == unknownTime {
		return never
	}
	return created + int64((d+time.Millisecond-1)/time.Millisecond) + 1
}

// Retain deletes what p no longer keeps at now, in batches. It makes no listing. If the
// newest TXID could not be restored from the files that stay, it deletes nothing and
// returns ErrNotRestorable.
//
// Files are removed from the inventory before the request that deletes them, and are strays
// if that fails. Retain deletes no stray: its name does not say who wrote the file and
// which other files depend on it. List the prefix, and call Reset. ctx bounds all requests.
func Retain(ctx context.Context, client litestream.ReplicaClient, v *Inventory, p Policy, now time.Time) (Report, error) {
	doomed := make(map[key]bool)
	v.eachDeletable(p.withDefaults(), func(k key, at int64) {
		if now.UnixMilli() >= at {
			doomed[k] = true
		}
	})
	if len(doomed) == 0 {
		return Report{}, nil
	}
	kept := v.without(doomed)
	if err := kept.Restorable(); err != nil {
		return Report{}, fmt.Errorf("retention: %w", err)
	}
	kept.pruneEpochs()
	for k := range doomed {
		v.shelf.drop(k)
	}
	*v = *kept

	// The highest level comes first. If Retain is interrupted, the time before the window
	// then has no snapshot, and not a snapshot with a gap after it.
	order := slices.SortedFunc(maps.Keys(doomed), func(a, b key) int {
		return cmp.Or(-cmp.Compare(a.level, b.level), compareKeys(a, b))
	})
	var rep Report
	for batch := range slices.Chunk(order, deleteBatch) {
		infos := make([]*ltx.FileInfo, len(batch))
		for i, k := range batch {
			infos[i] = k.info()
		}
		failpoint.Hit("retain.delete.before")
		if err := client.DeleteLTXFiles(ctx, infos); err != nil {
			return rep, fmt.Errorf("retention: delete %d files: %w", len(batch), err)
		}
		for _, k := range batch {
			v.removeStray(k)
		}
		rep.Deleted += len(batch)
		failpoint.Hit("retain.delete.after")
	}
	return rep, nil
}

// without returns the inventory in which the doomed files are strays.
func (v *Inventory) without(doomed map[key]bool) *Inventory {
	w := &Inventory{epochs: slices.Clone(v.epochs), strays: slices.Clone(v.strays), marks: v.marks, shelf: v.shelf}
	for level := range v.levels {
		for _, f := range v.levels[level].files {
			if k := (key{level, f.min, f.max}); doomed[k] {
				w.strays = append(w.strays, k)
			} else {
				w.levels[level].add(f)
			}
		}
	}
	slices.SortFunc(w.strays, compareKeys)
	return w
}
