// Package wal reads and verifies SQLite write-ahead logs, and does nothing else: it has no
// SQLite connection, no lock and no state of its own.
//
// The format is the one of https://www.sqlite.org/fileformat2.html#walformat:
// a 32-byte header, then frames of a 24-byte header and one page. A frame
// belongs to the log if its salts are the header's and its checksum continues
// the chain that starts at the header; a transaction ends with a frame whose
// commit field is not zero.
package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes in bytes.
const (
	HeaderSize      = 32
	FrameHeaderSize = 24
)

const (
	magicLittle = 0x377f0682 // checksums are computed over little-endian words
	magicBig    = 0x377f0683
	version     = 3007000
)

// ErrNoHeader is returned when the bytes are not a complete header. They are too few, or
// the checksum is wrong because the header is being written or its writer died. To SQLite
// such a log is empty.
var ErrNoHeader = errors.New("wal: no valid header")

// Header is the header of a log. A log that restarts gets a new header, with salt1
// increased by one and a new random salt2. Seq counts the restarts by the connection that
// wrote this header, not by all connections.
type Header struct {
	BigEndian    bool // byte order of the checksum's words
	PageSize     uint32
	Seq          uint32
	Salt1, Salt2 uint32
	Sum          Sum // of the header; the frames' chain begins here
}

// Sum is the two words of a running WAL checksum.
type Sum struct{ S1, S2 uint32 }

// ParseHeader decodes and verifies the first HeaderSize bytes of a log.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, ErrNoHeader
	}
	var h Header
	switch magic := binary.BigEndian.Uint32(b); magic {
	case magicLittle:
	case magicBig:
		h.BigEndian = true
	default:
		return Header{}, ErrNoHeader
	}
	h.Sum = Sum{binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])}
	if Checksum(h.BigEndian, Sum{}, b[:24]) != h.Sum {
		return Header{}, ErrNoHeader
	}
	if v := binary.BigEndian.Uint32(b[4:]); v != version {
		return Header{}, fmt.Errorf("wal: unsupported format version %d", v)
	}
	h.PageSize = binary.BigEndian.Uint32(b[8:])
	if h.PageSize < 512 || h.PageSize > 65536 || h.PageSize&(h.PageSize-1) != 0 {
		return Header{}, ErrNoHeader // SQLite's recovery ignores such a log too
	}
	h.Seq = binary.BigEndian.Uint32(b[12:])
	h.Salt1 = binary.BigEndian.Uint32(b[16:])
	h.Salt2 = binary.BigEndian.Uint32(b[20:])
	return h, nil
}

// FrameSize is the size of one frame in bytes.
func (h Header) FrameSize() int64 { return FrameHeaderSize + int64(h.PageSize) }

// Frame is the header of one frame.
type Frame struct {
	Pgno         uint32
	Commit       uint32 // size of the database in pages after a commit; 0: not a commit
	Salt1, Salt2 uint32
	Sum          Sum
}

// ParseFrame decodes a frame header. It verifies nothing.
func ParseFrame(b []byte) Frame {
	_ = b[FrameHeaderSize-1]
	return Frame{
		Pgno:   binary.BigEndian.Uint32(b),
		Commit: binary.BigEndian.Uint32(b[4:]),
		Salt1:  binary.BigEndian.Uint32(b[8:]),
		Salt2:  binary.BigEndian.Uint32(b[12:]),
		Sum:    Sum{binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])},
	}
}

// Verify decodes the frame at the start of b (its header and page). ok reports whether it
// has the salts of the log and continues the checksum chain from prev. The chain goes on
// with f.Sum.
func (h Header) Verify(prev Sum, b []byte) (f Frame, ok bool) {
	if int64(len(b)) < h.FrameSize() {
		return Frame{}, false
	}
	f = ParseFrame(b)
	if f.Pgno == 0 || f.Salt1 != h.Salt1 || f.Salt2 != h.Salt2 {
		return f, false
	}
	sum := Checksum(h.BigEndian, prev, b[:8])
	sum = Checksum(h.BigEndian, sum, b[FrameHeaderSize:h.FrameSize()])
	return f, sum == f.Sum
}

// Checksum continues the checksum s over b, whose length is a multiple of 8.
func Checksum(bigEndian bool, s Sum, b []byte) Sum {
	s1, s2 := s.S1, s.S2
	if bigEndian {
		for len(b) >= 8 {
			s1 += binary.BigEndian.Uint32(b) + s2
			s2 += binary.BigEndian.Uint32(b[4:]) + s1
			b = b[8:]
		}
	} else {
		for len(b) >= 8 {
			s1 += binary.LittleEndian.Uint32(b) + s2
			s2 += binary.LittleEndian.Uint32(b[4:]) + s1
			b = b[8:]
		}
	}
	return Sum{s1, s2}
}
