package untrusted

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pierrec/lz4/v4"
	"github.com/superfly/ltx"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pageSize = 512

// file is a snapshot of n pages, which do not all compress.
func file(t testing.TB, n int) []byte {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	spec := &ltx.FileSpec{Header: ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: pageSize,
		Commit: uint32(n), MinTXID: 1, MaxTXID: 1}}
	for i := range n {
		data := make([]byte, pageSize)
		for j := range data {
			if i%2 == 0 {
				data[j] = byte(rnd.Uint32())
			}
		}
		spec.Pages = append(spec.Pages, ltx.PageSpec{Header: ltx.PageHeader{Pgno: uint32(i + 1)}, Data: data})
	}
	var b bytes.Buffer
	if _, err := spec.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// oldFile is the same in the format of before block sizes: an LZ4 frame a page.
func oldFile(t testing.TB, n int, opts ...lz4.Option) []byte {
	t.Helper()
	h := ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: pageSize, Commit: uint32(n), MinTXID: 1, MaxTXID: 1}
	b, err := h.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		b = binary.BigEndian.AppendUint32(b, uint32(i+1))
		b = append(b, 0, 0)
		var frame bytes.Buffer
		w := lz4.NewWriter(&frame)
		if err := w.Apply(opts...); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, pageSize)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b = append(b, frame.Bytes()...)
	}
	b = append(b, make([]byte, ltx.PageHeaderSize)...)
	return append(b, make([]byte, tailFixed)...)
}

// decode reads a file as restores do, through the guard, and returns how many
// pages it had.
func decode(r io.Reader) (pages int, err error) {
	dec := ltx.NewDecoder(r)
	if err := dec.DecodeHeader(); err != nil {
		return 0, err
	}
	data := make([]byte, dec.Header().PageSize)
	for {
		var ph ltx.PageHeader
		if err := dec.DecodePage(&ph, data); err == io.EOF {
			break
		} else if err != nil {
			return pages, err
		}
		pages++
	}
	return pages, dec.Close()
}

func TestAWholeFilePassesAsItIs(t *testing.T) {
	for name, data := range map[string][]byte{
		"a page": file(t, 1), "many pages": file(t, 300),
		"old": oldFile(t, 3), "old without checksum": oldFile(t, 3, lz4.ChecksumOption(false)),
		"old with block checksums and size": oldFile(t, 3, lz4.BlockChecksumOption(true), lz4.SizeOption(pageSize)),
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "by halves": iotest.HalfReader,
			"with the end": iotest.DataErrReader,
		} {
			got, err := io.ReadAll(NewLTX(wrap(bytes.NewReader(data))))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: %d bytes of %d, %v", name, how, len(got), len(data), err)
			}
		}
	}
	if n, err := decode(NewLTX(bytes.NewReader(file(t, 300)))); n != 300 || err != nil {
		t.Errorf("decoded %d pages, %v", n, err)
	}
}

func TestASizeThatCannotBeIsRefusedBeforeTheDecoderSeesIt(t *testing.T) {
	change := func(data []byte, at int, with ...byte) []byte {
		data = bytes.Clone(data)
		copy(data[at:], with)
		return data
	}
	const size = ltx.HeaderSize + ltx.PageHeaderSize
	whole, old := file(t, 2), oldFile(t, 2)
	frameSize := size + frameHead + 1 // the header's checksum
	for name, data := range map[string][]byte{
		"4 GiB for a page":               change(whole, size, 0xff, 0xff, 0xff, 0xf0),
		"a byte more than a page can be": change(whole, size, 0, 0, byte((lz4.CompressBlockBound(pageSize)+1)>>8), byte((lz4.CompressBlockBound(pageSize)+1)&0xff)),
		"a page size of 1 GiB":           change(whole, 8, 0x40, 0, 0, 0),
		"no LTX file":                    change(whole, 0, 'S', 'Q', 'L', 'i'),
		"an index without end":           append(bytes.Clone(file(t, 1)), make([]byte, 1000)...),
		"an old page of 2 GiB":           change(old, frameSize, 0xff, 0xff, 0xff, 0x7f),
		"an old page of two blocks":      append(append(bytes.Clone(old[:frameSize+4+blockLen(old, frameSize)]), 9, 0, 0, 0), old[frameSize+4+blockLen(old, frameSize):]...),
		"an old page that is no frame":   change(old, size, 0x02, 0x21, 0x4c, 0x18),
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, refused := decode(NewLTX(wrap(bytes.NewReader(data))))
			runtime.ReadMemStats(&after)
			_, err := io.Copy(io.Discard, NewLTX(wrap(bytes.NewReader(data)))) // the decoder may find another reason first
			if refused == nil || !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: error is %v, want ErrDamaged", name, how, err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Errorf("%s, %s: %d bytes were allocated", name, how, n)
			}
		}
	}
}

func blockLen(old []byte, at int) int {
	return int(binary.LittleEndian.Uint32(old[at:]) &^ (1 << 31))
}

func TestAFileThatEndsEarlyIsAnErrorAndNoPanicWhereverItEnds(t *testing.T) {
	for _, data := range [][]byte{file(t, 2), oldFile(t, 2)} {
		for n := range len(data) {
			if _, err := decode(NewLTX(bytes.NewReader(data[:n]))); err == nil {
				t.Errorf("%d bytes of %d: no error", n, len(data))
			}
		}
	}
}

func TestAFileThatIsOpenedAgainInTheMiddleIsStillGuarded(t *testing.T) {
	good := file(t, 20)
	const cut = 333
	bad := bytes.Clone(good)
	at := ltx.HeaderSize + ltx.PageHeaderSize // of the first page; find one behind the cut
	for at < cut {
		at += 4 + int(binary.BigEndian.Uint32(good[at:])) + ltx.PageHeaderSize
	}
	copy(bad[at:], []byte{0xff, 0xff, 0xff, 0xff})
	for name, test := range map[string]struct {
		data []byte
		want error
	}{"whole": {good, nil}, "damaged": {bad, ErrDamaged}} {
		t.Run(name, func(t *testing.T) {
			var f Files
			first, err := f.Wrap(0, 1, 1, 0, io.NopCloser(bytes.NewReader(test.data[:cut])))
			if err != nil {
				t.Fatal(err)
			}
			head := make([]byte, cut)
			if _, err := io.ReadFull(first, head); err != nil {
				t.Fatal(err)
			}
			if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a connection that ends: error is %v", err)
			}
			second, err := f.Wrap(0, 1, 1, cut, io.NopCloser(bytes.NewReader(test.data[cut:])))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decode(io.MultiReader(bytes.NewReader(head), second)); !errors.Is(err, test.want) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
			if _, err := f.Wrap(0, 1, 1, 5, io.NopCloser(strings.NewReader(""))); err == nil {
				t.Error("opened where nobody has read up to")
			}
		})
	}
}

func TestMetadataOfMoreThanAMebibyteIsNotRead(t *testing.T) {
	zeros := &counted{}
	if _, err := ReadMetadata(zeros); !errors.Is(err, ErrDamaged) {
		t.Errorf("error is %v, want ErrDamaged", err)
	}
	if zeros.n > MaxMetadata+1 {
		t.Errorf("%d bytes were read", zeros.n)
	}
	data, err := ReadMetadata(io.LimitReader(&counted{}, MaxMetadata))
	if err != nil || len(data) != MaxMetadata {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if _, err := ReadMetadata(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error is %v", err)
	}
}

// counted has no end.
type counted struct{ n int }

func (c *counted) Read(p []byte) (int, error) {
	clear(p)
	c.n += len(p)
	return len(p), nil
}

// What the guard passes is the decoder's to judge; neither may panic, nor
// allocate much more than the file.
func FuzzDecodingThroughTheGuard(f *testing.F) {
	f.Add(file(f, 3))
	f.Add(oldFile(f, 3))
	f.Add(append(file(f, 1)[:ltx.HeaderSize], make([]byte, ltx.PageHeaderSize)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decode(NewLTX(bytes.NewReader(data)))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > uint64(64<<20+100*len(data)) {
			t.Errorf("%d bytes were allocated for %d (%v)", n, len(data), err)
		}
	})
}
