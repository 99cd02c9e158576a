package nearest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTheNearestNamesComeFirst(t *testing.T) {
	names := []string{"project1/db1", "project1/db2", "project2/db1", "other/thing", "customer-7/main"}
	for s, want := range map[string][]string{
		"projekt1/db1": {"project1/db1"},
		"customer-7":   {"customer-7/main"},
		"PROJECT2/DB1": {"project2/db1"},
		"zzzzzzzz":     nil,
		"o":            nil, // a part of nearly everything says nothing
		"":             nil,
	} {
		if got := Names(s, names, 3); len(got) < len(want) || !slices.Equal(got[:len(want)], want) || want == nil && got != nil {
			t.Errorf("nearest to %q: %q, want %q", s, got, want)
		}
	}
}

func TestNoMoreThanAskedForAreNamedOfHoweverMany(t *testing.T) {
	var names []string
	for i := range 5000 {
		names = append(names, fmt.Sprintf("tenant%04d", i))
	}
	if got := Names("tenant0007x", names, 3); len(got) != 3 || got[0] != "tenant0007" {
		t.Errorf("got %q", got)
	}
	if got := Names(strings.Repeat("x", 1<<20), names, 3); got != nil {
		t.Errorf("nearest to a megabyte: %q", got)
	}
}
