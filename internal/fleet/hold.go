package fleet

import (
	"errors"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
)

// Prefix is the place of a database at the replica, or why it has none. Who finds it out
// calls a user's code, which the Fleet does not.
type Prefix struct {
	Path  string
	Err   error
	Shard int // of several nodes one serves it
}

// Candidate is a database that is not known, and is to be if nobody refuses it.
type Candidate struct {
	registry.Database
	Source int // the discoverer
	Prefix Prefix
	Policy Asked
}

// Held is what Hold found.
type Held struct {
	Entry   *Entry // nil: nobody knows the ID, and there was no Candidate
	Unread  bool   // its header is to be checked before; it is not held
	Missing bool   // its file was missing: what is still open is a file without a name
	Barred  *Bar   // nobody may open it until that is lifted; it is not held
}

// Hold finds a database, or makes one of a candidate that no scan has listed (nil:
// there is none), and keeps scans from forgetting it until LetGo.
func (f *Fleet) Hold(id string, c *Candidate) (h Held, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.life.Serving(); err != nil {
		return h, err
	}
	e := f.reg.Get(id)
	if err := f.reg.Gone(id); err != nil && e != nil {
		return h, err
	}
	if e == nil {
		if err, refused := f.reg.Refused(id); refused || c == nil {
			return h, err
		}
		if f.refusesLocked(c.Prefix) {
			return h, ErrElsewhere
		}
		e = f.addLocked(c.Database, fsid.ID{}, c.Prefix, c.Source)
		f.mu.Note(Event{Type: EventAdded, ID: id, Path: e.Path()})
		e.reg.Held++
		f.setPolicyLocked(e, c.Policy, f.cfg.Now())
		return Held{Entry: e}, nil
	}
	if b := f.bars[e]; b != nil {
		b.wantLocked()
		return Held{Barred: b}, b.refuse
	}
	if e.reg.Unread {
		return Held{Entry: e, Unread: true}, nil
	}
	e.reg.Held++
	return Held{Entry: e, Missing: errors.Is(e.health.err, ship.ErrMissing) && !e.item.Pinned()}, nil
}

// LetGo ends a hold. gone: it never got a file, and is forgotten. touched: it is to be
// looked at, as Look does.
func (f *Fleet) LetGo(e *Entry) (gone, touched bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.reg.Held--; e.reg.Held == 0 {
		f.idleLocked(e)
	}
	gone = f.neverMadeLocked(e)
	if touched = e.touched && e.reg.Held == 0 && !e.item.Running(); touched {
		e.touched = false
	}
	return gone, touched
}

// Leased notes a lease of a database.
func (f *Fleet) Leased(e *Entry) {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touchDiskLocked(e)
	f.schedule.Accessed(e.item, now)
	f.schedule.Pin(e.item)
	f.cfg.Due()
}

// Released notes the end of a lease of a file. stray: by now another one is at the path,
// or none.
func (f *Fleet) Released(e *Entry, file fsid.ID, stray bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stray {
		f.strayLocked(e, file)
	}
	f.schedule.Unpin(e.item, f.cfg.Now())
	f.cfg.Due()
}

// IsLeased reports whether anybody has the database leased.
func (f *Fleet) IsLeased(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.item.Pinned()
}

// PoolClosed notes that a connection of ours to a database was closed, and may have been the
// last, so that a log with something in it was left: the next run that finds all of it
// shipped cuts it. What stays would be applied to a file put in its place.
func (f *Fleet) PoolClosed(e *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.reg.Removed {
		e.poolClosed = true
		f.schedule.Request(e.item, f.cfg.Now())
	}
	f.cfg.Due()
}

// BeginMaking notes that the missing file of a database is about to be made. hadFile: it
// stood there when it was last looked at. With RestoreOnOpen what watchers and scans see
// of it is no change until it is whole.
func (f *Fleet) BeginMaking(e *Entry) (hadFile bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hadFile = !e.reg.File.IsZero()
	if f.cfg.RestoreOnOpen {
		f.reg.SetFile(e, fsid.ID{})
	}
	return hadFile
}

// NoteFile notes which file a database is of, where only its ID is known: it was made
// just now, or no scan has listed it yet.
func (f *Fleet) NoteFile(e *Entry, file fsid.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.reg.File.IsZero() || file.IsZero() {
		return
	}
	if other := f.reg.ByFile(file); other == nil || other.reg.Removed {
		f.reg.SetFile(e, file)
	} else {
		f.reg.ShareFile(e, file)
	}
}

// Claim makes a file that of a database, unless another one is known by it, which is
// returned: SQLite would give each name a WAL of its own, and each would write to a
// prefix.
func (f *Fleet) Claim(e *Entry, file fsid.ID) (other *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if other = f.reg.ByFile(file); other == nil || other == e || other.reg.Removed {
		f.reg.SetFile(e, file)
		return nil
	}
	return other
}

// Disclaim says that a file is another's, so that nobody takes this database for known.
func (f *Fleet) Disclaim(e *Entry, file fsid.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.reg.File == file {
		f.reg.ShareFile(e, fsid.ID{})
	}
}

// ForgetFile notes that a file is no longer at the path of a database.
func (f *Fleet) ForgetFile(e *Entry, file fsid.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reg.ForgetFile(e, file)
}

// SetAside delivers that logs of a database were set aside under these names.
func (f *Fleet) SetAside(e *Entry, names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		f.mu.Note(e.event(replicate.LogSetAside(e.Path(), name)))
	}
}
