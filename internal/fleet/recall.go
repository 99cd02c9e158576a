package fleet

import (
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/superfly/ltx"
)

// Recalled is a database as the catalog has it.
type Recalled struct {
	registry.Database
	File      fsid.ID
	Prefix    Prefix
	Policy    Asked
	Device    uint64    // of its volume; 0: not to be taken
	RetainAt  time.Time // when the replica has something to delete; zero: never
	LastWrite time.Time // the Unix epoch: unknown
	// Looked: at LastWrite everything was at the replica.
	Looked bool
	// Unpacked is the last transaction that the prefix is known to have.
	Unpacked ltx.TXID
	// Sized: Size is what the prefix was known to hold.
	Sized bool
	Size  replicate.Size
	// Known is what the catalog has of its State; nil: nothing that counts.
	Known *replicate.Record
	// Evicted: it has no local file on purpose.
	Evicted bool
	// Cache: others may have served it since what is in its file, see replicate.State.MarkCache.
	Cache bool
	// Sealed, of a Cache: its file is as it was when all of it was at the replica.
	Sealed bool
}

// Recall makes a database known that the catalog has.
func (f *Fleet) Recall(r Recalled) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reg.Get(r.ID) != nil {
		return
	}
	if r.Evicted {
		r.File = fsid.ID{}
	}
	e := f.addLocked(r.Database, r.File, r.Prefix, registry.FromCatalog)
	f.reg.Saw(e) // else a listing in progress, which left it out, forgets it
	if r.Evicted {
		e.evicted = true
		f.evicted++
	}
	f.setPolicyLocked(e, r.Policy, f.cfg.Now())
	e.retainAt = unixMilli(r.RetainAt)
	if r.Sized {
		f.setReplicaSizeLocked(e, r.Size)
	}
	f.neverShippedLocked(e, r.LastWrite)
	if r.Device != 0 {
		f.reg.RecallVolume(e, r.Device)
	}
	if r.Evicted {
		e.health.dirtySince = 0 // all of it was at the replica
	}
	if r.Known != nil {
		f.recallStateLocked(e, r)
	}
	if r.Cache {
		e.markCache(r.Sealed)
	}
}

// recallStateLocked takes over what the catalog has of the State of a database.
func (f *Fleet) recallStateLocked(e *Entry, r Recalled) {
	pos := &r.Known.Position
	e.health.txid = pos.TXID
	f.recallPackedLocked(e, r.Unpacked)
	if r.Looked {
		e.health.dirtySince = 0
	}
	// One that was not sealed was hot, and its WAL may still be there: the scan takes it
	// for news.
	if !r.Evicted && !r.Known.ModTime.IsZero() && (pos.Offset == 0 || !pos.Fingerprint.IsZero()) {
		f.schedule.MarkShipped(e.item, r.Known.ModTime)
	}
	st := replicate.FromRecord(*r.Known)
	e.packed = st.Pack()
}

// Record calls put with what the catalog is to know of a database, unless it went; put
// must not block. Nothing removes the database meanwhile, so the catalog keeps no row of
// one that is forgotten.
func (f *Fleet) Record(e *Entry, put func(file fsid.ID, device uint32)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.reg.Removed {
		put(e.reg.File, f.reg.Device(e))
	}
}

// StateAtEnd is the State of a database when nothing runs any more; nil: it is at rest.
// The caller owns it.
func (f *Fleet) StateAtEnd(e *Entry) *replicate.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.state
}

// IsClean reports whether a look at unchanged files would be enough for a run of a
// database, none of which is in progress.
func (f *Fleet) IsClean(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.peekLocked().Clean()
}

// Request makes a database due.
func (f *Fleet) Request(e *Entry) {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.schedule.Request(e.item, now)
}
