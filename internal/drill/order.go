package drill

import (
	"cmp"
	"container/heap"
	"hash/maphash"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/table"
)

// node is one database, in 32 bytes: there may be 1,000,000.
type node struct {
	id     string
	at     int64 // Unix ms when its last drill ended; of one that had none, since when it is known
	pos    int32 // in its heap
	where  place
	tried  bool // it had a drill that told
	proved bool // by one of them
	noted  bool // a note of it is kept
}

// place is where a node is. It is in one place at a time.
type place uint8

const (
	inFresh   place = iota // had no drill, and is next, by ID
	inProved               // by when it was proved
	inFailing              // its last drill failed
	aside                  // not to be tried before a time
	out                    // with its drill, or forgotten
)

// failure is what is kept of a database whose last drill failed.
type failure struct {
	proved int64 // Unix ms of the drill that last succeeded; 0: none
	err    string
}

// order says whose turn it is. It has no lock.
type order struct {
	all      *table.Table[string, node]
	heaps    [inFailing + 1]nodes
	failures map[*node]failure
	queue    []pause // those set aside, the first to come back first
	unproved int
}

// pause is a node that is set aside.
type pause struct {
	n     *node
	until time.Time
}

func newOrder() *order {
	seed := maphash.MakeSeed()
	o := &order{failures: map[*node]failure{}, all: table.New(func(n *node) string { return n.id },
		func(id string) uint64 { return maphash.String(seed, id) }, func(a, b string) bool { return a == b })}
	o.heaps[inFresh].byID = true
	return o
}

// add makes a database known that is not.
func (o *order) add(id string, since int64) *node {
	n := &node{id: id, at: since, where: out}
	o.all.Put(n)
	o.unproved++
	o.home(n)
	return n
}

// remove forgets a database. One that is set aside is passed over when its time has come.
func (o *order) remove(n *node) {
	o.take(n)
	o.all.Delete(n.id)
	delete(o.failures, n)
	if !n.proved {
		o.unproved--
	}
}

// take takes a node out of the place where it is.
func (o *order) take(n *node) {
	if n.where <= inFailing {
		heap.Remove(&o.heaps[n.where], int(n.pos))
	}
	n.where = out
}

// home puts a node that is out where it belongs.
func (o *order) home(n *node) {
	switch _, failed := o.failures[n]; {
	case failed:
		n.where = inFailing
	case n.tried:
		n.where = inProved
	default:
		n.where = inFresh
	}
	heap.Push(&o.heaps[n.where], n)
}

// set notes how the last drill of a node that is out ended, and puts it where it belongs.
func (o *order) set(n *node, p proof) {
	proved := p.proved != 0
	if proved && !n.proved {
		o.unproved--
	}
	n.at, n.tried, n.proved = p.tried, p.tried != 0, proved || n.proved
	if !n.tried {
		n.at = p.since
	}
	if delete(o.failures, n); p.err != "" {
		o.failures[n] = failure{proved: p.proved, err: p.err}
	}
	o.home(n)
}

// proof is what is known of a node.
func (o *order) proof(n *node) proof {
	if f, failed := o.failures[n]; failed {
		return proof{proved: f.proved, tried: n.at, err: f.err}
	}
	if n.tried {
		return proof{proved: n.at, tried: n.at}
	}
	return proof{since: n.at}
}

// setAside keeps a node that is out from being tried before a time, which is not before
// that of the one set aside last.
func (o *order) setAside(n *node, until time.Time) {
	n.where = aside
	o.queue = append(o.queue, pause{n, until})
}

// back puts back those whose time has come.
func (o *order) back(now time.Time) {
	i := 0
	for ; i < len(o.queue) && !o.queue[i].until.After(now); i++ {
		if n := o.queue[i].n; n.where == aside {
			o.home(n)
		}
		o.queue[i].n = nil
	}
	if o.queue = o.queue[i:]; len(o.queue) == 0 {
		o.queue = nil
	}
}

// next takes the node out whose turn it is: one that has had no drill, else the one that was
// proved the longest ago, if that was before again. Where failing is set, one whose last drill
// failed before retry goes first, and otherwise last. Nil: none.
func (o *order) next(failing bool, retry, again int64) *node {
	broken := o.heaps[inFailing].first(retry)
	pick := broken
	if !failing || broken == nil {
		pick = cmp.Or(o.heaps[inFresh].first(-1), o.heaps[inProved].first(again), broken)
	}
	if pick != nil {
		o.take(pick)
	}
	return pick
}

// oldest is when the drill ended that is the longest ago of the last ones of all databases;
// 0: there was none. with is a node that is out, or nil.
func (o *order) oldest(with *node) int64 {
	var at int64
	see := func(n *node) {
		if n != nil && n.tried && n.where != out && (at == 0 || n.at < at) {
			at = n.at
		}
	}
	see(o.heaps[inProved].first(-1))
	see(o.heaps[inFailing].first(-1))
	for _, p := range o.queue { // at most what came by in an hour
		if p.n.where == aside {
			see(p.n)
		}
	}
	if with != nil && with.tried && (at == 0 || with.at < at) {
		at = with.at
	}
	return at
}

// late calls yield with those whose last drill failed, and with those that were not proved,
// or are not known, since a time. with is a node that is out, or nil.
func (o *order) late(since int64, with *node, yield func(*node)) {
	for _, n := range o.heaps[inFailing].a {
		yield(n)
	}
	o.heaps[inProved].before(0, since, yield)
	for _, n := range o.heaps[inFresh].a {
		if n.at < since {
			yield(n)
		}
	}
	see := func(n *node) {
		if _, failed := o.failures[n]; failed || n.at < since {
			yield(n)
		}
	}
	for _, p := range o.queue {
		if p.n.where == aside {
			see(p.n)
		}
	}
	if with != nil {
		see(with)
	}
}

// nodes is a heap by the time of the last drill and the ID, or by the ID alone.
type nodes struct {
	a    []*node
	byID bool
}

func (h *nodes) Len() int { return len(h.a) }
func (h *nodes) Less(i, j int) bool {
	x, y := h.a[i], h.a[j]
	if !h.byID && x.at != y.at {
		return x.at < y.at
	}
	return strings.Compare(x.id, y.id) < 0
}
func (h *nodes) Swap(i, j int) {
	h.a[i], h.a[j] = h.a[j], h.a[i]
	h.a[i].pos, h.a[j].pos = int32(i), int32(j)
}
func (h *nodes) Push(v any) {
	n := v.(*node)
	n.pos = int32(len(h.a))
	h.a = append(h.a, n)
}
func (h *nodes) Pop() any {
	last := len(h.a) - 1
	n := h.a[last]
	h.a[last] = nil
	h.a = h.a[:last]
	return n
}

// first is the first node, if its time is at or before a limit; -1: whatever its time is.
func (h *nodes) first(limit int64) *node {
	if len(h.a) == 0 || limit >= 0 && h.a[0].at > limit {
		return nil
	}
	return h.a[0]
}

// before calls yield with those from i down whose time is before since.
func (h *nodes) before(i int, since int64, yield func(*node)) {
	if i < len(h.a) && h.a[i].at < since {
		yield(h.a[i])
		h.before(2*i+1, since, yield)
		h.before(2*i+2, since, yield)
	}
}
