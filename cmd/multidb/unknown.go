package main

import (
	"fmt"
	"strings"

	"github.com/multidb-go/multidb/internal/nearest"
)

// unknown is the error about an ID or a pattern that matches nothing.
func unknown(what, s string, place string, names []string) error {
	near := nearest.Names(s, names, 3)
	if len(near) == 0 {
		return fmt.Errorf("no database %s %s at %s, which has %d; `multidb ls` lists them", what, show(s), place, len(names))
	}
	for i := range near {
		near[i] = show(near[i])
	}
	return fmt.Errorf("no database %s %s at %s; the nearest: %s", what, show(s), place, strings.Join(near, ", "))
}
