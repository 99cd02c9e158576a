package levels

import (
	"slices"
	"sort"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// CompactionDue reports whether Compact, called without all, has something to do. It looks
// only at the files that are not compacted yet, and is cheap enough to be called after
// every write.
func (v *Inventory) CompactionDue(p Policy) bool {
	p = p.withDefaults()
	for level := range p.MaxLevel {
		for run := range v.runs(level) {
			if p.due(level, run) {
				return true
			}
		}
	}
	return false
}

// Compactable reports whether Compact, called with the same arguments, has something
// to do.
func (v *Inventory) Compactable(p Policy, all bool) bool {
	if !all {
		return v.CompactionDue(p)
	}
	for level := range p.withDefaults().MaxLevel {
		for run := range v.runs(level) {
			if len(run) >= 2 {
				return true
			}
		}
	}
	return false
}

// due reports whether a run of files is worth a compaction.
func (p Policy) due(level int, run []file) bool {
	return len(run) >= p.files(level) || level == 0 && len(run) >= 2 && size(run) >= p.L0Bytes
}

// runs yields the files of a level that are not in the next level, in runs that may be
// compacted into one file: inside a run no TXID is missing and no epoch begins. As in
// litestream, a file counts as being in the next level if its first TXID is.
func (v *Inventory) runs(level int) func(yield func(run []file) bool) {
	return func(yield func(run []file) bool) {
		done := v.levels[level+1].max
		files := v.levels[level].files
		i := sort.Search(len(files), func(i int) bool { return files[i].min > done })
		for files = files[i:]; len(files) > 0; {
			n, last := 1, files[0]
			for ; n < len(files); n++ {
				f := files[n]
				if f.min > last.max+1 || v.epochBetween(last, f) {
					break
				}
				if f.max > last.max {
					last = f
				}
			}
			if !yield(files[:n]) {
				return
			}
			files = files[n:]
		}
	}
}

// dueRuns returns the runs of a level to compact now, the oldest first: the runs of two
// files or more, up to the last one that is due or, if all is set, all of them. It must not
// leave out a run before that one, since once a later run is in the next level, an earlier
// one counts as being there and would never be compacted.
func (v *Inventory) dueRuns(level int, p Policy, all bool) [][]file {
	var runs [][]file
	due := 0
	for run := range v.runs(level) {
		if len(run) < 2 {
			continue
		}
		runs = append(runs, run)
		if all || p.due(level, run) {
			due = len(runs)
		}
	}
	return runs[:due]
}

// pieces divides a run into parts of n files or a few more. Runs grow long while nothing
// can be compacted.
func pieces(run []file, n int) [][]file {
	n = min(n, maxSources/2)
	parts := max(1, len(run)/n)
	out := make([][]file, 0, parts)
	for i := range parts {
		out = append(out, run[len(run)*i/parts:len(run)*(i+1)/parts])
	}
	return out
}

// SnapshotDue reports whether to take a snapshot: the prefix has files, the newest
// snapshot is SnapshotInterval old or there is none, and something was written since. A
// file of any level that begins at TXID 1 is a snapshot. If an epoch began after the
// newest snapshot, another one is due at once.
func (v *Inventory) SnapshotDue(p Policy, now time.Time) bool {
	p = p.withDefaults()
	newest, ok := v.newestSnapshot()
	switch last := v.MaxTXID(); {
	case last == 0, ok && newest.max >= last:
		return false
	case !ok, newest.created == unknownTime:
		return true
	case len(v.epochs) > 0 && v.epochs[len(v.epochs)-1] >= newest.max && v.epochs[len(v.epochs)-1] < last:
		return true
	}
	age := now.Sub(time.UnixMilli(newest.created))
	return age >= p.SnapshotInterval || age <= -p.SnapshotInterval // the second: some clock was wrong
}

// newestSnapshot is the file from TXID 1 that ends last.
func (v *Inventory) newestSnapshot() (newest file, ok bool) {
	for level := range v.levels {
		files := v.levels[level].files
		n := sort.Search(len(files), func(i int) bool { return files[i].min > 1 })
		if n > 0 && files[n-1].max > newest.max {
			newest, ok = files[n-1], true
		}
	}
	return newest, ok
}

// snapshots are the files of the snapshot level, by TXID.
func (v *Inventory) snapshots() []file {
	files := v.levels[litestream.SnapshotLevel].files
	return files[:sort.Search(len(files), func(i int) bool { return files[i].min > 1 })]
}

// firstEnding returns the index of the first snapshot that ends at txid or later.
func firstEnding(snapshots []file, txid ltx.TXID) int {
	i, _ := slices.BinarySearchFunc(snapshots, txid, func(f file, txid ltx.TXID) int {
		if f.max < txid {
			return -1
		}
		return 1
	})
	return i
}
