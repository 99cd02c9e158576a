package fleet

import "github.com/multidb-go/multidb/internal/fsid"

// BeginNew notes that a new file is about to be made for a database, until EndNew: nothing of
// it is shipped before the application has it, as the making may fail. busy is closed when a
// run has ended that has begun before, and may see the file; nil: there is none.
func (f *Fleet) BeginNew(e *Entry) (busy <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.making[e] = struct{}{}
	r := f.runs[e]
	if r == nil || !e.item.Running() {
		return nil
	}
	ended := make(chan struct{})
	r.ended = append(r.ended, ended)
	return ended
}

// EndNew ends what BeginNew has begun. made: the file stays, and who waits for something of
// the database goes on. Else it is gone, and the database with it when nobody holds it: at once (gone), if
// all who did have left meanwhile.
func (f *Fleet) EndNew(e *Entry, made bool) (gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.making, e)
	if !made {
		f.reg.SetFile(e, fsid.ID{})
		return f.neverMadeLocked(e)
	}
	if !e.reg.Removed && (e.waiters != nil || f.orders[e] != nil) {
		f.schedule.Request(e.item, f.cfg.Now())
		f.cfg.Due()
	}
	return false
}

// neverMadeLocked forgets a database that never got a file, unless somebody holds it.
func (f *Fleet) neverMadeLocked(e *Entry) bool {
	if e.reg.Held > 0 || !e.reg.File.IsZero() || e.item.Pinned() || e.evicted {
		return false
	}
	f.removeLocked(e)
	return true
}

func (f *Fleet) makingLocked(e *Entry) bool {
	_, making := f.making[e]
	return making
}
