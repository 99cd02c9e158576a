package ship

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/superfly/ltx"
)

// sample is the pages of a file, some of which cannot be compressed.
func sample(rng *rand.Rand, size uint32, pgnos []uint32) map[uint32][]byte {
	out := map[uint32][]byte{}
	for _, pgno := range pgnos {
		b := make([]byte, size)
		for i := range b[:rng.IntN(int(size)+1)] {
			b[i] = byte(rng.Uint32N(1 + rng.Uint32N(256)))
		}
		out[pgno] = b
	}
	return out
}

// stock is the file as ltx.Encoder writes it.
func stock(hdr ltx.Header, pgnos []uint32, pages map[uint32][]byte) ([]byte, ltx.Checksum, error) {
	var b bytes.Buffer
	sum, err := writeStock(&b, hdr, pgnos, pages)
	return b.Bytes(), sum, err
}

func writeStock(w io.Writer, hdr ltx.Header, pgnos []uint32, pages map[uint32][]byte) (ltx.Checksum, error) {
	enc, err := ltx.NewEncoder(w)
	if err != nil {
		return 0, err
	}
	if err := enc.EncodeHeader(hdr); err != nil {
		return 0, err
	}
	for _, pgno := range pgnos {
		if err := enc.EncodePage(ltx.PageHeader{Pgno: pgno}, pages[pgno]); err != nil {
			return 0, err
		}
	}
	err = enc.Close()
	return enc.Trailer().FileChecksum, err
}

// own is the file as ours writes it.
func own(hdr ltx.Header, pgnos []uint32, pages map[uint32][]byte) ([]byte, ltx.Checksum, error) {
	var b bytes.Buffer
	sum, err := writeOwn(&b, hdr, pgnos, pages)
	return b.Bytes(), sum, err
}

func writeOwn(w io.Writer, hdr ltx.Header, pgnos []uint32, pages map[uint32][]byte) (ltx.Checksum, error) {
	enc, err := newEncoder(w, hdr)
	if err != nil {
		return 0, err
	}
	for _, pgno := range pgnos {
		if err := enc.page(pgno, pages[pgno]); err != nil {
			return 0, err
		}
	}
	return enc.close()
}

func TestTheEncoderWritesWhatLTXsOwnWrites(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 300 {
		size := uint32(512) << rng.IntN(8)
		hdr := ltx.Header{
			Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: size, Commit: 1 + rng.Uint32N(40),
			MinTXID: 1 + ltx.TXID(rng.IntN(2)), Timestamp: rng.Int64(), WALOffset: 32 + rng.Int64N(1<<40),
			WALSize: rng.Int64N(1 << 40), WALSalt1: rng.Uint32(), WALSalt2: rng.Uint32(), NodeID: rng.Uint64(),
		}
		hdr.MaxTXID = hdr.MinTXID + ltx.TXID(rng.Uint64N(1<<40))
		first := uint32(1)
		if !hdr.IsSnapshot() && rng.IntN(2) == 0 { // about the lock page
			first = ltx.LockPgno(size) - 20
			hdr.Commit += first
		}
		var pgnos []uint32
		for pgno := first; pgno <= hdr.Commit; pgno++ {
			if pgno != ltx.LockPgno(size) && (hdr.IsSnapshot() || rng.IntN(3) > 0) {
				pgnos = append(pgnos, pgno)
			}
		}
		pages := sample(rng, size, pgnos)
		want, wantSum, err := stock(hdr, pgnos, pages)
		if err != nil {
			t.Fatal(err)
		}
		got, sum, err := own(hdr, pgnos, pages)
		if err != nil || sum != wantSum || !bytes.Equal(got, want) {
			t.Fatalf("file %d, seed %d: %d bytes with checksum %s, want %d with %s: %v", i, seed, len(got), sum, len(want), wantSum, err)
		}
	}
}

func TestTheEncoderRefusesWhatLTXsOwnRefuses(t *testing.T) {
	good := ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 512, Commit: 9, MinTXID: 2, MaxTXID: 2}
	snapshot, noPages, noTXID, checked := good, good, good, good
	snapshot.MinTXID, noPages.Commit, noTXID.MinTXID, checked.Flags = 1, 0, 0, 0
	large := good
	large.Commit = ltx.LockPgno(512) + 5
	page := make([]byte, 512)
	for i, c := range []struct {
		hdr   ltx.Header
		pgnos []uint32
		data  []byte
	}{
		{noTXID, nil, page},
		{checked, nil, page},
		{noPages, nil, page},
		{good, []uint32{0}, page},
		{good, []uint32{10}, page},
		{good, []uint32{3, 3}, page},
		{good, []uint32{3, 2}, page},
		{good, []uint32{3}, page[:511]},
		{snapshot, []uint32{2}, page},
		{snapshot, []uint32{1, 3}, page},
		{large, []uint32{ltx.LockPgno(512)}, page},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			pages := map[uint32][]byte{}
			for _, pgno := range c.pgnos {
				pages[pgno] = c.data
			}
			if _, _, err := stock(c.hdr, c.pgnos, pages); err == nil {
				t.Error("ltx takes it")
			}
			if _, _, err := own(c.hdr, c.pgnos, pages); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

// small is a file as one small commit makes it.
func small() (hdr ltx.Header, pgnos []uint32, pages map[uint32][]byte) {
	pgnos = []uint32{3, 7}
	hdr = ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 4096, Commit: 9, MinTXID: 2, MaxTXID: 2}
	return hdr, pgnos, sample(rand.New(rand.NewPCG(1, 1)), 4096, pgnos)
}

// TestTheEncoderTakesFewBytesForASmallFile says why there is one beside ltx.Encoder.
func TestTheEncoderTakesFewBytesForASmallFile(t *testing.T) {
	hdr, pgnos, pages := small()
	const files = 200
	bytesOf := func(write func(io.Writer, ltx.Header, []uint32, map[uint32][]byte) (ltx.Checksum, error)) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range files {
			if _, err := write(io.Discard, hdr, pgnos, pages); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / files
	}
	ours, stock := bytesOf(writeOwn), bytesOf(writeStock)
	t.Logf("%d and %d bytes a file", ours, stock)
	if 2*ours > stock { // a tenth at most, but for the race detector, which empties pools
		t.Errorf("our encoder allocates %d bytes a file, ltx.Encoder %d: use that one", ours, stock)
	}
}

func BenchmarkEncode(b *testing.B) {
	hdr, pgnos, pages := small()
	for name, write := range map[string]func(io.Writer, ltx.Header, []uint32, map[uint32][]byte) (ltx.Checksum, error){
		"own": writeOwn, "ltx": writeStock,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := write(io.Discard, hdr, pgnos, pages); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
