package replicate

import (
	"bytes"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxAbsent bounds how many databases Absent keeps. If there is one more, the database that
// was put first needs a listing, if it is restored within minutes.
const maxAbsent = 1024

// Absent keeps what was known of the databases whose file has disappeared lately. It only
// saves a listing when the file is restored: whose history counts is decided by what the
// replica and the file hold, never by this. What is older than the window in which it can
// be trusted is dropped. Times are by Config.Boot. Not safe for concurrent use.
type Absent struct {
	window time.Duration
	lru    *simplelru.LRU[string, Remains]
}

// NewAbsent returns an empty Absent. The window must be so short that if another writer has
// written the next transaction meanwhile, its file is still at the replica.
func NewAbsent(window time.Duration) *Absent {
	lru, err := simplelru.NewLRU[string, Remains](maxAbsent, nil)
	if err != nil {
		panic(err) // unreachable: the size is positive
	}
	return &Absent{window, lru}
}

// Put keeps what remains of a database, unless it is too old to be of use already.
func (a *Absent) Put(id string, r Remains, now time.Duration) {
	a.Remove(id)
	if a.usable(r, now) {
		r.Inventory = bytes.Clone(r.Inventory) // otherwise it may keep a longer slice alive
		a.lru.Add(id, r)
	}
}

// Get returns what remains of a database, if it is of use now.
func (a *Absent) Get(id string, now time.Duration) (Remains, bool) {
	r, ok := a.lru.Peek(id)
	return r, ok && a.usable(r, now)
}

// Remove forgets a database.
func (a *Absent) Remove(id string) { a.lru.Remove(id) }

// Expire drops what is too old. It begins with the database that was put first, and stops
// at the first that is still of use. One after that may be older; Get does not return it.
func (a *Absent) Expire(now time.Duration) {
	for {
		_, r, ok := a.lru.GetOldest()
		if !ok || a.usable(r, now) {
			return
		}
		a.lru.RemoveOldest()
	}
}

// Len returns how many databases it keeps.
func (a *Absent) Len() int { return a.lru.Len() }

func (a *Absent) usable(r Remains, now time.Duration) bool {
	return r.EndSeen != 0 && now-r.EndSeen <= a.window
}
