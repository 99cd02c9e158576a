package fleetlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// life is one process from its start to its end.
type life struct {
	w            *world
	node         int
	id           format.ID
	dead, asleep bool
	m            *format.Map // the newest that this one has read
	epoch        uint64
	writer       *Writer
	busy         map[any]int // machines, and how many answers they wait for
	changes      []*pending  // one after the other
	over         *Takeover
	believed     uint64 // the number of a seal, where the model believes too early
	hydrating    *hydration
	finishing    *hydration
	restoring    *hydration
	owned        map[int]bool // shards that are served
	draining     map[int]bool
	release      []int
	giving       map[int]bool // released, but the map may still name this one
	flights      []*Flight
	objects      map[uint64][]commits
	early        map[*Flight]bool // acknowledged though not in order
	head         [modelTenants]int
	buf          [modelTenants]commits // committed, not in an object
	mine         [modelTenants]commits // in the log, not in the prefix
	unpacking    [modelTenants]bool
	erasing      [modelTenants]bool
	began        [modelTenants]int               // how often it was erased when this life began to
	forget       []int                           // tenants, with the next object
	forgot       [modelTenants]uint64            // the number of the acknowledged object that does
	ends         [modelTenants]map[uint64]uint64 // where the other logs ended, when the tenant was hydrated
}

type pending struct {
	edit func(*format.Map) error
	c    *Change
	then func(error)
}

// hydration reads logs, and then the prefixes.
type hydration struct {
	shards []int
	epoch  uint64 // that is to be finished
	tails  []*Tail
	read   bool                // the tails
	due    [modelTenants][]int // what was acknowledged when a restore began
	recs   []commits
	prefix *[modelTenants][]int
	logs   []*format.Log
	looked bool               // at the map, after the tails
	erased [modelTenants]int  // when it began
	tombs  [modelTenants]bool // the prefix said that it is being erased
}

func (w *world) birth(node int) *life {
	w.lives++
	l := &life{w: w, node: node, busy: map[any]int{}, owned: map[int]bool{}, draining: map[int]bool{}, early: map[*Flight]bool{},
		giving: map[int]bool{}, objects: map[uint64][]commits{}}
	binary.BigEndian.PutUint64(l.id[:], w.lives)
	l.change(func(m *format.Map) error { return Join(m, l.id, fmt.Sprint("node ", node)) }, func(err error) {
		if err == nil {
			l.epoch = EpochOf(l.m, l.id)
			l.writer = NewWriter(l.id, l.epoch)
		}
	})
	return l
}

// die ends a life; its requests are still on their way.
func (l *life) die() {
	l.dead = true
	l.w.nodes[l.node] = l.w.birth(l.node)
}

func (l *life) change(edit func(*format.Map) error, then func(error)) {
	l.changes = append(l.changes, &pending{edit: edit, then: then})
}

// pump makes every request that a machine wants, and goes on where one is done.
func (l *life) pump() {
	for again := true; again && !l.dead; {
		again = l.pumpChange() || l.pumpWriter() || l.pumpTakeover() || l.pumpHydration()
	}
}

func (l *life) pumpChange() bool {
	if len(l.changes) == 0 {
		return false
	}
	p := l.changes[0]
	if p.c == nil {
		p.c = NewChange(l.id, 0, l.m, p.edit)
	}
	c := p.c
	if over, err := c.Done(); over {
		l.changes = l.changes[1:]
		l.m = c.Map()
		if errors.Is(err, ErrFenced) { // the map says so, and the log would
			l.w.count["fenced by the map"]++
		}
		p.then(err)
		if err == nil && l.w.broken == "M1 maps deleted" && l.m.Number > 1 {
			name := format.MapName(l.m.Number - 1)
			l.send(func() answer { l.w.delete([]string{name}); return answer{} }, func(answer) {})
		}
		return true
	}
	if l.busy[c] > 0 {
		return false
	}
	a := c.Ask()
	l.busy[c]++
	l.ask(a, func(x answer) {
		l.busy[c]--
		switch {
		case a.Op == Create:
			c.Answered(x.outcome)
		case x.lost:
		case a.Op == List:
			c.Listed(x.newest)
		default:
			if x.m == nil && l.w.broken == "M1 maps deleted" {
				c.at = listing // where they are deleted, a reader lists again
				return
			}
			c.Read(x.m)
		}
	})
	return true
}

func (l *life) pumpWriter() bool {
	if l.writer == nil {
		return false
	}
	for _, f := range l.flights {
		a := f.Ask()
		if a.Op == Nothing || l.busy[f] > 0 {
			continue
		}
		l.busy[f]++
		l.ask(a, func(x answer) {
			l.busy[f]--
			if a.Op == Create {
				f.Answered(x.outcome)
			} else if !x.lost {
				f.Looked(x.entry)
			}
			if f.at == landed && l.w.broken == "F1 any order" && !l.early[f] {
				l.early[f] = true
				l.acknowledged(f.Log)
			}
		})
		return true
	}
	if log := l.writer.Acknowledged(); log != nil {
		f := l.flights[0]
		l.flights = l.flights[1:]
		if f.Log != log {
			l.w.failf("object %d is acknowledged before %d", log.Seq, f.Log.Seq)
		}
		if !l.early[f] {
			l.acknowledged(log)
		}
		return true
	}
	if err := l.writer.Err(); err != nil {
		if !errors.Is(err, ErrFenced) {
			l.w.failf("%v", err)
		}
		l.w.count["fenced"]++
		l.die()
	}
	return false
}

// acknowledged is where Sync returns.
func (l *life) acknowledged(log *format.Log) {
	l.w.count["object acknowledged"]++
	l.w.changed = true
	for _, c := range l.objects[log.Seq] {
		p := &l.w.promise[c.tenant]
		for i, v := range c.vals {
			if l.w.gone[v] { // before it was erased, which a sleeper does not know
				continue
			}
			for len(*p) < c.first+i {
				*p = append(*p, 0)
			}
			(*p)[c.first+i-1] = v
			l.w.count["commit acknowledged"]++
		}
		if l.w.broken != "F5 unpacked early" {
			l.keep(c)
		}
	}
	for _, g := range log.Forgets {
		t := slices.Index(l.w.names[:], g.Prefix)
		l.mine[t], l.forgot[t] = commits{}, log.Seq
		if l.w.broken != "F9 begun early" {
			l.deletePrefix(t, l.began[t])
		}
	}
	for _, s := range log.Releases {
		delete(l.draining, s)
		delete(l.owned, s)
		if l.w.broken != "F6 map first" {
			l.give(s)
		}
	}
}

// keep adds to what is to be unpacked.
func (l *life) keep(c commits) {
	k := &l.mine[c.tenant]
	if len(k.vals) == 0 {
		*k = commits{tenant: c.tenant, first: c.first, vals: slices.Clone(c.vals)}
		return
	}
	for i, v := range c.vals {
		if c.first+i == k.first+len(k.vals) {
			k.vals = append(k.vals, v)
		}
	}
}

func (l *life) commit(t int) {
	if s := l.w.shard[t]; !l.owned[s] || l.draining[s] || l.erasing[t] {
		return
	}
	l.w.value++
	l.head[t]++
	if b := &l.buf[t]; len(b.vals) == 0 {
		*b = commits{tenant: t, first: l.head[t], vals: []int{l.w.value}}
	} else {
		b.vals = append(b.vals, l.w.value)
	}
}

func (l *life) flush() {
	if l.writer == nil || !l.writer.Room() {
		return
	}
	var files []format.File
	var all []commits
	for t := range l.buf {
		b := l.buf[t]
		if len(b.vals) == 0 {
			continue
		}
		var data []byte
		for _, v := range b.vals {
			data = binary.LittleEndian.AppendUint64(data, uint64(v))
		}
		files = append(files, format.File{Record: format.Record{Prefix: l.w.names[t], Min: uint64(b.first), Max: uint64(b.first + len(b.vals) - 1)}, Data: data})
		all = append(all, b)
		l.buf[t] = commits{}
	}
	if len(files) == 0 && len(l.release) == 0 && len(l.forget) == 0 && !l.w.chance(8) { // else a heartbeat
		return
	}
	slices.Sort(l.release)
	var forgets []format.Forget
	for _, t := range l.forget {
		g := format.Forget{Prefix: l.w.names[t]}
		for _, epoch := range slices.Sorted(maps.Keys(l.ends[t])) {
			if epoch != l.epoch && l.w.broken != "F9 own log only" {
				g.Below = append(g.Below, format.Mark{Epoch: epoch, Seq: l.ends[t][epoch]})
			}
		}
		forgets = append(forgets, g)
	}
	f, err := l.writer.Put(0, files, forgets, l.release)
	if err != nil {
		l.w.failf("%v", err)
		return
	}
	l.release, l.forget = nil, nil
	l.flights = append(l.flights, f)
	l.objects[f.Log.Seq] = all
	if l.w.broken == "F5 unpacked early" {
		for _, c := range all {
			l.keep(c)
		}
	}
}

// erase begins to erase a tenant, or goes on with what another life has begun.
func (l *life) erase(t int) {
	s := l.w.shard[t]
	if l.writer == nil || !l.owned[s] || len(l.draining) > 0 || l.erasing[t] || l.unpacking[t] {
		return
	}
	if l.w.erasing[t] {
		l.w.count["erased again"]++
	}
	l.erasing[t], l.w.erasing[t], l.began[t] = true, true, l.w.erased[t]
	l.buf[t], l.w.promise[t] = commits{}, nil
	l.forget = append(l.forget, t)
	if l.w.broken == "F9 begun early" {
		l.deletePrefix(t, l.began[t])
	}
}

// deletePrefix deletes all that the prefix of a tenant has, and begins a new history then. What
// is under way to a prefix, from whomever, does not outlive an erasure that has ended: it has
// no rule that excludes that, but the erasure is proved by a second one.
func (l *life) deletePrefix(t, n int) {
	l.send(func() answer {
		if l.w.erased[t] == n {
			l.w.voided(l.w.prefix[t])
			l.w.prefix[t], l.w.changed = nil, true
		}
		return answer{}
	}, func(x answer) {
		switch {
		case x.lost:
			l.deletePrefix(t, n)
		case l.w.erased[t] == n:
			for _, log := range l.w.logs {
				for _, o := range log {
					for _, c := range o.recs {
						if c.tenant == t {
							l.w.voided(c.vals)
						}
					}
				}
			}
			l.w.voided(l.w.prefix[t])
			l.w.prefix[t], l.w.promise[t] = nil, nil
			l.w.erasing[t], l.erasing[t], l.head[t] = false, false, 0
			l.w.erased[t]++
			l.w.changed = true
			l.w.count["erased"]++
		}
	})
}

func (w *world) voided(vals []int) {
	for _, v := range vals {
		w.gone[v] = true
	}
}

// unpack writes a part of what one tenant has in the log into its prefix.
func (l *life) unpack(t int) {
	k := &l.mine[t]
	if l.unpacking[t] || len(k.vals) == 0 || l.erasing[t] || slices.ContainsFunc(k.vals, func(v int) bool { return l.w.gone[v] }) {
		return // the last: a sleeper, as for deletePrefix
	}
	c := commits{tenant: t, first: k.first, vals: slices.Clone(k.vals[:1+l.w.rnd.IntN(len(k.vals))])}
	l.unpacking[t] = true
	n := l.w.erased[t]
	l.send(func() answer {
		if l.w.erased[t] == n {
			l.w.unpacked(c)
		}
		return answer{}
	}, func(x answer) {
		l.unpacking[t] = false
		for !x.lost && len(k.vals) > 0 && k.first < c.first+len(c.vals) {
			k.first, k.vals = k.first+1, k.vals[1:]
		}
	})
}

func (w *world) unpacked(c commits) {
	p := &w.prefix[c.tenant]
	for i, v := range c.vals {
		x := c.first + i
		for len(*p) < x {
			*p = append(*p, 0)
		}
		if old := (*p)[x-1]; old != 0 && old != v && !w.erasing[c.tenant] {
			w.failf("TXID %d of tenant %d is unpacked as %d and as %d", x, c.tenant, old, v)
		}
		(*p)[x-1] = v
	}
	w.changed = true
	w.count["unpacked"]++
}

// packed reports whether prefixes have all of an object.
func packed(prefix [modelTenants][]int, recs []commits) bool {
	for _, c := range recs {
		if len(prefix[c.tenant]) < c.first+len(c.vals)-1 {
			return false
		}
	}
	return true
}

// done reports whether nobody needs an object of this life's log any more.
func (l *life) done(o *stored) bool {
	if o.entry.Log != nil && Needed(l.m, []*format.Log{o.entry.Log}) && l.w.broken != "F9 packed over" {
		return false
	}
	recs := slices.DeleteFunc(slices.Clone(o.recs), func(c commits) bool { return c.seq < l.forgot[c.tenant] })
	return packed(l.w.prefix, recs)
}

// trim says what is unpacked, and deletes what may be deleted, perhaps much later.
func (l *life) trim() {
	if l.writer == nil {
		return
	}
	at := l.writer.packed
	for o := l.w.logs[l.epoch][at]; o != nil && at <= l.writer.Acked() && l.done(o); o = l.w.logs[l.epoch][at] {
		at++
	}
	l.writer.Unpacked(at, at-uint64(l.w.rnd.IntN(3)))
	below := l.writer.Deletable()
	if l.w.broken == "F4 deleted early" {
		below = l.writer.trim
	}
	l.remove(l.epoch, func(seq uint64, _ *stored) bool { return seq < below })
}

func (l *life) remove(epoch uint64, which func(uint64, *stored) bool) {
	var names []string
	for _, seq := range slices.Sorted(maps.Keys(l.w.logs[epoch])) {
		o := l.w.logs[epoch][seq]
		if which(seq, o) && !l.w.chance(4) { // a delete of many may be done in part
			names = append(names, format.ObjectName(epoch, seq))
		}
	}
	if len(names) > 0 {
		l.send(func() answer { l.w.delete(names); return answer{} }, func(answer) {})
	}
}

// move begins to give a shard to somebody.
func (l *life) move() {
	for _, s := range []int{l.w.shard[0], l.w.shard[1]} {
		if l.writer == nil || !l.owned[s] || len(l.draining) > 0 || slices.Contains(l.erasing[:], true) {
			continue
		}
		l.draining[s] = true
		l.release = append(l.release, s)
		if l.w.broken == "F6 map first" {
			l.give(s)
		}
	}
}

// give changes the map for a shard that is released. Until the map that says so is read,
// this life must not take the map's word that the shard is its own.
func (l *life) give(s int) {
	l.giving[s] = true
	l.asleep = l.w.chance(3)
	to := uint64(0)
	if live := l.m.Live; len(live) > 0 {
		to = live[l.w.rnd.IntN(len(live))].Epoch
	}
	if to == l.epoch {
		to = 0
	}
	l.change(func(m *format.Map) error {
		if l.w.broken == "F6 given twice" {
			if m.Owners[s] = to; !writes(m, to) {
				m.Owners[s] = 0
			}
			return nil
		}
		return Give(m, s, l.epoch, to)
	}, func(err error) {
		delete(l.giving, s)
		if err == nil {
			l.w.count["move"]++
		}
	})
}

// suspect begins to take over from another epoch, whether its owner lives or not.
func (l *life) suspect() {
	if l.writer == nil || l.over != nil || len(l.m.Live) == 0 {
		return
	}
	e := l.m.Live[l.w.rnd.IntN(len(l.m.Live))]
	for _, other := range l.w.nodes { // rightly, more often than not
		if i := l.m.Find(other.epoch); other.asleep && i >= 0 && l.w.chance(2) {
			e = l.m.Live[i]
		}
	}
	if e.Epoch == l.epoch {
		return
	}
	if l.w.broken == "F7 one shard" {
		l.change(func(m *format.Map) error {
			if i := slices.Index(m.Owners[:], e.Epoch); i >= 0 && writes(m, l.epoch) {
				m.Owners[i] = l.epoch
				return nil
			}
			return ErrMoved
		}, func(error) {})
		return
	}
	l.over = NewTakeover(format.Seal{Author: l.id, Epoch: e.Epoch, Next: l.epoch, Who: fmt.Sprint("node ", l.node)})
}

func (l *life) pumpTakeover() bool {
	o := l.over
	if o == nil || l.busy[o] > 0 {
		return false
	}
	epoch, sealed := o.seal.Epoch, l.believed
	if o.Done() {
		sealed = o.Seal().Seq
	} else if l.w.broken == "F3 no seal" && o.Tail.Done() {
		sealed = o.End()
	}
	if sealed > 0 {
		l.over, l.believed = nil, 0
		l.change(func(m *format.Map) error { return TakeOver(m, epoch, sealed, l.epoch) }, func(err error) {
			if err == nil {
				l.w.count["take-over"]++
			}
		})
		return true
	}
	asks, err := o.Asks()
	if err != nil {
		l.w.failf("%v", err)
	}
	for _, a := range asks {
		if a.Op == Create && l.w.broken == "F3 seal at the end" && len(o.listed) > 0 {
			s := o.seal
			s.Trim, s.Seq = o.Begin(), o.listed[len(o.listed)-1].Seq+1
			if a.Data, err = s.Encode(); err != nil {
				l.w.failf("%v", err)
			}
			a.Name = format.ObjectName(s.Epoch, s.Seq)
		}
		l.busy[o]++
		l.ask(a, func(x answer) {
			l.busy[o]--
			switch {
			case a.Op == Create && x.outcome == Exists && l.w.broken == "F3 refused is sealed",
				a.Op == Create && x.outcome == Created && l.w.broken == "F3 not read again",
				a.Op == Create && x.outcome == Created && l.w.broken == "F3 seal at the end" && !l.w.void(a.Name):
				l.believed = o.End()
			case a.Op == Create:
				o.Answered(x.outcome)
			case !x.lost:
				o.Tail.take(l.w, a, x)
			}
		})
	}
	return false
}

// void reports whether an object stands below the trim of its log.
func (w *world) void(name string) bool {
	epoch, seq, _ := format.ParseObjectName(name)
	newest := slices.Max(slices.Collect(maps.Keys(w.logs[epoch])))
	return seq < w.logs[epoch][newest].entry.Trim()
}

// look reads the newest map, and claims what nobody owns.
func (l *life) look() {
	shards := l.w.shard[:2]
	if l.writer != nil && slices.ContainsFunc(shards, func(s int) bool { return l.m.Owners[s] == 0 }) {
		l.change(func(m *format.Map) error { return Claim(m, shards, l.epoch) }, func(error) {})
		return
	}
	l.change(func(*format.Map) error { return ErrMoved }, func(error) {})
}

// finish begins to take a log that is sealed out of the live list.
func (l *life) finish() {
	if l.writer == nil || l.finishing != nil {
		return
	}
	for _, e := range l.m.Live {
		unsealed := l.w.broken == "F8 finished unsealed" && e.Epoch != l.epoch
		if (e.Sealed != 0 && !l.m.Owns(e.Epoch) || unsealed) && l.w.chance(2) {
			l.finishing = l.reading()
			l.finishing.epoch = e.Epoch
			for _, other := range l.m.Live {
				if !l.w.erases && other.Epoch != e.Epoch {
					continue
				}
				l.finishing.tails = append(l.finishing.tails, NewTail(other.Epoch))
			}
			return
		}
	}
}

func (l *life) finished(h *hydration) {
	h.recs = slices.DeleteFunc(h.recs, func(c commits) bool { return c.epoch != h.epoch })
	if !packed(*h.prefix, h.recs) && l.w.broken != "F8 finished early" {
		return
	}
	logs := slices.DeleteFunc(h.logs, func(log *format.Log) bool { return log.Epoch != h.epoch })
	l.change(func(m *format.Map) error {
		if Needed(m, logs) && l.w.broken != "F9 finished first" {
			return ErrMoved
		}
		if i := m.Find(h.epoch); i >= 0 && l.w.broken == "F8 finished unsealed" {
			for s, e := range m.Owners {
				if e == h.epoch {
					m.Owners[s] = 0
				}
			}
			m.Live = slices.Delete(m.Live, i, i+1)
			return nil
		}
		return Finish(m, h.epoch)
	}, func(err error) {
		if err == nil {
			l.w.count["finished"]++
			l.remove(h.epoch, func(_ uint64, o *stored) bool { return o.entry.Seal == nil || l.w.broken == "F3 seals deleted" })
		}
	})
}

func (l *life) pumpHydration() bool {
	if l.hydrating == nil && l.writer != nil {
		h := l.reading()
		for _, s := range l.w.shard[:2] {
			if l.m.Owners[s] == l.epoch && !l.owned[s] && (!l.giving[s] || l.w.broken == "M3 begun again") {
				h.shards = append(h.shards, s)
			}
		}
		for _, e := range l.m.Live {
			h.tails = append(h.tails, l.w.tail(e.Epoch))
		}
		if len(h.shards) > 0 {
			l.hydrating = h
		}
	}
	if h := l.hydrating; h != nil && l.pumpReading(h) {
		l.hydrating = nil
		l.hydrated(h)
		return true
	}
	if h := l.finishing; h != nil && l.pumpReading(h) {
		l.finishing = nil
		l.finished(h)
		return true
	}
	if h := l.restoring; h != nil && len(h.tails) > 0 && l.pumpReading(h) {
		l.restoring = nil
		l.restored(h)
		return true
	}
	return false
}

// reading is one that begins now.
func (l *life) reading() *hydration { return &hydration{erased: l.w.erased} }

// same reports whether a tenant was not erased since a reading began, nor is being erased.
func (h *hydration) same(w *world, t int) bool { return h.erased[t] == w.erased[t] && !w.erasing[t] }

// restore begins to read all tenants beside their owners, from the map on.
func (l *life) restore() {
	if l.restoring != nil {
		return
	}
	h := l.reading()
	for t := range h.due {
		h.due[t] = slices.Clone(l.w.promise[t])
	}
	l.restoring = h
	l.change(func(*format.Map) error { return ErrMoved }, func(error) {
		for _, e := range l.m.Live {
			h.tails = append(h.tails, l.w.tail(e.Epoch))
		}
		if len(h.tails) == 0 {
			l.restoring = nil
		}
	})
}

// restored checks that a restore has all that was acknowledged before it began.
func (l *life) restored(h *hydration) {
	all := *h.prefix
	for _, c := range h.recs {
		if h.same(l.w, c.tenant) {
			l.w.merge(&all, c, "restore")
		}
	}
	for t, due := range h.due {
		if !h.same(l.w, t) {
			continue
		}
		l.w.noneVoid(t, all[t], "a restore")
		if i := slices.Index(all[t], 0); i >= 0 && l.w.broken != "M2 behind gaps" {
			l.w.count["restore with more behind a gap"]++
			all[t] = all[t][:i]
		}
		if slices.Contains(all[t], 0) {
			l.w.failf("tenant %d is restored with a gap", t)
		}
		for i, v := range due {
			if v != 0 && (i >= len(all[t]) || all[t][i] != v) {
				l.w.failf("TXID %d of tenant %d was acknowledged with content %d, and a restore that began later does not have it", i+1, t, v)
			}
		}
	}
	l.w.count["restore"]++
}

// pumpReading reads the tails, then the prefixes, and reports whether it has both.
func (l *life) pumpReading(h *hydration) bool {
	if l.busy[h] > 0 {
		return false
	}
	if h.prefix == nil && (h.read || l.w.broken == "M2 prefixes first") {
		l.busy[h]++
		var found [modelTenants][]int
		var tombs [modelTenants]bool
		l.send(func() answer {
			for t := range found {
				found[t] = slices.Clone(l.w.prefix[t])
			}
			tombs = l.w.erasing
			return answer{}
		}, func(x answer) {
			l.busy[h]--
			if !x.lost {
				h.prefix, h.tombs = &found, tombs
			}
		})
		return false
	}
	if h.read {
		return h.prefix != nil
	}
	open := false
	for _, t := range h.tails {
		for _, a := range t.Asks() {
			open = true
			l.busy[h]++
			l.ask(a, func(x answer) {
				l.busy[h]--
				if !x.lost {
					t.take(l.w, a, x)
				}
			})
			if h == l.restoring && l.w.chance(3) { // so that a tenant can move meanwhile
				l.w.net[len(l.w.net)-1].slow = true
			}
		}
	}
	if open {
		return false
	}
	if !h.looked && l.w.erases && l.w.broken != "F9 finished meanwhile" {
		// What a log had that is finished by now is in the prefixes, unless it was void.
		l.busy[h]++
		h.looked = true
		l.change(func(*format.Map) error { return ErrMoved }, func(error) { l.busy[h]-- })
		return false
	}
	for _, t := range h.tails {
		if l.m.Find(t.epoch) < 0 && l.w.erases && l.w.broken != "F9 finished meanwhile" {
			continue
		}
		h.logs = append(h.logs, t.Objects()...)
		for _, o := range l.w.valid(t) {
			h.recs = append(h.recs, o.recs...)
		}
	}
	h.recs = l.w.without(NewForgotten(h.logs), h.recs)
	h.read = true
	return l.pumpReading(h)
}

// hydrated begins to serve shards with what was found of them.
func (l *life) hydrated(h *hydration) {
	all := *h.prefix
	for _, c := range h.recs {
		if slices.Contains(h.shards, l.w.shard[c.tenant]) && h.same(l.w, c.tenant) {
			l.w.merge(&all, c, "hydration")
		}
	}
	for t, s := range l.w.shard {
		if !slices.Contains(h.shards, s) {
			continue
		}
		l.ends[t] = map[uint64]uint64{}
		for _, tail := range h.tails {
			l.ends[t][tail.epoch] = tail.End()
		}
		l.erasing[t], l.forgot[t] = false, 0
		if h.same(l.w, t) { // else it is erased again, or this one was fenced long ago
			l.w.noneVoid(t, all[t], "an owner")
		}
		l.head[t] = len(all[t])
		from := len(h.prefix[t])
		l.mine[t] = commits{tenant: t, first: from + 1, vals: slices.Clone(all[t][from:])}
		if slices.Contains(all[t], 0) && h.same(l.w, t) {
			l.w.failf("tenant %d is hydrated with a gap", t)
		}
	}
	for _, s := range h.shards {
		l.owned[s] = true
		l.w.count["shard hydrated"]++
	}
	for t := range h.tombs { // what another life has begun
		if h.tombs[t] && slices.Contains(h.shards, l.w.shard[t]) {
			l.erase(t)
		}
	}
}
