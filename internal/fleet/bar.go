package fleet

import (
	"fmt"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/registry"
)

// Bar keeps everybody from opening one database, from TryBar or Bar to Lift: who has it open
// keeps it, and who comes waits, or is refused.
type Bar struct {
	e      *Entry
	refuse error         // what who comes is told; nil: to wait
	lifted chan struct{} // closed by Lift
	wanted chan struct{} // closed when somebody waits
	asked  bool          // guarded by the lock: wanted is closed
	idle   chan struct{} // guarded by the lock: closed when nobody holds it; nil: nobody asked
}

// Lifted is closed when the database may be opened again, or is gone.
func (b *Bar) Lifted() <-chan struct{} { return b.lifted }

// Wanted is closed when somebody waits for the database.
func (b *Bar) Wanted() <-chan struct{} { return b.wanted }

// Entry is the database.
func (b *Bar) Entry() *Entry { return b.e }

func (b *Bar) wantLocked() {
	if !b.asked {
		b.asked = true
		close(b.wanted)
	}
}

// Bar bars a database. Who wants to open it meanwhile gets refuse; nil: waits. busy: somebody
// else has barred it.
func (f *Fleet) Bar(e *Entry, refuse error) (b, busy *Bar, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.reg.Removed {
		return nil, nil, f.reg.WhyNot(e.ID())
	} else if busy = f.bars[e]; busy != nil {
		busy.wantLocked()
		return nil, busy, nil
	}
	return f.barLocked(e, refuse), nil, nil
}

// TryBar bars a database that nobody has open or is about to open; nil: it cannot.
func (f *Fleet) TryBar(e *Entry) *Bar {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.reg.Removed || f.bars[e] != nil || e.reg.Held > 0 || e.item.Pinned() || e.reg.Unread {
		return nil
	}
	return f.barLocked(e, nil)
}

func (f *Fleet) barLocked(e *Entry, refuse error) *Bar {
	b := &Bar{e: e, refuse: refuse, lifted: make(chan struct{}), wanted: make(chan struct{})}
	f.bars[e] = b
	return b
}

// Idle is closed when nobody holds the barred database any more; leases are the pool's.
func (f *Fleet) Idle(b *Bar) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.idle == nil {
		b.idle = make(chan struct{})
		if b.e.reg.Held == 0 {
			close(b.idle)
		}
	}
	return b.idle
}

func (f *Fleet) idleLocked(e *Entry) {
	b := f.bars[e]
	if b == nil || b.idle == nil {
		return
	}
	select {
	case <-b.idle:
	default:
		close(b.idle)
	}
}

// Lift ends a Bar, once.
func (f *Fleet) Lift(b *Bar) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bars, b.e)
	close(b.lifted)
}

// BeginEvict notes that the local file of a database is about to be deleted on purpose, so
// that nobody who finds that it is gone forgets the database. Finish ends it.
func (f *Fleet) BeginEvict(r *Run) {
	e := r.Entry
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.reg.Removed || e.evicted {
		return
	}
	r.vacating, r.file = true, e.reg.File
	e.evicted = true
	f.evicted++
	f.evictions++
	f.reg.SetFile(e, fsid.ID{})
}

// endEvictLocked ends what BeginEvict has begun.
func (f *Fleet) endEvictLocked(r *Run, vacated bool) {
	e := r.Entry
	switch {
	case !r.vacating || !e.evicted:
	case !vacated:
		f.returnedLocked(e, r.file)
	default:
		f.wals.Remove(e)
		delete(f.backlog, e)
		f.setLocalLocked(e, 0, 0)
		e.poolClosed = false
		f.mu.Note(Event{Type: EventEvicted, ID: e.ID(), Path: e.Path(), TXID: e.health.txid})
	}
}

// residentLocked notes that an evicted database has a local file again, or went.
func (f *Fleet) residentLocked(e *Entry) {
	if e.evicted {
		e.evicted = false
		f.evicted--
		f.reg.Saw(e) // else the scan in progress forgets what had no file when it listed
		f.cfg.Resident(e.ID())
	}
}

// returnedLocked notes that an evicted database has a local file that nobody here has
// made: the eviction was interrupted, or somebody has put it there. What the replica and
// the file hold decides whose history counts.
func (f *Fleet) returnedLocked(e *Entry, file fsid.ID) {
	f.residentLocked(e)
	f.reg.SetFile(e, file)
	f.schedule.Request(e.item, f.cfg.Now())
}

// Evictions is how many evictions have begun.
func (f *Fleet) Evictions() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.evictions
}

// Returned notes that an evicted database was found to have a local file, by a look since
// Evictions was seq. false: it is not evicted, or may have been since, or somebody is about to
// open it, who makes the file.
func (f *Fleet) Returned(e *Entry, file fsid.ID, seq uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.evicted || e.reg.Held > 0 || f.bars[e] != nil || f.evictions != seq {
		return false
	}
	f.returnedLocked(e, file)
	return true
}

// Found notes that the file of a database is there for whoever holds it; see Returned.
func (f *Fleet) Found(e *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.evicted {
		f.returnedLocked(e, e.reg.File)
	}
}

// Evicted reports whether a database has no local file on purpose.
func (f *Fleet) Evicted(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.evicted
}

// Withhold has an ID neither opened nor made, and says why; nil: it may be again. A database
// that has it goes on being shipped.
func (f *Fleet) Withhold(id string, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reg.SetGone(id, why)
}

// Withheld is why an ID is neither opened nor made; nil: it may be.
func (f *Fleet) Withheld(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Gone(id)
}

// Drop removes a database, and returns when no run of it is in progress any more.
func (f *Fleet) Drop(e *Entry) (ended <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removeLocked(e)
	return f.endedLocked(e)
}

// AddEvicted makes a database known whose newest state is at the replica, and that has no
// local file.
func (f *Fleet) AddEvicted(c Candidate) (*Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.life.Closing() {
		return nil, life.ErrClosed
	}
	if f.refusesLocked(c.Prefix) {
		return nil, ErrElsewhere
	}
	if f.reg.Get(c.ID) != nil {
		return nil, fmt.Errorf("%w: %q is known", registry.ErrConflict, c.ID)
	}
	e := f.addLocked(c.Database, fsid.ID{}, c.Prefix, c.Source)
	e.evicted = true
	f.evicted++
	f.backedUpLocked(e)
	f.mu.Note(Event{Type: EventAdded, ID: c.ID, Path: e.Path()})
	return e, nil
}

// Size is how large the file of a database is at the replica's end, in bytes; 0: unknown.
func (f *Fleet) Size(e *Entry) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.item.Running() {
		return 0 // a run owns its State
	}
	pos := e.peekLocked().Position()
	return int64(pos.Commit) * int64(pos.PageSize)
}

// Get returns the database that has an ID, at whatever time; nil: none has.
func (f *Fleet) Get(id string) *Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Get(id)
}

// Fenced is why no database is replicated; nil: they are.
func (f *Fleet) Fenced() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fence
}

// Refused is why a database is not replicated; nil: it is.
func (f *Fleet) Refused(e *Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fence != nil {
		return f.fence
	}
	return e.reg.Refused
}
