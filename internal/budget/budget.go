// Package budget keeps a sum of sizes within a limit by choosing which holders have to
// shrink. It does not know what the sizes are of. It has no lock and does no I/O.
package budget

import "container/heap"

// Budget has the sizes of any number of holders and their sum. While the sum is above the
// limit, Next returns holders that have to shrink, that of the greatest weight first, and
// none of them again before it has answered. All operations are O(log n) at most. Not safe
// for concurrent use.
type Budget[K comparable] struct {
	limit int64
	total int64
	asked int64 // the sum of the sizes of holders that were asked and have not answered
	slots map[K]*slot[K]
	queue queue[K] // the holders that may be asked
}

// slot is one holder.
type slot[K comparable] struct {
	key          K
	size, weight int64
	state        state
	at           int // in the queue
}

type state uint8

const (
	waiting state = iota // in the queue
	asked                // Next has returned it, and it has not answered
	unable               // it could not shrink; its next Set puts it into the queue
)

// New returns an empty budget. A limit of zero or less means no limit: then Next never
// returns a holder.
func New[K comparable](limit int64) *Budget[K] {
	return &Budget[K]{limit: limit, slots: map[K]*slot[K]{}}
}

// Asked reports whether Next has returned the holder and it has not answered.
func (b *Budget[K]) Asked(k K) bool {
	s := b.slots[k]
	return s != nil && s.state == asked
}

// Set records the size of a holder; zero or less removes it. A holder of more weight is
// asked before one of less. answer means that the holder was asked and has shrunk as far as
// it could. If it is still larger than half of its former size, it is not asked again before
// its next Set: otherwise a holder that cannot shrink would be asked in a loop.
func (b *Budget[K]) Set(k K, size, weight int64, answer bool) {
	if size <= 0 {
		b.Remove(k)
		return
	}
	s := b.slots[k]
	if s == nil {
		s = &slot[K]{key: k, state: unable}
		b.slots[k] = s
		answer = false
	}
	old := s.size
	b.total += size - old
	s.size, s.weight = size, weight
	switch {
	case s.state == waiting:
		heap.Fix(&b.queue, s.at)
	case s.state == asked && !answer:
		b.asked += size - old
	case s.state == asked && size > old/2:
		b.asked -= old
		s.state = unable
	default:
		if s.state == asked {
			b.asked -= old
		}
		s.state = waiting
		heap.Push(&b.queue, s)
	}
}

// Remove forgets a holder.
func (b *Budget[K]) Remove(k K) {
	s := b.slots[k]
	if s == nil {
		return
	}
	delete(b.slots, k)
	b.total -= s.size
	switch s.state {
	case waiting:
		heap.Remove(&b.queue, s.at)
	case asked:
		b.asked -= s.size
	}
}

// Next returns the next holder that has to shrink. It returns false if the holders that were
// asked already are enough, or if none is left to ask.
func (b *Budget[K]) Next() (k K, ok bool) {
	if b.limit <= 0 || b.total-b.asked <= b.limit || len(b.queue) == 0 {
		return k, false
	}
	s := heap.Pop(&b.queue).(*slot[K])
	s.state = asked
	b.asked += s.size
	return s.key, true
}

// queue is a heap with the heaviest first.
type queue[K comparable] []*slot[K]

func (q queue[K]) Len() int           { return len(q) }
func (q queue[K]) Less(i, j int) bool { return q[i].weight > q[j].weight }
func (q queue[K]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}
func (q *queue[K]) Push(x any) {
	s := x.(*slot[K])
	s.at = len(*q)
	*q = append(*q, s)
}
func (q *queue[K]) Pop() any {
	old := *q
	n := len(old) - 1
	s := old[n]
	old[n] = nil
	*q = old[:n]
	return s
}
