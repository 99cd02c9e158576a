package main

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// tally is what the clients have seen: who has answered, with what, and for how long nobody did.
// Safe for concurrent use.
type tally struct {
	mu      sync.Mutex
	periods []*period
	tenants []seen
	served  map[string]int      // answers with 200, by the node that has made them
	passed  int                 // of them, by another node than the one that was asked
	refused int                 // connections that a node has refused, so that the next one was asked
	failed  map[string]*failure // requests that have failed otherwise, by what has come instead of 200
	lost    []string            // notes that were answered with 200 and then missing in an answer
}

// seen is what the client of one tenant has seen.
type seen struct {
	last  time.Time // when it has had an answer
	node  string    // who has made that
	notes map[string]string
}

// failure is requests that have failed in one way.
type failure struct {
	requests int
	first    string // what was said of the first one
}

// period is a part of the run in which one thing happens.
type period struct {
	what    string
	crash   bool
	planned bool
	from    time.Time
	gaps    []time.Duration // the longest one of each tenant
	failed  int             // requests
}

func newTally(tenants int) *tally {
	t := &tally{tenants: make([]seen, tenants), served: map[string]int{}, failed: map[string]*failure{}}
	for i := range t.tenants {
		t.tenants[i].notes = map[string]string{}
	}
	return t
}

// begin begins a period, at which the former one ends. With the first one the clients begin.
func (t *tally) begin(p period, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.from, p.gaps = now, make([]time.Duration, len(t.tenants))
	if len(t.periods) == 0 {
		for i := range t.tenants {
			t.tenants[i].last = now
		}
	}
	t.periods = append(t.periods, &p)
}

// answered counts an answer with 200 to a tenant's request.
func (t *tally) answered(tenant int, node string, passed bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.served[node]++
	if passed {
		t.passed++
	}
	t.gap(tenant, now)
	t.tenants[tenant].last, t.tenants[tenant].node = now, node
}

// acknowledged notes that a note must be found from now on.
func (t *tally) acknowledged(tenant int, key, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tenants[tenant].notes[key] = text
}

// gap notes that a tenant was without an answer from its last one until now: in the period that
// had most of that time.
func (t *tally) gap(tenant int, now time.Time) {
	from := t.tenants[tenant].last
	var in *period
	most := time.Duration(-1)
	for i, p := range t.periods {
		to := now
		if i+1 < len(t.periods) && t.periods[i+1].from.Before(now) {
			to = t.periods[i+1].from
		}
		begin := from
		if p.from.After(from) {
			begin = p.from
		}
		if overlap := to.Sub(begin); overlap > most {
			in, most = p, overlap
		}
	}
	in.gaps[tenant] = max(in.gaps[tenant], now.Sub(from))
}

// end counts the time since the last answer of each tenant: who waits in vain has none.
func (t *tally) end(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.tenants {
		t.gap(i, now)
	}
}

func (t *tally) connectionRefused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused++
}

func (t *tally) failure(what string, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed[what] == nil {
		t.failed[what] = &failure{first: why}
	}
	t.failed[what].requests++
	t.periods[len(t.periods)-1].failed++
}

func (t *tally) missing(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost = append(t.lost, what)
}

// waiting is how many tenants have had no answer since then.
func (t *tally) waiting(since time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.tenants {
		if !s.last.After(since) {
			n++
		}
	}
	return n
}

// of is how many tenants a node has answered for last.
func (t *tally) of(node string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.tenants {
		if s.node == node {
			n++
		}
	}
	return n
}

// counts are the answers with 200 so far, by node, and how many requests have failed.
func (t *tally) counts() (served map[string]int, failed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.failed {
		failed += f.requests
	}
	return maps.Clone(t.served), failed
}

// notes are those of a tenant that were answered with 200.
func (t *tally) notes(tenant int) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.tenants[tenant].notes)
}

// summary is what the tenants have met in some periods.
type summary struct {
	longest time.Duration // between two answers
	tenant  int           // whose that is
	median  time.Duration // of the longest ones of all tenants
	failed  int
}

// sum is what the tenants have met in the periods that are chosen.
func (t *tally) sum(choose func(*period) bool) (s summary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]time.Duration, len(t.tenants))
	for _, p := range t.periods {
		if !choose(p) {
			continue
		}
		s.failed += p.failed
		for i, d := range p.gaps {
			all[i] = max(all[i], d)
		}
	}
	s.longest = slices.Max(all)
	s.tenant = slices.Index(all, s.longest)
	slices.Sort(all)
	s.median = all[len(all)/2]
	return s
}
