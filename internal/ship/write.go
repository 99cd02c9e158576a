package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// encodeBatch writes the batch as one LTX file, and keeps the hashes of its pages if the
// delta needs them.
func (s *Shipper) encodeBatch(d *delta, b *batch, prevCommit uint32) error {
	b.sortPages()
	d.hdr = s.header(d.next)
	d.hdr.WALOffset = b.start.Offset
	d.hdr.WALSize = b.end.Offset - b.start.Offset
	d.hdr.WALSalt1, d.hdr.WALSalt2 = b.hdr.Salt1, b.hdr.Salt2
	d.ltx = &spool{dir: s.cfg.SpoolDir, limit: s.cfg.ChunkSize}
	enc, err := newEncoder(d.ltx, d.hdr)
	if err != nil {
		return err
	}
	// Pages that the database gained without a frame are free pages. Their content does
	// not matter, but a restore needs every page from some file.
	floor := min(prevCommit, b.minCommit)
	var zero, scratch []byte
	if b.spool != nil {
		scratch = make([]byte, b.hdr.PageSize)
	}
	lock := ltx.LockPgno(b.hdr.PageSize)
	fill := func(from, to uint32) error {
		for pgno := max(from, floor+1); pgno < to; pgno++ {
			if pgno == lock {
				continue
			}
			if zero == nil {
				zero = make([]byte, b.hdr.PageSize)
			}
			if err := enc.page(pgno, zero); err != nil {
				return err
			}
			if d.hash {
				d.changed = append(d.changed, pageSum{pgno, sumPage(zero)})
			}
		}
		return nil
	}
	prev := uint32(0)
	for _, v := range b.frames {
		pgno := uint32(v >> 32)
		if err := fill(prev+1, pgno); err != nil {
			return err
		}
		prev = pgno
		if pgno == lock {
			continue
		}
		page, err := b.page(int64(uint32(v)), scratch)
		if err != nil {
			return err
		}
		if err := enc.page(pgno, page); err != nil {
			return err
		}
		if d.hash {
			d.changed = append(d.changed, pageSum{pgno, sumPage(page)})
		}
	}
	if err := fill(prev+1, b.commit+1); err != nil {
		return err
	}
	d.sum, err = enc.close()
	return err
}

// header returns the LTX header of the transaction that leads to a state.
func (s *Shipper) header(next State) ltx.Header {
	return ltx.Header{
		Version:   ltx.Version,
		Flags:     ltx.HeaderFlagNoChecksum,
		PageSize:  next.PageSize,
		Commit:    next.Commit,
		MinTXID:   next.TXID,
		MaxTXID:   next.TXID,
		Timestamp: s.cfg.Now().UnixMilli(),
		NodeID:    s.nodeID(),
	}
}

// write writes the delta's file to the replica and moves the state. It returns how many
// bytes it wrote.
func (s *Shipper) write(ctx context.Context, db *DB, d *delta) (int64, error) {
	if err := s.Confirm(ctx, db); err != nil {
		return 0, err
	}
	txid := d.next.TXID
	d.next.Origin = Origin{Writer: d.hdr.NodeID, Sum: d.sum}
	began := s.cfg.Boot()
	failpoint.Hit("ship.put.before")
	info, err := db.Client.WriteLTXFile(ctx, 0, txid, txid, d.ltx.reader())
	failpoint.Hit("ship.put.after")
	err = failpoint.Err("ship.put.lost", err)
	switch {
	case err == nil:
		if err := s.confirmLate(ctx, db, txid); err != nil {
			db.pending = append(db.pending, attempt{txid, d.sum, d.next})
			return 0, err
		}
		before := db.State
		s.acknowledge(db, d.next, info, d.ltx.bytes())
		db.EndSeen = max(db.EndSeen, began)
		s.updatePages(db, before, d)
		if db.Fenced && before.PageSize != 0 && before.PageSize != d.next.PageSize {
			// See resyncFrom. The client waits until the file is durable.
			return d.ltx.n, s.snapshotOf(ctx, db, d)
		}
		return d.ltx.n, nil
	case errors.Is(err, fs.ErrExist):
		// The file counts as ours if it has the same bytes.
		return 0, s.identify(ctx, db, txid, append(db.pending, attempt{txid, d.sum, d.next}))
	default:
		// The replica may have stored it all the same; the next step finds out.
		db.pending = append(db.pending, attempt{txid, d.sum, d.next})
		return 0, fmt.Errorf("write transaction %s: %w", txid, err)
	}
}

func (s *Shipper) acknowledge(db *DB, next State, info *ltx.FileInfo, data []byte) {
	db.State = next
	db.pending = nil
	if db.OnWrite != nil {
		db.OnWrite(info, data)
	}
}

// resolvePending finds out whether the replica has stored a file whose answer was lost,
// before another write of the same TXID is tried.
func (s *Shipper) resolvePending(ctx context.Context, db *DB) error {
	if len(db.pending) == 0 {
		return nil
	}
	txid := db.pending[0].txid
	if txid != db.State.TXID+1 {
		db.pending = nil
		return nil
	}
	err := s.identify(ctx, db, txid, db.pending)
	if errors.Is(err, fs.ErrNotExist) {
		// It is not stored so far, but may still be on its way. Neither it nor the next
		// attempt overwrites a file, and whichever arrives first is recognized as ours.
		return nil
	}
	return err
}

// maxPending bounds how many attempts are remembered for one TXID. Another one is added
// only if the answer to a write is lost and then a read is answered.
const maxPending = 16

// identify reads the file that exists at our next TXID and finds out who wrote it. It
// returns nil if it is one of our attempts, to whose state it then moves. Otherwise it
// returns ErrStale if this or an earlier session of ours wrote the file, and ErrFenced if
// another writer did.
func (s *Shipper) identify(ctx context.Context, db *DB, txid ltx.TXID, ours []attempt) error {
	if len(ours) > maxPending {
		ours = ours[len(ours)-maxPending:]
	}
	db.pending = ours
	hdr, sum, size, err := readStored(ctx, db, 0, txid, txid)
	if err != nil {
		return fmt.Errorf("look at transaction %s: %w", txid, err)
	}
	if done, err := s.recognize(ctx, db, txid, ours, hdr, sum, size); done || err != nil {
		return err
	}
	// A fenced database stays fenced, so the reason must not be a file that was damaged
	// in transit.
	if hdr, sum, err = readVerified(ctx, db, 0, txid, txid, size); err != nil {
		return fmt.Errorf("look at transaction %s: %w", txid, err)
	}
	if done, err := s.recognize(ctx, db, txid, ours, hdr, sum, size); done || err != nil {
		return err
	}
	if s.wroteIt(hdr) {
		return fmt.Errorf("%w: transaction %s is there", ErrStale, txid)
	}
	return s.fenced(db, stored{Origin{hdr.NodeID, sum}, hdr}, nil)
}

// recognize looks for the attempt that has the checksum of the file at txid. If there is
// one, the file counts as acknowledged.
func (s *Shipper) recognize(ctx context.Context, db *DB, txid ltx.TXID, ours []attempt, hdr ltx.Header, sum ltx.Checksum, size int64) (bool, error) {
	for _, a := range ours {
		if a.sum == sum {
			if err := s.confirmLate(ctx, db, txid); err != nil {
				return false, err
			}
			db.Pages = nil // which pages that attempt changed is no longer known
			s.acknowledge(db, a.next, &ltx.FileInfo{
				MinTXID: txid, MaxTXID: txid, Size: size,
				CreatedAt: time.UnixMilli(hdr.Timestamp).UTC(),
			}, nil)
			return true, nil
		}
	}
	return false, nil
}

// readStored reads the header, the checksum and the size of a file of the replica.
func readStored(ctx context.Context, db *DB, level int, minTXID, maxTXID ltx.TXID) (hdr ltx.Header, sum ltx.Checksum, size int64, err error) {
	rc, err := db.Client.OpenLTXFile(ctx, level, minTXID, maxTXID, 0, 0)
	if err != nil {
		return hdr, 0, 0, err
	}
	defer func() { _ = rc.Close() }()
	var c countingReader
	c.r = rc
	hdr, rest, err := ltx.PeekHeader(&c)
	if err != nil {
		return hdr, 0, 0, fmt.Errorf("not an LTX file: %w", err)
	}
	tail := make([]byte, 0, ltx.TrailerSize+32<<10)
	buf := make([]byte, 32<<10)
	for {
		n, err := rest.Read(buf)
		tail = append(tail, buf[:n]...)
		if len(tail) > ltx.TrailerSize {
			tail = append(tail[:0], tail[len(tail)-ltx.TrailerSize:]...)
		}
		if err == io.EOF {
			break
		} else if err != nil {
			return hdr, 0, 0, err
		}
	}
	var tr ltx.Trailer
	if err := tr.UnmarshalBinary(tail); err != nil {
		return hdr, 0, 0, fmt.Errorf("not a whole LTX file: %w", err)
	}
	return hdr, tr.FileChecksum, c.n, nil
}

// readVerified reads all of a file of the replica, which must have that size. It returns
// what the header and the trailer say only if they match the content.
func readVerified(ctx context.Context, db *DB, level int, minTXID, maxTXID ltx.TXID, size int64) (hdr ltx.Header, sum ltx.Checksum, err error) {
	rc, err := db.Client.OpenLTXFile(ctx, level, minTXID, maxTXID, 0, 0)
	if err != nil {
		return hdr, 0, err
	}
	defer func() { _ = rc.Close() }()
	c := countingReader{r: untrusted.NewLTX(rc)}
	dec := ltx.NewDecoder(&c)
	if err := dec.DecodeHeader(); err != nil {
		return hdr, 0, fmt.Errorf("damaged: %w", err)
	}
	hdr = dec.Header()
	page := make([]byte, hdr.PageSize)
	for {
		var ph ltx.PageHeader
		if err := dec.DecodePage(&ph, page); err == io.EOF {
			break
		} else if err != nil {
			return hdr, 0, fmt.Errorf("damaged: %w", err)
		}
	}
	if size-c.n < ltx.TrailerSize { // dec.Close does not check that there is a whole trailer
		return hdr, 0, errors.New("damaged: it ends too early")
	}
	if err := dec.Close(); err != nil {
		return hdr, 0, fmt.Errorf("damaged: %w", err)
	}
	if c.n != size || hdr.MinTXID != minTXID || hdr.MaxTXID != maxTXID {
		return hdr, 0, fmt.Errorf("damaged: %d bytes with transactions %s to %s, want %d bytes", c.n, hdr.MinTXID, hdr.MaxTXID, size)
	}
	return hdr, dec.Trailer().FileChecksum, nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
