package cluster

import (
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/member"
)

// view is what a node knows when it decides what to do. It has no clock: now is any time that
// moves on as the node's own clock does.
type view struct {
	now     time.Duration
	self    member.Member
	epoch   uint64 // this node's
	m       *format.Map
	members []member.Member
	idle    func(shard int) bool // nobody here has used any of it lately
	stuck   func(shard int) bool // it could not be moved just now
}

// plan is what a node is to do next.
type plan struct {
	takeOver []uint64         // epochs whose logs are to be ended
	claim    []int            // shards that nobody owns
	give     map[uint64][]int // shards, by the epoch that is to have them
	// expects: others are to give this node something, or it is about to take something over, so
	// that the map is worth a look soon.
	expects bool
	// wait is how long it is until something may have to be taken over; 0: nothing.
	wait time.Duration
}

// planner decides what a node does. It remembers since when an epoch is without a member. Not
// safe for concurrent use.
type planner struct {
	// Grace is for how long an epoch may be in the map before its process is among the members.
	grace time.Duration
	// patience is how long each node waits for the one that is wanted more to take a log over.
	patience time.Duration
	most     int // shards that are given away at once

	placed *placement
	seen   map[uint64]bool          // epochs whose process was among the members
	absent map[uint64]time.Duration // since when it is not
}

func newPlanner(grace, patience time.Duration, most int) *planner {
	return &planner{grace: grace, patience: patience, most: most, seen: map[uint64]bool{}, absent: map[uint64]time.Duration{}}
}

// next decides what is to be done.
func (p *planner) next(v view) (do plan) {
	lives := map[string]member.Member{}
	var takers []string
	for _, m := range v.members {
		lives[m.Life] = m
		if !m.Draining {
			takers = append(takers, m.Name)
		}
	}
	if len(takers) == 0 { // all of them leave: better they have it than nobody
		for _, m := range v.members {
			takers = append(takers, m.Name)
		}
	}
	p.placed = place(p.placed, format.Shards, takers)
	p.forget(v.m)
	epochs := map[string]uint64{} // of nodes that can be given something
	for _, live := range v.m.Live {
		switch m, alive := lives[Name(live.Life)]; {
		case live.Sealed != 0:
		case live.Epoch == v.epoch:
			epochs[v.self.Name] = live.Epoch
		case alive:
			p.seen[live.Epoch] = true
			delete(p.absent, live.Epoch)
			if !m.Draining {
				epochs[m.Name] = live.Epoch
			}
		default:
			wait := p.orphan(v, live, takers)
			if wait <= 0 {
				do.takeOver = append(do.takeOver, live.Epoch)
			} else if do.wait == 0 || wait < do.wait {
				do.wait = wait
			}
		}
	}
	p.shards(v, epochs, &do)
	return do
}

// orphan is how long it is until this node ends the log of an epoch that has no member.
func (p *planner) orphan(v view, live format.Live, takers []string) time.Duration {
	if live.Node == v.self.Name {
		return 0 // a name is one process's at a time, and this one has it now
	}
	since, known := p.absent[live.Epoch]
	if !known {
		since = v.now
		p.absent[live.Epoch] = since
	}
	wait := time.Duration(0)
	if !p.seen[live.Epoch] {
		wait = p.grace
	}
	if !slices.ContainsFunc(v.members, func(m member.Member) bool { return m.Name == live.Node && !m.Draining }) {
		rank := slices.Index(ranked("epoch", live.Epoch, takers), v.self.Name)
		if rank < 0 { // it takes nothing, unless nobody else does
			rank = len(takers)
		}
		wait += time.Duration(rank) * p.patience
	} else {
		wait += p.patience // its own node has the files
	}
	return wait - (v.now - since)
}

// shards decides about shards.
func (p *planner) shards(v view, epochs map[string]uint64, do *plan) {
	var to uint64
	var give []int
	wanted := map[uint64]int{}
	for s, owner := range v.m.Owners {
		node := p.placed.of[s]
		switch {
		case owner == 0 && node == v.self.Name:
			do.claim = append(do.claim, s)
		case owner == v.epoch && node != v.self.Name && epochs[node] != 0 && !v.stuck(s):
			wanted[epochs[node]]++
		case owner != v.epoch && node == v.self.Name:
			do.expects = true
		}
	}
	for epoch, n := range wanted { // one receiver at a time, so that one object and one map do it
		if to == 0 || n > wanted[to] || n == wanted[to] && epoch < to {
			to = epoch
		}
	}
	if to == 0 {
		return
	}
	for _, idle := range []bool{true, false} {
		for s, owner := range v.m.Owners {
			if len(give) < p.most && owner == v.epoch && epochs[p.placed.of[s]] == to && !v.stuck(s) && v.idle(s) == idle {
				give = append(give, s)
			}
		}
	}
	slices.Sort(give)
	do.give = map[uint64][]int{to: give}
}

// forget drops what is remembered of epochs that are not live any more.
func (p *planner) forget(m *format.Map) {
	for epoch := range p.seen {
		if i := m.Find(epoch); i < 0 || m.Live[i].Sealed != 0 {
			delete(p.seen, epoch)
		}
	}
	for epoch := range p.absent {
		if i := m.Find(epoch); i < 0 || m.Live[i].Sealed != 0 {
			delete(p.absent, epoch)
		}
	}
}
