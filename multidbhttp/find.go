package multidbhttp

import (
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
func (q listQuery) matcher() func(*entry) bool {
	part := strings.ToLower(q.Q)
	return func(e *entry) bool {
		switch {
		case part != "" && !strings.Contains(strings.ToLower(string(e.id)), part):
			return false
		case q.Tier != "" && e.tier.String() != q.Tier:
			return false
		case q.Resident != "" && e.resident != (q.Resident == "true"):
			return false
		case q.Reason == anyReason:
			return e.failing
		case q.Reason != "":
			return e.failing && e.reason.String() == q.Reason
		}
		return true
	}
}

// found is one page of what was asked for.
type found struct {
	rows    []multidb.Status // by ID
	next    string           // behind which the next page begins, if there is one
	matches int              // on all pages
	known   int              // databases
}

// find looks in the index for what is asked for, and asks for the state of what is on the
// page: a row may have changed since the index was made, so that it would not match now. ctx
// bounds the wait for the index.
func (s *Server) find(ctx context.Context, q listQuery) (found, error) {
	entries, err := s.entries(ctx)
	if err != nil {
		return found{}, err
	}
	f := found{known: len(entries)}
	matches, n := q.matcher(), 0
	last := multidb.ID("")
	for i := range entries {
		e := &entries[i]
		if !matches(e) {
			continue
		}
		f.matches++
		if q.After != "" && string(e.id) <= q.After || n > q.Limit {
			continue
		}
		if n++; n > q.Limit {
			f.next = string(last)
			continue
		}
		last = e.id
		if st, err := s.status(e.id); err == nil { // else it has gone
			f.rows = append(f.rows, st)
		}
	}
	return f, nil
}
