package notify

import (
	"errors"
	"slices"
	"testing"
)

type event struct {
	of string
	n  int
}

func numbers(events []event) (ns []int) {
	for _, ev := range events {
		ns = append(ns, ev.n)
	}
	return ns
}

func TestWhoDeliversAnEventAlsoDeliversTheLaterOnesOfItsKey(t *testing.T) {
	o := NewOrder(func(ev event) string { return ev.of })
	want := func(what string, got []event, ns ...int) {
		t.Helper()
		if !slices.Equal(numbers(got), ns) {
			t.Errorf("%s: %v, want %v", what, got, ns)
		}
	}
	first := o.Take([]event{{"a", 1}, {"a", 2}, {"b", 3}})
	want("nothing is being delivered", first, 1, 2, 3)
	second := o.Take([]event{{"a", 4}, {"c", 5}, {"a", 6}, {"b", 7}, {"c", 8}})
	want("a and b are being delivered", second, 5, 8)
	if o.Busy() != 3 {
		t.Errorf("%d keys are busy, want 3", o.Busy())
	}
	more := o.Done(first)
	want("what came up meanwhile", more, 4, 6, 7)
	want("a is still being delivered", o.Take([]event{{"a", 9}}))
	want("c is done", o.Done(second))
	more = o.Done(more)
	want("once more", more, 9)
	want("the end", o.Done(more))
	if o.Busy() != 0 {
		t.Errorf("%d keys are busy after the end", o.Busy())
	}
}

func TestEachErrorIsTakenOnce(t *testing.T) {
	var e Errors
	if got := e.Take(); got != nil {
		t.Errorf("took %v of none", got)
	}
	a, b := errors.New("a"), errors.New("b")
	e.Add(a)
	e.Add(b)
	if got := e.Take(); !slices.Equal(got, []error{a, b}) {
		t.Errorf("took %v", got)
	}
	if got := e.Take(); got != nil {
		t.Errorf("took %v again", got)
	}
	e.Add(b)
	if got := e.Take(); !slices.Equal(got, []error{b}) {
		t.Errorf("took %v later", got)
	}
}
