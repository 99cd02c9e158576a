package main

import (
	"fmt"
	"slices"
)

// lags matches commits with their arrival at the replica: of each commit, how
// long it took until a file arrived that has it or a later one. Commits are the
// times, by database, of marks first, first+1, …; those before skip are left
// out. A commit that never arrived is an error.
func lags(commits map[int][]int64, first int, arrived []arrivedSeq, skip int64) ([]float64, error) {
	byPrefix := map[string][]arrivedSeq{}
	for _, a := range arrived {
		byPrefix[a.Prefix] = append(byPrefix[a.Prefix], a)
	}
	var out []float64
	missing := 0
	for i, times := range commits {
		files := byPrefix[string(fleetID(i))]
		slices.SortFunc(files, func(a, b arrivedSeq) int { return int(a.At - b.At) })
		// Files arrive in the order of their commits, so one pass does.
		at := 0
		for k, t := range times {
			for at < len(files) && files[at].Seq < first+k {
				at++
			}
			switch {
			case at == len(files):
				missing++
			case t >= skip:
				out = append(out, float64(files[at].At-t)/1e9)
			}
		}
	}
	if missing > 0 {
		return out, fmt.Errorf("%d commits did not arrive", missing)
	}
	return out, nil
}
