package ship

import (
	"bytes"
	"fmt"
	"math/rand/v2"
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
	enc, err := ltx.NewEncoder(&b)
	if err != nil {
		return nil, 0, err
	}
	if err := enc.EncodeHeader(hdr); err != nil {
		return nil, 0, err
	}
	for _, pgno := range pgnos {
		if err := enc.EncodePage(ltx.PageHeader{Pgno: pgno}, pages[pgno]); err != nil {
			return nil, 0, err
		}
	}
	err = enc.Close()
	return b.Bytes(), enc.Trailer().FileChecksum, err
}

func own(hdr ltx.Header, pgnos []uint32, pages map[uint32][]byte) ([]byte, ltx.Checksum, error) {
	var b bytes.Buffer
	enc, err := newEncoder(&b, hdr)
	if err != nil {
		return nil, 0, err
	}
	for _, pgno := range pgnos {
		if err := enc.page(pgno, pages[pgno]); err != nil {
			return nil, 0, err
		}
	}
	sum, err := enc.close()
	return b.Bytes(), sum, err
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

func BenchmarkEncode(b *testing.B) {
	pgnos := []uint32{3, 7}
	hdr := ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 4096, Commit: 9, MinTXID: 2, MaxTXID: 2}
	pages := sample(rand.New(rand.NewPCG(1, 1)), 4096, pgnos)
	for name, encode := range map[string]func(ltx.Header, []uint32, map[uint32][]byte) ([]byte, ltx.Checksum, error){
		"own": own, "ltx": stock,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := encode(hdr, pgnos, pages); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
