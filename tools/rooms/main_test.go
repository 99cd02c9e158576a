package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestACircleIsOfFilesThatAllNeedEachOther(t *testing.T) {
	for needs, want := range map[string]string{
		"":                        "[a] [b] [c] [d]",
		"a>a":                     "[a] [b] [c] [d]",
		"a>b b>c c>d":             "[a] [b] [c] [d]",
		"a>b b>a":                 "[a b] [c] [d]",
		"a>b b>c c>a d>a":         "[a b c] [d]",
		"a>b b>a c>d d>c b>c":     "[a b] [c d]",
		"a>b b>a c>d d>c b>c c>a": "[a b c d]",
		"d>c c>b b>d a>d a>b":     "[a] [b c d]",
		"a>b a>c b>d c>d d>b":     "[a] [b d] [c]",
		"a>b b>c c>d d>b d>a":     "[a b c d]",
		"b>a c>a d>a a>d":         "[a d] [b] [c]",
	} {
		graph := map[string]map[string]bool{}
		for _, edge := range strings.Fields(needs) {
			from, to, _ := strings.Cut(edge, ">")
			if graph[from] == nil {
				graph[from] = map[string]bool{}
			}
			graph[from][to] = true
		}
		for range 20 { // the order of a map's keys changes
			got := circles([]string{"a", "b", "c", "d"}, graph)
			slices.SortFunc(got, slices.Compare)
			if s := strings.Trim(fmt.Sprint(got), "[]"); "["+s+"]" != want {
				t.Fatalf("%q: %v, want %s", needs, got, want)
			}
		}
	}
}
