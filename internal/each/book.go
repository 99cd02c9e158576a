package each

import "sync"

// Book knows which names have a run now, and which calls of former runs have not returned.
// The zero Book is empty. Safe for concurrent use.
type Book struct {
	mu    sync.Mutex
	inUse map[string]bool
	out   map[call]bool
}

// call is what is done to one database under a name.
type call struct{ name, id string }

// Begin takes a name until end is called; ok is false if somebody has it. Any number may
// have the empty one.
func (b *Book) Begin(name string) (end func(), ok bool) {
	if name == "" {
		return func() {}, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inUse[name] {
		return nil, false
	}
	if b.inUse == nil {
		b.inUse = map[string]bool{}
	}
	b.inUse[name] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.inUse, name)
	}, true
}

// hung notes that a call has not returned, until returned is called.
func (b *Book) hung(name, id string) (returned func()) {
	if name == "" {
		return func() {}
	}
	c := call{name, id}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out == nil {
		b.out = map[call]bool{}
	}
	b.out[c] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.out, c)
	}
}

// isOut reports whether a call of a former run has not returned.
func (b *Book) isOut(name, id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out[call{name, id}]
}
