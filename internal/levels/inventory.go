package levels

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

const levelCount = litestream.SnapshotLevel + 1

// Inventory is what a prefix holds: the LTX files that are known to be there, by level,
// and in TXID order in each level. It keeps times to the millisecond and no checksums. The
// zero value is an empty prefix. Not safe for concurrent use.
type Inventory struct {
	levels [levelCount]list
	epochs []ltx.TXID // an epoch begins after each; sorted, see BeginEpoch
	strays []key      // sorted; they are not in levels
	marks  []mark     // the oldest first, see MarkSeen
	shelf  *shelf     // the bytes of small files that were written lately; nil: none
}

// mark records that all files of level 0 up to a TXID were known to be at the replica at a
// time.
type mark struct {
	at   int64 // ms since the epoch
	txid ltx.TXID
}

// list is one level.
type list struct {
	files []file   // sorted by min, then by max
	max   ltx.TXID // the greatest max of all files, which is not always the last file's
}

// file is one LTX file, in 32 bytes.
type file struct {
	min, max ltx.TXID
	size     int64
	created  int64 // ms since the epoch; unknownTime
}

// key identifies a file.
type key struct {
	level    int
	min, max ltx.TXID
}

// unknownTime represents a zero CreatedAt. No rule treats such a file as old.
const unknownTime = math.MinInt64

func keyOf(info *ltx.FileInfo) key { return key{info.Level, info.MinTXID, info.MaxTXID} }

func (k key) valid() bool {
	return k.level >= 0 && k.level < levelCount && k.min > 0 && k.min <= k.max
}

func (k key) info() *ltx.FileInfo {
	return &ltx.FileInfo{Level: k.level, MinTXID: k.min, MaxTXID: k.max}
}

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(a.min, b.min), cmp.Compare(a.max, b.max))
}

func (f file) info(level int) *ltx.FileInfo {
	info := &ltx.FileInfo{Level: level, MinTXID: f.min, MaxTXID: f.max, Size: f.size}
	if f.created != unknownTime {
		info.CreatedAt = time.UnixMilli(f.created).UTC()
	}
	return info
}

func (f file) contains(g file) bool { return f.min <= g.min && f.max >= g.max }

func compareFiles(a, b file) int {
	return cmp.Or(cmp.Compare(a.min, b.min), cmp.Compare(a.max, b.max))
}

// Add records a file that is at the replica. It replaces one with the same level and TXIDs.
// It ignores a file that no restore could use (a level outside 0 to 9, a MinTXID of 0 or
// above MaxTXID).
func (v *Inventory) Add(info *ltx.FileInfo) {
	k := keyOf(info)
	if !k.valid() {
		return
	}
	f := file{min: info.MinTXID, max: info.MaxTXID, size: max(0, info.Size), created: unknownTime}
	if ms := info.CreatedAt.UnixMilli(); !info.CreatedAt.IsZero() && -maxTime <= ms && ms <= maxTime {
		f.created = ms
	}
	v.levels[k.level].add(f)
	v.removeStray(k)
	v.shelf.drop(k)
}

// UseCache makes the inventory keep the bytes of the files that Wrote adds from now on, in
// a cache that it shares with other inventories. If the cache is nil, it keeps none. Call
// DropCached when the inventory is no longer used.
func (v *Inventory) UseCache(c *Cache) {
	v.shelf.clear()
	if v.shelf = nil; c != nil {
		v.shelf = &shelf{cache: c}
	}
}

// Wrote is Add for a file whose write the replica has just acknowledged. data is the whole
// file, or nil; it is copied. With data, compacting the file may need no request.
func (v *Inventory) Wrote(info *ltx.FileInfo, data []byte) {
	v.Add(info)
	if k := keyOf(info); k.valid() && int64(len(data)) == info.Size {
		v.shelf.put(k, data)
	}
}

// DropCached removes the bytes of all files from the cache. Compacting the files then reads
// them from the replica.
func (v *Inventory) DropCached() { v.shelf.clear() }

// MarkStray records, after a write or a deletion that failed, that it is not known whether
// a file is at the replica. The file is a stray until it is added again; see the package
// comment.
func (v *Inventory) MarkStray(level int, minTXID, maxTXID ltx.TXID) {
	k := key{level, minTXID, maxTXID}
	if !k.valid() {
		return
	}
	v.levels[level].remove(minTXID, maxTXID)
	v.shelf.drop(k)
	if i, ok := slices.BinarySearchFunc(v.strays, k, compareKeys); !ok {
		v.strays = slices.Insert(v.strays, i, k)
	}
}

// removeStray removes a file from the strays.
func (v *Inventory) removeStray(k key) {
	if i, ok := slices.BinarySearchFunc(v.strays, k, compareKeys); ok {
		v.strays = slices.Delete(v.strays, i, i+1)
	}
	if len(v.strays) == 0 {
		v.strays = nil
	}
}

// Reset replaces all files by those of a listing, which may come in any order. It forgets
// the strays, since the listing shows which of them exist, and when files were known to be
// at the replica: call MarkSeen. It keeps the epochs, and the bytes of no file.
func (v *Inventory) Reset(files []*ltx.FileInfo) {
	v.DropCached()
	*v = Inventory{epochs: v.epochs, shelf: v.shelf}
	var n [levelCount]int
	for _, info := range files {
		if keyOf(info).valid() {
			n[info.Level]++
		}
	}
	for level := range v.levels {
		v.levels[level].files = make([]file, 0, n[level])
	}
	sorted := slices.SortedFunc(slices.Values(files), func(a, b *ltx.FileInfo) int { return compareKeys(keyOf(a), keyOf(b)) })
	for _, info := range sorted {
		v.Add(info)
	}
}

// MarkSeen records that every level 0 file of the inventory is at the replica at now.
// Policy.Grace is counted from then, and not from the times in the files, which come from
// the clocks of their writers. Only a few times are kept, so that a file may count as
// known up to a quarter of grace later than it was.
func (v *Inventory) MarkSeen(now time.Time, grace time.Duration) {
	end, n := v.levels[0].max, len(v.marks)
	if n > 0 && v.marks[n-1].txid >= end || end == 0 {
		return
	}
	m := mark{now.UnixMilli(), end}
	if n > 0 {
		m.at = max(m.at, v.marks[n-1].at) // a clock that was set back must not make a mark older
	}
	if n > 1 && m.at-v.marks[n-2].at < grace.Milliseconds()/4 {
		v.marks[n-1] = m
	} else {
		v.marks = append(v.marks, m)
	}
	// Of the marks whose grace is over only the last one is needed.
	over := 0
	for over+1 < len(v.marks) && m.at-v.marks[over+1].at > grace.Milliseconds() {
		over++
	}
	v.marks = slices.Delete(v.marks, 0, over)
}

// knownAt returns since when a level 0 file that ends at txid is known to be at the
// replica.
func (v *Inventory) knownAt(txid ltx.TXID) int64 {
	for _, m := range v.marks {
		if m.txid >= txid {
			return m.at
		}
	}
	return unknownTime
}

// BeginEpoch begins an epoch after txid: files that end at txid or before are never
// compacted together with later ones, and no restore goes on from them to later ones. Call
// it when the page size has changed and when TXIDs are lost.
func (v *Inventory) BeginEpoch(txid ltx.TXID) {
	if i, ok := slices.BinarySearch(v.epochs, txid); !ok {
		v.epochs = slices.Insert(v.epochs, i, txid)
	}
}

// epochBetween reports whether an epoch begins between the end of file a and that of b.
func (v *Inventory) epochBetween(a, b file) bool {
	i, _ := slices.BinarySearch(v.epochs, a.max)
	return i < len(v.epochs) && v.epochs[i] < b.max
}

// pruneEpochs forgets the epochs before which no file is left.
func (v *Inventory) pruneEpochs() {
	first := ltx.TXID(math.MaxUint64) // the lowest end of a file
	for level := range v.levels {
		for _, f := range v.levels[level].files {
			first = min(first, f.max)
		}
	}
	i, _ := slices.BinarySearch(v.epochs, first)
	if v.epochs = slices.Delete(v.epochs, 0, i); len(v.epochs) == 0 {
		v.epochs = nil
	}
}

// Files yields the files of a level in TXID order. The inventory must not be
// changed meanwhile.
func (v *Inventory) Files(level int) iter.Seq[*ltx.FileInfo] {
	return func(yield func(*ltx.FileInfo) bool) {
		if level < 0 || level >= levelCount {
			return
		}
		for _, f := range v.levels[level].files {
			if !yield(f.info(level)) {
				return
			}
		}
	}
}

// MaxTXID is the newest TXID of any file, 0 if there is none.
func (v *Inventory) MaxTXID() ltx.TXID {
	var txid ltx.TXID
	for level := range v.levels {
		txid = max(txid, v.levels[level].max)
	}
	return txid
}

// Len is the number of files.
func (v *Inventory) Len() int {
	n := 0
	for level := range v.levels {
		n += len(v.levels[level].files)
	}
	return n
}

// Strays is the number of files of which it is not known whether they are at the replica.
func (v *Inventory) Strays() int { return len(v.strays) }

func size(files []file) int64 {
	var n int64
	for _, f := range files {
		n += f.size
	}
	return n
}

func (l *list) add(f file) {
	i := len(l.files)
	if i > 0 && compareFiles(l.files[i-1], f) >= 0 { // rarely, since files mostly come in order
		var ok bool
		if i, ok = slices.BinarySearchFunc(l.files, f, compareFiles); ok {
			l.files[i] = f
			return
		}
	}
	if n := len(l.files); n == cap(l.files) {
		l.resize(n + n/4 + 4) // append would double a short list
	}
	l.files = slices.Insert(l.files, i, f)
	l.max = max(l.max, f.max)
}

func (l *list) has(minTXID, maxTXID ltx.TXID) bool {
	_, ok := slices.BinarySearchFunc(l.files, file{min: minTXID, max: maxTXID}, compareFiles)
	return ok
}

func (l *list) remove(minTXID, maxTXID ltx.TXID) {
	i, ok := slices.BinarySearchFunc(l.files, file{min: minTXID, max: maxTXID}, compareFiles)
	if !ok {
		return
	}
	l.files = slices.Delete(l.files, i, i+1)
	if n := len(l.files); cap(l.files) > n+n/2+8 {
		l.resize(n + n/4)
	}
	if maxTXID == l.max {
		l.max = 0
		for _, f := range l.files {
			l.max = max(l.max, f.max)
		}
	}
}

func (l *list) resize(capacity int) {
	l.files = append(make([]file, 0, capacity), l.files...)
}
