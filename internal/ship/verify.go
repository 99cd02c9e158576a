package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

// verifyLimit bounds the last LTX file that is compared with the WAL, in bytes;
// a larger one costs a resync instead.
const verifyLimit = 64 << 20

// Verify compares the state with what the replica holds. It is called once in
// the life of a process, before the first write to a prefix: a state directory
// may be lost, stale or from another time. The replica's history is the truth;
// where the state is not at its end, the position is taken from its last file,
// if that agrees with the WAL byte for byte, or else the next step resyncs.
func (s *Shipper) Verify(ctx context.Context, db *DB, files []*ltx.FileInfo) error {
	db.pending = nil
	last := newest(files)
	if last == nil {
		db.State = State{}
		return nil
	}
	if db.State.TXID == last.MaxTXID {
		return nil
	}
	st, err := s.fromReplica(ctx, db, last)
	if err != nil {
		return fmt.Errorf("verify against transaction %s: %w", last.MaxTXID, err)
	}
	db.State = st
	return nil
}

// newest is the file that ends last; of several the one of the lowest level,
// which says most.
func newest(files []*ltx.FileInfo) *ltx.FileInfo {
	var last *ltx.FileInfo
	for _, f := range files {
		if last == nil || f.MaxTXID > last.MaxTXID || f.MaxTXID == last.MaxTXID && f.Level < last.Level {
			last = f
		}
	}
	return last
}

// fromReplica makes a state of the replica's last file.
func (s *Shipper) fromReplica(ctx context.Context, db *DB, last *ltx.FileInfo) (State, error) {
	rc, err := db.Client.OpenLTXFile(ctx, last.Level, last.MinTXID, last.MaxTXID, 0, 0)
	if err != nil {
		return State{}, err
	}
	defer func() { _ = rc.Close() }()
	hdr, r, err := ltx.PeekHeader(untrusted.NewLTX(rc))
	if err != nil {
		return State{}, fmt.Errorf("not an LTX file: %w", err)
	}
	st := State{TXID: last.MaxTXID, PageSize: hdr.PageSize, Commit: hdr.Commit}
	if last.Level != 0 || hdr.WALSalt1 == 0 && hdr.WALSalt2 == 0 || last.Size > verifyLimit {
		return st, nil
	}
	main, err := s.cfg.Stat(db.Path)
	if err != nil {
		return State{}, err
	}
	m, err := s.matchWAL(db.Path, hdr, r)
	if errors.Is(err, errNoMatch) {
		return st, nil
	} else if err != nil {
		return State{}, err
	}
	st.Ino = main.Ino
	st.at(m.hdr, m.end, m.start, m.slot)
	return st, nil
}

var errNoMatch = errors.New("ship: the file does not match the WAL")

// match is the range of the WAL that an LTX file was made of.
type match struct {
	hdr        wal.Header
	start, end wal.Pos
	slot       []byte
}

// matchWAL checks that the WAL still holds the frames an LTX file was made of.
func (s *Shipper) matchWAL(path string, lh ltx.Header, r io.Reader) (match, error) {
	none := func(err error) (match, error) { return match{}, err }
	f, size, err := openWAL(path)
	if err != nil {
		return none(err)
	} else if f == nil {
		return none(errNoMatch)
	}
	defer func() { _ = f.Close() }()
	h, err := readHeader(f, size)
	if err != nil || h.Salt1 != lh.WALSalt1 || h.Salt2 != lh.WALSalt2 || h.PageSize != lh.PageSize {
		return none(orNoMatch(ignoreBadHeader(err)))
	}
	end := lh.WALOffset + lh.WALSize
	// The last frame of each page in the range, found while the chain is checked
	// from the log's start to the range's end.
	buf := s.getBuf(int(max(h.FrameSize(), smallBuf)))
	defer s.putBuf(buf)
	sc, err := wal.NewScanner(f, h, h.Start(), buf)
	if err != nil {
		return none(err)
	}
	want := map[uint32]int64{}
	start, commit := h.Start(), end == wal.HeaderSize
	for sc.Pos().Offset < end {
		off := sc.Pos().Offset
		if off == lh.WALOffset {
			start = sc.Pos()
		}
		fr, _, ok := sc.Next()
		if !ok {
			return none(orNoMatch(sc.Err()))
		}
		if off >= lh.WALOffset {
			want[fr.Pgno] = off + wal.FrameHeaderSize
		}
		commit = fr.Commit != 0
	}
	if !commit || sc.Pos().Offset != end {
		return none(errNoMatch)
	}
	dec := ltx.NewDecoder(r)
	if err := dec.DecodeHeader(); err != nil {
		return none(err)
	}
	page, mine := make([]byte, h.PageSize), make([]byte, h.PageSize)
	var ph ltx.PageHeader
	for {
		if err := dec.DecodePage(&ph, page); isEOF(err) {
			break
		} else if err != nil {
			return none(err)
		}
		off, ok := want[ph.Pgno]
		if !ok {
			continue // a page of a resync, or one the file gained unwritten
		}
		delete(want, ph.Pgno)
		if _, err := f.ReadAt(mine, off); err != nil {
			return none(orNoMatch(ignoreEOF(err)))
		}
		if !bytes.Equal(page, mine) {
			return none(errNoMatch)
		}
	}
	for pgno := range want {
		if pgno <= lh.Commit {
			return none(errNoMatch)
		}
	}
	slot, err := readSlot(f, end)
	if err != nil {
		return none(err)
	}
	if again, err := readHeader(f, size); err != nil || again != h {
		return none(orNoMatch(ignoreBadHeader(err)))
	}
	return match{hdr: h, start: start, end: sc.Pos(), slot: unknownUnlessEnd(h, slot)}, nil
}

// unknownUnlessEnd keeps a slot only if the file ends there. What stood there
// when the range was shipped is not known; a frame seen now may be a commit
// that was made since.
func unknownUnlessEnd(h wal.Header, slot []byte) []byte {
	if len(slot) == 0 {
		return slot
	}
	return unknownSlot(h)
}

func orNoMatch(err error) error {
	if err == nil {
		return errNoMatch
	}
	return err
}
