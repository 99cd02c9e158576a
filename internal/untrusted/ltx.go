package untrusted

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
	"github.com/superfly/ltx"
)

// LTX is a reader of an LTX file that returns an error before a decoder sees a size that no
// valid file has. Decoders of superfly/ltx allocate the sizes that the file claims, up to
// 4 GiB for a page, before they check a checksum. LTX checks nothing else: what it returns
// may still be damaged. Not safe for concurrent use.
type LTX struct {
	r io.Reader
	s *scanner
}

// NewLTX returns an LTX that reads from r, which must be at the beginning of the file.
func NewLTX(r io.Reader) *LTX { return &LTX{r, newScanner()} }

func (l *LTX) Read(p []byte) (int, error) {
	if l.s.err != nil {
		return 0, l.s.err
	}
	n, err := l.r.Read(p)
	n = l.s.scan(p[:n])
	switch {
	case l.s.err != nil:
		return n, l.s.err
	case err == io.EOF && !l.s.mayEnd():
		// This need not be damage: the connection may have broken, and the caller may
		// open the file again.
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// state is which field of the file comes next.
type state uint8

const (
	inHeader    state = iota
	inPage            // a page's header
	inSize            // the size of a page's block
	inBlock           // the bytes of the block, which are not looked at
	inFrame           // the fixed part of the head of an LZ4 frame, which old files have for a page
	inFrameMore       // the rest of that head
	inFrameSize       // the size of the frame's block
	inFrameBlock
	inFrameEnd
	inTail // page index and trailer
)

const (
	frameMagic = 0x184D2204
	frameHead  = 6 // magic, flags, block size
	// tailFixed is the end of a page index, its size, and the trailer.
	tailFixed = 1 + 8 + ltx.TrailerSize
	// tailPage is the longest entry of a page index.
	tailPage = 3 * binary.MaxVarintLen64
)

// scanner follows the structure of a file through its bytes.
type scanner struct {
	state    state
	buf      [ltx.HeaderSize]byte
	have     int   // bytes in buf
	need     int   // bytes of the field
	skip     int64 // bytes until the next field
	pos      int64 // bytes passed
	pages    int64
	tail     int64 // bytes of the tail so far
	pageSize uint32
	flags    byte // of the LZ4 frame
	err      error
}

func newScanner() *scanner { return &scanner{state: inHeader, need: ltx.HeaderSize} }

// scan looks at the next bytes of the file and returns how many of them may be passed on:
// all of them, unless it sets err.
func (s *scanner) scan(p []byte) int {
	n := 0
	for n < len(p) && s.err == nil {
		if s.state == inTail {
			k := min(int64(len(p)-n), s.pages*tailPage+tailFixed-s.tail)
			if k == 0 {
				s.fail("its index is longer than that of %d pages", s.pages)
				break
			}
			n, s.tail = n+int(k), s.tail+k
			continue
		}
		if s.skip > 0 {
			k := min(int64(len(p)-n), s.skip)
			n, s.skip = n+int(k), s.skip-k
			if s.skip == 0 {
				s.field()
			}
			continue
		}
		k := copy(s.buf[s.have:s.need], p[n:])
		s.have += k
		if s.have == s.need {
			s.field()
			if s.err != nil {
				break // the last byte of the field is not passed on
			}
		}
		n += k
	}
	s.pos += int64(n)
	return n
}

// mayEnd reports whether a file may end here. If it has fewer bytes in its tail, the decoder
// of superfly/ltx v0.5.2 panics.
func (s *scanner) mayEnd() bool { return s.state == inTail && s.tail >= tailFixed }

func (s *scanner) fail(format string, args ...any) {
	s.err = fmt.Errorf("%w: an LTX file of which %s", ErrDamaged, fmt.Sprintf(format, args...))
}

func (s *scanner) next(state state, need int) { s.state, s.need, s.have = state, need, 0 }

// field decodes a field that is complete, and sets which one comes next.
func (s *scanner) field() {
	b := s.buf[:s.have]
	switch s.state {
	case inHeader:
		var h ltx.Header
		if err := h.UnmarshalBinary(b); err != nil {
			s.fail("the header is none: %v", err)
			return
		}
		if err := h.Validate(); err != nil {
			s.fail("the header is none: %v", err)
			return
		}
		s.pageSize = h.PageSize
		s.next(inPage, ltx.PageHeaderSize)
	case inPage:
		var h ltx.PageHeader
		if err := h.UnmarshalBinary(b); err != nil {
			s.fail("a page has no header: %v", err)
			return
		}
		switch {
		case h.IsZero():
			s.next(inTail, 0)
			return
		case h.Flags&ltx.PageHeaderFlagSize != 0:
			s.next(inSize, 4)
		default:
			s.next(inFrame, frameHead)
		}
		s.pages++
	case inSize:
		size := binary.BigEndian.Uint32(b)
		if most := lz4.CompressBlockBound(int(s.pageSize)); int64(size) > int64(most) {
			s.fail("page %d of %d bytes takes %d", s.pages, s.pageSize, size)
			return
		}
		s.block(inBlock, int64(size))
	case inBlock:
		s.next(inPage, ltx.PageHeaderSize)
	case inFrame:
		s.frame(b)
	case inFrameMore:
		s.next(inFrameSize, 4)
	case inFrameSize:
		size := int64(binary.LittleEndian.Uint32(b) &^ (1 << 31)) // the bit: not compressed
		if most := int64(lz4.CompressBlockBound(int(s.pageSize))); size == 0 || size > most {
			s.fail("page %d of %d bytes takes %d", s.pages, s.pageSize, size)
			return
		}
		if s.flags&(1<<4) != 0 {
			size += 4 // its checksum
		}
		s.block(inFrameBlock, size)
	case inFrameBlock:
		need := 4 // no further block
		if s.flags&(1<<2) != 0 {
			need += 4 // the content's checksum
		}
		s.next(inFrameEnd, need)
	case inFrameEnd:
		if binary.LittleEndian.Uint32(b) != 0 {
			s.fail("page %d has more than one block", s.pages)
			return
		}
		s.next(inPage, ltx.PageHeaderSize)
	case inTail: // scan does this itself
	}
}

// block makes scan skip the bytes of a page, as a field without content.
func (s *scanner) block(state state, size int64) {
	s.next(state, 0)
	if s.skip = size; size == 0 {
		s.field()
	}
}

// frame decodes the head of an LZ4 frame. It accepts frames of one block, which is what
// litestream wrote.
func (s *scanner) frame(b []byte) {
	if binary.LittleEndian.Uint32(b) != frameMagic || b[4]>>6 != 1 {
		s.fail("page %d is not compressed as one", s.pages)
		return
	}
	s.flags = b[4]
	more := 1 // the head's checksum
	if s.flags&(1<<3) != 0 {
		more += 8 // the content's size
	}
	if s.flags&1 != 0 {
		more += 4 // the dictionary's ID
	}
	s.next(inFrameMore, more)
}
