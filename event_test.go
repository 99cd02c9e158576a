package multidb

import (
	"errors"
	"slices"
	"sync"
	"testing"
)

// TestTheEventsOfADatabaseAreToldInTheirOrder holds an observer while more comes up.
func TestTheEventsOfADatabaseAreToldInTheirOrder(t *testing.T) {
	var mu sync.Mutex
	var told []Event
	hold, held := make(chan struct{}), make(chan struct{})
	var m *Manager
	m, err := New(WithDiscoverer(Glob(t.TempDir()+"/{{tenant}}.db")), WithObserver(func(ev Event) {
		if ev.ID == "a" && ev.TXID == 1 {
			close(held)
			<-hold
			m.emit(Event{ID: "a", TXID: 100}) // as an observer does that calls the Manager
		}
		mu.Lock()
		defer mu.Unlock()
		told = append(told, ev)
	}))
	if err != nil {
		t.Fatal(err)
	}
	of := func(id ID) (ids []TXID) {
		mu.Lock()
		defer mu.Unlock()
		for _, ev := range told {
			if ev.ID == id {
				ids = append(ids, ev.TXID)
			}
		}
		return ids
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.emit(Event{ID: "a", TXID: 1})
	}()
	<-held
	for txid := TXID(2); txid < 50; txid++ { // nobody who tells of something is kept waiting
		m.emit(Event{ID: "a", TXID: txid})
		m.emit(Event{ID: "b", TXID: txid})
	}
	if got := of("b"); len(got) != 48 || !slices.IsSorted(got) {
		t.Errorf("of the other database: %v", got)
	}
	if got := of("a"); len(got) != 0 {
		t.Errorf("overtaken by %v", got)
	}
	close(hold)
	<-done
	got := of("a")
	if len(got) != 50 || got[len(got)-1] != 100 || !slices.IsSorted(got) {
		t.Errorf("told in the order %v", got)
	}
	if m.telling.Busy() != 0 {
		t.Errorf("still telling of %d", m.telling.Busy())
	}
}

func TestAnObserverThatPanicsKeepsNobodyFromHearing(t *testing.T) {
	told := 0
	m, err := New(WithDiscoverer(Glob(t.TempDir()+"/{{tenant}}.db")), WithObserver(func(Event) {
		if told++; told == 1 {
			panic("odd")
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		m.emit(Event{ID: "a"})
	}()
	m.emit(Event{ID: "a"})
	if told != 2 || m.telling.Busy() != 0 {
		t.Errorf("told %d times, telling of %d", told, m.telling.Busy())
	}
}

func TestAnObserverThatPanicsLosesNoLaterEvents(t *testing.T) {
	var m *Manager
	var told []TXID
	m, err := New(WithDiscoverer(Glob(t.TempDir()+"/{{tenant}}.db")), WithObserver(func(ev Event) {
		told = append(told, ev.TXID)
		if ev.TXID == 1 {
			m.emit(Event{Type: EventSnapshot, ID: "x", TXID: 2}) // comes up meanwhile
			panic("odd")
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		m.emit(Event{Type: EventSnapshot, ID: "x", TXID: 1})
	}()
	m.emit(Event{Type: EventSnapshot, ID: "x", TXID: 3})
	if !slices.Equal(told, []TXID{1, 2, 3}) {
		t.Errorf("told %v, want [1 2 3]; busy: %d", told, m.telling.Busy())
	}
}

// TestTroubleOfTheStateDirectoryIsToldWhateverLockIsHeld by who meets it.
func TestTroubleOfTheStateDirectoryIsToldWhateverLockIsHeld(t *testing.T) {
	var got error
	m, err := New(WithDiscoverer(Glob(t.TempDir()+"/{{tenant}}.db")), WithObserver(func(ev Event) { got = ev.Err }))
	if err != nil {
		t.Fatal(err)
	}
	want := errors.New("disk full")
	m.mu.Lock()
	m.trouble.Add(want)
	m.unlock()
	if got != want {
		t.Errorf("told %v", got)
	}
}
