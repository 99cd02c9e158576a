package config

import "strings"

// nearest returns the name that s was most likely meant to be, or "".
func nearest(s string, names []string) string {
	s = strings.ReplaceAll(strings.ToLower(s), "_", "-")
	best, bestDistance := "", max(2, min(len(s), 64)/3)+1
	for _, name := range names {
		if len(s) > 2*len(name)+2 {
			continue
		}
		if d := distance(s, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
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
