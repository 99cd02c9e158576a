package ship

import (
	"errors"
	"io"
	"sort"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/wal"
)

// Backlog returns what the replica lacks of the database at path if it ends at a state:
// walEnd is how many bytes of the WAL are in use, and backlog is how many of them the
// replica lacks. Where the WAL does not show what has changed (nothing was shipped yet,
// another file has taken the place of the shipped one, or there is no WAL), backlog counts
// the whole file. main is the database file as it is now.
//
// Frames are recognized by their salts and not verified, so that this takes a few small
// reads, however long the WAL is. Frames of an open transaction count too.
func Backlog(path string, st State, main fsid.Fingerprint) (walEnd, backlog int64, err error) {
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
		if !other && st.Fingerprint == main {
			return 0, 0, nil
		}
		return 0, main.Size, nil
	case err != nil:
		return 0, 0, err
	}
	if walEnd, err = usedEnd(f, hdr, size); err != nil {
		return 0, 0, err
	}
	switch {
	case other:
		return walEnd, main.Size + walEnd, nil
	case st.Offset != 0 && hdr.Salt1 == st.Salt1 && hdr.Salt2 == st.Salt2:
		return walEnd, max(walEnd-st.Offset, 0), nil
	}
	return walEnd, walEnd - wal.HeaderSize, nil
}

// usedEnd returns where the frames of the log's generation end. Only frames of older
// generations follow, so that a binary search finds the end.
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
	if frames > 0 && stale(frames-1) { // otherwise the log has no older frames
		n = sort.Search(frames-1, stale)
	}
	return wal.HeaderSize + int64(n)*h.FrameSize(), failed
}
