package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/benbjohnson/litestream"
)

var pageSizes = []int{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}

func TestTheChecksumIsLitestreams(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		b := make([]byte, 8*rng.IntN(600))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		s := Sum{rng.Uint32(), rng.Uint32()}
		for _, bo := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			var want Sum
			want.S1, want.S2 = litestream.WALChecksum(bo, s.S1, s.S2, b)
			if got := Checksum(bo == binary.BigEndian, s, b); got != want {
				t.Fatalf("seed %d: %v over %d bytes from %v: got %v, want %v", seed, bo, len(b), s, got, want)
			}
		}
	}
}

func TestALogIsReadAsLitestreamReadsIt(t *testing.T) {
	for _, size := range pageSizes {
		for _, big := range []bool{false, true} {
			t.Run(fmt.Sprintf("of %d-byte pages, big-endian %v", size, big), func(t *testing.T) {
				log := sqliteLog(t, size)
				if big {
					log = resum(log, true)
				} else if !bytes.Equal(resum(log, false), log) {
					t.Fatal("SQLite computes other checksums")
				}
				want := litestreamScan(t, log)
				if len(want) < 4 {
					t.Fatalf("litestream reads only %d frames", len(want))
				}
				for _, buf := range []int64{1, 2, 5, 1000} {
					if got := scan(t, log, buf); !slices.Equal(got, want) {
						t.Fatalf("through a buffer of %d frames: %d frames, litestream reads %d", buf, len(got), len(want))
					}
				}
			})
		}
	}
}

func TestAHeaderIsDecodedFieldByField(t *testing.T) {
	log := sqliteLog(t, 65536)
	log[15] = 3 // the sequence number
	log = resum(log, false)
	h, err := ParseHeader(log)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	want := Header{PageSize: 65536, Seq: 3, Salt1: be.Uint32(log[16:]), Salt2: be.Uint32(log[20:]),
		Sum: Sum{be.Uint32(log[24:]), be.Uint32(log[28:])}}
	if h != want {
		t.Fatalf("got %+v, want %+v", h, want)
	}
}

func TestAHalfWrittenHeaderIsNoHeader(t *testing.T) {
	old, fresh := sqliteLog(t, 512)[:HeaderSize], sqliteLog(t, 512)[:HeaderSize]
	for n := range HeaderSize {
		if _, err := ParseHeader(fresh[:n]); !errors.Is(err, ErrNoHeader) {
			t.Errorf("%d bytes pass for a header: %v", n, err)
		}
		torn := slices.Concat(fresh[:n], old[n:])
		if _, err := ParseHeader(torn); err == nil && !bytes.Equal(torn, fresh) && !bytes.Equal(torn, old) {
			t.Errorf("a header torn at byte %d is accepted", n)
		}
		if _, err := ParseHeader(slices.Concat(fresh[:n], make([]byte, HeaderSize-n))); err == nil {
			t.Errorf("a header with zeros from byte %d is accepted", n)
		}
	}
}

func TestAHeaderOfAnotherFormatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		off  int
		val  uint32
		none bool
	}{
		{"a magic number of neither byte order", 0, 0x377f0684, true},
		{"a page size of 0", 8, 0, true},
		{"a page size of 256", 8, 256, true},
		{"a page size of 131072", 8, 131072, true},
		{"a page size of 4097", 8, 4097, true},
		{"another version, which is an error and not an empty log,", 4, 3007001, false},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			b := sqliteLog(t, 512)[:HeaderSize]
			binary.BigEndian.PutUint32(b[c.off:], c.val)
			sum := Checksum(false, Sum{}, b[:24])
			binary.BigEndian.PutUint32(b[24:], sum.S1)
			binary.BigEndian.PutUint32(b[28:], sum.S2)
			if _, err := ParseHeader(b); err == nil || errors.Is(err, ErrNoHeader) != c.none {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestACutLogYieldsItsWholeFramesOnly(t *testing.T) {
	log := sqliteLog(t, 512)
	all := scan(t, log, 3)
	const frameSize = FrameHeaderSize + 512
	for n := range len(log) {
		want := max(0, (n-HeaderSize)/frameSize)
		for _, buf := range []int64{1, 4} {
			if got := scan(t, log[:n], buf); !slices.Equal(got, all[:want]) {
				t.Fatalf("%d bytes yield %d frames, want %d", n, len(got), want)
			}
		}
	}
}

// A change inside one checksum word is always found: the checksum is a chain of
// invertible steps. Those of two words may cancel out, the sooner if only their
// highest bytes changed: that is how strong SQLite's checksum is.
func TestGarbledBytesNeverYieldAFrameThatWasNotWritten(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, size := range []int{512, 4096} {
		for _, big := range []bool{false, true} {
			log := resum(sqliteLog(t, size), big)
			all := scan(t, log, 2)
			for range 1500 {
				b := bytes.Clone(log)
				first := len(b)
				word := 4 * rng.IntN(len(b)/4)
				for range 1 + rng.IntN(4) {
					at := word + rng.IntN(4)
					b[at] ^= byte(1 + rng.IntN(255))
					if b[at] != log[at] {
						first = min(first, at)
					}
				}
				for i := range b { // two changes may have met in one byte
					if b[i] != log[i] {
						first = i
						break
					}
				}
				if bytes.Equal(b, log) {
					continue
				}
				want := 0
				if first >= HeaderSize {
					want = (first - HeaderSize) / (FrameHeaderSize + size)
				} else if h, err := ParseHeader(b); err == nil {
					t.Fatalf("seed %d: a header garbled at byte %d is accepted as %+v", seed, first, h)
				} else if !errors.Is(err, ErrNoHeader) {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if got := scan(t, b, 1+rng.Int64N(5)); !slices.Equal(got, all[:want]) {
					t.Fatalf("seed %d: garbled at byte %d yields %d frames, want %d", seed, first, len(got), want)
				}
			}
		}
	}
}

func TestAFrameOfPageZeroEndsTheLog(t *testing.T) {
	log := sqliteLog(t, 512)
	binary.BigEndian.PutUint32(log[HeaderSize+2*(FrameHeaderSize+512):], 0)
	if got := scan(t, resum(log, false), 9); len(got) != 2 {
		t.Fatalf("got %d frames, want 2", len(got))
	}
}

func TestAScanGoesOnFromAnyPosition(t *testing.T) {
	log := sqliteLog(t, 1024)
	h, err := ParseHeader(log)
	if err != nil {
		t.Fatal(err)
	}
	all := scan(t, log, 1)
	pos := h.Start()
	for i := range all {
		s, err := NewScanner(bytes.NewReader(log), h, pos, make([]byte, 3*h.FrameSize()))
		if err != nil {
			t.Fatal(err)
		}
		f, page, ok := s.Next()
		if !ok || (frame{f.Pgno, f.Commit, string(page)}) != all[i] {
			t.Fatalf("frame %d is not found from position %+v", i, pos)
		}
		pos = s.Pos()
		wrong := pos
		wrong.Sum.S2++
		if s, _ = NewScanner(bytes.NewReader(log), h, wrong, make([]byte, h.FrameSize())); s.h == h {
			if _, _, ok := s.Next(); ok {
				t.Fatalf("a wrong checksum at frame %d is a good start", i)
			}
		}
	}
}

func TestTheCommittedEndIsAfterTheLastCommit(t *testing.T) {
	log := sqliteLog(t, 512)
	h, err := ParseHeader(log)
	if err != nil {
		t.Fatal(err)
	}
	all := scan(t, log, 1)
	buf := make([]byte, 2*h.FrameSize())
	for n := range len(all) + 1 { // the log after so many frames
		end, pages := 0, uint32(0)
		for i, f := range all[:n] {
			if f.commit != 0 {
				end, pages = i+1, f.commit
			}
		}
		cut := log[:HeaderSize+int64(n)*h.FrameSize()]
		for name, at := range map[string]struct {
			log   []byte
			limit int64
		}{"cut": {cut, 0}, "limited": {log, int64(n)}} {
			if name == "limited" && n == 0 {
				continue // 0 is no limit
			}
			p, got, err := CommittedEnd(bytes.NewReader(at.log), h, h.Start(), buf, at.limit)
			if err != nil || h.Frames(p) != int64(end) || got != pages {
				t.Errorf("%s after %d frames: end %d of %d pages, want %d of %d (%v)", name, n, h.Frames(p), got, end, pages, err)
			}
		}
	}
}

func TestAReadErrorIsReportedAndNotTakenForTheEnd(t *testing.T) {
	log := sqliteLog(t, 512)
	h, err := ParseHeader(log)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken disk")
	r := brokenAfter{bytes.NewReader(log), HeaderSize + h.FrameSize(), broken}
	s, err := NewScanner(r, h, h.Start(), make([]byte, h.FrameSize()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := s.Next(); !ok {
		t.Fatal("the first frame is not read")
	}
	if _, _, ok := s.Next(); ok || !errors.Is(s.Err(), broken) {
		t.Fatalf("ok %v, error %v", ok, s.Err())
	}
	if _, _, err := CommittedEnd(r, h, h.Start(), make([]byte, h.FrameSize()), 0); !errors.Is(err, broken) {
		t.Fatalf("CommittedEnd: %v", err)
	}
}

func TestABufferSmallerThanAFrameIsRefused(t *testing.T) {
	h := Header{PageSize: 512}
	if _, err := NewScanner(bytes.NewReader(nil), h, h.Start(), make([]byte, h.FrameSize()-1)); err == nil {
		t.Fatal("accepted")
	}
}

type brokenAfter struct {
	io.ReaderAt
	limit int64
	err   error
}

func (r brokenAfter) ReadAt(b []byte, off int64) (int, error) {
	if off >= r.limit {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(b[:min(int64(len(b)), r.limit-off)], off)
}
