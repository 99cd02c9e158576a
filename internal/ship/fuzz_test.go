package ship

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// signed is b with its checksum, so that the fuzzer gets past it.
func signed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.ChecksumIEEE(b))
}

// FuzzPages: what is read as a file of page hashes is written as the same bytes,
// and is no larger in memory.
func FuzzPages(f *testing.F) {
	b, err := (&Pages{TXID: 7, PageSize: 4096, sums: []uint64{1, 2, 3}}).AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-4])
	f.Add([]byte(pagesMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, b := range [][]byte{body, signed(body)} {
			var p Pages
			if p.UnmarshalBinary(b) != nil {
				continue
			}
			again, err := p.AppendBinary(nil)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x became %x, %v", b, again, err)
			}
			if cap(p.sums)*8 > len(b) {
				t.Fatalf("%d bytes of memory for %d", cap(p.sums)*8, len(b))
			}
		}
	})
}
