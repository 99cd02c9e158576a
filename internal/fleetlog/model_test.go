package fleetlog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// The model: a few nodes with a process life each, which drive the machines of this
// package over one store. Each request is a message of its own: it is done at some later
// time, perhaps twice, perhaps after its author has died, and its answer comes later
// still, or never. Nodes sleep, suspect each other without reason, crash, and move shards.
// After each step, a reader of the whole store must find every acknowledged commit, no
// commit with two contents, and no gap.
//
// A step that breaks a rule is in the driver, where it takes a machine's place or lies to it.

const (
	modelNodes   = 3
	modelTenants = 4
	modelSteps   = 4000
)

var modelSeeds = flag.Int("fleetlog.seeds", 0, "how many seeds the model tries; 0: a few")
var modelSeed = flag.Uint64("fleetlog.seed", 1, "the first seed that the model tries")

// breaks are the rules that the model can break.
var breaks = []struct {
	name, what string
	after      uint64 // the seeds up to here are known not to notice; that costs time only
}{
	{"F1 any order", "an object is acknowledged as soon as it is there, before those before it", 0},
	{"F2 past gaps", "a reader takes what stands behind the first gap", 0},
	{"F2 past seals", "a reader takes what stands behind a seal", 0},
	{"F3 no seal", "the map is changed without a seal", 0},
	{"F3 seal at the end", "the seal is created behind the last object instead of at the first gap", 0},
	{"F3 refused is sealed", "what stands at the place of the seal is taken for one", 0},
	{"F3 not read again", "a seal that was created counts, though the owner may have trimmed beyond its place", 0},
	{"F3 not listed again", "a reader believes a seal that may stand in the place of what was trimmed since the listing", 17103},
	{"F3 seals deleted", "the seal goes with the log", 0},
	{"F4 trim ignored", "a reader begins at the first object that is there", 0},
	{"F4 deleted early", "objects are deleted before an acknowledged one says so", 0},
	{"F5 unpacked early", "a record is unpacked before it is acknowledged", 0},
	{"F6 map first", "the map is changed before the release is acknowledged", 0},
	{"F6 given twice", "the map is changed though it does not name the giver any more", 0},
	{"F7 one shard", "one shard is taken from an owner whose log is not sealed", 0},
	{"F8 finished early", "a log leaves the live list while it has what no prefix has", 0},
	{"F8 finished unsealed", "a log leaves the live list though it has no seal", 0},
	{"F9 not forgotten", "a reader takes the records of a prefix from before it was erased", 0},
	{"F9 own log only", "the records of former logs are not said to be void", 0},
	{"F9 begun early", "a new history begins before it is acknowledged that the old one is void", 0},
	{"F9 packed over", "a log says to be packed beyond what makes records of a live log void", 0},
	{"F9 finished first", "a log is finished before one whose records it makes void", 0},
	{"F9 finished meanwhile", "a reader takes records of a log that was finished since its map", 150},
	{"M1 maps deleted", "old maps are deleted", 0},
	{"M2 prefixes first", "the prefixes are read before the logs", 0},
	{"M2 behind gaps", "a restore takes what it finds behind a gap in a tenant's TXIDs", 0},
	{"M3 begun again", "who has released a shard serves it again by a map from before", 0},
}

func TestNothingAcknowledgedIsLostWhileAllRulesHold(t *testing.T) {
	seeds := *modelSeeds
	if seeds == 0 {
		if seeds = 40; testing.Short() {
			seeds = 8
		}
	}
	sum := map[string]int{}
	for s := *modelSeed; s < *modelSeed+uint64(seeds); s++ {
		w := newWorld(s, "")
		if step, bad := w.run(modelSteps); bad != "" {
			t.Fatalf("seed %d, step %d: %s\nrepeat with -args -fleetlog.seeds 1 -fleetlog.seed %d", s, step, bad, s)
		}
		for k, n := range w.count {
			sum[k] += n
		}
	}
	t.Logf("seeds %d to %d of %d steps: %v", *modelSeed, *modelSeed+uint64(seeds)-1, modelSteps, sum)
	for _, k := range []string{"commit acknowledged", "object acknowledged", "seal", "take-over", "move", "fenced", "crash", "lost answer", "late copy",
		"refused its own copy", "unpacked", "deleted", "finished", "shard hydrated", "void object", "restore", "erased", "erased again", "void record"} {
		if sum[k] == 0 {
			t.Errorf("no %s in any run: the model does not try what it should", k)
		}
	}
}

func TestEachRuleIsMissedWhenItIsBroken(t *testing.T) {
	const most = 600
	for _, b := range breaks {
		t.Run(b.name, func(t *testing.T) {
			for s := b.after + 1; s <= b.after+most; s++ {
				w := newWorld(s, b.name)
				if step, bad := w.run(modelSteps); bad != "" {
					t.Logf("%s: seed %d, step %d: %s", b.what, s, step, bad)
					return
				}
			}
			t.Errorf("%s, and in %d seeds nobody notices", b.what, most)
		})
	}
}

type world struct {
	rnd      *rand.Rand
	old      bool // readers read what is packed too
	broken   string
	slow     func(Ask) bool // which requests take long
	patience int            // and how long
	logs     map[uint64]map[uint64]*stored
	maps     map[uint64]*format.Map
	bytes    map[string][]byte // all objects
	prefix   [modelTenants][]int
	promise  [modelTenants][]int
	erases   bool               // tenants are erased; not where another rule is broken, whose seeds are known
	erasing  [modelTenants]bool // from its beginning until it is known to be done, by whomever
	erased   [modelTenants]int  // how often
	gone     map[int]bool       // commits of histories that were erased
	net      []*call
	late     []func() answer // may still be done, at any time
	nodes    [modelNodes]*life
	names    [modelTenants]string
	shard    [modelTenants]int
	value    int
	lives    uint64
	changed  bool // since the last check
	bad      string
	count    map[string]int
}

type stored struct {
	entry format.Entry
	recs  []commits
}

// commits are consecutive ones of a tenant.
type commits struct {
	tenant, first int
	vals          []int
	epoch, seq    uint64 // of the object that has their record
}

// without are those that are not void by what logs say.
func (w *world) without(forgotten Forgotten, recs []commits) (kept []commits) {
	if w.broken == "F9 not forgotten" {
		return recs
	}
	for _, c := range recs {
		if forgotten.Has(c.epoch, c.seq, w.names[c.tenant]) {
			w.count["void record"]++
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// call is a request on its way, or its answer on its way back.
type call struct {
	by     *life
	do     func() answer
	done   bool
	slow   bool
	more   func() // to be done before, at another time
	answer answer
	then   func(answer)
}

type answer struct {
	lost    bool
	outcome Outcome
	entry   *format.Entry
	m       *format.Map
	listed  []Listed
	newest  uint64
}

// tail is a reader of a log, which in every other world reads what is packed too.
func (w *world) tail(epoch uint64) *Tail {
	t := NewTail(epoch)
	t.History = w.old
	return t
}

func newWorld(seed uint64, broken string) *world {
	w := &world{erases: broken == "" && seed%4 > 1 || strings.HasPrefix(broken, "F9"), old: seed%2 == 0, rnd: rand.New(rand.NewPCG(seed, 13)), broken: broken, logs: map[uint64]map[uint64]*stored{}, maps: map[uint64]*format.Map{},
		bytes: map[string][]byte{}, count: map[string]int{}, gone: map[int]bool{}}
	w.slow = []func(Ask) bool{
		func(Ask) bool { return false },
		func(Ask) bool { return w.chance(12) },
		func(a Ask) bool { return what(a) == "object" && w.chance(3) },
		func(a Ask) bool { return what(a) == "map" && w.chance(2) },
		func(a Ask) bool { return what(a) == "seal" && w.chance(2) },
	}[seed%5]
	w.patience = 40
	if seed%5 == 4 { // in which the owner of the log can do much
		w.patience = 250
	}
	// Four tenants in two shards.
	var found []int
	for i, n := 0, 0; n < modelTenants; i++ {
		name := fmt.Sprint("tenant/", i)
		s := format.Shard(name)
		if n < 2 && !slices.Contains(found, s) {
			found = append(found, s)
		} else if n < 2 || s != found[n-2] {
			continue
		}
		w.names[n], w.shard[n] = name, s
		n++
	}
	for i := range w.nodes {
		w.nodes[i] = w.birth(i)
	}
	return w
}

func (w *world) failf(format string, args ...any) {
	if w.bad == "" {
		w.bad = fmt.Sprintf(format, args...)
	}
}

func (w *world) chance(n int) bool { return w.rnd.IntN(n) == 0 }

func (w *world) run(steps int) (int, string) {
	for i := range steps {
		w.step()
		if w.changed {
			w.changed = false
			w.check()
		}
		if w.bad != "" {
			return i, w.bad
		}
	}
	return steps, ""
}

func (w *world) step() {
	l := w.nodes[w.rnd.IntN(modelNodes)]
	if l.asleep {
		l.asleep = !w.chance(50)
		w.network()
		return
	}
	switch op := w.rnd.IntN(400); {
	case op < 50:
		l.commit(w.rnd.IntN(modelTenants))
	case op < 80:
		l.flush()
	case op < 335:
		w.network()
	case op < 365:
		l.unpack(w.rnd.IntN(modelTenants))
	case op < 378:
		l.trim()
	case op < 382:
		l.move()
	case op < 385:
		l.suspect()
	case op < 390:
		l.finish()
		l.restore()
	case op < 394 || op < 398 && !w.erases:
		l.look()
	case op < 398:
		l.erase(w.rnd.IntN(modelTenants))
	case op < 399:
		l.asleep = true
	case w.chance(4):
		w.count["crash"]++
		l.die()
	}
	w.nodes[l.node].pump()
	w.network()
}

// network does a request, or brings an answer or loses it.
func (w *world) network() {
	if len(w.late) > 0 && w.chance(15) { // a copy, or one whose author gave it up
		i := w.rnd.IntN(len(w.late))
		do := w.late[i]
		if w.chance(2) {
			w.late = slices.Delete(w.late, i, i+1)
		}
		do()
		w.count["late copy"]++
		return
	}
	if len(w.net) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.net))
	c := w.net[i]
	lost := false
	switch {
	case !c.done && c.slow && !w.chance(w.patience):
		return
	case !c.done && c.more != nil:
		c.more()
		c.more = nil
		return
	case !c.done && w.chance(40): // given up before it is done
		lost = true
		w.late = append(w.late, c.do)
	case !c.done:
		c.answer, c.done = c.do(), true
		if w.chance(8) { // twice, and the second answer counts
			c.answer = c.do()
		}
		if w.chance(10) {
			w.late = append(w.late, c.do)
		}
		if lost = w.chance(12); !lost {
			return
		}
	case c.by.asleep:
		return
	}
	w.net = slices.Delete(w.net, i, i+1)
	if lost {
		c.answer = answer{lost: true}
		w.count["lost answer"]++
	}
	if !c.by.dead {
		c.then(c.answer)
		c.by.pump()
	}
}

// ask sends a request of a machine.
func (l *life) ask(a Ask, then func(answer)) {
	l.send(func() answer { return l.w.serve(a) }, then)
	c := l.w.net[len(l.w.net)-1]
	c.slow = l.w.slow(a)
	if a.Op == List && a.Name != format.MapDir && l.w.chance(2) {
		l.page(c, a)
	}
}

// page makes a listing that is read in two pages, between which anything may happen.
func (l *life) page(c *call, a Ask) {
	var first []Listed
	bySeq := func(a, b Listed) int { return cmp.Compare(a.Seq, b.Seq) }
	c.more = func() {
		first = slices.SortedFunc(slices.Values(l.w.serve(a).listed), bySeq)
		first = first[:l.w.rnd.IntN(len(first)+1)]
	}
	c.do = func() answer {
		x := l.w.serve(a)
		last := uint64(0)
		if len(first) > 0 {
			last = first[len(first)-1].Seq
		}
		x.listed = slices.DeleteFunc(x.listed, func(o Listed) bool { return o.Seq <= last })
		x.listed = append(x.listed, first...)
		return x
	}
}

// what is the kind of object that is to be created, or "".
func what(a Ask) string {
	if a.Op != Create {
		return ""
	}
	if _, ok := format.ParseMapName(a.Name); ok {
		return "map"
	}
	epoch, seq, _ := format.ParseObjectName(a.Name)
	if e, _, err := format.Decode(a.Data, int64(len(a.Data)), epoch, seq); err == nil && e.Seal != nil {
		return "seal"
	}
	return "object"
}

func (l *life) send(do func() answer, then func(answer)) {
	l.w.net = append(l.w.net, &call{by: l, do: do, then: then})
}

// serve is the store.
func (w *world) serve(a Ask) (x answer) {
	switch a.Op {
	case Create:
		if old := w.bytes[a.Name]; old != nil {
			x.outcome = Exists
			if bytes.Equal(old, a.Data) {
				w.count["refused its own copy"]++
			}
			return x
		}
		x.outcome, w.changed = Created, true
		w.put(a.Name, a.Data)
	case Read:
		if epoch, seq, ok := format.ParseObjectName(a.Name); ok {
			if o := w.logs[epoch][seq]; o != nil {
				x.entry = &o.entry
			}
		} else if n, ok := format.ParseMapName(a.Name); ok {
			x.m = w.maps[n]
		}
	case List:
		if a.Name == format.MapDir {
			x.newest = w.newest()
			if x.newest > 0 && format.MapName(x.newest) <= a.After {
				x.newest = 0
			}
			return x
		}
		epoch, _, _ := format.ParseObjectName(a.Name + format.ObjectName(1, 1)[:16])
		for seq := range w.logs[epoch] {
			x.listed = append(x.listed, Listed{Seq: seq, Size: 1})
		}
	}
	return x
}

func (w *world) put(name string, data []byte) {
	w.bytes[name] = data
	if n, ok := format.ParseMapName(name); ok {
		m, need, err := format.DecodeMap(data, int64(len(data)), n)
		if err != nil || need > 0 {
			w.failf("%s: %v", name, err)
			return
		}
		w.maps[n] = m
		return
	}
	epoch, seq, _ := format.ParseObjectName(name)
	e, need, err := format.Decode(data, int64(len(data)), epoch, seq)
	if err != nil || need > 0 {
		w.failf("%s: %v", name, err)
		return
	}
	o := &stored{entry: e}
	if e.Log != nil {
		o.recs = w.commitsOf(e.Log, data)
	} else {
		w.count["seal"]++
	}
	if w.logs[epoch] == nil {
		w.logs[epoch] = map[uint64]*stored{}
	}
	w.logs[epoch][seq] = o
}

func (w *world) commitsOf(l *format.Log, data []byte) (all []commits) {
	for _, r := range l.Records {
		c := commits{tenant: slices.Index(w.names[:], r.Prefix), first: int(r.Min), epoch: l.Epoch, seq: l.Seq}
		for b := range slices.Chunk(data[r.Offset:r.Offset+r.Size], 8) {
			c.vals = append(c.vals, int(binary.LittleEndian.Uint64(b)))
		}
		all = append(all, c)
	}
	return all
}

func (w *world) newest() (n uint64) {
	for m := range w.maps {
		n = max(n, m)
	}
	return n
}

func (w *world) delete(names []string) {
	for _, name := range names {
		if w.bytes[name] == nil {
			continue
		}
		w.changed = true
		w.count["deleted"]++
		delete(w.bytes, name)
		if epoch, seq, ok := format.ParseObjectName(name); ok {
			delete(w.logs[epoch], seq)
		} else if n, ok := format.ParseMapName(name); ok {
			delete(w.maps, n)
		}
	}
}

// valid are the objects that a reader takes, who has read all that the Tail asked for.
func (w *world) valid(t *Tail) []*stored {
	var objects []*stored
	take := func(seq uint64) {
		if o := w.logs[t.epoch][seq]; o != nil && o.entry.Log != nil {
			objects = append(objects, o)
		}
	}
	pastGaps, pastSeals := w.broken == "F2 past gaps", w.broken == "F2 past seals"
	begin := t.Begin()
	if w.broken == "F4 trim ignored" && len(t.listed) > 0 {
		begin = t.listed[0].Seq
	} else if !pastGaps && !pastSeals {
		for _, o := range t.Objects() {
			if w.logs[t.epoch][o.Seq] == nil { // deleted since it was read
				continue
			}
			take(o.Seq)
		}
		return objects
	}
	last := begin - 1
	for _, l := range t.listed {
		if l.Seq < begin {
			continue
		}
		if l.Seq != last+1 && !pastGaps {
			break
		}
		if o := w.logs[t.epoch][l.Seq]; o != nil && o.entry.Seal != nil && !pastSeals {
			break
		}
		take(l.Seq)
		last = l.Seq
	}
	return objects
}

// history is what a reader of the whole store finds of all tenants while nothing moves.
func (w *world) history() (h [modelTenants][]int) {
	for t := range h {
		h[t] = slices.Clone(w.prefix[t])
	}
	m := w.maps[w.newest()]
	if m == nil {
		return h
	}
	var recs []commits
	var logs []*format.Log
	for _, live := range m.Live {
		t := NewTail(live.Epoch)
		for asks := t.Asks(); len(asks) > 0; asks = t.Asks() {
			for _, a := range asks {
				t.take(w, a, w.serve(a))
			}
		}
		logs = append(logs, t.Objects()...)
		for _, o := range w.valid(t) {
			recs = append(recs, o.recs...)
		}
		for seq := range w.logs[live.Epoch] {
			if seq > t.End() {
				w.count["void object"]++
			}
		}
	}
	for _, c := range w.without(NewForgotten(logs), recs) {
		w.merge(&h, c, fmt.Sprint("epoch ", c.epoch))
	}
	return h
}

func (w *world) merge(h *[modelTenants][]int, c commits, where string) {
	for i, v := range c.vals {
		x := c.first + i
		for len(h[c.tenant]) < x {
			h[c.tenant] = append(h[c.tenant], 0)
		}
		if old := h[c.tenant][x-1]; old != 0 && old != v && !w.erasing[c.tenant] {
			w.failf("TXID %d of tenant %d has two contents, %d and %d (%s)", x, c.tenant, old, v, where)
		}
		h[c.tenant][x-1] = v
	}
}

func (t *Tail) take(w *world, a Ask, x answer) {
	if a.Op == List {
		if err := t.Listing(x.listed); err != nil {
			w.failf("%v", err)
		}
		return
	}
	_, seq, _ := format.ParseObjectName(a.Name)
	fresh := t.fresh
	if t.Read(seq, x.entry); w.broken == "F3 not listed again" && x.entry != nil {
		t.fresh = fresh
	}
}

func (w *world) check() {
	h := w.history()
	for t := range modelTenants {
		if w.erasing[t] {
			continue
		}
		w.noneVoid(t, h[t], "a reader")
		if i := slices.Index(h[t], 0); i >= 0 {
			w.failf("tenant %d has no TXID %d of %d", t, i+1, len(h[t]))
		}
		if i := slices.Index(w.prefix[t], 0); i >= 0 {
			w.failf("the prefix of tenant %d has no TXID %d of %d", t, i+1, len(w.prefix[t]))
		}
		for i, v := range w.promise[t] {
			if v != 0 && (i >= len(h[t]) || h[t][i] != v) {
				w.failf("TXID %d of tenant %d was acknowledged with content %d, and is not found", i+1, t, v)
			}
		}
	}
}

// noneVoid checks that nothing of an erased history was found.
func (w *world) noneVoid(t int, found []int, who string) {
	if i := slices.IndexFunc(found, func(v int) bool { return w.gone[v] }); i >= 0 {
		w.failf("%s finds TXID %d of tenant %d with content %d, which was erased", who, i+1, t, found[i])
	}
}
