package multidbhttp

import (
	"sync"

	"github.com/multidb-go/multidb"
)

// eventsKept is how many events are kept: about 200 KB.
const eventsKept = 1000

// Events keeps the last 1,000 events of a Manager that tell of a failure or of an operator's
// doing, for the page. Changes of tier, snapshots, drills and moves between nodes that went well
// are left out, of which there are too many. Give its Observe to multidb.WithObserver, and itself to
// Options.Events. The zero value is ready for use. Safe for concurrent use.
type Events struct {
	mu   sync.Mutex
	ring []multidb.Event // the oldest is at next, once it is full
	next int
}

// Observe keeps an event. It does not block.
func (e *Events) Observe(ev multidb.Event) {
	switch ev.Type {
	case multidb.EventTier, multidb.EventSnapshot, multidb.EventDrill, multidb.EventAdded, multidb.EventEvicted,
		multidb.EventGained, multidb.EventMoved: // a node that joins makes a hundred of these
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ring) < eventsKept {
		e.ring = append(e.ring, ev)
		return
	}
	e.ring[e.next] = ev
	e.next = (e.next + 1) % eventsKept
}

// last returns at most n of those that want accepts, the newest first. A nil Events has none.
func (e *Events) last(n int, want func(multidb.Event) bool) []multidb.Event {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []multidb.Event
	for i := len(e.ring) - 1; i >= 0 && len(found) < n; i-- {
		if ev := e.ring[(e.next+i)%len(e.ring)]; want(ev) {
			found = append(found, ev)
		}
	}
	return found
}
