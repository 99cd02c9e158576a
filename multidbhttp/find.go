package multidbhttp

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/multidb-go/multidb"
)

// maxLimit is how many databases an answer has at most, and pageLimit how many by default.
const (
	maxLimit  = 1000
	pageLimit = 100
)

// parseQuery reads a listQuery from the parameters of a URL.
func parseQuery(v url.Values, most int) (listQuery, error) {
	q := listQuery{Q: strings.TrimSpace(v.Get("q")), Tier: v.Get("tier"), Reason: v.Get("reason"),
		Resident: v.Get("resident"), After: v.Get("after"), Limit: min(pageLimit, most)}
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return q, fmt.Errorf("limit is %q; want a number from 1 to %d", text, most)
		}
		q.Limit = n
	}
	if !slices.Contains([]string{"", "cold", "warm", "hot"}, q.Tier) {
		return q, fmt.Errorf("tier is %q; want cold, warm or hot", q.Tier)
	}
	if q.Reason != "" && q.Reason != anyReason && !slices.Contains(reasonNames(), q.Reason) {
		return q, fmt.Errorf("reason is %q; want %s or one of: %s", q.Reason, anyReason, strings.Join(reasonNames(), ", "))
	}
	if !slices.Contains([]string{"", "true", "false"}, q.Resident) {
		return q, fmt.Errorf("resident is %q; want true or false", q.Resident)
	}
	return q, nil
}

const anyReason = "any"

func reasonNames() []string {
	var names []string
	for _, r := range multidb.Reasons() {
		names = append(names, r.String())
	}
	return names
}

// values is the query as parameters of a URL.
func (q listQuery) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"q": q.Q, "tier": q.Tier, "reason": q.Reason, "resident": q.Resident, "after": q.After} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit != pageLimit {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// matcher returns whether a database is among what is asked for, After left out.
func (q listQuery) matcher() func(*multidb.Status) bool {
	part := strings.ToLower(q.Q)
	return func(s *multidb.Status) bool {
		switch {
		case part != "" && !strings.Contains(strings.ToLower(string(s.ID)), part):
			return false
		case q.Tier != "" && s.Tier.String() != q.Tier:
			return false
		case q.Resident != "" && s.Resident != (q.Resident == "true"):
			return false
		case q.Reason == anyReason:
			return s.Err != nil
		case q.Reason != "":
			return s.Err != nil && multidb.ReasonOf(s.Err).String() == q.Reason
		}
		return true
	}
}

// found is one page of what was asked for.
type found struct {
	rows    []multidb.Status // by ID
	next    string           // the last of them, if there are more behind it
	matches int              // on all pages
	known   int              // databases
}

// find looks at every database once, and keeps no more of them than a page has. ctx bounds
// the wait for a turn.
func (s *Server) find(ctx context.Context, q listQuery) (found, error) {
	select {
	case s.scanning <- struct{}{}:
		defer func() { <-s.scanning }()
	case <-ctx.Done():
		return found{}, ctx.Err()
	}
	var f found
	first := make(lastOnTop, 0, min(q.Limit, maxLimit)+1)
	matches := q.matcher()
	for st := range s.all {
		f.known++
		if !matches(&st) {
			continue
		}
		f.matches++
		switch {
		case string(st.ID) <= q.After && q.After != "":
		case len(first) <= q.Limit:
			heap.Push(&first, st)
		case st.ID < first[0].ID:
			first[0] = st
			heap.Fix(&first, 0)
		}
	}
	slices.SortFunc(first, func(a, b multidb.Status) int { return cmp.Compare(a.ID, b.ID) })
	if len(first) > q.Limit {
		first = first[:q.Limit]
		f.next = string(first[q.Limit-1].ID)
	}
	f.rows = first
	return f, nil
}

// lastOnTop is a heap of the first databases by ID that were seen, the last of them at 0.
type lastOnTop []multidb.Status

func (h lastOnTop) Len() int           { return len(h) }
func (h lastOnTop) Less(i, j int) bool { return h[i].ID > h[j].ID }
func (h lastOnTop) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lastOnTop) Push(x any)        { *h = append(*h, x.(multidb.Status)) }
func (h *lastOnTop) Pop() any          { panic("not used: it only grows, up to a page") }
