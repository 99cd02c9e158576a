package ship

import (
	"errors"
	"io"
	"sort"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/wal"
)

// Backlog returns how far the database at path is ahead of a state: end is how many bytes
// of the WAL are in use, and behind is how many of them the replica lacks. If no WAL says
// what changed, because nothing was shipped yet, or another file is in the place of the
// one that was shipped, or there is no WAL, behind is the size of the file. main is the
// database file as it is now. Frames are recognized by their salts and not verified, so
// that this costs a few small reads whatever the size. The frames of an open transaction
// count too.
func Backlog(path string, st State, main fsid.Fingerprint) (end, behind int64, err error) {
	f, size, err := openWAL(path)
	if err != nil {
		return 0, 0, err
	}
	if f != nil {
		defer func() { _ = f.Close() }() // nothing was written
	}
	other := st.TXID == 0 || main.Ino != st.Ino
	hdr, err := readHeader(f, size)
	switch {
	case errors.Is(err, wal.ErrNoHeader):
		if !other && st.Print == main {
			return 0, 0, nil
		}
		return 0, main.Size, nil
	case err != nil:
		return 0, 0, err
	}
	if end, err = usedEnd(f, hdr, size); err != nil {
		return 0, 0, err
	}
	switch {
	case other:
		return end, main.Size + end, nil
	case st.Offset != 0 && hdr.Salt1 == st.Salt1 && hdr.Salt2 == st.Salt2:
		return end, max(end-st.Offset, 0), nil
	}
	return end, end - wal.HeaderSize, nil
}

// usedEnd returns the end of the last frame of the log's generation. Frames of older
// generations come after it, so that a binary search finds it.
func usedEnd(f io.ReaderAt, h wal.Header, size int64) (int64, error) {
	var failed error
	stale := func(frame int) bool {
		var b [wal.FrameHeaderSize]byte
		n, err := f.ReadAt(b[:], wal.HeaderSize+int64(frame)*h.FrameSize())
		if err = ignoreEOF(err); err != nil {
			failed = err
		}
		fr := wal.ParseFrame(b[:])
		return n < len(b) || fr.Salt1 != h.Salt1 || fr.Salt2 != h.Salt2
	}
	frames := int((size - wal.HeaderSize) / h.FrameSize())
	n := frames
	if frames > 0 && stale(frames-1) { // a log that only grew has no older frames
		n = sort.Search(frames-1, stale)
	}
	return wal.HeaderSize + int64(n)*h.FrameSize(), failed
}
