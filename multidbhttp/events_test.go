package multidbhttp

import (
	"errors"
	"fmt"
	"testing"

	"github.com/multidb-go/multidb"
)

func TestTheLastThousandEventsAreKeptAndNoCommonOnes(t *testing.T) {
	var e Events
	for i := range eventsKept + 10 {
		e.Observe(multidb.Event{Type: multidb.EventTier, ID: "a"})
		e.Observe(multidb.Event{Type: multidb.EventGained, Shards: 16})
		e.Observe(multidb.Event{Type: multidb.EventMoved, Shards: 16})
		e.Observe(multidb.Event{Type: multidb.EventFailed, ID: multidb.ID(fmt.Sprint(i)), Err: errors.New("x")})
	}
	all := e.last(2*eventsKept, func(multidb.Event) bool { return true })
	if len(all) != eventsKept {
		t.Fatalf("%d are kept", len(all))
	}
	for i, ev := range all {
		if want := multidb.ID(fmt.Sprint(eventsKept + 9 - i)); ev.ID != want || ev.Type != multidb.EventFailed {
			t.Fatalf("event %d is %v of %q, want of %q", i, ev.Type, ev.ID, want)
		}
	}
	if two := e.last(2, func(ev multidb.Event) bool { return ev.ID < "2" }); len(two) != 2 || two[0].ID != "1009" {
		t.Errorf("got %v", two)
	}
	if none := (*Events)(nil).last(1, nil); none != nil {
		t.Errorf("none has %v", none)
	}
}
