package restore

import (
	"encoding/binary"
	"hash/crc64"
)

var isoTable = crc64.MakeTable(crc64.ISO)

// crcLanes is how many words are folded at once.
const crcLanes = 4

// crcUpdate is crc64.Update with the table of crc64.ISO, and about three times as fast. The
// polynomial has so few terms that no table is needed: x^64 is x^4+x^3+x+1, and hence x^256
// is x^16+x^12+x^4+1. So four words are folded into the four that follow by shifts.
//
// In a word the lowest bit is the highest power, so that a shift to the right multiplies by
// a power of x, and what leaves the word belongs to the word before.
func crcUpdate(crc uint64, p []byte) uint64 {
	if len(p) < 2*8*crcLanes {
		return crc64.Update(crc, isoTable, p)
	}
	w := binary.LittleEndian.Uint64
	a, b, c, d := ^crc^w(p), w(p[8:]), w(p[16:]), w(p[24:])
	for p = p[32:]; len(p) >= 32; p = p[32:] {
		q := p[:32]
		d ^= a<<48 ^ a<<52 ^ a<<60
		a = a>>16 ^ a>>12 ^ a>>4 ^ a ^ b<<48 ^ b<<52 ^ b<<60 ^ w(q)
		b = b>>16 ^ b>>12 ^ b>>4 ^ b ^ c<<48 ^ c<<52 ^ c<<60 ^ w(q[8:])
		c = c>>16 ^ c>>12 ^ c>>4 ^ c ^ d<<48 ^ d<<52 ^ d<<60 ^ w(q[16:])
		d = d>>16 ^ d>>12 ^ d>>4 ^ d ^ w(q[24:])
	}
	crc = crcWord(crcWord(crcWord(crcWord(a)^b)^c) ^ d)
	for ; len(p) >= 8; p = p[8:] {
		crc = crcWord(crc ^ w(p))
	}
	return crc64.Update(^crc, isoTable, p)
}

// crcWord multiplies by x^64.
func crcWord(a uint64) uint64 {
	over := a<<63 ^ a<<61 ^ a<<60
	return a>>4 ^ a>>3 ^ a>>1 ^ a ^ over>>4 ^ over>>3 ^ over>>1 ^ over
}
