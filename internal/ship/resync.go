package ship

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

// SnapshotLevel is litestream's level of full snapshots.
const SnapshotLevel = 9

// resync is R4: it ships the whole state of the database as the next transaction. Writers
// are not stopped.
func (s *Shipper) resync(ctx context.Context, db *DB) (d *delta, empty bool, err error) {
	p, err := s.openFilePin(ctx, db)
	if err != nil {
		return nil, false, err
	}
	if p != nil {
		if d, empty, err = s.resyncFrom(ctx, db, p); !errors.Is(err, errWritten) {
			return d, empty, err
		}
	}
	if p, err = s.openPin(ctx, db); err != nil {
		return nil, false, err
	}
	return s.resyncFrom(ctx, db, p)
}

// resyncFrom makes the delta of what the pin sees, and closes the pin.
func (s *Shipper) resyncFrom(ctx context.Context, db *DB, p *pin) (d *delta, empty bool, err error) {
	defer func() {
		if e := p.close(); e != nil && err == nil {
			d.close()
			d, err = nil, e
		}
	}()
	if p.pages == 0 {
		return nil, true, nil
	}
	next := p.state(db.State)
	next.TXID++
	d = &delta{rule: RuleResync, next: next, txns: 1}
	d.hdr = s.header(next)
	// The offset is set even if nothing is in the log: litestream, if it continues from
	// this file, takes an offset of zero for damage.
	d.hdr.WALOffset = wal.HeaderSize
	if p.inWAL {
		d.hdr.WALSize = p.pos.Offset - wal.HeaderSize
		d.hdr.WALSalt1, d.hdr.WALSalt2 = p.hdr.Salt1, p.hdr.Salt2
	}
	var known *Pages
	if db.Pages.usable(db.State) && db.Pages.PageSize == p.pageSize {
		known = db.Pages
	}
	if d.next.Fingerprint, err = s.dump(ctx, db, p, d, known); err != nil {
		d.close()
		return nil, false, err
	}
	if d.same { // no file is written, and only the position moves
		d.close()
		d.ltx, d.txns = nil, 0
		d.next.TXID = db.State.TXID
		return d, false, nil
	}
	failpoint.Hit("resync.dump.after")
	if old := db.State.PageSize; old != 0 && old != p.pageSize && !db.Fenced {
		// LTX files of two page sizes cannot be applied one after the other. So a
		// snapshot at the same TXID is written first, from which a restore begins. Where
		// the client only takes files, it is written when this one is durable: a process
		// that is fenced in between would leave the snapshot of another history.
		if err := s.snapshotOf(ctx, db, d); err != nil {
			d.close()
			return nil, false, err
		}
	}
	return d, false, nil
}

// dump encodes every page that the pin sees or, if known has the hashes of the shipped
// state, every page that differs from it. If the file alone was read, dump returns its
// fingerprint, for rule R3.
func (s *Shipper) dump(ctx context.Context, db *DB, p *pin, d *delta, known *Pages) (fsid.Fingerprint, error) {
	var print fsid.Fingerprint
	if p.file != nil {
		print = p.main
	} else if !p.inWAL {
		var err error
		if print, err = s.StableFingerprint(ctx, db.Path); err != nil {
			return fsid.Fingerprint{}, err
		}
	}
	d.ltx = &spool{dir: s.cfg.SpoolDir, limit: s.cfg.ChunkSize}
	enc, err := newEncoder(d.ltx, d.hdr)
	if err != nil {
		return fsid.Fingerprint{}, err
	}
	d.hash = int(p.pages) <= s.cfg.MaxPages || known != nil
	lock, last, written := ltx.LockPgno(p.pageSize), uint32(0), 0
	err = p.each(ctx, func(pgno uint32, data []byte) error {
		s.reach(beforePage)
		last = pgno
		if pgno > p.pages {
			return nil
		}
		if d.hash {
			sum := uint64(0)
			if pgno != lock {
				sum = sumPage(data)
			}
			d.all = append(d.all, sum)
			if old, ok := known.hash(pgno); ok && old == sum {
				return nil
			}
		}
		if pgno == lock {
			return nil
		}
		written++
		return enc.page(pgno, data)
	})
	if err != nil {
		return fsid.Fingerprint{}, err
	}
	if last != p.pages {
		return fsid.Fingerprint{}, fmt.Errorf("ship: read %d pages of %d", last, p.pages)
	}
	d.same = known != nil && written == 0 && p.pages == db.State.Commit
	if d.sum, err = enc.close(); err != nil {
		return fsid.Fingerprint{}, err
	}
	s.reach(afterPages)
	after, err := s.cfg.Stat(db.Path)
	switch {
	case err == nil && after == print:
		return print, nil
	case p.file != nil:
		return fsid.Fingerprint{}, errors.Join(errWritten, err)
	}
	return fsid.Fingerprint{}, err // what was read is consistent all the same: the transaction ensures it
}

// snapshotOf writes a resync's pages as a snapshot of its TXID.
func (s *Shipper) snapshotOf(ctx context.Context, db *DB, d *delta) error {
	snap := &delta{next: d.next, hdr: d.hdr}
	snap.hdr.MinTXID = 1
	snap.ltx = &spool{dir: s.cfg.SpoolDir, limit: s.cfg.ChunkSize}
	defer snap.close()
	enc, err := newEncoder(snap.ltx, snap.hdr)
	if err != nil {
		return err
	}
	dec := ltx.NewDecoder(d.ltx.reader())
	if err := dec.DecodeHeader(); err != nil {
		return err
	}
	var ph ltx.PageHeader
	data := make([]byte, d.hdr.PageSize)
	for {
		err := dec.DecodePage(&ph, data)
		if isEOF(err) {
			break
		} else if err != nil {
			return err
		}
		if err := enc.page(ph.Pgno, data); err != nil {
			return err
		}
	}
	if snap.sum, err = enc.close(); err != nil {
		return err
	}
	if err := s.writeSnapshot(ctx, db, snap); errors.Is(err, errForeignSnapshot) {
		// An earlier attempt at this transaction wrote the snapshot, but the transaction's
		// own file never arrived. The number is taken: Verify goes on from it.
		return fmt.Errorf("%w: %w", ErrStale, err)
	} else if err != nil {
		return err
	}
	return nil
}

// writeSnapshot creates the snapshot, or finds that an earlier attempt has created it. If
// a snapshot of that TXID exists with other pages, the error is errForeignSnapshot.
func (s *Shipper) writeSnapshot(ctx context.Context, db *DB, d *delta) error {
	if err := s.Confirm(ctx, db); err != nil {
		return err
	}
	failpoint.Hit("snapshot.put.before")
	info, err := db.Client.WriteLTXFile(ctx, SnapshotLevel, 1, d.next.TXID, d.ltx.reader())
	failpoint.Hit("snapshot.put.after")
	if errors.Is(err, fs.ErrExist) {
		info, err = s.sameSnapshot(ctx, db, d)
	}
	if err != nil {
		return fmt.Errorf("write snapshot %s: %w", d.next.TXID, err)
	}
	if db.OnWrite != nil {
		db.OnWrite(info, nil) // snapshots are not compacted
	}
	return nil
}

var errForeignSnapshot = errors.New("a snapshot of that transaction is there, of another state")

// sameSnapshot compares the snapshot that is at the replica with ours.
func (s *Shipper) sameSnapshot(ctx context.Context, db *DB, d *delta) (*ltx.FileInfo, error) {
	rc, err := db.Client.OpenLTXFile(ctx, SnapshotLevel, 1, d.next.TXID, 0, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rc.Close() }()
	c := countingReader{r: untrusted.NewLTX(rc)}
	hdr, same, err := ltxfile.Same(d.ltx.reader(), &c)
	if err != nil {
		return nil, err
	} else if !same {
		return nil, errForeignSnapshot
	}
	return &ltx.FileInfo{Level: SnapshotLevel, MinTXID: 1, MaxTXID: d.next.TXID, Size: c.n,
		CreatedAt: time.UnixMilli(hdr.Timestamp).UTC()}, nil
}

// Snapshot ships what is new, and then writes the state at the resulting TXID as a full
// snapshot. Writers are not stopped.
func (s *Shipper) Snapshot(ctx context.Context, db *DB) (res Result, err error) {
	for i := 0; i < pinAttempts; i++ {
		for {
			r, err := s.Step(ctx, db)
			res = res.Add(r)
			if err != nil || r.Empty {
				return res, err
			}
			if !r.More {
				break
			}
		}
		var p *pin
		if i == 0 {
			p, err = s.openFilePin(ctx, db)
		}
		if p == nil && err == nil {
			p, err = s.openPin(ctx, db)
		}
		if err != nil {
			return res, err
		}
		if !p.sees(db.State) {
			if err := p.close(); err != nil {
				return res, err
			}
			continue // somebody has committed since
		}
		if err := s.snapshotPinned(ctx, db, p); !errors.Is(err, errWritten) {
			return res, err
		}
	}
	return res, fmt.Errorf("%w: %s", ErrUnsettled, db.Path)
}

func (s *Shipper) snapshotPinned(ctx context.Context, db *DB, p *pin) (err error) {
	defer func() { err = errors.Join(err, p.close()) }()
	d := &delta{next: db.State}
	defer d.close()
	d.hdr = s.header(db.State)
	d.hdr.MinTXID = 1
	if _, err := s.dump(ctx, db, p, d, nil); err != nil {
		return err
	}
	if err := s.writeSnapshot(ctx, db, d); errors.Is(err, errForeignSnapshot) {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	} else if err != nil {
		return err
	}
	s.updatePages(db, db.State, d)
	return nil
}

// sees reports whether the pin sees exactly the state that was shipped.
func (p *pin) sees(st State) bool {
	if p.main.Ino != st.Ino || p.pageSize != st.PageSize || p.pages != st.Commit {
		return false
	}
	if p.inWAL {
		return p.hdr.Salt1 == st.Salt1 && p.hdr.Salt2 == st.Salt2 && p.pos == st.pos()
	}
	return p.shipped || !st.Fingerprint.IsZero() && p.main == st.Fingerprint
}
