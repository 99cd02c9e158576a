package notify

import "sync"

// Lock is a mutex whose holder can note events. They are delivered when it is
// unlocked, outside of it, those of each key in their order: who receives them may take
// the Lock. As there is no other way to unlock it, no event is left behind.
type Lock[K comparable, E any] struct {
	mu      sync.Mutex
	noted   []E
	order   *Order[K, E]
	trouble Errors
	asEvent func(error) E
	deliver func(E)
}

// NewLock returns a Lock. key returns what an event is of, deliver is who receives
// them, and asEvent makes an event of an error that was added.
func NewLock[K comparable, E any](key func(E) K, deliver func(E), asEvent func(error) E) *Lock[K, E] {
	return &Lock[K, E]{order: NewOrder(key), deliver: deliver, asEvent: asEvent}
}

// Lock locks it.
func (l *Lock[K, E]) Lock() { l.mu.Lock() }

// Note notes events, for the holder of the Lock.
func (l *Lock[K, E]) Note(events ...E) { l.noted = append(l.noted, events...) }

// Add notes an error as an event. It may be called under any lock, this one included:
// the next Unlock delivers it.
func (l *Lock[K, E]) Add(err error) { l.trouble.Add(err) }

// Unlock unlocks it, and then delivers what was noted.
func (l *Lock[K, E]) Unlock() {
	for _, err := range l.trouble.Take() {
		l.noted = append(l.noted, l.asEvent(err))
	}
	if len(l.noted) == 0 {
		l.mu.Unlock()
		return
	}
	mine := l.order.Take(l.noted)
	l.noted = nil
	l.mu.Unlock()
	l.deliverFrom(mine, 0)
}

// deliverFrom delivers events from the i-th on, and then what came up of their keys
// meanwhile. Where the receiver panics, the others are delivered all the same before
// the panic goes on: they are claimed, so nobody else would.
func (l *Lock[K, E]) deliverFrom(events []E, i int) {
	whole := false
	defer func() {
		if !whole {
			l.deliverFrom(events, i+1)
		}
	}()
	for len(events) > 0 {
		for ; i < len(events); i++ {
			l.deliver(events[i])
		}
		l.mu.Lock()
		events, i = l.order.Done(events), 0
		l.mu.Unlock()
	}
	whole = true
}
