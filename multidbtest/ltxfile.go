package multidbtest

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/superfly/ltx"
)

const testPageSize = 512

// epoch is far from now, so that a store's own time cannot pass for the header's.
// LTX keeps milliseconds.
var epoch = time.Date(2021, 3, 4, 5, 6, 7, 890_000_000, time.UTC)

// timestamp is the time in the header of every test file up to txid.
func timestamp(txid ltx.TXID) time.Time { return epoch.Add(time.Duration(txid) * time.Minute) }

// encodeLTX builds an LTX file of the given pages; commit is the database's
// size in pages after it.
func encodeLTX(t *testing.T, minTXID, maxTXID ltx.TXID, pageSize, commit uint32, pages map[uint32][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	enc, err := ltx.NewEncoder(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if err := enc.EncodeHeader(ltx.Header{
		Version:   ltx.Version,
		Flags:     ltx.HeaderFlagNoChecksum,
		PageSize:  pageSize,
		Commit:    commit,
		MinTXID:   minTXID,
		MaxTXID:   maxTXID,
		Timestamp: timestamp(maxTXID).UnixMilli(),
	}); err != nil {
		t.Fatal(err)
	}
	for _, pgno := range slices.Sorted(maps.Keys(pages)) {
		if err := enc.EncodePage(ltx.PageHeader{Pgno: pgno}, pages[pgno]); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// ltxFile builds a small LTX file; its content follows from the seed.
func ltxFile(t *testing.T, minTXID, maxTXID ltx.TXID, seed uint64) []byte {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(minTXID), seed))
	return encodeLTX(t, minTXID, maxTXID, testPageSize, 2, map[uint32][]byte{
		1: randomBytes(rnd, testPageSize),
		2: randomBytes(rnd, testPageSize),
	})
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// history is a database that changes with every TXID, as LTX files and as the
// image after each.
type history struct {
	images [][]byte // by TXID; images[0] is empty
	files  [][]byte
}

// newHistory makes n transactions, which write, grow and now and then shrink.
func newHistory(t *testing.T, n int, seed uint64) *history {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 7))
	h := &history{images: [][]byte{nil}, files: [][]byte{nil}}
	var image []byte
	for txid := 1; txid <= n; txid++ {
		old := uint32(len(image) / testPageSize)
		commit := old + 1 + rnd.Uint32N(3)
		if txid%4 == 0 {
			commit = old - 1
		}
		pages := make(map[uint32][]byte)
		for pgno := old + 1; pgno <= commit; pgno++ {
			pages[pgno] = randomBytes(rnd, testPageSize)
		}
		pages[1] = randomBytes(rnd, testPageSize)
		pages[1+rnd.Uint32N(commit)] = randomBytes(rnd, testPageSize)

		next := make([]byte, commit*testPageSize)
		copy(next, image)
		for pgno, data := range pages {
			copy(next[(pgno-1)*testPageSize:], data)
		}
		image = next
		h.images = append(h.images, image)
		h.files = append(h.files, encodeLTX(t, ltx.TXID(txid), ltx.TXID(txid), testPageSize, commit, pages))
	}
	return h
}
