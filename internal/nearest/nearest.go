// Package nearest finds the names that a wrong one was most likely meant to be.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// Names returns up to n of names that s was most likely meant to be, the best
// first. Capitals do not count. It is meant for many names and a foreign s: a long
// s costs no more than a short one.
func Names(s string, names []string, n int) []string {
	low := strings.ToLower(s)
	limit := max(2, min(len(s), maxLen)/3)
	var best []scored
	for _, name := range names {
		other := strings.ToLower(name)
		score := limit + 1
		if partOf(low, other) || partOf(other, low) {
			score = limit
		}
		if diff := len(low) - len(other); max(diff, -diff) <= limit && len(s) <= 8*maxLen {
			score = min(score, distance(low, other))
		}
		if score > limit {
			continue
		}
		best = append(best, scored{name, score})
		if len(best) > 100*n {
			best = top(best, n)
		}
	}
	var out []string
	for _, b := range top(best, n) {
		out = append(out, b.name)
	}
	return out
}

// maxLen bounds how many mistakes a long name may have.
const maxLen = 64

type scored struct {
	name  string
	score int
}

func top(a []scored, n int) []scored {
	slices.SortFunc(a, func(x, y scored) int {
		return cmp.Or(cmp.Compare(x.score, y.score), strings.Compare(x.name, y.name))
	})
	return a[:min(len(a), n)]
}

// partOf reports whether a is a part of b that says something.
func partOf(a, b string) bool { return len(a) >= 3 && strings.Contains(b, a) }

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
