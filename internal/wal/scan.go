package wal

import (
	"errors"
	"fmt"
	"io"
)

// Pos is a position in a log: after the header or after a frame, with the checksum there.
type Pos struct {
	Offset int64
	Sum    Sum
}

// Start is the position before the first frame.
func (h Header) Start() Pos { return Pos{Offset: HeaderSize, Sum: h.Sum} }

// Frames returns how many frames end at or before a position.
func (h Header) Frames(p Pos) int64 { return (p.Offset - HeaderSize) / h.FrameSize() }

// Scanner reads frames one after the other, through a buffer of the caller, and stops at
// the first that does not belong to the log. Not safe for concurrent use.
type Scanner struct {
	r    io.ReaderAt
	h    Header
	pos  Pos // after the last frame returned
	buf  []byte
	have []byte // the part of buf that is not returned yet; it starts at pos
	err  error
}

// NewScanner returns a Scanner of the frames after a position. The buffer must have room
// for a frame; a larger one means fewer reads.
func NewScanner(r io.ReaderAt, h Header, from Pos, buf []byte) (*Scanner, error) {
	if int64(len(buf)) < h.FrameSize() {
		return nil, fmt.Errorf("wal: buffer of %d bytes for frames of %d", len(buf), h.FrameSize())
	}
	return &Scanner{r: r, h: h, pos: from, buf: buf}, nil
}

// Next returns the next valid frame and its page, which is valid until the next call. It
// returns false at the end of the log and after a read error, which Err returns.
func (s *Scanner) Next() (f Frame, page []byte, ok bool) {
	if int64(len(s.have)) < s.h.FrameSize() && !s.fill() {
		return Frame{}, nil, false
	}
	f, ok = s.h.Verify(s.pos.Sum, s.have)
	if !ok {
		return Frame{}, nil, false
	}
	page = s.have[FrameHeaderSize:s.h.FrameSize()]
	s.have = s.have[s.h.FrameSize():]
	s.pos = Pos{Offset: s.pos.Offset + s.h.FrameSize(), Sum: f.Sum}
	return f, page, true
}

// fill fills the buffer from pos on. It reports whether it has a whole frame.
func (s *Scanner) fill() bool {
	n, err := s.r.ReadAt(s.buf, s.pos.Offset)
	s.have = s.buf[:n]
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
		return false
	}
	return int64(n) >= s.h.FrameSize()
}

// Pos is the position after the last frame returned.
func (s *Scanner) Pos() Pos { return s.pos }

// Err returns the first read error. The end of the file is not an error.
func (s *Scanner) Err() error { return s.err }

// CommittedEnd scans at most maxFrames frames after a position (0: no limit). It returns
// the position after the last commit frame among them, and the size of the database in
// pages after that commit. If there is none, it returns from and 0.
func CommittedEnd(r io.ReaderAt, h Header, from Pos, buf []byte, maxFrames int64) (Pos, uint32, error) {
	s, err := NewScanner(r, h, from, buf)
	if err != nil {
		return Pos{}, 0, err
	}
	end, pages := from, uint32(0)
	for n := int64(0); maxFrames == 0 || n < maxFrames; n++ {
		f, _, ok := s.Next()
		if !ok {
			break
		}
		if f.Commit != 0 {
			end, pages = s.Pos(), f.Commit
		}
	}
	return end, pages, s.Err()
}
