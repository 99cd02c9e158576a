package disk

import (
	"fmt"
	"testing"
)

func all(string) bool { return true }

func TestTheLeastRecentlyUsedFileGoesFirst(t *testing.T) {
	d := New[string](100)
	for _, of := range []string{"a", "b", "c"} {
		d.Set(of, 30, 0)
	}
	d.Touch("a")
	if got := fmt.Sprint(d.First(2, 10, all)); got != "[b c]" {
		t.Errorf("%s go first", got)
	}
	if got := fmt.Sprint(d.First(2, 10, func(of string) bool { return of != "b" })); got != "[c a]" {
		t.Errorf("without b, %s go first", got)
	}
	if got := d.First(9, 1, all); len(got) != 1 {
		t.Errorf("it has looked at more than one: %v", got)
	}
}

func TestAFileOfALowerPriorityGoesFirst(t *testing.T) {
	d := New[string](100)
	d.Set("free", 1, 0)
	d.Set("paying", 1, 5)
	d.Set("test", 1, -1)
	d.Touch("test")
	if got := fmt.Sprint(d.First(9, 9, all)); got != "[test free paying]" {
		t.Errorf("%s", got)
	}
	d.Set("paying", 1, -2) // a customer left
	if got := fmt.Sprint(d.First(9, 9, all)); got != "[paying test free]" {
		t.Errorf("after a change: %s", got)
	}
}

func TestWhatIsTooLargeCountsWhatIsReserved(t *testing.T) {
	d := New[string](100)
	d.Set("a", 60, 0)
	d.Reserve(30)
	if d.Over(10) > 0 || d.Over(11) != 1 || d.Used() != 90 {
		t.Errorf("over %d, used %d", d.Over(10), d.Used())
	}
	d.Release(30)
	d.Set("a", 110, 0)
	if d.Over(0) != 10 {
		t.Errorf("it has grown, and is over by %d", d.Over(0))
	}
	d.Set("a", 0, 0)
	d.Set("a", 0, 0)
	if d.Used() != 0 || d.Len() != 0 || len(d.ranks) != 0 || len(d.First(1, 1, all)) != 0 {
		t.Errorf("something is left: %d bytes, %d files", d.Used(), d.Len())
	}
}
