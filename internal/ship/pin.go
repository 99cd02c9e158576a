package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/wal"
)

// pin is a view of the whole database that does not change: a read transaction together
// with the exact position in the WAL up to which it sees commits, or the file of a database
// that nobody writes to.
type pin struct {
	file     *sqlitedb.File
	reader   *sqlitedb.Conn
	probe    *sqlitedb.Conn
	release  func()
	why      string           // why the last attempt failed
	ino      uint64           // of the file, before the reader opened it
	main     fsid.Fingerprint // taken inside the transaction
	pageSize uint32
	pages    uint32

	// inWAL: the reader needs frames of the WAL, up to pos in the generation of hdr.
	inWAL bool
	// shipped: the reader needs nothing of the WAL, which still holds the generation of
	// the shipped state and no commit after that state.
	shipped bool
	hdr     wal.Header
	pos     wal.Pos
	slot    []byte
}

// pinAttempts bounds the attempts on a busy database that do not stop its writers. After
// them the write lock is taken for a moment.
const pinAttempts = 8

// openPin begins a read transaction at a known position of the WAL. It asks SQLite for the
// number of frames (wal_checkpoint(NOOP)) just before and just after the transaction
// begins. If both answers are the same, the transaction sees that many frames too. The
// file does not show it, since a commit frame is written before the commit becomes visible.
func (s *Shipper) openPin(ctx context.Context, db *DB) (p *pin, err error) {
	if err := acquire(ctx, s.pins); err != nil {
		return nil, err
	}
	p = &pin{release: func() { <-s.pins }}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	before, err := s.cfg.Stat(db.Path)
	if err != nil {
		return p, err
	}
	p.ino = before.Ino
	if p.reader, err = sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout); err != nil {
		return p, err
	}
	if p.probe, err = sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout); err != nil {
		return p, err
	}
	for i := 0; i < pinAttempts; i++ {
		if ok, err := s.tryPin(ctx, db, p, p.probe); ok || err != nil {
			return p, err
		}
	}
	// A third connection keeps the writers out, so that one attempt is enough.
	lock, err := sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := lock.BeginImmediate(ctx); err != nil {
		return p, err
	}
	defer lock.End()
	// Nobody commits now, but a log may still be restarting, or another process closing it.
	for i := 0; i < pinAttempts; i++ {
		if ok, err := s.tryPin(ctx, db, p, p.probe); ok || err != nil {
			return p, err
		}
		if err := ctxio.Sleep(ctx, time.Millisecond<<i); err != nil {
			return p, err
		}
	}
	return p, fmt.Errorf("%w: %s: %s", ErrUnsettled, db.Path, p.why)
}

// measure notes the file and the shape of the database that the reader sees.
func (s *Shipper) measure(ctx context.Context, db *DB, p *pin) (err error) {
	if p.main, err = s.cfg.Stat(db.Path); err != nil {
		return err
	}
	if p.main.Ino != p.ino { // otherwise the state of one file would be recorded for another
		return fmt.Errorf("%w: %s: another file has taken its place", ErrUnsettled, db.Path)
	}
	if err := p.reader.QueryRow(ctx, "PRAGMA page_size", &p.pageSize); err != nil {
		return err
	}
	return p.reader.QueryRow(ctx, "PRAGMA page_count", &p.pages)
}

// tryPin tries once to begin the transaction. It returns false if the database changed
// meanwhile.
func (s *Shipper) tryPin(ctx context.Context, db *DB, p *pin, probe *sqlitedb.Conn) (ok bool, err error) {
	h0, _, err := walHeader(db.Path)
	if err != nil {
		return false, err
	}
	before, _, _, err := probe.Checkpoint(ctx, "NOOP")
	if err != nil {
		return false, err
	}
	s.reach(beforeRead)
	if err := p.reader.BeginRead(ctx); err != nil {
		return false, err
	}
	defer func() {
		if !ok {
			p.reader.End()
		}
	}()
	s.reach(afterRead)
	after, _, _, err := probe.Checkpoint(ctx, "NOOP")
	if err != nil || before != after {
		p.why = fmt.Sprintf("%d frames before, %d after", before, after)
		return false, err
	}
	if err := s.measure(ctx, db, p); err != nil {
		return false, err
	}
	p.inWAL = after > 0
	if !p.inWAL {
		// Everything is in the file, and nobody can write to it during this transaction:
		// a checkpoint needs the lock that a reader of the file alone holds.
		p.shipped, err = s.nothingAfter(db)
		return err == nil, err
	}
	f, size, err := openWAL(db.Path)
	if err != nil || f == nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	h1, err := readHeader(f, size)
	if err != nil || h0 == nil || *h0 != h1 {
		p.why = fmt.Sprintf("%d frames in use, but the log's header changes: %v", after, err)
		return false, ignoreBadHeader(err)
	}
	from := h1.Start()
	if st := &db.State; st.Salt1 == h1.Salt1 && st.Salt2 == h1.Salt2 && h1.Frames(st.pos()) <= after {
		if same, err := s.sameGeneration(st, h1, f); err != nil {
			return false, err
		} else if same {
			from = st.pos()
		}
	}
	buf := s.getBuf(int(max(h1.FrameSize(), smallBuf)))
	defer s.putBuf(buf)
	p.hdr = h1
	p.pos = from
	if n := after - h1.Frames(from); n > 0 {
		if p.pos, _, err = wal.CommittedEnd(f, h1, from, buf, n); err != nil {
			return false, err
		}
	}
	if h1.Frames(p.pos) != after {
		p.why = fmt.Sprintf("%d frames in use, %d valid in the log", after, h1.Frames(p.pos))
		return false, nil
	}
	if p.slot, err = readSlot(f, p.pos.Offset); err != nil {
		return false, err
	}
	if h2, err := readHeader(f, size); err != nil || h2 != h1 {
		return false, ignoreBadHeader(err)
	}
	return true, nil
}

// moment is a point in the code at which a commit by somebody else could do harm. Tests
// commit there.
type moment uint8

const (
	beforeRead     moment = iota + 1 // openPin has asked for the number of frames once
	afterRead                        // its transaction has begun, and it is about to ask again
	beforeLock                       // Checkpoint has shipped everything, and has no lock yet
	afterOpen                        // openFilePin has opened the file, and has no fingerprint yet
	beforeFileRead                   // it has the fingerprint, and has yet to check the file again
	beforePage                       // a resync or snapshot is about to handle a page
	afterPages                       // it has all pages, and is about to check the file again
)

// reach lets a test act at a moment.
func (s *Shipper) reach(now moment) {
	if s.onMoment != nil {
		s.onMoment(now)
	}
}

// nothingAfter reports whether the log still has the generation of the shipped state and no
// commit after that state.
func (s *Shipper) nothingAfter(db *DB) (bool, error) {
	f, size, err := openWAL(db.Path)
	if err != nil || f == nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	h, err := readHeader(f, size)
	if err != nil {
		return false, ignoreBadHeader(err)
	}
	if same, err := s.sameGeneration(&db.State, h, f); err != nil || !same {
		return false, err
	}
	buf := s.getBuf(int(max(h.FrameSize(), smallBuf)))
	defer s.putBuf(buf)
	end, _, err := wal.CommittedEnd(f, h, db.State.pos(), buf, 0)
	return err == nil && end == db.State.pos(), err
}

func ignoreBadHeader(err error) error {
	if errors.Is(err, wal.ErrNoHeader) {
		return nil
	}
	return err
}

// walHeader reads the header of a database's log; nil if there is none.
func walHeader(path string) (*wal.Header, int64, error) {
	f, size, err := openWAL(path)
	if err != nil || f == nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	h, err := readHeader(f, size)
	if err != nil {
		return nil, size, ignoreBadHeader(err)
	}
	return &h, size, nil
}

// StableFingerprint returns the fingerprint of a file as soon as its time stamps are older
// than the granularity of the clock, so that any later write must change them. It is zero
// if they are in the future or keep changing. The caller must know what the content is, and
// that nobody wrote to the file before this call. ctx bounds the wait.
func (s *Shipper) StableFingerprint(ctx context.Context, path string) (fsid.Fingerprint, error) {
	for i := 0; i < 5; i++ {
		p, err := s.cfg.Stat(path)
		if err != nil {
			return fsid.Fingerprint{}, err
		}
		now := s.cfg.Now()
		if !p.Racy(now) {
			return p, nil
		}
		if err := ctxio.Sleep(ctx, p.Tick()-max(p.Age(now), 0)+time.Millisecond); err != nil {
			return fsid.Fingerprint{}, err
		}
	}
	return fsid.Fingerprint{}, nil
}

// FingerprintSetBack is StableFingerprint for a file whose mtime was set back before it got
// its name. If it still is what it was set to, nobody has written since, and whoever does
// changes it: nothing is waited for.
func (s *Shipper) FingerprintSetBack(ctx context.Context, path string, mtime int64) (fsid.Fingerprint, error) {
	p, err := s.cfg.Stat(path)
	if err != nil {
		return fsid.Fingerprint{}, err
	}
	if mtime != 0 && p.Mtime == mtime && time.Duration(p.Ctime-p.Mtime) > p.Tick() {
		return p, nil
	}
	return s.StableFingerprint(ctx, path)
}

// state returns the State after prev once everything that the pin sees is shipped.
func (p *pin) state(prev State) State {
	st := prev
	st.PageSize, st.Commit, st.Ino = p.pageSize, p.pages, p.main.Ino
	st.Fingerprint = fsid.Fingerprint{}
	if p.inWAL {
		st.moveTo(p.hdr, p.pos, p.pos, p.slot) // SQLite has counted the frames, so they are published
	} else {
		st.noWAL()
	}
	return st
}

func (p *pin) close() error {
	var errs []error
	for _, c := range []*sqlitedb.Conn{p.reader, p.probe} {
		if c == nil {
			continue
		}
		c.End()
		if !p.inWAL {
			// Nothing in the WAL is needed, so the last connection may delete it.
			errs = append(errs, c.DropWAL())
		}
		errs = append(errs, c.Close())
	}
	if p.file != nil {
		errs = append(errs, p.file.Close())
	}
	p.file, p.reader, p.probe = nil, nil, nil
	if p.release != nil {
		p.release()
	}
	return errors.Join(errs...)
}
