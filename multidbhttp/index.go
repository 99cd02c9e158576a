package multidbhttp

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
)

// entry is what a list goes by of one database.
type entry struct {
	id       multidb.ID
	tier     multidb.Tier
	reason   multidb.Reason // if it is failing
	failing  bool
	resident bool
}

// index has all databases by ID, as they were at most ten times as long ago as it took to look
// at all of them, and at least a second: so no number of requests takes more than a tenth of
// one processor, whatever the number of databases. Safe for concurrent use.
type index struct {
	turn    chan struct{} // whoever has put something in may use what is below
	at      time.Time
	took    time.Duration
	entries []entry // not changed once it was made
}

const minIndexAge = time.Second

func (x *index) init() { x.turn = make(chan struct{}, 1) }

// entries returns the index. ctx bounds the wait while another one makes it.
func (s *Server) entries(ctx context.Context) ([]entry, error) {
	x := &s.index
	select {
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	if !x.at.IsZero() && began.Sub(x.at) < max(minIndexAge, 10*x.took) {
		return x.entries, nil
	}
	all := make([]entry, 0, len(x.entries)+len(x.entries)/8)
	for st := range s.all {
		e := entry{id: st.ID, tier: st.Tier, resident: st.Resident}
		if st.Err != nil {
			e.failing, e.reason = true, multidb.ReasonOf(st.Err)
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(string(a.id), string(b.id)) })
	x.entries, x.at = all, time.Now()
	x.took = x.at.Sub(began)
	return all, nil
}
