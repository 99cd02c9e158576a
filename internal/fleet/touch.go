package fleet

import (
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/ship"
)

// Look makes a database due if its files, as stat saw them, are not as the last run
// left them.
func (f *Fleet) Look(e *Entry, st fsid.Files) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, was := f.schedule.Wake()
	f.lookLocked(e, st, f.cfg.Now())
	if after, is := f.schedule.Wake(); is && (!was || after.Before(before)) {
		f.cfg.Due()
	}
}

// lookLocked does what Look does. A run in progress may itself be what touched the
// files, so that is judged when it ends; and so is the making of a file for an Acquire,
// before which nobody else may open it, and an Acquire that will find out that the file is
// another database's.
func (f *Fleet) lookLocked(e *Entry, st fsid.Files, now time.Time) {
	if e.item.Running() || f.makingLocked(e) || e.reg.Held > 0 && (st.Main.Ino != e.reg.File.Ino || f.reg.ByFile(e.reg.File) != e) {
		e.touched = true
		return
	}
	// Nobody runs, so nobody but the lock owns e.state.
	known := e.peekLocked()
	if known.NothingNew(st, now) {
		return
	}
	mod := st.ModTime()
	cold := e.item.Tier() == schedule.Cold
	if !known.IsOwnCheckpoint(mod) {
		f.schedule.Seen(e.item, mod, now)
	}
	// A change of a cold one is shipped now, whether it promotes or not, and not when a
	// scan's would be; but that of one that fails does not shorten its back-off. The
	// first thing that a writer touches is no commit yet.
	switch {
	case f.schedule.PaceOf(e.item).Heat == schedule.Never: // it waits for the cold sync
		return
	case !f.cfg.Replicated || e.item.Failures() > 0 || !cold && e.early == 0:
		return
	case cold:
		e.early = earlyLooks
	default:
		e.early--
	}
	f.schedule.Request(e.item, now)
}

// earlyLooks is how often a change that is seen of a database that has just become hot
// makes it due at once, until something of it is shipped: a writer makes a log, its
// header and frames before its commit, which would else wait for the interval.
const earlyLooks = 4

// Needless reports whether a write to a database is found out in time by itself: a hot
// one is looked at every SyncInterval, and many times before it goes cold.
func (f *Fleet) Needless(id, path string) bool {
	if !f.cfg.Replicated {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.reg.Get(id)
	if e == nil {
		return false
	}
	pace := f.schedule.PaceOf(e.item)
	return pace.SyncInterval <= pace.HotDuration/4 && e.Path() == path && e.item.Tier() == schedule.Hot && !e.item.Running() &&
		e.item.Failures() == 0 && e.early == 0 && e.reg.Held == 0
}

// MayOwe reports whether a database whose files are as stat saw them (err: it could not
// see them) may have commits that are not at the replica.
func (f *Fleet) MayOwe(e *Entry, st fsid.Files, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch _, stray := f.strays[e]; {
	case e.reg.Removed || e.evicted || e.cache: // what only a cache has is nobody's
		return false
	case e.item.Running() || stray || f.queued[e] != nil:
		return true // and owns what is known of it
	}
	known := e.peekLocked()
	if err == nil && known.Unchanged(st) {
		return false // untouched since everything was shipped
	}
	_, due := e.item.NextDue()
	return due || e.item.Tier() != schedule.Cold || e.health.dirtySince != 0 || e.reg.Refused != nil ||
		err == nil && known.MayLack(st)
}

// Replicating returns those with the IDs that are known, and neither refused nor failing nor caches.
func (f *Fleet) Replicating(ids []string) (out []*Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if e := f.reg.Get(id); e != nil && e.reg.Refused == nil && e.health.err == nil && !e.cache {
			out = append(out, e)
		}
	}
	return out
}

// Heir is the other database whose file a missing one's is now, if there is one.
func (f *Fleet) Heir(e *Entry) (heir *Entry, file fsid.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if heir = f.reg.ByFile(e.reg.File); heir == e {
		heir = nil
	}
	return heir, e.reg.File
}

// IsUpToDate reports whether the replica has nothing newer than the local file as far as
// this process knows, or it is settled that it is not to be asked.
func (f *Fleet) IsUpToDate(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.reg.Refused != nil && !errors.Is(e.reg.Refused, ship.ErrBehind) ||
		!e.item.Running() && e.peekLocked().Verified()
}

// IsNewest reports whether this process knows that the local file is the newest state, of a
// database that it may write.
func (f *Fleet) IsNewest(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.reg.Refused == nil && f.fence == nil && !e.item.Running() && e.peekLocked().Verified()
}

// Running reports whether a run of the database is in progress.
func (f *Fleet) Running(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.item.Running()
}
