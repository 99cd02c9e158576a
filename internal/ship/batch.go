package ship

import (
	"io"
	"slices"

	"github.com/multidb-go/multidb/internal/wal"
)

// batch is a sequence of whole committed transactions, read and verified once.
type batch struct {
	hdr        wal.Header
	start, end wal.Pos
	lastTxn    wal.Pos  // where the last transaction starts
	frames     []uint64 // pgno<<32 | index of the frame from start, committed ones only
	commit     uint32   // pages after the last transaction
	minCommit  uint32   // the smallest size of the database after any of them
	txns       int
	more       bool // the buffer was full, and the log has more
	tail       bool // valid frames of an open transaction follow
	buf        []byte
	spool      *spool // where the frames are if one transaction exceeds the buffer
}

// empty reports whether nothing was committed.
func (b *batch) empty() bool { return b.txns == 0 }

// page returns the page of a frame. If there is a spool, the page is read into scratch.
func (b *batch) page(frame int64, scratch []byte) ([]byte, error) {
	off := frame*b.hdr.FrameSize() + wal.FrameHeaderSize
	if b.spool == nil {
		return b.buf[off : off+int64(b.hdr.PageSize)], nil
	}
	_, err := b.spool.ReadAt(scratch, off)
	return scratch, err
}

// sortPages orders the frames by page. It keeps the last frame of each page, and none of
// pages beyond the final size.
func (b *batch) sortPages() {
	slices.Sort(b.frames)
	out := b.frames[:0]
	for i, v := range b.frames {
		pgno := uint32(v >> 32)
		if pgno > b.commit || (i+1 < len(b.frames) && uint32(b.frames[i+1]>>32) == pgno) {
			continue
		}
		out = append(out, v)
	}
	b.frames = out
}

// readBatch reads the log from a position up to its last commit, or to the last commit
// that fits into the buffer. A single transaction that is larger than the buffer goes to a
// spool. The batch uses the buffer until it is released.
func (s *Shipper) readBatch(r io.ReaderAt, size int64, h wal.Header, from wal.Pos) (*batch, error) {
	b := &batch{hdr: h, start: from, end: from, lastTxn: from}
	fs := h.FrameSize()
	room := int64(s.cfg.ChunkSize)
	if pending := size - from.Offset; pending < room {
		room = pending
	}
	room -= room % fs
	if room < fs {
		room = fs
	}
	b.buf = s.getBuf(int(room))

	pos, next := from, int64(0)
	var pending []uint64 // frames of the transaction being read
	low := uint32(0)
	for {
		n, err := r.ReadAt(b.buf, pos.Offset)
		if err != nil && err != io.EOF {
			s.release(b)
			return nil, err
		}
		chunk := b.buf[:n]
		chainEnded := int64(n) < room || pos.Offset+int64(n) >= size
		for int64(len(chunk)) >= fs {
			f, ok := h.Verify(pos.Sum, chunk)
			if !ok {
				chainEnded = true
				break
			}
			pos = wal.Pos{Offset: pos.Offset + fs, Sum: f.Sum}
			pending = append(pending, uint64(f.Pgno)<<32|uint64(next))
			next++
			chunk = chunk[fs:]
			if f.Commit == 0 {
				continue
			}
			b.frames = append(b.frames, pending...)
			pending = pending[:0]
			if low == 0 || f.Commit < low {
				low = f.Commit
			}
			b.lastTxn, b.end, b.commit, b.minCommit = b.end, pos, f.Commit, low
			b.txns++
			if b.spool != nil { // the large transaction is complete
				chainEnded = pos.Offset >= size
				break
			}
		}
		if b.spool != nil || (b.empty() && !chainEnded) {
			if b.spool == nil {
				b.spool = &spool{dir: s.cfg.SpoolDir, limit: 0}
			}
			// Only verified frames are ever taken from the spool.
			if _, err := b.spool.Write(b.buf[:n-len(chunk)]); err != nil {
				s.release(b)
				return nil, err
			}
		}
		if !b.empty() || chainEnded {
			b.more = !b.empty() && !chainEnded
			b.tail = chainEnded && len(pending) > 0
			return b, nil
		}
	}
}

// release returns the batch's memory.
func (s *Shipper) release(b *batch) {
	if b.buf != nil {
		s.putBuf(b.buf)
		b.buf = nil
	}
	if b.spool != nil {
		b.spool.close()
	}
}
