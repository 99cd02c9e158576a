package conduct

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/ship"
)

// SyncAll has everything shipped that was committed before the call, to any database, and
// returns those of which that could not be done. Those whose files are as the last run left
// them cost a stat and nothing else. All others wait at the same time, so that one flush of a
// fleet log serves them all; how many are worked on at once is for the workers to say.
//
// ctx bounds the waiting; what was begun goes on.
func (c *Conductor) SyncAll(ctx context.Context) (left []Unshipped) {
	all := c.unshipped()
	slices.SortFunc(all, func(a, b *fleet.Entry) int { return strings.Compare(a.ID(), b.ID()) })
	answers := make([]<-chan fleet.Synced, len(all))
	for i, e := range all {
		answers[i] = c.fleet.Sync(e)
	}
	for i, e := range all {
		if err := c.answer(ctx, answers[i]).Err; err != nil && !errors.Is(err, registry.ErrNotFound) &&
			!(errors.Is(err, ship.ErrMissing) && c.renamed(e)) {
			left = append(left, Unshipped{e.ID(), err})
		}
	}
	return left
}
