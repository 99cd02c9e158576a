package member

import (
	"slices"
	"strings"
	"sync"
)

// View is the part of a Session that tells who there is. The zero value has no members. Safe
// for concurrent use; Set is for one goroutine at a time.
type View struct {
	mu      sync.Mutex
	members []Member
	changed chan struct{}
}

// Set replaces the members by the ones given, which it keeps, in the order of their names. If
// they are others than before, those who wait for a change are told.
func (v *View) Set(members []Member) {
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	v.mu.Lock()
	defer v.mu.Unlock()
	if slices.Equal(v.members, members) {
		return
	}
	v.members = members
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// Members returns a copy of the members.
func (v *View) Members() []Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.members)
}

// Changed returns a channel that the next change closes.
func (v *View) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return v.changed
}
