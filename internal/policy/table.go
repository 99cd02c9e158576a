package policy

import "fmt"

// MaxDistinct is how many different policies a Table holds at once.
const MaxDistinct = 4096

// ErrFull: databases have too many different policies.
var ErrFull = fmt.Errorf("databases have more than %d different policies; those beyond are treated as one without any. Give many databases equal ones", MaxDistinct-1)

// Table keeps each policy once, however many databases have it, so that one of a million
// carries a number of two bytes. Not safe for concurrent use.
type Table struct {
	slots   []slot // by number; 0 is the default, which is never let go of
	numbers map[Policy]uint16
	free    []uint16
}

type slot struct {
	policy Policy
	users  int
}

// NewTable returns a Table in which number 0 is the policy of whoever has none of its own.
func NewTable(def Policy) *Table {
	return &Table{slots: []slot{{policy: def}}, numbers: map[Policy]uint16{def: 0}}
}

// Of is the policy of a number, which somebody has.
func (t *Table) Of(number uint16) Policy { return t.slots[number].policy }

// Len is how many different policies there are now, the default included.
func (t *Table) Len() int { return len(t.numbers) }

// Change gives the user of one number another policy, and returns the number of that. fresh:
// nobody else has it, so that its number may have been another policy's. The error is
// ErrFull; then the user keeps what it has.
func (t *Table) Change(from uint16, to Policy) (number uint16, fresh bool, err error) {
	number, ok := t.numbers[to]
	if !ok {
		if len(t.numbers) >= MaxDistinct && (from == 0 || t.slots[from].users > 1) {
			return from, false, ErrFull
		}
		number, fresh = t.take(to), true
	}
	t.slots[number].users++
	t.Drop(from)
	return number, fresh, nil
}

// take returns a free number, which is the policy's now. There are MaxDistinct+1 for the time
// in which the only user of one gets another.
func (t *Table) take(p Policy) (number uint16) {
	if n := len(t.free) - 1; n >= 0 {
		number, t.free = t.free[n], t.free[:n]
		t.slots[number].policy = p
	} else {
		number = uint16(len(t.slots)) // at most MaxDistinct
		t.slots = append(t.slots, slot{policy: p})
	}
	t.numbers[p] = number
	return number
}

// Drop says that a user of a number is gone.
func (t *Table) Drop(number uint16) {
	s := &t.slots[number]
	if number == 0 {
		return
	}
	if s.users--; s.users == 0 {
		delete(t.numbers, s.policy)
		t.free = append(t.free, number)
	}
}
