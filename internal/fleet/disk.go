package fleet

import "github.com/multidb-go/multidb/internal/schedule"

// diskLocked notes how large the local files of a database are, in bytes.
func (f *Fleet) diskLocked(e *Entry, size int64) {
	if f.disk != nil {
		f.disk.Set(e, size, f.policyLocked(e).EvictPriority)
		f.crowdedLocked(0)
	}
}

// opening is how many may have been opened since DiskOver was last told.
const opening = 16

// crowdedLocked tells if the local files are too large together, with so many more indexes.
func (f *Fleet) crowdedLocked(more int64) {
	if f.disk.Over(more*indexSize)+f.indexesLocked() > 0 && f.cfg.Crowded != nil {
		f.cfg.Crowded()
	}
}

// indexesLocked is what the indexes of the logs take of those that are open. A hot one is not
// counted for that: it may be without a file.
func (f *Fleet) indexesLocked() int64 {
	return int64(f.open) * indexSize
}

// touchDiskLocked notes that a database is used now.
func (f *Fleet) touchDiskLocked(e *Entry) {
	if f.disk != nil {
		f.disk.Touch(e)
		f.crowdedLocked(opening)
	}
}

// TryReserve reserves room for a file that is about to be made, if there is some, or in any
// case if force is set. Unreserve ends that.
func (f *Fleet) TryReserve(size int64, force bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk.Over(size) > 0 && !force {
		return false
	}
	f.disk.Reserve(size)
	return true
}

// Unreserve ends a reservation.
func (f *Fleet) Unreserve(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk.Release(size)
}

// indexSize is what the index of a log (-shm) takes as long as a database is open, of up to
// 4,062 frames: as long as one is kept by the defaults.
const indexSize = 32 << 10

// DiskOver is by how many bytes the local files are too large together, if size more are to
// be had; and how large they are, with what is reserved. The indexes of the logs are among
// them, of so many databases that are open. Both are zero without a limit.
func (f *Fleet) DiskOver(size int64, open int) (over, used int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk == nil {
		return 0, 0
	}
	f.open = open
	indexes := f.indexesLocked()
	return f.disk.Over(size) + indexes, f.disk.Used() + indexes
}

// victimTries bounds how many databases are looked at for one that may be evicted.
const victimTries = 4096

// Victims returns up to n databases whose local files are to go first, and how large they
// are: those that were not used for longest, of which nobody has or wants one.
func (f *Fleet) Victims(n int) (victims []*Entry, sizes []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// At first only cold ones: the others are written to, or were a moment ago.
	may := func(e *Entry) bool {
		return e.reg.Held == 0 && !e.item.Pinned() && !e.reg.Unread && !e.evicted && e.reg.Refused == nil &&
			e.health.err == nil && e.health.txid != 0 && f.bars[e] == nil && f.policyLocked(e).Pace.Heat != schedule.Always
	}
	victims = f.disk.First(n, victimTries, func(e *Entry) bool { return may(e) && e.item.Tier() == schedule.Cold })
	if len(victims) < n {
		rest := func(e *Entry) bool { return may(e) && e.item.Tier() != schedule.Cold }
		victims = append(victims, f.disk.First(n-len(victims), victimTries, rest)...)
	}
	for _, e := range victims {
		sizes = append(sizes, f.disk.Size(e))
	}
	return victims, sizes
}

// Spare puts a database that could not be evicted behind the others.
func (f *Fleet) Spare(e *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk != nil {
		f.disk.Touch(e)
	}
}
