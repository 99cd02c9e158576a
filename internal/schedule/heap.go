package schedule

// entry is an item in a heap. The key is stored here and not in the item, so that sifting
// reads one array only, and a cold item needs no memory for a key.
type entry[T any] struct {
	key int64
	seq int64 // first in, first out among equal keys
	it  *Item[T]
}

func (e entry[T]) before(o entry[T]) bool {
	return e.key < o.key || e.key == o.key && e.seq < o.seq
}

// heap is a binary min-heap whose items know their index in it.
type heap[T any] struct {
	e    []entry[T]
	slot int // the element of Item.place for this heap
}

func (h *heap[T]) len() int { return len(h.e) }

func (h *heap[T]) key(it *Item[T]) int64 { return h.e[it.place[h.slot]-1].key }

func (h *heap[T]) push(e entry[T]) {
	h.e = append(h.e, e)
	h.up(len(h.e) - 1)
}

func (h *heap[T]) remove(it *Item[T]) {
	i := int(it.place[h.slot]) - 1
	last := len(h.e) - 1
	moved := h.e[last]
	h.e[last] = entry[T]{} // it must not keep the item alive
	h.e = h.e[:last]
	it.place[h.slot] = 0
	if i < last {
		h.e[i] = moved
		h.fix(i)
	}
}

// rekey gives an item of the heap another key and puts it behind the items of equal key.
func (h *heap[T]) rekey(it *Item[T], key, seq int64) {
	i := int(it.place[h.slot]) - 1
	h.e[i].key, h.e[i].seq = key, seq
	h.fix(i)
}

func (h *heap[T]) fix(i int) {
	if i > 0 && h.e[i].before(h.e[(i-1)/2]) {
		h.up(i)
		return
	}
	h.down(i)
}

func (h *heap[T]) up(i int) {
	e := h.e[i]
	for i > 0 {
		p := (i - 1) / 2
		if !e.before(h.e[p]) {
			break
		}
		h.set(i, h.e[p])
		i = p
	}
	h.set(i, e)
}

func (h *heap[T]) down(i int) {
	e := h.e[i]
	for {
		c := 2*i + 1
		if c >= len(h.e) {
			break
		}
		if c+1 < len(h.e) && h.e[c+1].before(h.e[c]) {
			c++
		}
		if !h.e[c].before(e) {
			break
		}
		h.set(i, h.e[c])
		i = c
	}
	h.set(i, e)
}

func (h *heap[T]) set(i int, e entry[T]) {
	h.e[i] = e
	e.it.place[h.slot] = int32(i + 1)
}
