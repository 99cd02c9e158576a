package fleet

import (
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/superfly/ltx"
)

// Entry is one known database. There may be 100,000 of them, nearly all of them cold:
// what only few need is in a map of the Fleet. Outside of the Fleet it is only a name:
// its Identity does not change, and the rest is the Fleet's.
type Entry struct {
	reg  registry.Entry
	item *schedule.Item[*Entry]

	touched    bool // something was seen to change while it could not be looked at
	shipped    bool // something of it was shipped by this process
	deferred   bool // a change is left local on purpose, since health.dirtySince
	evicted    bool // it has no local file on purpose
	poolClosed bool // the pool has closed it, and may have left a log
	cache      bool // of the local file nothing counts but what the replica has, too; as its State says
	askPolicy  bool // it became active: the application is to be asked how to treat it

	early    uint8   // how many more changes make it due at once though it is hot
	waiters  *waiter // callers of Sync, the last one first
	retainAt int64   // Unix ms when the replica has something to delete; 0: never
	health   health
	size     size

	// Owned by the run in progress (one at a time), and by whoever holds the lock while
	// there is none. Of a cold entry state is nil, and packed is what it was.
	state  *replicate.State
	packed string
}

// ID is the database's.
func (e *Entry) ID() string { return e.reg.ID }

// Path is where its file is.
func (e *Entry) Path() string { return e.reg.Path }

// Identity is what it is called and where it is.
func (e *Entry) Identity() registry.Identity { return e.reg.Identity }

// Database is the database as it was listed, without its ModTime.
func (e *Entry) Database() registry.Database { return e.reg.Identity.Database() }

// health is how a database is replicated.
type health struct {
	txid       ltx.TXID // the last one that the replica acknowledged
	syncedAt   moment   // when the replica last had everything
	dirtySince moment   // since when there is something it has not; zero: nothing
	err        error
	errSince   moment
	walSize    int64
}

// moment is a time in the life of a Fleet, in 8 bytes: nanoseconds since its epoch by
// the monotonic clock, so that a clock that is set changes no lag. Zero is none.
type moment int64

func (f *Fleet) moment(t time.Time) moment { return moment(max(t.Sub(f.epoch), 0)) + 1 }

// fileMoment is moment for the time stamp of a file, which may be before the epoch.
func (f *Fleet) fileMoment(t time.Time) moment {
	if at := moment(t.Sub(f.epoch)) + 1; at != 0 {
		return at
	}
	return 1
}

// when is the moment as a time; zero for none.
func (f *Fleet) when(at moment) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return f.epoch.Add(time.Duration(at - 1))
}

// unpack gives an entry its State. Only for its owner.
func (e *Entry) unpack() *replicate.State {
	if e.state == nil {
		e.state = new(replicate.State)
		if err := e.state.Unpack(e.packed); err != nil {
			e.state.MarkLost()
		}
		e.packed = ""
	}
	return e.state
}

// packLocked makes a cold entry small again, if nobody owns its State.
func (e *Entry) packLocked() {
	if e.state != nil && e.state.AtRest() && !e.item.Running() && e.item.Tier() == schedule.Cold {
		e.packed, e.state = e.state.Pack(), nil
	}
}

// peekLocked is the State of an entry that is not running, only to be read.
func (e *Entry) peekLocked() *replicate.State {
	if e.state != nil {
		return e.state
	}
	st := new(replicate.State)
	if st.Unpack(e.packed) != nil {
		return new(replicate.State)
	}
	return st
}

// addLocked makes a database known.
func (f *Fleet) addLocked(db registry.Database, file fsid.ID, prefix Prefix, source int) *Entry {
	e := &Entry{}
	e.reg.Identity = registry.Identify(f.reg.Schemes(), db.ID, db.Path, db.RelPath, db.Vars, prefix.Path)
	e.item = f.schedule.Add(e)
	f.sizes.Unknown++
	f.reg.Add(e, file, prefix.Err, source)
	f.shards.addLocked(e, prefix)
	if f.cfg.Added != nil {
		f.cfg.Added(db.ID)
	}
	if err := e.reg.Refused; err != nil {
		f.setErrLocked(e, err)
		f.mu.Note(Event{Type: EventFailed, ID: db.ID, Path: db.Path, Op: "replicate", Err: err})
	}
	return e
}

// removeLocked forgets a database. Its replica stays, and so do its leases.
func (f *Fleet) removeLocked(e *Entry) { f.dropLocked(e, false) }

// dropLocked is removeLocked, or, for one that is detached, Detach.
func (f *Fleet) dropLocked(e *Entry, detached bool) {
	if e.reg.Removed {
		return
	}
	now := f.cfg.Now()
	f.schedule.Remove(e.item)
	f.dropPolicyLocked(e, now)
	if heir := f.reg.Remove(e); heir != nil {
		f.schedule.Reset(heir.item, now)
		f.schedule.Request(heir.item, now)
	}
	f.shards.removedLocked(f.reg.Len())
	f.setDeferredLocked(e, false, 0)
	f.setErrLocked(e, nil)
	if detached && e.evicted { // the catalog goes on saying so
		e.evicted = false
		f.evicted--
	}
	f.residentLocked(e)
	f.dropSizesLocked(e)
	delete(f.backlog, e)
	delete(f.strays, e)
	delete(f.packed, e)
	delete(f.refusing, e)
	f.failWaitersLocked(e, whyNot(detached))
	f.dropQueuedLocked(e, whyNot(detached))
	if !e.item.Running() { // else its run does it
		f.endOrderLocked(e, f.orders[e], whyNot(detached))
	}
	f.wals.Remove(e)
	// Should its file come back, what the replica and the file hold decides whose history
	// counts: nothing says that it is the file that was.
	if detached {
		f.cfg.Detached(e.ID())
	} else {
		f.cfg.Forget(e.ID())
		f.rememberLocked(e)
		if f.cfg.Gone != nil {
			f.cfg.Gone(e.Database())
		}
	}
	if !e.item.Running() && e.state != nil { // else its run does it
		e.state.Forget()
	}
	if !detached { // a node has hundreds of them come and go at once
		f.mu.Note(Event{Type: EventRemoved, ID: e.ID(), Path: e.Path()})
	}
}

// rememberLocked keeps for a while what spares a restore on open the listing, if nobody
// owns it.
func (f *Fleet) rememberLocked(e *Entry) {
	if !f.cfg.RestoreOnOpen || e.item.Running() {
		return
	}
	if remains, ok := e.peekLocked().Remains(); ok {
		f.absent.Put(e.ID(), remains, f.cfg.Boot())
	}
}

// Remains is what is kept of a database that went, if it is of use now.
func (f *Fleet) Remains(e *Entry) (replicate.Remains, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.absent.Get(e.ID(), f.cfg.Boot())
}

// ExpireRemains drops what is kept of databases that went and is of no use any more.
func (f *Fleet) ExpireRemains() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.absent.Expire(f.cfg.Boot())
}

// Restored notes that the missing file of a database was made from the replica, and
// what it holds; a zero Position: that is not known.
func (f *Fleet) Restored(e *Entry, now replicate.Remains) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.absent.Remove(e.ID())
	f.backedUpLocked(e)
	f.residentLocked(e)
	f.setLocalLocked(e, int64(now.Position.Commit)*int64(now.Position.PageSize), 0)
	if !e.item.Running() && !now.Position.Fingerprint.IsZero() { // nobody owns its State
		st := replicate.Restored(now)
		e.state, e.packed, e.cache = &st, "", false
		f.unknownLocked(e)
		e.health.txid = now.Position.TXID
		if s, ok := replicate.EncodedSize(now.Inventory); ok {
			f.setReplicaSizeLocked(e, s)
		}
	}
}

// ReplicaHasNone notes when, by Config.Boot, the replica said that it has nothing of a database
// that is about to be made; zero: it said nothing.
func (f *Fleet) ReplicaHasNone(e *Entry, at time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.item.Running() && !e.reg.Removed { // nobody owns its State
		e.unpack().NoteAnswer(at)
	}
}
