package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/pierrec/lz4/v4"
	"github.com/superfly/ltx"
)

// pagesOf is what a decoder makes of a file: its pages, by number, one after the other.
func pagesOf(d decoder, size uint32) (all []byte, err error) {
	data := make([]byte, size)
	for {
		pgno, err := d.page(data)
		if err == io.EOF {
			break
		} else if err != nil {
			return all, err
		}
		all = append(binary.BigEndian.AppendUint32(all, pgno), data...)
	}
	_, err = d.end()
	return all, err
}

func stockPages(file []byte) ([]byte, error) {
	dec := ltx.NewDecoder(untrusted.NewLTX(bytes.NewReader(file)))
	if err := dec.DecodeHeader(); err != nil {
		return nil, err
	}
	return pagesOf(stockDecoder{dec}, dec.Header().PageSize)
}

// ourPages also tells which checksum the file has to have.
func ourPages(r io.Reader) (all []byte, crc uint64, err error) {
	d, hdr, err := decode(&window{src: r, buf: make([]byte, windowBytes)})
	if err != nil {
		return nil, 0, err
	}
	all, err = pagesOf(d, hdr.PageSize)
	if f, ok := d.(*fastDecoder); ok {
		crc = f.crc
	}
	return all, crc, err
}

// TestAFileIsDecodedAsStockDoes whatever is in it and however it arrives. Where the only
// thing wrong is the checksum, it is made right, so that the rest is compared too.
func TestAFileIsDecodedAsStockDoes(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	h := newHistory(t, rng, 8)
	good, refused := 0, 0
	for i := range 8000 {
		whole := h.level0[rng.IntN(len(h.level0))]
		file := bytes.Clone(whole)
		switch rng.IntN(4) {
		case 0: // in the index and the trailer
			at := max(len(file)-1-rng.IntN(100), 0)
			file[at] = byte(rng.Uint32())
		case 1:
			file[rng.IntN(len(file))] ^= 1 << rng.IntN(8)
		case 2:
			file = append(file[:rng.IntN(len(file))], file[rng.IntN(len(file)):]...)
		}
		var r io.Reader = bytes.NewReader(file)
		if i%100 == 0 {
			r = iotest.OneByteReader(r)
		}
		got, crc, err := ourPages(r)
		if errors.Is(err, ltx.ErrChecksumMismatch) {
			binary.BigEndian.PutUint64(file[len(file)-8:], uint64(ltx.ChecksumFlag)|crc)
			got, _, err = ourPages(bytes.NewReader(file))
		}
		want, wantErr := stockPages(file)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v; stock %d, %v (seed %d, file %d)", len(got), err, len(want), wantErr, seed, i)
		}
		if err == nil {
			good++
		} else {
			refused++
		}
	}
	if good < 500 || refused < 500 {
		t.Errorf("%d files are good, %d are refused: this shows little", good, refused)
	}
}

// TestAFileOfAnOldFormatIsDecoded, and one with a checksum of the database, as by stock.
func TestAFileOfAnOldFormatIsDecoded(t *testing.T) {
	const n = 3
	page := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, pageSize) }
	hdr := ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: pageSize, Commit: n, MinTXID: 1, MaxTXID: 1}
	old, err := hdr.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	crc, index := crcUpdate(0, old), []byte(nil)
	for i := 1; i <= n; i++ {
		at := len(old)
		head := append(binary.BigEndian.AppendUint32(nil, uint32(i)), 0, 0)
		crc = crcUpdate(crcUpdate(crc, head), page(i))
		var frame bytes.Buffer
		w := lz4.NewWriter(&frame)
		_, err := w.Write(page(i))
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		old = append(append(old, head...), frame.Bytes()...)
		for _, v := range []int{i, at, len(old) - at} {
			index = binary.AppendUvarint(index, uint64(v))
		}
	}
	index = append(index, 0)
	tail := append(make([]byte, ltx.PageHeaderSize), index...)
	tail = binary.BigEndian.AppendUint64(tail, uint64(len(index)))
	tail = append(tail, make([]byte, ltx.TrailerChecksumOffset)...)
	old = append(old, tail...)
	old = binary.BigEndian.AppendUint64(old, uint64(ltx.ChecksumFlag)|crcUpdate(crc, tail))

	summed := &ltx.FileSpec{Header: hdr}
	summed.Header.Flags = 0
	summed.Trailer.PostApplyChecksum = ltx.ChecksumFlag
	for i := 1; i <= n; i++ {
		summed.Pages = append(summed.Pages, ltx.PageSpec{Header: ltx.PageHeader{Pgno: uint32(i)}, Data: page(i)})
		summed.Trailer.PostApplyChecksum = ltx.ChecksumFlag | (summed.Trailer.PostApplyChecksum ^ ltx.ChecksumPage(uint32(i), page(i)))
	}
	var b bytes.Buffer
	if _, err := summed.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"old": old, "summed": b.Bytes()} {
		want, err := stockPages(file)
		if err != nil || len(want) != n*(4+pageSize) {
			t.Fatalf("%s: stock %d bytes, %v", name, len(want), err)
		}
		if got, _, err := ourPages(bytes.NewReader(file)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		// The checksum of the database, or what takes its place, and that of the file right.
		file[len(file)-9]++
		if name == "summed" {
			w := &window{buf: file, at: ltx.HeaderSize, end: len(file)}
			d := &fastDecoder{w: w, hdr: hdr, crc: crcUpdate(0, file[:ltx.HeaderSize])}
			if _, err := pagesOf(d, pageSize); !errors.Is(err, ltx.ErrChecksumMismatch) {
				t.Fatal(err)
			}
			binary.BigEndian.PutUint64(file[len(file)-8:], uint64(ltx.ChecksumFlag)|d.crc)
		}
		if _, _, err := ourPages(bytes.NewReader(file)); err == nil || errors.Is(err, ltx.ErrChecksumMismatch) != (name == "old") {
			t.Errorf("%s: damaged: %v", name, err)
		}
	}
}
