// Package disk keeps account of the files that share a limited disk: how large each is, and
// which of them is to go first when they are too large together. It is pure: it has no lock
// and does no I/O. Its caller locks it.
package disk

import (
	"container/list"
	"slices"
)

// Disk is the account of files, each of which a T stands for. Not safe for concurrent use.
type Disk[T comparable] struct {
	max      int64
	used     int64 // by the files
	reserved int64 // for files that are being made
	files    map[T]*list.Element
	ranks    map[int]*list.List // of *file, the least recently used first, by priority
}

type file[T comparable] struct {
	of       T
	size     int64
	priority int
}

// New returns an empty account of a disk of max bytes.
func New[T comparable](max int64) *Disk[T] {
	return &Disk[T]{max: max, files: map[T]*list.Element{}, ranks: map[int]*list.List{}}
}

// Set notes how large a file is, with a priority: files of a lower one go first. One that
// was not known counts as used just now. A size of zero or less: there is no such file.
func (d *Disk[T]) Set(of T, size int64, priority int) {
	e := d.files[of]
	if e == nil && size > 0 {
		d.files[of] = d.rank(priority).PushBack(&file[T]{of, size, priority})
		d.used += size
		return
	} else if e == nil {
		return
	}
	f := e.Value.(*file[T])
	d.used += max(size, 0) - f.size
	f.size = size
	switch {
	case size <= 0:
		d.remove(f, e)
	case priority != f.priority:
		d.ranks[f.priority].Remove(e)
		f.priority = priority
		d.files[of] = d.rank(priority).PushBack(f)
	}
}

func (d *Disk[T]) rank(priority int) *list.List {
	l := d.ranks[priority]
	if l == nil {
		l = list.New()
		d.ranks[priority] = l
	}
	return l
}

func (d *Disk[T]) remove(f *file[T], e *list.Element) {
	l := d.ranks[f.priority]
	l.Remove(e)
	if l.Len() == 0 {
		delete(d.ranks, f.priority)
	}
	delete(d.files, f.of)
}

// Touch notes that a file is used now.
func (d *Disk[T]) Touch(of T) {
	if e := d.files[of]; e != nil {
		d.ranks[e.Value.(*file[T]).priority].MoveToBack(e)
	}
}

// Size is how large a file is; zero: it is not known.
func (d *Disk[T]) Size(of T) int64 {
	if e := d.files[of]; e != nil {
		return e.Value.(*file[T]).size
	}
	return 0
}

// Reserve notes that a file of that size is about to be made; Release, that it was, or will
// not be.
func (d *Disk[T]) Reserve(size int64) { d.reserved += size }

// Release ends a Reserve.
func (d *Disk[T]) Release(size int64) { d.reserved -= size }

// Over is by how many bytes all is too large, if size more are to be had; zero or less: there
// is room.
func (d *Disk[T]) Over(size int64) int64 { return d.used + d.reserved + size - d.max }

// Used is how large all files are, together with what is reserved.
func (d *Disk[T]) Used() int64 { return d.used + d.reserved }

// Len is how many files there are.
func (d *Disk[T]) Len() int { return len(d.files) }

// First returns up to n files that are to go first, of those for which may is true. It looks
// at no more than tries of them.
func (d *Disk[T]) First(n, tries int, may func(T) bool) (first []T) {
	priorities := make([]int, 0, len(d.ranks))
	for p := range d.ranks {
		priorities = append(priorities, p)
	}
	slices.Sort(priorities)
	for _, p := range priorities {
		for e := d.ranks[p].Front(); e != nil; e = e.Next() {
			if len(first) == n || tries == 0 {
				return first
			}
			tries--
			if of := e.Value.(*file[T]).of; may(of) {
				first = append(first, of)
			}
		}
	}
	return first
}
