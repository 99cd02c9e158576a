package format

import (
	"encoding/binary"
	"slices"

	"github.com/multidb-go/multidb/internal/varint"
)

// MaxLive is how many epochs may be live in one map.
const MaxLive = 4096

// Map says which epochs there are, and which of them owns which shard. Each change of it
// is an object of its own, with the next number.
type Map struct {
	Author  ID
	Number  uint64 // as in its name
	Created int64  // by the author's clock, in milliseconds since 1970
	// Next is the epoch that the next process life gets. All below it exist, or did.
	Next uint64
	// Live has the epochs whose logs may hold what no prefix has, ascending. Those
	// below Next that are not in it are finished (F8).
	Live []Live
	// Owners has the epoch that owns each shard, which is a live one, or 0.
	Owners [Shards]uint64

	Sum Sum // set by Encode and Decode
}

// Live is one epoch in a map.
type Live struct {
	Epoch uint64
	Life  ID // the process life whose epoch it is
	// Sealed is the number of the seal that ends the log, or 0 if none was known when
	// the map was made.
	Sealed uint64
	Node   string // where its owner is found, or who it was
}

// Find returns the place of an epoch in Live, or -1 if it does not exist or is finished.
func (m *Map) Find(epoch uint64) int {
	i, ok := slices.BinarySearchFunc(m.Live, epoch, func(l Live, e uint64) int {
		switch {
		case l.Epoch < e:
			return -1
		case l.Epoch > e:
			return 1
		}
		return 0
	})
	if !ok {
		return -1
	}
	return i
}

// Finished reports whether an epoch existed and is not live any more.
func (m *Map) Finished(epoch uint64) bool {
	return epoch > 0 && epoch < m.Next && m.Find(epoch) < 0
}

// Owns reports whether an epoch owns any shard.
func (m *Map) Owns(epoch uint64) bool { return slices.Contains(m.Owners[:], epoch) }

// Clone returns a copy that shares nothing that can be changed.
func (m *Map) Clone() *Map {
	c := *m
	c.Live = slices.Clone(m.Live)
	return &c
}

// Encode makes the object.
func (m *Map) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 256+64*len(m.Live)), m.Author[:]...)
	b = binary.AppendUvarint(b, m.Number)
	b = binary.AppendVarint(b, m.Created)
	b = binary.AppendUvarint(b, m.Next)
	b = binary.AppendUvarint(b, uint64(len(m.Live)))
	last := uint64(0)
	for _, l := range m.Live {
		b = binary.AppendUvarint(b, l.Epoch-last)
		last = l.Epoch
		b = append(b, l.Life[:]...)
		b = binary.AppendUvarint(b, l.Sealed)
		b = binary.AppendUvarint(b, uint64(len(l.Node)))
		b = append(b, l.Node...)
	}
	for i := 0; i < Shards; {
		j := i + 1
		for j < Shards && m.Owners[j] == m.Owners[i] {
			j++
		}
		b = binary.AppendUvarint(b, uint64(j-i))
		b = binary.AppendUvarint(b, m.Owners[i])
		i = j
	}
	b, sum, err := appendTrailer(b, kindMap, 0)
	m.Sum = sum
	return b, err
}

func (m *Map) check() error {
	if m.Number == 0 || m.Next == 0 || len(m.Live) > MaxLive {
		return damaged("map %d with %d live epochs and epoch %d to come", m.Number, len(m.Live), m.Next)
	}
	for i, l := range m.Live {
		if l.Epoch == 0 || l.Epoch >= m.Next || i > 0 && l.Epoch <= m.Live[i-1].Epoch || len(l.Node) > MaxText {
			return damaged("the live epoch %d of %.80q in map %d", l.Epoch, l.Node, m.Number)
		}
	}
	last := uint64(0)
	for s, e := range m.Owners {
		if e != last && e != 0 && m.Find(e) < 0 {
			return damaged("shard %d owned by epoch %d, which is not live, in map %d", s, e, m.Number)
		}
		last = e
	}
	return nil
}

// DecodeMap reads a map, as Decode does an object of a log.
func DecodeMap(end []byte, size int64, number uint64) (m *Map, need int64, err error) {
	f, need, err := openFrame(end, size)
	if err != nil || need > 0 {
		return nil, need, err
	}
	if f.kind != kindMap || f.payload > 0 {
		return nil, 0, damaged("an object of kind %d under the name %s", f.kind, MapName(number))
	}
	r := varint.Reader{B: f.footer}
	m = &Map{Sum: f.sum}
	copy(m.Author[:], r.Take(len(m.Author)))
	m.Number = r.Uvarint()
	m.Created = r.Varint()
	m.Next = r.Uvarint()
	n := r.Count(19) // what a live epoch takes at least
	if n > MaxLive {
		return nil, 0, damaged("%d live epochs in map %d, more than %d", n, number, MaxLive)
	}
	if n > 0 {
		m.Live = make([]Live, 0, n)
	}
	last := uint64(0)
	for range n {
		var l Live
		l.Epoch = last + r.Uvarint() // an overflow ends in the check of order
		last = l.Epoch
		copy(l.Life[:], r.Take(len(l.Life)))
		l.Sealed = r.Uvarint()
		l.Node = text(&r, MaxText)
		m.Live = append(m.Live, l)
	}
	for i := 0; i < Shards && !r.Bad; {
		n, epoch := r.Uvarint(), r.Uvarint()
		if n == 0 || n > uint64(Shards-i) {
			r.Fail()
			break
		}
		for range n {
			m.Owners[i] = epoch
			i++
		}
	}
	if r.Bad || len(r.B) > 0 {
		return nil, 0, damaged("a map that cannot be read to its end")
	}
	if m.Number != number {
		return nil, 0, damaged("map %d under the name %s", m.Number, MapName(number))
	}
	if err := m.check(); err != nil {
		return nil, 0, err
	}
	return m, 0, nil
}
