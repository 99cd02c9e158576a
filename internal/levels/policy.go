package levels

import (
	"time"

	"github.com/benbjohnson/litestream"
)

// Defaults of Policy.
const (
	DefaultL0Files          = 60
	DefaultL0Bytes          = 8 << 20
	DefaultFanout           = 16
	DefaultMaxLevel         = 3
	DefaultL0Retention      = litestream.DefaultL0Retention
	DefaultRetention        = 24 * time.Hour
	DefaultSnapshotInterval = 24 * time.Hour
)

// maxSources bounds the files that one compaction reads at once: each needs an open
// response body and a page buffer.
const maxSources = 256

// Policy says when a prefix is compacted and what it keeps. In every field, a value of
// zero or less means the default.
type Policy struct {
	// L0Files is the number of level 0 files not yet in level 1 that makes a
	// compaction due. Default 60.
	L0Files int
	// L0Bytes is the size of those files, in bytes, that makes a compaction due
	// even before they are L0Files. Default 8 MiB.
	L0Bytes int64
	// Fanout is the number of files of a level from 1 up, not yet in the next,
	// that makes a compaction to the next due. Default 16.
	Fanout int
	// MaxLevel is the highest level that is compacted into. Default 3, at most 8.
	MaxLevel int
	// L0Retention is the age of the newest transaction of a level 1 file from which
	// the level 0 files that it was made of may be deleted, all together. Default 5
	// minutes.
	L0Retention time.Duration
	// Granularity bounds by how much a restore to a point in time inside a level 1 file
	// may miss that point: a level 0 file that is older than the end of its level 1 file
	// by more than that is kept for the whole Retention. Default: no bound; once
	// L0Retention has passed, a level 1 file is restored as a whole or not at all.
	Granularity time.Duration
	// Grace is how long every level 0 file is kept at least, counted from when it was
	// known to be at the replica (Inventory.MarkSeen). Other writers rely on it to find
	// out that somebody else has written to the prefix. Default: none.
	Grace time.Duration
	// Retention is the window in which every point in time can be restored.
	// Default 24 hours.
	Retention time.Duration
	// SnapshotInterval is the age of the newest snapshot from which on a new one is
	// due, if anything changed since. Default 24 hours.
	SnapshotInterval time.Duration
}

func (p Policy) withDefaults() Policy {
	orDefault(&p.L0Files, DefaultL0Files)
	orDefault(&p.L0Bytes, DefaultL0Bytes)
	orDefault(&p.Fanout, DefaultFanout)
	orDefault(&p.MaxLevel, DefaultMaxLevel)
	orDefault(&p.L0Retention, DefaultL0Retention)
	orDefault(&p.Retention, DefaultRetention)
	orDefault(&p.SnapshotInterval, DefaultSnapshotInterval)
	p.MaxLevel = min(p.MaxLevel, litestream.SnapshotLevel-1)
	return p
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// files is the number of files of a level that makes its compaction due. It is at least
// two, since moving a single file to the next level gains nothing.
func (p Policy) files(level int) int {
	if level == 0 {
		return max(2, p.L0Files)
	}
	return max(2, p.Fanout)
}
