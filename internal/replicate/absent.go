package replicate

import (
	"bytes"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxAbsent bounds how many are kept. One more costs the database that went first one
// listing, if it is restored within minutes after it went.
const maxAbsent = 1024

// Absent is what remains of the databases whose file went lately. It only spares a
// listing: whose history counts is decided by what the replica and the file hold, never
// by this. What is older than the window within which it can be trusted is of no use,
// and is dropped. Times are by Config.Boot. Not safe for concurrent use.
type Absent struct {
	window time.Duration
	lru    *simplelru.LRU[string, Remains]
}

// NewAbsent returns an empty Absent. Within the window a file of the next transaction,
// had anybody written one, would still be at the replica.
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
		r.Inventory = bytes.Clone(r.Inventory) // which may be the end of something longer
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

// Expire drops what is too old. The oldest goes first, as all of them were put within
// the window after their time.
func (a *Absent) Expire(now time.Duration) {
	for {
		_, r, ok := a.lru.GetOldest()
		if !ok || a.usable(r, now) {
			return
		}
		a.lru.RemoveOldest()
	}
}

// Len is how many are kept.
func (a *Absent) Len() int { return a.lru.Len() }

func (a *Absent) usable(r Remains, now time.Duration) bool {
	return r.EndSeen != 0 && now-r.EndSeen <= a.window
}
