package fleet

import (
	"cmp"
	"slices"

	"github.com/multidb-go/multidb/internal/replicate"
)

// size is how large a database is, here and at the replica, in 16 bytes.
type size struct {
	replica uint64 // bytes at the prefix, plus one; 0: not known
	rest    uint64 // the objects there, and above them the size of the file in units
}

// SQLite's files are whole pages of at least 512 bytes, and have at most 281 TB. No prefix
// has more objects than a listing may have.
const (
	sizeUnit    = 512
	objectBits  = 24
	mostObjects = 1<<objectBits - 1
	mostUnits   = 1<<(64-objectBits) - 1
)

func (s size) objects() int64 { return int64(s.rest & mostObjects) }
func (s size) file() int64    { return int64(s.rest>>objectBits) * sizeUnit }

// Size is how large a database is. What the fields mean is with the public Status.
type Size struct {
	LocalBytes     int64
	ReplicaBytes   int64
	ReplicaObjects int64
	ReplicaSized   bool
}

// Sizes are the sums of all databases.
type Sizes struct {
	Local, Replica, Objects int64
	WAL                     int64 // of Local, in logs
	Unknown                 int   // databases of which it is not known what the replica holds
}

func (e *Entry) sizeNow() Size {
	s := Size{LocalBytes: e.size.file() + e.health.walSize, ReplicaSized: e.size.replica != 0}
	if s.ReplicaSized {
		s.ReplicaBytes, s.ReplicaObjects = int64(e.size.replica-1), e.size.objects()
	}
	return s
}

// setLocalLocked notes the sizes of a database's file and log.
func (f *Fleet) setLocalLocked(e *Entry, file, wal int64) {
	units := min((uint64(max(file, 0))+sizeUnit-1)/sizeUnit, mostUnits)
	f.sizes.Local -= e.size.file() + e.health.walSize
	e.size.rest = units<<objectBits | e.size.rest&mostObjects
	f.sizes.WAL += wal - e.health.walSize
	e.health.walSize = wal
	f.sizes.Local += e.size.file() + wal
	f.diskLocked(e, e.size.file()+wal)
}

// setReplicaSizeLocked notes what the prefix of a database holds.
func (f *Fleet) setReplicaSizeLocked(e *Entry, now replicate.Size) {
	was := e.sizeNow()
	if !was.ReplicaSized {
		f.sizes.Unknown--
	}
	objects := min(now.Objects, mostObjects)
	e.size.replica = uint64(now.Bytes) + 1
	e.size.rest = e.size.rest&^mostObjects | uint64(objects)
	f.sizes.Replica += now.Bytes - was.ReplicaBytes
	f.sizes.Objects += objects - was.ReplicaObjects
}

// measureLocked takes the sizes out of a report.
func (f *Fleet) measureLocked(e *Entry, rep *replicate.Report) {
	if e.reg.Removed {
		return // it counts no more
	}
	file := e.size.file()
	if !rep.Files.Main.IsZero() {
		file = rep.Files.Main.Size
	}
	f.setLocalLocked(e, file, rep.WALSize)
	if rep.Sized {
		f.setReplicaSizeLocked(e, rep.Size)
	}
}

// dropSizesLocked takes a database that is removed out of the sums.
func (f *Fleet) dropSizesLocked(e *Entry) {
	f.setLocalLocked(e, 0, 0)
	f.setReplicaSizeLocked(e, replicate.Size{})
}

// Largest returns the n databases for which by is largest, the largest first and equal
// ones by their ID. It looks at every database.
func (f *Fleet) Largest(n int, by func(Size) int64) []Status {
	type sized struct {
		e     *Entry
		bytes int64
	}
	trim := func(a []sized) []sized {
		slices.SortFunc(a, func(x, y sized) int {
			return cmp.Or(cmp.Compare(y.bytes, x.bytes), cmp.Compare(x.e.ID(), y.e.ID()))
		})
		return a[:min(len(a), n)]
	}
	if n <= 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n = min(n, f.reg.Len())
	var top []sized
	least := int64(-1) // of n that are larger, by the last trim
	for e := range f.reg.All() {
		bytes := by(e.sizeNow())
		if bytes < least {
			continue
		}
		if top = append(top, sized{e, bytes}); len(top) >= 2*n+1024 {
			top = trim(top)
			least = top[len(top)-1].bytes
		}
	}
	top = trim(top)
	all := make([]Status, len(top))
	for i, s := range top {
		all[i] = f.statusLocked(s.e)
	}
	return all
}
