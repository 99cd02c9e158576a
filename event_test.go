package multidb

import (
	"testing"

	"github.com/multidb-go/multidb/internal/fleet"
)

// TestEventsAreCalledTheSameInsideAndOutside: deliver converts one type to the other.
func TestEventsAreCalledTheSameInsideAndOutside(t *testing.T) {
	pairs := map[fleet.EventType]EventType{
		fleet.EventAdded: EventAdded, fleet.EventRemoved: EventRemoved, fleet.EventIgnored: EventIgnored, fleet.EventTier: EventTier,
		fleet.EventFailed: EventFailed, fleet.EventRecovered: EventRecovered, fleet.EventFenced: EventFenced, fleet.EventResync: EventResync,
		fleet.EventSnapshot: EventSnapshot, fleet.EventWALLimit: EventWALLimit, fleet.EventReplaced: EventReplaced, fleet.EventAdopted: EventAdopted,
		fleet.EventScanFailed: EventScanFailed, fleet.EventState: EventState, fleet.EventWatch: EventWatch, fleet.EventIntegrity: EventIntegrity,
		fleet.EventEmpty: EventEmpty, fleet.EventLogSetAside: EventLogSetAside,
		fleet.EventFleetLogBegun: EventFleetLogBegun, fleet.EventFleetLogTakenOver: EventFleetLogTakenOver,
		fleet.EventFleetLogFinished: EventFleetLogFinished, fleet.EventFleetLogFenced: EventFleetLogFenced,
		fleet.EventEvicted: EventEvicted, fleet.EventWithdrawn: EventWithdrawn, fleet.EventUndeleted: EventUndeleted,
		fleet.EventErased: EventErased, fleet.EventRenamed: EventRenamed, fleet.EventForked: EventForked,
		fleet.EventPolicy: EventPolicy, fleet.EventDrill: EventDrill, fleet.EventDrillFailed: EventDrillFailed,
		fleet.EventGained: EventGained, fleet.EventMoved: EventMoved, fleet.EventMoveStuck: EventMoveStuck, fleet.EventSetAside: EventSetAside,
	}
	for in, out := range pairs {
		if EventType(in) != out {
			t.Errorf("%v is delivered as %v", out, EventType(in))
		}
	}
	if len(pairs) != len(eventNames)-1 {
		t.Errorf("%d events are compared of %d", len(pairs), len(eventNames)-1)
	}
}
