// Package varint reads what binary.AppendUvarint, binary.AppendVarint and append wrote
// one after another. It is pure; a Reader has one user at a time.
package varint

import "encoding/binary"

// Reader reads B from its beginning. After a failure it is Bad, has nothing left, and
// yields zeros, so that its user may look once at the end.
type Reader struct {
	B   []byte // what is left
	Bad bool
}

// Fail makes the reader Bad. Its user calls it for values that cannot be.
func (r *Reader) Fail() { r.B, r.Bad = nil, true }

// Uvarint reads an unsigned number.
func (r *Reader) Uvarint() uint64 {
	n, size := binary.Uvarint(r.B)
	if size <= 0 {
		r.Fail()
		return 0
	}
	r.B = r.B[size:]
	return n
}

// Varint reads a signed number.
func (r *Reader) Varint() int64 {
	n, size := binary.Varint(r.B)
	if size <= 0 {
		r.Fail()
		return 0
	}
	r.B = r.B[size:]
	return n
}

// Count reads how many things follow, of which each takes so many bytes or more. It
// fails where there is no room for them, so that no memory is set aside for a number
// that cannot be.
func (r *Reader) Count(size int) int {
	n := r.Uvarint()
	if n > uint64(len(r.B)/size) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Take reads n bytes, which share memory with B; after a failure they are n zeros.
func (r *Reader) Take(n int) []byte {
	if len(r.B) < n {
		r.Fail()
		return make([]byte, n)
	}
	p := r.B[:n]
	r.B = r.B[n:]
	return p
}
