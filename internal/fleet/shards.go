package fleet

import (
	"errors"
	"slices"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/schedule"
)

// ErrElsewhere is returned for a database whose shard this process does not serve: it is
// neither made known nor opened here.
var ErrElsewhere = errors.New("this node does not serve it")

// Shards is how many shards the databases are divided into, where several nodes serve them.
const Shards = 1024

// shards are those that this process serves. Nil: all, as it is alone.
type shards struct {
	served [Shards]bool
	// known are the databases of each, so that a move looks at its own and not at all there are. Those that
	// were removed are dropped now and then: gone counts them.
	known [Shards][]*Entry
	gone  int
	// foreign: others may have served them since what is on this disk, of which the catalog may
	// know nothing.
	foreign [Shards]bool
}

// addLocked makes a database one of its shard.
func (s *shards) addLocked(e *Entry, at Prefix) {
	if s != nil && at.Err == nil {
		s.known[at.Shard] = append(s.known[at.Shard], e)
	}
}

// fewGone is how many that were removed are kept at least.
const fewGone = 1000

// removedLocked notes that a database was removed. left is how many there are.
func (s *shards) removedLocked(left int) {
	if s == nil {
		return
	}
	if s.gone++; s.gone < max(left, fewGone) {
		return
	}
	for i := range s.known {
		s.ofLocked(i)
		s.known[i] = slices.Clip(s.known[i])
	}
	s.gone = 0
}

// ofLocked are the databases of a shard.
func (s *shards) ofLocked(shard int) []*Entry {
	s.known[shard] = slices.DeleteFunc(s.known[shard], func(e *Entry) bool { return e.reg.Removed })
	return s.known[shard]
}

// OfShard returns the databases of a shard, as they are now. Only where several nodes serve them.
func (f *Fleet) OfShard(shard int) []*Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.shards.ofLocked(shard))
}

// Busy reports whether a database of a shard is leased, or was written to lately. Only where several
// nodes serve them.
func (f *Fleet) Busy(shard int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.shards.ofLocked(shard), func(e *Entry) bool {
		return e.item.Pinned() || e.item.Tier() == schedule.Hot
	})
}

// Sealed is what the file of a database looked like when it alone was all that the replica has, if
// nothing that is known here has happened to it since. If it still looks like that, and has no log,
// nothing was committed since (rule R3), and there is nothing to ship.
func (f *Fleet) Sealed(e *Entry) (file fsid.Fingerprint, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.reg.Removed || e.reg.Refused != nil || e.reg.Unread || f.fence != nil || e.item.Running() || e.deferred || e.health.dirtySince != 0 ||
		e.waiters != nil || f.orders[e] != nil {
		return file, false
	}
	st := e.peekLocked()
	file = st.Position().Fingerprint
	return file, st.Captured() == 0 && !file.IsZero()
}

// refusesLocked reports whether a database with a prefix is not to be known here.
func (f *Fleet) refusesLocked(at Prefix) bool {
	return f.shards != nil && at.Err == nil && !f.shards.served[at.Shard]
}

// Serve says whether databases of these shards may be made known and opened from now on. Those
// that are known stay, until Detach.
func (f *Fleet) Serve(shards []int, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range shards {
		f.shards.served[s] = yes
	}
}

// Foreign says whether others may have served databases of these shards since what this
// process finds on its disk was written, or copied there. A file that is found of them is a cache,
// which a look at the replica decides about; see replicate.State.MarkCache.
func (f *Fleet) Foreign(shards []int, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range shards {
		f.shards.foreign[s] = yes
	}
}

// Doubt marks a database of which nothing is known as a cache, if others may have served it: its
// file was there before it was known.
func (f *Fleet) Doubt(e *Entry, at Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doubtLocked(e, at)
}

func (f *Fleet) doubtLocked(e *Entry, at Prefix) {
	if f.shards == nil || at.Err != nil || !f.shards.foreign[at.Shard] || e.item.Running() {
		return
	}
	if known := e.peekLocked(); !known.Verified() && known.Position().TXID == 0 && known.Captured() == 0 {
		e.markCache(false)
	}
}

// markCache marks the State of an entry that is not running.
func (e *Entry) markCache(sealed bool) {
	st := e.unpack()
	st.MarkCache(sealed)
	e.packed, e.state, e.cache = st.Pack(), nil, true
}

// Anew forgets what is known of the file of a database, which was set aside.
func (f *Fleet) Anew(e *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.item.Running() {
		e.state, e.packed, e.cache = nil, "", false
		f.unknownLocked(e)
	}
}

// IsCache reports whether the local file of a database is a cache that no look at the replica
// has decided about.
func (f *Fleet) IsCache(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.cache
}

// Serves reports whether databases of a shard may be known.
func (f *Fleet) Serves(shard int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shards == nil || f.shards.served[shard]
}

// Detach forgets a database that another process goes on with, or may: unlike one that was
// removed, the catalog keeps what is known of it, by which its file is judged when it comes
// back. ended is closed when no run of it is in progress any more. It stays at
// the prefix and on this disk, and so do its leases.
func (f *Fleet) Detach(e *Entry) (ended <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(e, true)
	return f.endedLocked(e)
}

// Ended is closed when no run of a database is in progress.
func (f *Fleet) Ended(e *Entry) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.endedLocked(e)
}

// endedLocked is closed when no run of a database is in progress.
func (f *Fleet) endedLocked(e *Entry) <-chan struct{} {
	done := make(chan struct{})
	if r := f.runs[e]; r != nil && e.item.Running() {
		r.ended = append(r.ended, done)
	} else {
		close(done)
	}
	return done
}

// whyNotLocked is the error of a database that is dropped, for whoever waits for it.
func whyNot(detached bool) error {
	if detached {
		return ErrElsewhere
	}
	return registry.ErrNotFound
}
