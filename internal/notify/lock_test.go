package notify

import (
	"errors"
	"slices"
	"sync"
	"testing"
)

func newLock(deliver func(event)) *Lock[string, event] {
	return NewLock(func(ev event) string { return ev.of }, deliver, func(error) event { return event{of: "trouble"} })
}

// emit notes one event under the lock.
func emit(l *Lock[string, event], ev event) {
	l.Lock()
	l.Note(ev)
	l.Unlock()
}

// TestTheEventsOfAKeyAreDeliveredInTheirOrder holds a receiver while more comes up.
func TestTheEventsOfAKeyAreDeliveredInTheirOrder(t *testing.T) {
	var mu sync.Mutex
	var got []event
	hold, held := make(chan struct{}), make(chan struct{})
	var l *Lock[string, event]
	l = newLock(func(ev event) {
		if ev == (event{"a", 1}) {
			close(held)
			<-hold
			emit(l, event{"a", 100}) // as a receiver does that takes the lock
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, ev)
	})
	of := func(key string) (ns []int) {
		mu.Lock()
		defer mu.Unlock()
		for _, ev := range got {
			if ev.of == key {
				ns = append(ns, ev.n)
			}
		}
		return ns
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		emit(l, event{"a", 1})
	}()
	<-held
	for n := 2; n < 50; n++ { // nobody who notes something is kept waiting
		emit(l, event{"a", n})
		emit(l, event{"b", n})
	}
	if got := of("b"); len(got) != 48 || !slices.IsSorted(got) {
		t.Errorf("of the other key: %v", got)
	}
	if got := of("a"); len(got) != 0 {
		t.Errorf("overtaken by %v", got)
	}
	close(hold)
	<-done
	if got := of("a"); len(got) != 50 || got[len(got)-1] != 100 || !slices.IsSorted(got) {
		t.Errorf("delivered in the order %v", got)
	}
	if l.order.Busy() != 0 {
		t.Errorf("still delivering of %d", l.order.Busy())
	}
}

func TestAReceiverThatPanicsKeepsNobodyFromHearing(t *testing.T) {
	n := 0
	l := newLock(func(event) {
		if n++; n == 1 {
			panic("odd")
		}
	})
	panics(func() { emit(l, event{of: "a"}) })
	emit(l, event{of: "a"})
	if n != 2 || l.order.Busy() != 0 {
		t.Errorf("delivered %d times, delivering of %d", n, l.order.Busy())
	}
}

func TestAReceiverThatPanicsLosesNoLaterEvents(t *testing.T) {
	var l *Lock[string, event]
	var got []int
	l = newLock(func(ev event) {
		got = append(got, ev.n)
		if ev.n == 1 {
			emit(l, event{"x", 2}) // comes up meanwhile
			panic("odd")
		}
	})
	panics(func() { emit(l, event{"x", 1}) })
	emit(l, event{"x", 3})
	if !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("delivered %v, want [1 2 3]; busy: %d", got, l.order.Busy())
	}
}

// TestAnErrorIsDeliveredWhateverLockIsHeld by who meets it.
func TestAnErrorIsDeliveredWhateverLockIsHeld(t *testing.T) {
	var got []event
	l := newLock(func(ev event) { got = append(got, ev) })
	l.Lock()
	l.Add(errors.New("disk full"))
	if len(got) != 0 {
		t.Error("delivered under the lock")
	}
	l.Unlock()
	if !slices.Equal(got, []event{{of: "trouble"}}) {
		t.Errorf("delivered %v", got)
	}
}

func panics(fn func()) {
	defer func() { _ = recover() }()
	fn()
}
