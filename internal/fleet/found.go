package fleet

import (
	"maps"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
)

// NextScan begins a scan and returns its number; Scan is that of the last one.
func (f *Fleet) NextScan() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.NextScan()
}

// Scan is the number of the scan that began last.
func (f *Fleet) Scan() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Scan()
}

// Listed is what is to be done about a database that was listed and is known.
type Listed struct {
	Entry    *Entry // nil: it is not known
	Confirm  bool   // the catalog had it: its volume is to be confirmed
	NoVolume bool   // its volume is to be noted
	// Evicted: it has no local file on purpose. If there is one now, Returned is to be called
	// with Seq: the listing may be older than the eviction.
	Evicted bool
	Seq     uint64
}

// Listed takes in a file of a listing that may be known, last written at mod.
func (f *Fleet) Listed(found registry.Found, mod time.Time) (l Listed) {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.reg.Listed(found)
	if e == nil {
		return l
	}
	if h := &e.health; h.txid == 0 && h.dirtySince != 0 && h.syncedAt == 0 && !e.item.Running() && !mod.IsZero() {
		h.dirtySince = min(h.dirtySince, f.fileMoment(mod)) // the catalog may not know when it was written
	}
	if !found.File.IsZero() && !e.evicted {
		f.setLocalLocked(e, found.Size, e.health.walSize)
	}
	if e.reg.Held == 0 { // otherwise its file may be in the making, and nobody else may open it
		f.schedule.Seen(e.item, mod, now)
	}
	back, noVolume, recalled := f.reg.VolumeState(e)
	if back {
		f.schedule.Request(e.item, now)
	}
	return Listed{e, recalled, noVolume, e.evicted, f.evictions}
}

// Ask says what has to be looked at to decide about a file that is not known; false:
// nothing is to be decided.
func (f *Fleet) Ask(found registry.Found) (registry.Question[Entry], bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Ask(found)
}

// Outcome is what became of a file that was found.
type Outcome struct {
	Entry *Entry // a new database; nil: it is none
	Later bool   // ask again at the end of the scan
	// Changed: what was known has changed since Ask, so another scan is needed.
	Changed bool
}

// Decide decides about a file that was found. rival and twin are the files that stand at
// the paths of the question's, zero if there is none.
func (f *Fleet) Decide(found registry.Found, q registry.Question[Entry], rival, twin fsid.ID, c Candidate) (out Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refusesLocked(c.Prefix) {
		return out // another node's; what this one had of it is a cache
	}
	d := f.reg.Decide(found, q, rival, twin)
	switch {
	case d.Later:
		return Outcome{Later: true}
	case d.Refused != nil:
		f.refusedLocked(found.ID, found.Path, d.Refused)
	case d.Changed:
		return Outcome{Changed: true}
	case d.Add && !f.life.Closing():
		if d.Moved != nil {
			f.removeLocked(d.Moved) // the ID has moved to another file
		}
		e := f.addLocked(c.Database, found.File, c.Prefix, found.Source)
		f.doubtLocked(e, c.Prefix)
		f.neverShippedLocked(e, c.ModTime)
		if e.reg.Unread = d.Unread; d.Unread {
			f.unread = append(f.unread, e)
		}
		f.mu.Note(Event{Type: EventAdded, ID: e.ID(), Path: e.Path()})
		f.setPolicyLocked(e, c.Policy, f.cfg.Now())
		f.setLocalLocked(e, found.Size, 0)
		// Its first copy has no precedence over the Syncs of others.
		f.schedule.Seen(e.item, c.ModTime, f.cfg.Now())
		out.Entry = e
	}
	return out
}

// refusedLocked notes that a file was refused.
func (f *Fleet) refusedLocked(id, path string, err error) {
	f.mu.Note(Event{Type: EventIgnored, ID: id, Path: path, Op: "discover", Err: err})
}

// Unlisted returns the databases of a discoverer that a scan has not listed, and the IDs
// and paths of its files that were refused and were not listed.
func (f *Fleet) Unlisted(source int, scan uint32) (gone []*Entry, refused map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reg.Unlisted(source, scan, func(e *Entry) bool { return e.item.Pinned() || e.evicted })
}

// ForgetRefusals forgets files that were refused, except those for which kept is
// true and those that the scan has listed meanwhile.
func (f *Fleet) ForgetRefusals(refused map[string]string, source int, scan uint32, kept func(id, path string) bool) {
	maps.DeleteFunc(refused, kept)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reg.ForgetRefusals(refused, source, scan)
}

// Remove removes a database that a scan has not listed. It keeps one that was found
// meanwhile, and one whose volume is not mounted (away), which its next run reports.
func (f *Fleet) Remove(e *Entry, scan uint32, away bool) (removed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.reg.SeenIn(e, scan) || e.item.Pinned() || e.reg.Held > 0 || e.evicted: // found meanwhile
		return false
	case away:
		if f.reg.SetAway(e) {
			f.schedule.Request(e.item, f.cfg.Now())
		}
		return false
	}
	f.removeLocked(e)
	return true
}

// TakeUnread returns the databases that scans brought and whose header is to be checked.
func (f *Fleet) TakeUnread() []*Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.unread
	f.unread = nil
	return all
}

// BeginCheck begins the check of a database's header, which EndCheck ends. false: there
// is nothing to check, or somebody else does it, until busy is closed.
func (f *Fleet) BeginCheck(e *Entry) (begun bool, busy <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.reg.Unread || e.reg.Removed {
		return false, nil
	}
	if c := f.reading[e]; c != nil {
		return false, c
	}
	f.reading[e] = make(chan struct{})
	return true, nil
}

// EndCheck ends the check of a header. refused is why the file is no database, which is
// then removed; nil: it may be one. sight is the file that was checked.
func (f *Fleet) EndCheck(e *Entry, sight registry.Sight, refused error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.reading[e])
	delete(f.reading, e)
	e.reg.Unread = false
	if refused != nil && !e.reg.Removed {
		f.failWaitersLocked(e, refused)
		f.removeLocked(e)
		f.reg.Refuse(e.ID(), e.Path(), sight, e.reg.Source(), refused)
		f.refusedLocked(e.ID(), e.Path(), refused)
	}
}
