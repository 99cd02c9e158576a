package varint

import (
	"encoding/binary"
	"math"
	"testing"
)

func TestWhatWasAppendedIsReadInItsOrder(t *testing.T) {
	b := binary.AppendUvarint(nil, math.MaxUint64)
	b = binary.AppendVarint(b, math.MinInt64)
	b = append(b, "text"...)
	b = binary.AppendUvarint(b, 2)
	b = append(b, 1, 2, 3, 4)
	r := Reader{B: b}
	if n := r.Uvarint(); n != math.MaxUint64 {
		t.Errorf("read %d", n)
	}
	if n := r.Varint(); n != math.MinInt64 {
		t.Errorf("read %d", n)
	}
	if s := r.Take(4); string(s) != "text" {
		t.Errorf("read %q", s)
	}
	if n := r.Count(2); n != 2 || r.Bad || len(r.B) != 4 {
		t.Errorf("%d things, and then %v, bad: %t", n, r.B, r.Bad)
	}
}

func TestAReaderFailsForGoodAndYieldsZeros(t *testing.T) {
	for name, read := range map[string]func(*Reader) bool{
		"no number":                      func(r *Reader) bool { return r.Uvarint() == 0 },
		"no signed number":               func(r *Reader) bool { return r.Varint() == 0 },
		"more things than there is room": func(r *Reader) bool { r.B = []byte{3, 1, 2, 3, 4, 5}; return r.Count(2) == 0 },
		"too few bytes":                  func(r *Reader) bool { return string(r.Take(3)) == "\x00\x00\x00" },
	} {
		t.Run(name, func(t *testing.T) {
			r := Reader{B: []byte{0x80, 0x80}}
			if !read(&r) || !r.Bad || len(r.B) != 0 {
				t.Errorf("left with %v, bad: %t", r.B, r.Bad)
			}
			if r.Uvarint() != 0 || r.Varint() != 0 || r.Count(1) != 0 || !r.Bad {
				t.Error("something is read after the failure")
			}
		})
	}
}
