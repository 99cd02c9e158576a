package fleetlog

import (
	"fmt"
	"math"
	"slices"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// Change changes the map: it reads the newest, edits a copy, and creates the one with the
// next number; if another was faster, it does so again from what won.
//
// A change that is given up may still come true. What it says must then be right: an epoch
// that nobody writes, or a shard that its giver has released.
type Change struct {
	author  format.ID
	created int64
	edit    func(*format.Map) error
	base    *format.Map // the newest that is known; number 0 if there is none
	mine    *format.Map
	data    []byte
	at      changing
	read    uint64 // number of the map that is to be read
	err     error
}

type changing int

const (
	listing changing = iota
	reading
	creating
	comparing // is what stands there this one, of which the answer was lost?
	done
)

// NewChange begins a change. Base is a map that was read before, or nil. Edit is called
// again for each map that is tried, and makes the change in the copy that it is given; an
// error ends the Change with it, and the map is as it was. The author's random number tells
// equal changes of two processes apart.
func NewChange(author format.ID, created int64, base *format.Map, edit func(*format.Map) error) *Change {
	if base == nil {
		base = &format.Map{Next: 1}
	}
	return &Change{author: author, created: created, edit: edit, base: base}
}

// Ask is what is to be requested now.
func (c *Change) Ask() Ask {
	switch c.at {
	case listing:
		ask := Ask{Op: List, Name: format.MapDir}
		if c.base.Number > 0 {
			ask.After = format.MapName(c.base.Number)
		}
		return ask
	case reading, comparing:
		return Ask{Op: Read, Name: format.MapName(c.read)}
	case creating:
		return Ask{Op: Create, Name: format.MapName(c.mine.Number), Data: c.data}
	}
	return Ask{}
}

// Listed takes the answer to the List: the greatest number that is there, or 0 for none
// after the one that is known.
func (c *Change) Listed(newest uint64) {
	switch {
	case c.at != listing:
	case newest == math.MaxUint64:
		c.end(nil, fmt.Errorf("%w: a map of the fleet log with the number %d", untrusted.ErrDamaged, newest))
	case newest > c.base.Number:
		c.at, c.read = reading, newest
	default:
		c.try()
	}
}

// Read takes the map that was asked for. nil means that there is none, which can only be
// after somebody deleted it (M1).
func (c *Change) Read(m *format.Map) {
	switch {
	case c.at != reading && c.at != comparing:
	case m == nil:
		c.end(nil, fmt.Errorf("%w: map %d of the fleet log is gone", untrusted.ErrDamaged, c.read))
	case c.at == comparing && m.Sum == c.mine.Sum:
		c.end(c.mine, nil)
	case c.at == comparing:
		c.base, c.at = m, listing
	default:
		c.base = m
		c.try()
	}
}

// Answered takes the outcome of the Create. After Unknown it is asked for again.
func (c *Change) Answered(o Outcome) {
	switch {
	case c.at != creating:
	case o == Created:
		c.end(c.mine, nil)
	case o == Exists:
		// Perhaps it is this one: whatever is between here and the store may have
		// made the request twice, and have lost the first answer.
		c.at, c.read = comparing, c.mine.Number
	}
}

func (c *Change) try() {
	m := c.base.Clone()
	if err := c.edit(m); err != nil {
		c.end(nil, err)
		return
	}
	m.Author, m.Created, m.Number = c.author, c.created, c.base.Number+1
	data, err := m.Encode()
	if err != nil {
		c.end(nil, err)
		return
	}
	c.mine, c.data, c.at = m, data, creating
}

func (c *Change) end(m *format.Map, err error) {
	c.at, c.err, c.data = done, err, nil
	if m != nil {
		c.base = m
	}
}

// Done reports whether the Change has ended, and with which error.
func (c *Change) Done() (bool, error) { return c.at == done, c.err }

// Map is the newest map that is known: after a Change without error the one that it made.
// Its number is 0 if there is none.
func (c *Change) Map() *format.Map { return c.base }

// Join gives a process life an epoch of its own, the greatest of the map. It owns nothing.
func Join(m *format.Map, life format.ID, node string) error {
	m.Live = append(m.Live, format.Live{Epoch: m.Next, Life: life, Node: node})
	m.Next++
	return nil
}

// EpochOf is the epoch of a process life, or 0 if it has none or it is finished.
func EpochOf(m *format.Map, life format.ID) uint64 {
	for _, l := range m.Live {
		if l.Life == life {
			return l.Epoch
		}
	}
	return 0
}

// TakeOver gives all shards of an epoch, whose log a Takeover has sealed at a number, to an
// heir (F7). ErrMoved means that another has finished it already; ErrFenced that the heir
// has ended itself.
func TakeOver(m *format.Map, from, sealed, heir uint64) error {
	i := m.Find(from)
	if i < 0 {
		return fmt.Errorf("%w: epoch %d is finished", ErrMoved, from)
	}
	if !writes(m, heir) {
		return ErrFenced
	}
	m.Live[i].Sealed = sealed
	for s, e := range m.Owners {
		if e == from {
			m.Owners[s] = heir
		}
	}
	return nil
}

// Give gives a shard, whose release the giver's log has acknowledged, to another epoch, or
// to none if that one has ended (F6). ErrMoved means that the giver does not own it any more.
func Give(m *format.Map, shard int, giver, to uint64) error {
	if m.Owners[shard] != giver {
		return fmt.Errorf("%w: shard %d is not of epoch %d", ErrMoved, shard, giver)
	}
	if !writes(m, to) {
		to = 0
	}
	m.Owners[shard] = to
	return nil
}

// Claim gives an epoch those of the shards that nobody owns. ErrMoved means that there are
// none; ErrFenced that the epoch has ended.
func Claim(m *format.Map, shards []int, epoch uint64) error {
	if !writes(m, epoch) {
		return ErrFenced
	}
	found := false
	for _, s := range shards {
		if m.Owners[s] == 0 {
			m.Owners[s], found = epoch, true
		}
	}
	if !found {
		return fmt.Errorf("%w: none of the shards is free", ErrMoved)
	}
	return nil
}

// Finish takes an epoch out of the live list (F8). The caller has seen that the log is
// sealed, and that every record of its tail is in its prefix. ErrMoved means that it is
// finished already, or owns a shard, or that no map says yet that it is sealed.
func Finish(m *format.Map, epoch uint64) error {
	i := m.Find(epoch)
	if i < 0 || m.Live[i].Sealed == 0 || m.Owns(epoch) {
		return fmt.Errorf("%w: epoch %d cannot be finished", ErrMoved, epoch)
	}
	m.Live = slices.Delete(m.Live, i, i+1)
	return nil
}

// writes reports whether an epoch is live, and no map says that it is sealed.
func writes(m *format.Map, epoch uint64) bool {
	i := m.Find(epoch)
	return i >= 0 && m.Live[i].Sealed == 0
}
