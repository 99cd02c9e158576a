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

// pin is a read transaction together with the exact place in the WAL that it
// sees; or the file of a database that stands still.
type pin struct {
	still    *sqlitedb.File
	reader   *sqlitedb.Conn
	probe    *sqlitedb.Conn
	release  func()
	why      string           // the last attempt that failed did
	ino      uint64           // of the file, before the reader opened it
	main     fsid.Fingerprint // taken inside the transaction
	pageSize uint32
	pages    uint32

	// The place in the WAL, if it holds anything that the reader needs.
	inWAL bool
	// shipped: nothing is needed from the WAL, but it still holds the generation
	// of the shipped state, and nothing behind it.
	shipped bool
	hdr     wal.Header
	pos     wal.Pos
	slot    []byte
}

// pinAttempts bounds how often a busy database is tried without stopping its
// writers; then the write lock is taken for an instant.
const pinAttempts = 8

// openPin begins a read transaction at a known place. It asks SQLite for the
// number of frames (wal_checkpoint(NOOP)) just before and just after the
// transaction begins: if they agree, so does the transaction. The file alone
// cannot tell, as a commit frame stands in it before it becomes visible.
func (s *Shipper) openPin(ctx context.Context, db *DB) (p *pin, err error) {
	if err := take(ctx, s.pins); err != nil {
		return nil, err
	}
	p = &pin{release: func() { <-s.pins }}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	at, err := s.cfg.Stat(db.Path)
	if err != nil {
		return p, err
	}
	p.ino = at.Ino
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
	// A third connection keeps the writers out, so that one attempt will do.
	lock, err := sqlitedb.OpenConn(ctx, db.Path, s.cfg.BusyTimeout)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := lock.BeginImmediate(ctx); err != nil {
		return p, err
	}
	defer lock.End()
	// Nobody commits now, but a log may still be restarting, or closing.
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
	if p.main.Ino != p.ino { // or the state of the one would count as that of the other
		return fmt.Errorf("%w: %s: another file has taken its place", ErrUnsettled, db.Path)
	}
	if err := p.reader.QueryRow(ctx, "PRAGMA page_size", &p.pageSize); err != nil {
		return err
	}
	return p.reader.QueryRow(ctx, "PRAGMA page_count", &p.pages)
}

// tryPin begins the transaction once. False means that the database moved.
func (s *Shipper) tryPin(ctx context.Context, db *DB, p *pin, probe *sqlitedb.Conn) (ok bool, err error) {
	h0, _, err := walHeader(db.Path)
	if err != nil {
		return false, err
	}
	before, _, _, err := probe.Checkpoint(ctx, "NOOP")
	if err != nil {
		return false, err
	}
	s.at(beforeRead)
	if err := p.reader.BeginRead(ctx); err != nil {
		return false, err
	}
	defer func() {
		if !ok {
			p.reader.End()
		}
	}()
	s.at(afterRead)
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
		// Everything is in the file, and nobody can write to it while we read:
		// a checkpoint needs the lock that a reader of the file alone holds.
		p.shipped, err = s.atEnd(db)
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

// moment is an instant at which somebody else's commit matters.
type moment uint8

const (
	beforeRead  moment = iota + 1 // of a pin, after its first question
	afterRead                     // before the second
	beforeLock                    // of a checkpoint, after it has shipped everything
	afterOpen                     // of a file that may stand still, before its fingerprint
	beforeStill                   // after that
	beforePage                    // each, of a resync or a snapshot
	afterPages                    // of a resync or a snapshot, before its last look at the file
)

// at lets a test act at such an instant.
func (s *Shipper) at(now moment) {
	if s.onMoment != nil {
		s.onMoment(now)
	}
}

// atEnd reports whether the log is still in the generation of the shipped state
// and has no commit behind it.
func (s *Shipper) atEnd(db *DB) (bool, error) {
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

// Print is the fingerprint of a file that nobody writes to, for a State that is
// all of it.
func (s *Shipper) Print(ctx context.Context, path string) (fsid.Fingerprint, error) {
	return s.sealPrint(ctx, path)
}

// sealPrint returns the file's fingerprint, once its time stamps are older than
// the clock's granularity, so that any later write must change them. Zero if
// they lie in the future or change all the time. That the file has not been
// written to before is the caller's to know.
func (s *Shipper) sealPrint(ctx context.Context, path string) (fsid.Fingerprint, error) {
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

// state is the State after shipping what the pin sees as the given file.
func (p *pin) state(prev State) State {
	st := prev
	st.PageSize, st.Commit, st.Ino = p.pageSize, p.pages, p.main.Ino
	st.Print = fsid.Fingerprint{}
	if p.inWAL {
		st.at(p.hdr, p.pos, p.pos, p.slot) // SQLite counted the frames
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
			// Nothing in the WAL is needed, so none need stay behind.
			errs = append(errs, c.DropWAL())
		}
		errs = append(errs, c.Close())
	}
	if p.still != nil {
		errs = append(errs, p.still.Close())
	}
	p.still, p.reader, p.probe = nil, nil, nil
	if p.release != nil {
		p.release()
	}
	return errors.Join(errs...)
}
