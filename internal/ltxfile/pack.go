package ltxfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/superfly/ltx"
)

// Packed reads what Pack returns, for Merge.
type Packed struct{ *bytes.Reader }

// NewPacked returns a Packed.
func NewPacked(data []byte) Packed { return Packed{bytes.NewReader(data)} }

// Pack merges LTX files of one page size in memory, which follow each other, or what it has
// returned before. It copies the pages as they are compressed, so it costs little, and does
// not verify them. The result has the header of a file that Merge writes, and its pages, but
// no index and no checksum.
func Pack(files [][]byte) ([]byte, error) {
	var hdr ltx.Header
	rest := make([][]byte, len(files)) // of each file, from its next page on
	for i, b := range files {
		if len(b) < ltx.HeaderSize {
			return nil, errCut
		}
		var h ltx.Header
		if err := h.UnmarshalBinary(b[:ltx.HeaderSize]); err != nil {
			return nil, fmt.Errorf("pack LTX files: %w", err)
		}
		if err := join(&hdr, h, i == 0); err != nil {
			return nil, fmt.Errorf("pack LTX files: %w", err)
		}
		rest[i] = b[ltx.HeaderSize:]
	}
	size := ltx.HeaderSize + ltx.PageHeaderSize
	var pages [][]byte
	for {
		next, last := uint32(0), 0
		for i, b := range rest {
			if len(b) < ltx.PageHeaderSize {
				return nil, errCut
			}
			if n := binary.BigEndian.Uint32(b); n != 0 && (next == 0 || n <= next) {
				next, last = n, i
			}
		}
		if next == 0 {
			break
		}
		for i, b := range rest {
			if binary.BigEndian.Uint32(b) != next {
				continue
			}
			n, err := pageLen(b)
			if err != nil {
				return nil, err
			}
			if rest[i] = b[n:]; i == last && next <= hdr.Commit {
				pages, size = append(pages, b[:n]), size+n
			}
		}
	}
	out := make([]byte, 0, size)
	b, err := hdr.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("pack LTX files: %w", err)
	}
	out = append(out, b...)
	for _, page := range pages {
		out = append(out, page...)
	}
	return append(out, make([]byte, ltx.PageHeaderSize)...), nil
}

var errCut = errors.New("pack LTX files: one ends too early")

// pageLen is the length of the page at the beginning of b, with its header.
func pageLen(b []byte) (int, error) {
	const fixed = ltx.PageHeaderSize + 4
	if len(b) < fixed {
		return 0, errCut
	}
	if binary.BigEndian.Uint16(b[4:])&ltx.PageHeaderFlagSize == 0 {
		return 0, errors.New("pack LTX files: one is of a former format")
	}
	n := int64(binary.BigEndian.Uint32(b[ltx.PageHeaderSize:]))
	if n > int64(len(b)-fixed) {
		return 0, errCut
	}
	return fixed + int(n), nil
}
