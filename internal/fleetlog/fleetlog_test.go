package fleetlog

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/untrusted"
)

var me, other = format.ID{1}, format.ID{2}

func put(t *testing.T, w *Writer) *Flight {
	t.Helper()
	f, err := w.Put(0, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func entry(t *testing.T, a Ask) *format.Entry {
	t.Helper()
	epoch, seq, _ := format.ParseObjectName(a.Name)
	e, _, err := format.Decode(a.Data, int64(len(a.Data)), epoch, seq)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

func TestObjectsAreAcknowledgedInTheirOrder(t *testing.T) {
	w := NewWriter(me, 3)
	first, second := put(t, w), put(t, w)
	if w.Room() {
		t.Error("there is room for a third object while two are under way")
	}
	second.Answered(Created)
	if l := w.Acknowledged(); l != nil {
		t.Fatalf("object %d is acknowledged before the first", l.Seq)
	}
	first.Answered(Created)
	for _, want := range []uint64{1, 2} {
		if l := w.Acknowledged(); l == nil || l.Seq != want || w.Acked() != want {
			t.Fatalf("acknowledged is %+v, want %d", l, want)
		}
	}
	if w.Acknowledged() != nil || !w.Idle() || !w.Room() || w.Err() != nil {
		t.Error("the writer is not as it was in the beginning")
	}
}

func TestALostAnswerIsFoundByWhatStandsThere(t *testing.T) {
	w := NewWriter(me, 3)
	f := put(t, w)
	sent := f.Ask()
	f.Answered(Unknown)
	if again := f.Ask(); again.Op != Create || string(again.Data) != string(sent.Data) {
		t.Fatalf("after a lost answer %+v is asked for", again)
	}
	f.Answered(Exists)
	if look := f.Ask(); look.Op != Read || look.Name != sent.Name {
		t.Fatalf("where something is, %+v is asked for", look)
	}
	f.Looked(entry(t, sent))
	if l := w.Acknowledged(); l == nil || l.Seq != 1 {
		t.Fatal("what stands there is not taken for its own")
	}
}

// TestAnotherProcessOfTheSameEpochIsFoundOut: no map gives one epoch twice, but a store
// that loses its maps might.
func TestAnotherProcessOfTheSameEpochIsFoundOut(t *testing.T) {
	w, twin := NewWriter(me, 3), NewWriter(other, 3)
	f, g := put(t, w), put(t, twin)
	f.Answered(Exists)
	f.Looked(entry(t, g.Ask()))
	if l := w.Acknowledged(); l != nil || !errors.Is(w.Err(), ErrFenced) {
		t.Fatalf("acknowledged is %+v, error %v", l, w.Err())
	}
}

func TestASealEndsTheLogAfterAllThatWasBeforeIt(t *testing.T) {
	w := NewWriter(me, 3)
	first, second := put(t, w), put(t, w)
	seal := &format.Seal{Author: other, Epoch: 3, Seq: 2, Trim: 1, Who: "node-b"}
	data, err := seal.Encode()
	if err != nil {
		t.Fatal(err)
	}
	second.Answered(Exists)
	second.Looked(entry(t, Ask{Name: format.ObjectName(3, 2), Data: data}))
	if w.Acknowledged() != nil || w.Err() != nil {
		t.Fatal("the log has ended before the first object was decided")
	}
	first.Answered(Created)
	if l := w.Acknowledged(); l == nil || l.Seq != 1 {
		t.Fatalf("acknowledged is %+v, want the object before the seal", l)
	}
	if w.Room() {
		t.Error("an object may begin behind the seal")
	}
	if l := w.Acknowledged(); l != nil || !errors.Is(w.Err(), ErrFenced) || !strings.Contains(w.Err().Error(), "node-b") {
		t.Fatalf("acknowledged is %+v, error %v", l, w.Err())
	}
	if w.Room() || w.Acknowledged() != nil {
		t.Error("the writer goes on after its end")
	}
}

func TestDamageUnderAnObjectsNumberEndsTheLog(t *testing.T) {
	w := NewWriter(me, 3)
	f := put(t, w)
	f.Answered(Exists)
	f.Refuse(untrusted.ErrDamaged)
	if w.Acknowledged() != nil || !errors.Is(w.Err(), untrusted.ErrDamaged) {
		t.Fatalf("error is %v", w.Err())
	}
}

func TestAnObjectIsDeletableOnceAnAcknowledgedOneSaysSo(t *testing.T) {
	w := NewWriter(me, 3)
	for range 3 {
		put(t, w).Answered(Created)
		w.Acknowledged()
	}
	w.Unpacked(9, 3) // more than was written
	f := put(t, w)
	if f.Log.Packed != 4 || f.Log.Trim != 3 || w.Deletable() != 1 {
		t.Fatalf("packed %d, trim %d, deletable %d", f.Log.Packed, f.Log.Trim, w.Deletable())
	}
	w.Unpacked(1, 1) // never back
	f.Answered(Created)
	if w.Acknowledged(); w.Deletable() != 3 || put(t, w).Log.Trim != 3 {
		t.Fatalf("deletable is %d, want 3", w.Deletable())
	}
}

// shelf is a store at rest.
type shelf struct {
	t     *testing.T
	logs  map[uint64]*format.Entry
	count map[Op]int
}

func (s *shelf) serve(tail *Tail, a Ask) Outcome {
	s.count[a.Op]++
	_, seq, _ := format.ParseObjectName(a.Name)
	switch a.Op {
	case List:
		var all []Listed
		for seq := range s.logs {
			all = append(all, Listed{seq, 1})
		}
		if err := tail.Listing(all); err != nil {
			s.t.Fatal(err)
		}
	case Read:
		tail.Read(seq, s.logs[seq])
	case Create:
		if s.logs[seq] != nil {
			return Exists
		}
		s.logs[seq] = entry(s.t, a)
	}
	return Created
}

func newShelf(t *testing.T, trims map[uint64]uint64) *shelf {
	s := &shelf{t, map[uint64]*format.Entry{}, map[Op]int{}}
	for seq, trim := range trims {
		s.logs[seq] = &format.Entry{Log: &format.Log{Epoch: 3, Seq: seq, Trim: trim}}
	}
	return s
}

func TestAReaderBeginsAtTheTrimOfTheNewestAndEndsAtTheFirstGap(t *testing.T) {
	// 2 is a late copy of what was deleted, 7 was under way when the log ended.
	s := newShelf(t, map[uint64]uint64{2: 1, 4: 1, 5: 3, 7: 4})
	tail := NewTail(3)
	for !tail.Done() {
		for _, a := range tail.Asks() {
			s.serve(tail, a)
		}
	}
	if got := tail.Objects(); len(got) != 2 || got[0].Seq != 4 || tail.Begin() != 4 || tail.End() != 6 || tail.Seal() != nil {
		t.Fatalf("read %d objects from %d to %d", len(got), tail.Begin(), tail.End())
	}
	if s.count[Read] != 3 || s.count[List] != 1 {
		t.Errorf("it took %v", s.count)
	}
}

func TestAReaderListsAgainWhenAnObjectWasTrimmedMeanwhile(t *testing.T) {
	s := newShelf(t, map[uint64]uint64{1: 1, 2: 1})
	tail := NewTail(3)
	s.serve(tail, tail.Asks()[0]) // lists
	s.serve(tail, tail.Asks()[0]) // reads the newest
	delete(s.logs, 1)
	s.logs[3] = &format.Entry{Log: &format.Log{Epoch: 3, Seq: 3, Trim: 2}}
	for !tail.Done() {
		for _, a := range tail.Asks() {
			s.serve(tail, a)
		}
	}
	if got := tail.Objects(); len(got) != 2 || got[0].Seq != 2 || s.count[List] != 2 {
		t.Fatalf("read %d objects from %d on, %v", len(got), tail.Begin(), s.count)
	}
}

func TestAListingWithoutEndIsRefused(t *testing.T) {
	if err := NewTail(3).Listing(make([]Listed, MaxListed+1)); !errors.Is(err, untrusted.ErrDamaged) {
		t.Errorf("error is %v", err)
	}
}

func TestATakeOverListsSealsAndListsAgain(t *testing.T) {
	s := newShelf(t, map[uint64]uint64{1: 1, 2: 1})
	o := NewTakeover(format.Seal{Author: me, Epoch: 3, Next: 4, Who: "node-a"})
	drive(t, s, o, nil)
	if seal := o.Seal(); seal.Seq != 3 || seal.Trim != 1 || seal.Who != "node-a" || len(o.Objects()) != 2 {
		t.Fatalf("sealed with %+v after %d objects", seal, len(o.Objects()))
	}
	if fmt.Sprint(s.count) != fmt.Sprint(map[Op]int{List: 2, Read: 2, Create: 1}) {
		t.Errorf("it took %v", s.count)
	}
}

// drive does what a take-over asks for; before the first Create something else happens.
func drive(t *testing.T, s *shelf, o *Takeover, before func()) {
	t.Helper()
	for range 20 {
		if o.Done() {
			return
		}
		asks, err := o.Asks()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range asks {
			if a.Op != Create {
				s.serve(o.Tail, a)
				continue
			}
			if before != nil {
				before()
				before = nil
			}
			o.Answered(s.serve(o.Tail, a))
		}
	}
	t.Fatal("the take-over does not end")
}

func TestATakeOverReadsOnWhereTheOwnerWasFaster(t *testing.T) {
	s := newShelf(t, map[uint64]uint64{1: 1})
	o := NewTakeover(format.Seal{Author: me, Epoch: 3})
	drive(t, s, o, func() { s.logs[2] = &format.Entry{Log: &format.Log{Epoch: 3, Seq: 2, Trim: 1}} })
	if o.Seal().Seq != 3 || len(o.Objects()) != 2 {
		t.Fatalf("sealed at %d after %d objects", o.Seal().Seq, len(o.Objects()))
	}
}

// TestASealBelowTheTrimEndsNothing: who slept between the listing and the seal finds the
// gap free again, because the owner filled it, went on, trimmed and deleted.
func TestASealBelowTheTrimEndsNothing(t *testing.T) {
	s := newShelf(t, map[uint64]uint64{1: 1})
	o := NewTakeover(format.Seal{Author: me, Epoch: 3})
	drive(t, s, o, func() {
		delete(s.logs, 1) // and 2, which was there in between
		for seq := uint64(3); seq < 6; seq++ {
			s.logs[seq] = &format.Entry{Log: &format.Log{Epoch: 3, Seq: seq, Trim: 3}}
		}
	})
	if s.logs[2].Seal == nil {
		t.Fatal("the test does not do what it says: there is no seal at 2")
	}
	if o.Seal().Seq != 6 || len(o.Objects()) != 3 {
		t.Fatalf("sealed at %d after %d objects, want 6 and 3", o.Seal().Seq, len(o.Objects()))
	}
}

func join(id format.ID) func(*format.Map) error {
	return func(m *format.Map) error { return Join(m, id, "") }
}

func decoded(t *testing.T, a Ask) *format.Map {
	t.Helper()
	n, _ := format.ParseMapName(a.Name)
	m, _, err := format.DecodeMap(a.Data, int64(len(a.Data)), n)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAChangeIsMadeAgainFromWhatWon(t *testing.T) {
	c, d := NewChange(me, 0, nil, join(me)), NewChange(other, 0, nil, join(other))
	c.Listed(0)
	d.Listed(0)
	won := decoded(t, d.Ask())
	c.Answered(Exists)
	if a := c.Ask(); a.Op != Read || a.Name != format.MapName(1) {
		t.Fatalf("asks for %+v", a)
	}
	c.Read(won)
	if a := c.Ask(); a.Op != List || a.After != format.MapName(1) {
		t.Fatalf("asks for %+v", a)
	}
	c.Listed(0)
	if a := c.Ask(); a.Op != Create || a.Name != format.MapName(2) {
		t.Fatalf("asks for %+v", a)
	}
	c.Answered(Created)
	if over, err := c.Done(); !over || err != nil || EpochOf(c.Map(), me) != 2 || EpochOf(c.Map(), other) != 1 || c.Ask().Op != Nothing {
		t.Fatalf("%v, %v, map %+v", over, err, c.Map())
	}
}

func TestAChangeThatIsThereIsNotMadeTwice(t *testing.T) {
	c := NewChange(me, 0, nil, join(me))
	c.Listed(0)
	mine := decoded(t, c.Ask())
	c.Answered(Exists) // the client repeated the request, and hid that
	c.Read(mine)
	if over, err := c.Done(); !over || err != nil || c.Map().Next != 2 {
		t.Fatalf("%v, %v, map %+v", over, err, c.Map())
	}
}

// TestAnEqualChangeOfAnotherIsNotOnesOwn: two that want the same differ by their authors.
func TestAnEqualChangeOfAnotherIsNotOnesOwn(t *testing.T) {
	same := func(m *format.Map) error { m.Next++; return nil }
	c, d := NewChange(me, 0, nil, same), NewChange(other, 0, nil, same)
	c.Listed(0)
	d.Listed(0)
	c.Answered(Exists)
	c.Read(decoded(t, d.Ask()))
	if over, _ := c.Done(); over {
		t.Fatal("another's change is taken for its own")
	}
}

func TestAChangeEndsWithADamagedListOrALostMap(t *testing.T) {
	c := NewChange(me, 0, nil, join(me))
	c.Listed(math.MaxUint64)
	if over, err := c.Done(); !over || !errors.Is(err, untrusted.ErrDamaged) {
		t.Errorf("%v, %v", over, err)
	}
	c = NewChange(me, 0, nil, join(me))
	c.Listed(4)
	c.Read(nil)
	if over, err := c.Done(); !over || !errors.Is(err, untrusted.ErrDamaged) {
		t.Errorf("%v, %v", over, err)
	}
}

func TestAnEditSaysWhatItReliesOn(t *testing.T) {
	// Epoch 1 is finished, 2 is sealed, 3 owns shard 5, 4 owns none.
	start := &format.Map{Next: 5, Live: []format.Live{{Epoch: 2, Sealed: 9}, {Epoch: 3}, {Epoch: 4}}}
	start.Owners[5] = 3
	for name, c := range map[string]struct {
		edit  func(*format.Map) error
		err   error
		owner uint64 // of shard 5 afterwards
	}{
		"take over":                     {func(m *format.Map) error { return TakeOver(m, 3, 7, 4) }, nil, 4},
		"take over from a finished one": {func(m *format.Map) error { return TakeOver(m, 1, 7, 4) }, ErrMoved, 3},
		"take over while sealed":        {func(m *format.Map) error { return TakeOver(m, 3, 7, 2) }, ErrFenced, 3},
		"give":                          {func(m *format.Map) error { return Give(m, 5, 3, 4) }, nil, 4},
		"give to a sealed one":          {func(m *format.Map) error { return Give(m, 5, 3, 2) }, nil, 0},
		"give to a finished one":        {func(m *format.Map) error { return Give(m, 5, 3, 1) }, nil, 0},
		"give another's":                {func(m *format.Map) error { return Give(m, 5, 4, 2) }, ErrMoved, 3},
		"claim":                         {func(m *format.Map) error { return Claim(m, []int{5, 6}, 4) }, nil, 3},
		"claim what is owned":           {func(m *format.Map) error { return Claim(m, []int{5}, 4) }, ErrMoved, 3},
		"claim while sealed":            {func(m *format.Map) error { return Claim(m, []int{6}, 2) }, ErrFenced, 3},
		"finish":                        {func(m *format.Map) error { return Finish(m, 2) }, nil, 3},
		"finish an owner":               {func(m *format.Map) error { return Finish(m, 3) }, ErrMoved, 3},
		"finish one without a seal":     {func(m *format.Map) error { return Finish(m, 4) }, ErrMoved, 3},
		"finish twice":                  {func(m *format.Map) error { return Finish(m, 1) }, ErrMoved, 3},
	} {
		m := start.Clone()
		if err := c.edit(m); !errors.Is(err, c.err) || m.Owners[5] != c.owner {
			t.Errorf("%s: error is %v, shard 5 of %d", name, err, m.Owners[5])
		}
		m.Number = 1
		if _, err := m.Encode(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(start.Live, []format.Live{{Epoch: 2, Sealed: 9}, {Epoch: 3}, {Epoch: 4}}) {
			t.Fatalf("%s: the map before has changed", name)
		}
	}
}

// TestAReaderBeginsBehindWhatIsPacked, of which the seal does not say anything, and who
// wants the history at the trim.
func TestAReaderBeginsBehindWhatIsPacked(t *testing.T) {
	for name, sealed := range map[string]bool{"written": false, "sealed": true} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, nil)
			for seq := uint64(3); seq <= 100; seq++ {
				s.logs[seq] = &format.Entry{Log: &format.Log{Epoch: 3, Seq: seq, Trim: 5, Packed: seq - 2}}
			}
			reads := 3
			if sealed {
				s.logs[101] = &format.Entry{Seal: &format.Seal{Epoch: 3, Seq: 101, Trim: 5}}
				reads++
			}
			tail, history := NewTail(3), NewTail(3)
			history.History = true
			for _, r := range []*Tail{tail, history} {
				for !r.Done() {
					for _, a := range r.Asks() {
						s.serve(r, a)
					}
				}
				if got := r.Objects(); got[0].Seq != r.Begin() || got[len(got)-1].Seq != 100 || r.End() != 101 || r.Trim() != 5 || (r.Seal() != nil) != sealed {
					t.Errorf("read %d objects from %d to %d", len(got), r.Begin(), r.End())
				}
				if r == tail && s.count[Read] != reads {
					t.Errorf("it took %v", s.count)
				}
			}
			if tail.Begin() != 98 || history.Begin() != 5 {
				t.Errorf("they begin at %d, and with the history at %d", tail.Begin(), history.Begin())
			}
		})
	}
}
