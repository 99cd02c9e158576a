package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// nearest returns up to n names that s was most likely meant to be, the best
// first.
func nearest(s string, names []string, n int) []string {
	type scored struct {
		name  string
		score int
	}
	low := strings.ToLower(s)
	limit := max(2, min(len(s), 64)/3)
	var best []scored
	for _, name := range names {
		other := strings.ToLower(name)
		score := limit + 1
		if low != "" && (strings.Contains(other, low) || other != "" && strings.Contains(low, other)) {
			score = limit // a part of it, or too much
		}
		if diff := len(low) - len(other); max(diff, -diff) <= limit && len(s) <= 512 {
			score = min(score, distance(low, other))
		}
		if score > limit {
			continue
		}
		best = append(best, scored{name, score})
		if len(best) > 100*n {
			best = top(best, n, func(x scored) int { return x.score }, func(x scored) string { return x.name })
		}
	}
	var out []string
	for _, b := range top(best, n, func(x scored) int { return x.score }, func(x scored) string { return x.name }) {
		out = append(out, b.name)
	}
	return out
}

func top[T any](a []T, n int, score func(T) int, name func(T) string) []T {
	slices.SortFunc(a, func(x, y T) int { return cmp.Or(cmp.Compare(score(x), score(y)), cmp.Compare(name(x), name(y))) })
	return a[:min(len(a), n)]
}

// distance is how many bytes must be put in, taken out or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// unknown is the error about an ID or a pattern that matches nothing.
func unknown(what, s string, place string, names []string) error {
	near := nearest(s, names, 3)
	if len(near) == 0 {
		return fmt.Errorf("no database %s %s at %s, which has %d; `multidb ls` lists them", what, show(s), place, len(names))
	}
	for i := range near {
		near[i] = show(near[i])
	}
	return fmt.Errorf("no database %s %s at %s; the nearest: %s", what, show(s), place, strings.Join(near, ", "))
}
