package restore

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

// TestTheChecksumIsThatOfTheStandardLibrary for every length, and in pieces.
func TestTheChecksumIsThatOfTheStandardLibrary(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, 5000)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	for n := range 600 {
		at, crc := rng.IntN(100), rng.Uint64()
		if got, want := crcUpdate(crc, data[at:at+n]), crc64.Update(crc, isoTable, data[at:at+n]); got != want {
			t.Fatalf("%d bytes: %x, want %x (seed %d)", n, got, want, seed)
		}
	}
	var got uint64
	for rest := data; len(rest) > 0; {
		n := min(rng.IntN(300), len(rest))
		got, rest = crcUpdate(got, rest[:n]), rest[n:]
	}
	if want := crc64.Checksum(data, isoTable); got != want {
		t.Errorf("in pieces: %x, want %x (seed %d)", got, want, seed)
	}
}

func BenchmarkChecksum(b *testing.B) {
	data := make([]byte, 4096)
	for name, update := range map[string]func(crc uint64, p []byte) uint64{
		"ours":    crcUpdate,
		"library": func(crc uint64, p []byte) uint64 { return crc64.Update(crc, isoTable, p) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var crc uint64
			for b.Loop() {
				crc = update(crc, data)
			}
		})
	}
}
