package fleetlog

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// MaxListed bounds the objects of one log: twelve days of one a second that nothing trims.
const MaxListed = 1 << 20

// Listed is an object of a log, as a listing has it.
type Listed struct {
	Seq  uint64
	Size int64
}

// Tail reads what one log holds: from the newest packed on, below which the prefixes have
// all, or with History from the trim of the newest object on, up to the first gap or seal
// (F2, F4). It may read a log that is being written; what it finds was acknowledged, or
// will be unless a seal comes first.
type Tail struct {
	History bool // set before the first Asks

	epoch   uint64
	fresh   bool // listed has all that was acknowledged when the reading began
	listed  []Listed
	entries map[uint64]format.Entry // what counts under a number never changes
}

// NewTail reads the log of an epoch.
func NewTail(epoch uint64) *Tail {
	return &Tail{epoch: epoch, entries: map[uint64]format.Entry{}}
}

// Again begins anew with a listing. What was read stays.
func (t *Tail) Again() { t.fresh = false }

// Asks are the requests that are to be made now, in any order or at once: a List, or
// Reads. There is none when all is read.
func (t *Tail) Asks() []Ask {
	if !t.fresh {
		return []Ask{{Op: List, Name: format.LogDir(t.epoch)}}
	}
	if len(t.listed) == 0 {
		return nil
	}
	newest := t.listed[len(t.listed)-1].Seq
	if _, ok := t.entries[newest]; !ok {
		return []Ask{{Op: Read, Name: format.ObjectName(t.epoch, newest)}}
	}
	if seq, ok := t.beforeSeal(); ok {
		if _, read := t.entries[seq]; !read {
			return []Ask{{Op: Read, Name: format.ObjectName(t.epoch, seq)}}
		}
	}
	var asks []Ask
	for _, l := range t.run() {
		e, ok := t.entries[l.Seq]
		if !ok {
			asks = append(asks, Ask{Op: Read, Name: format.ObjectName(t.epoch, l.Seq)})
		} else if e.Seal != nil {
			break
		}
	}
	return asks
}

// Listing takes the answer to a List, in any order. A list with another object than those
// of logs is refused by the caller.
func (t *Tail) Listing(objects []Listed) error {
	if len(objects) > MaxListed {
		return fmt.Errorf("%w: more than %d objects in the log of epoch %d", untrusted.ErrDamaged, MaxListed, t.epoch)
	}
	t.listed = slices.Clone(objects)
	slices.SortFunc(t.listed, func(a, b Listed) int { return cmp.Compare(a.Seq, b.Seq) })
	t.fresh = true
	return nil
}

// Size is the size that an object was listed with.
func (t *Tail) Size(seq uint64) int64 {
	i, ok := t.at(seq)
	if !ok {
		return 0
	}
	return t.listed[i].Size
}

// Read takes what stands under a number. nil means nothing: it was trimmed since it was
// listed, and the listing is asked for again. So it is after a seal: it may stand in the
// place of an object that was trimmed since, and is void then. A listing that is made after
// it shows that.
func (t *Tail) Read(seq uint64, e *format.Entry) {
	if e == nil || e.Seal != nil && t.entries[seq].Seal == nil {
		t.fresh = false
	}
	if e != nil {
		t.entries[seq] = *e
	}
}

// Done reports whether all is read.
func (t *Tail) Done() bool { return len(t.Asks()) == 0 }

// Begin is the first number that counts, when all is read.
func (t *Tail) Begin() uint64 {
	begin := t.Trim()
	if t.History || len(t.listed) == 0 {
		return begin
	}
	seq := t.listed[len(t.listed)-1].Seq
	if before, ok := t.beforeSeal(); ok {
		seq = before
	}
	// What an object says to be packed is, also where the object itself is void.
	if e := t.entries[seq]; e.Log != nil {
		begin = max(begin, e.Log.Packed)
	}
	return begin
}

// Trim is that of the newest object, when all is read: what stands below is void.
func (t *Tail) Trim() uint64 {
	if len(t.listed) == 0 {
		return 1
	}
	return t.entries[t.listed[len(t.listed)-1].Seq].Trim()
}

// beforeSeal is the number before the newest, where that is a seal, which does not say
// what is packed; false: it need not be read.
func (t *Tail) beforeSeal() (uint64, bool) {
	last := len(t.listed) - 1
	if t.History || last < 1 || t.listed[last-1].Seq != t.listed[last].Seq-1 {
		return 0, false
	}
	e := t.entries[t.listed[last].Seq]
	return t.listed[last-1].Seq, e.Seal != nil && t.listed[last-1].Seq >= e.Trim()
}

// Objects are those that count, in order, when all is read.
func (t *Tail) Objects() []*format.Log {
	var logs []*format.Log
	for _, l := range t.run() {
		e := t.entries[l.Seq]
		if e.Log == nil {
			break
		}
		logs = append(logs, e.Log)
	}
	return logs
}

// End is the first number that does not count, when all is read: there is nothing, or a
// seal.
func (t *Tail) End() uint64 { return t.Begin() + uint64(len(t.Objects())) }

// Seal is the one that ends the log, when all is read, or nil if there is none.
func (t *Tail) Seal() *format.Seal {
	if i, ok := t.at(t.End()); ok {
		return t.entries[t.listed[i].Seq].Seal
	}
	return nil
}

// run has what was listed from the beginning on without a gap.
func (t *Tail) run() []Listed {
	from, ok := t.at(t.Begin())
	if !ok {
		return nil
	}
	to := from + 1
	for to < len(t.listed) && t.listed[to].Seq == t.listed[to-1].Seq+1 {
		to++
	}
	return t.listed[from:to]
}

func (t *Tail) at(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(t.listed, seq, func(l Listed, s uint64) int { return cmp.Compare(l.Seq, s) })
}
