package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
)

// notWell counts the databases that are not well, by the reason in a word or two. worst are
// those that Healthy names, which knows best what is not proved.
func (s *served) notWell(maxLag time.Duration, worst []multidb.Status) map[string]int64 {
	n := map[string]int64{}
	for st := range s.m.All() {
		switch {
		case st.Err != nil:
			n[multidb.ReasonOf(st.Err).String()]++
		case st.Lag > maxLag:
			n["lagging"]++
		case st.ProvedErr != nil:
			n["failed drill"]++
		}
	}
	for _, w := range worst {
		if w.ID != "" && errors.Is(w.Err, multidb.ErrUnproved) && w.ProvedErr == nil && w.Lag <= maxLag {
			n["not proved"]++
		}
	}
	return n
}

// showNotWell is how many databases are not well, with the reasons.
func showNotWell(n map[string]int64) string {
	var sum int64
	for _, k := range n {
		sum += k
	}
	if sum == 1 {
		return "1 database: " + showReasons(n)
	}
	return fmt.Sprintf("%d databases: %s", sum, showReasons(n))
}
