// Package ship takes one database one step further: it finds what was committed since the
// last step and writes it to the replica as one LTX file. It reads only the WAL file if
// that can be proved to be complete. DESIGN.md in this folder has the rules and their
// proofs.
//
// All databases share one Shipper, which is safe for concurrent use. A DB is owned by one
// goroutine at a time.
package ship

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/boottime"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

// Errors of a step.
var (
	// ErrFenced: the replica holds a history that is not known to be that of the
	// local file.
	ErrFenced = errors.New("another writer owns the replica prefix")
	// ErrBehind: another writer has gone on from our state, and the local file has
	// nothing that the replica lacks.
	ErrBehind = errors.New("ship: another writer has gone on from the local state")
	// ErrStale: the replica does not end where State says. Call Verify, which finds out
	// why.
	ErrStale = errors.New("ship: the replica is not what it was")
	// ErrMissing: the database file is gone.
	ErrMissing = errors.New("database file does not exist")
	// ErrUnsettled: the database was written to during every attempt; try again.
	ErrUnsettled = errors.New("ship: the database did not stand still")
)

// Rule says why what a step ships continues what was shipped before.
type Rule uint8

// The rules of DESIGN.md, in the order in which they are tried.
const (
	RuleNone       Rule = iota // nothing was decided
	RuleSame                   // R1: the same WAL generation
	RuleRestart                // R2: one restart of the WAL, nothing missed
	RuleCheckpoint             // R3: the file is what it was, the WAL has the rest
	RuleResync                 // R4: the whole state
)

func (r Rule) String() string {
	return [...]string{"none", "R1", "R2", "R3", "R4"}[r]
}

// Config holds what all databases share.
type Config struct {
	// SpoolDir holds what is too large for memory. It must exist.
	SpoolDir string
	// ChunkSize bounds the memory of one step: so many bytes for the WAL frames that
	// are read at once, and as many again for the LTX file that is made of them.
	// Default 1 MiB; at least one frame is always read.
	ChunkSize int
	// Node and Session go into every LTX header, to distinguish our own writes from those
	// of another writer. Node identifies the state directory, Session this process.
	Node, Session uint32
	// Mine reports whether a session of a node is known to have run with this state
	// directory, and not with a copy of it. Default: it never is.
	Mine func(node, session uint32) bool
	// Copied: the state directory is or was a copy, so that it may lack what was written
	// with the original since. See Listing.TakeOverUnknown.
	Copied bool
	// Boot is a clock that counts the time in which the machine was suspended.
	// Default boottime.Now.
	Boot func() time.Duration
	// Window is how long Confirm trusts the last look at the end of the replica. It is
	// half of the time for which every writer keeps each level 0 file (DESIGN.md, "The
	// end of the replica"). Default 2m30s.
	Window time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Stat takes a file's fingerprint. Default fsid.Stat; tests set its time stamps by
	// Now.
	Stat func(path string) (fsid.Fingerprint, error)
	// BusyTimeout is how long a step waits for another connection's lock.
	// Default 1 s.
	BusyTimeout time.Duration
	// MaxPins bounds how many databases are read as a whole at the same time, and
	// MaxSeals how many are sealed. Each takes two connections. Default 8.
	MaxPins, MaxSeals int
	// MaxPages is the size of a database, in pages, up to which the hashes of its
	// pages are kept, 8 bytes for each. Default 131,072 (512 MiB of 4 KiB pages).
	MaxPages int
}

// Shipper steps databases.
type Shipper struct {
	cfg     Config
	started time.Time
	bufs    sync.Pool
	// pins and seals are semaphores. Whoever needs both acquires seals first: the other
	// order could deadlock.
	pins     chan struct{}
	seals    chan struct{}
	onMoment func(moment) // set by tests only
}

// New returns a Shipper.
func New(cfg Config) *Shipper {
	if cfg.ChunkSize == 0 {
		cfg.ChunkSize = 1 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Stat == nil {
		cfg.Stat = fsid.Stat
	}
	if cfg.Mine == nil {
		cfg.Mine = func(uint32, uint32) bool { return false }
	}
	if cfg.Boot == nil {
		cfg.Boot = boottime.Now
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.BusyTimeout == 0 {
		cfg.BusyTimeout = time.Second
	}
	if cfg.MaxPages == 0 {
		cfg.MaxPages = 1 << 17
	}
	if cfg.MaxPins == 0 {
		cfg.MaxPins = 8
	}
	if cfg.MaxSeals == 0 {
		cfg.MaxSeals = 8
	}
	return &Shipper{
		cfg: cfg, started: cfg.Now(),
		pins: make(chan struct{}, cfg.MaxPins), seals: make(chan struct{}, cfg.MaxSeals),
	}
}

// acquire acquires a semaphore. Receive from sem to release it.
func acquire(ctx context.Context, sem chan struct{}) error {
	select {
	case sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Shipper) nodeID() uint64 { return uint64(s.cfg.Node)<<32 | uint64(s.cfg.Session) }

// DB is one database and what is known of its replica.
type DB struct {
	Path   string
	Client litestream.ReplicaClient
	State  State
	// Pages holds the hashes of the pages at State; nil if they are not known.
	Pages *Pages
	// EndSeen is when, by Config.Boot, the replica was last known to end at State; zero
	// if it is not known to. See Confirm.
	EndSeen time.Duration
	// Fenced: the client refuses to write once another process has taken over, whatever the
	// replica looked like before, so that Confirm need not look.
	Fenced bool
	// OnWrite, if set, is called for every file that the replica has acknowledged.
	// data is the whole file, valid only during the call. It is nil if the file is
	// not in memory, or if the replica may have stored another attempt's bytes.
	OnWrite func(info *ltx.FileInfo, data []byte)
	// OnBacklog, if set, is called with what Backlog would return, before a step writes
	// anything.
	OnBacklog func(walEnd, backlog int64)

	pending []attempt // writes whose answer was lost
}

// attempt is a write that may have been applied.
type attempt struct {
	txid ltx.TXID
	sum  ltx.Checksum
	next State
}

// Result is what a step did.
type Result struct {
	Rule  Rule
	Txns  int   // transactions that were shipped (1 for a resync)
	Bytes int64 // of LTX written
	More  bool  // there is more to ship at once
	Tail  bool  // the WAL ends with an unfinished transaction
	Empty bool  // the database has no page yet, so there is nothing to ship
	// Why is why a resync was needed: what kept the rules from proving less.
	Why string
}

// Add combines the results of two steps.
func (r Result) Add(o Result) Result {
	r.Rule = max(r.Rule, o.Rule)
	r.Txns += o.Txns
	r.Bytes += o.Bytes
	r.More, r.Tail, r.Empty = o.More, o.Tail, o.Empty
	r.Why = cmp.Or(o.Why, r.Why)
	return r
}

// delta is an LTX file that is ready to be written, and the state that the database is in
// after it. A delta without a file only moves the position.
type delta struct {
	rule Rule
	next State
	hdr  ltx.Header
	sum  ltx.Checksum
	ltx  *spool // nil: nothing to write
	txns int
	more bool
	tail bool
	why  string // of a resync

	walEnd, backlog int64 // what Backlog returns

	hash    bool      // whether the hashes of the pages are needed
	changed []pageSum // the hashes of the pages in the file
	all     []uint64  // the hashes of all pages, after a resync
	same    bool      // a resync found every page as it was shipped
}

func (d *delta) close() {
	if d != nil && d.ltx != nil {
		d.ltx.close()
	}
}

// Step ships what was committed since the last step, in at most one LTX file. The state
// moves only when the replica has acknowledged the file; after any error it is what it was
// before. ctx bounds reading and writing.
func (s *Shipper) Step(ctx context.Context, db *DB) (Result, error) {
	if err := s.resolvePending(ctx, db); err != nil {
		return Result{}, err
	}
	d, empty, err := s.capture(ctx, db)
	if err != nil || empty {
		return Result{Empty: empty}, err
	}
	defer d.close()
	return s.apply(ctx, db, d)
}

// apply writes the delta's file, if it has one, and moves the state.
func (s *Shipper) apply(ctx context.Context, db *DB, d *delta) (Result, error) {
	res := Result{Rule: d.rule, Txns: d.txns, More: d.more, Tail: d.tail, Why: d.why}
	if d.ltx == nil {
		db.State = d.next
		return res, nil
	}
	n, err := s.write(ctx, db, d)
	res.Bytes = n
	return res, err
}

// capture decides which rule holds and prepares what is to be written.
func (s *Shipper) capture(ctx context.Context, db *DB) (d *delta, empty bool, err error) {
	main, err := s.cfg.Stat(db.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("%w: %s", ErrMissing, db.Path)
	} else if err != nil {
		return nil, false, err
	}
	f, size, err := openWAL(db.Path)
	if err != nil {
		return nil, false, err
	}
	if f != nil {
		defer func() { _ = f.Close() }()
	}
	if main.Size == 0 { // SQLite ignores a WAL beside an empty file
		return nil, true, nil
	}
	d, why, err := s.proved(db, main, f, size)
	if err != nil {
		return nil, false, err
	}
	if d == nil {
		if db.OnBacklog != nil {
			walEnd, backlog, err := Backlog(db.Path, db.State, main)
			if err != nil {
				return nil, false, err
			}
			db.OnBacklog(walEnd, backlog)
		}
		if d, empty, err = s.resync(ctx, db); d != nil {
			d.why = why
		}
		return d, empty, err
	}
	if db.OnBacklog != nil && d.ltx != nil {
		db.OnBacklog(d.walEnd, d.backlog)
	}
	return d, false, nil
}

// proved tries the rules R1 to R3. A nil delta means that none of them holds, and why says
// what kept them from it.
func (s *Shipper) proved(db *DB, main fsid.Fingerprint, f *os.File, size int64) (d *delta, why string, err error) {
	st := &db.State
	switch {
	case st.TXID == 0:
		return nil, "it is the first state", nil
	case st.Ino == 0:
		return nil, "nothing is known here of the file that was shipped", nil
	case main.Ino != st.Ino:
		return nil, "another file is at its path", nil
	}
	hdr, err := readHeader(f, size)
	if errors.Is(err, wal.ErrNoHeader) {
		d, err = s.proveNoWAL(st, main, f, size)
		return d, "its log is gone, and the file has changed", err
	} else if err != nil {
		return nil, "", err
	}
	if hdr.PageSize != st.PageSize {
		return nil, "its page size has changed", nil
	}
	if ok, err := s.sameGeneration(st, hdr, f); err != nil {
		return nil, "", err
	} else if ok {
		d, err := s.fromWAL(db, RuleSame, hdr, st.pos(), f, size)
		return d, "", err
	}
	if ok, err := restartedOnce(st, hdr, f, size); err != nil {
		return nil, "", err
	} else if ok {
		d, err := s.fromWAL(db, RuleRestart, hdr, hdr.Start(), f, size)
		return d, "", err
	}
	why = "its log has begun anew, and the file has changed"
	if hdr.Salt1 == st.Salt1 && hdr.Salt2 == st.Salt2 {
		why = "what was shipped of its log is not there any more"
	}
	if !st.Fingerprint.IsZero() && st.Fingerprint == main {
		d, err = s.fromCheckpoint(db, hdr, f, size)
	}
	return d, why, err
}

// proveNoWAL is R3 for a WAL that holds nothing.
func (s *Shipper) proveNoWAL(st *State, main fsid.Fingerprint, f *os.File, size int64) (*delta, error) {
	if size >= wal.HeaderSize {
		// The header is complete but invalid. Either it is being written right now, or
		// its writer died. If it is still invalid a second later, its writer died.
		fi, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if fsid.FingerprintOf(fi).Age(s.cfg.Now()).Abs() < time.Second {
			return &delta{rule: RuleNone, next: *st, tail: true}, nil
		}
	}
	if !st.Fingerprint.IsZero() && st.Fingerprint == main {
		return &delta{rule: RuleCheckpoint, next: *st}, nil
	}
	return nil, nil
}

// sameGeneration is R1: the header has the salts of the state, and the frames up to the
// state's offset are still the ones that were shipped. If the last transaction is Published,
// the checksum of its last frame proves that. Otherwise it may have been a ghost. What
// overwrites a ghost starts where the ghost started but may be shorter, so that the ghost's
// last frame is still there. So all frames of the last transaction are read then.
func (s *Shipper) sameGeneration(st *State, h wal.Header, f io.ReaderAt) (bool, error) {
	if st.Offset == 0 || h.Salt1 != st.Salt1 || h.Salt2 != st.Salt2 {
		return false, nil
	}
	if st.Offset == wal.HeaderSize {
		return h.Sum == st.Sum, nil
	}
	var b [wal.FrameHeaderSize]byte
	n, err := f.ReadAt(b[:], st.Offset-h.FrameSize())
	if err != nil && err != io.EOF {
		return false, err
	}
	if n < len(b) {
		return false, nil
	}
	fr := wal.ParseFrame(b[:])
	if fr.Sum != st.Sum || fr.Salt1 != st.Salt1 || fr.Salt2 != st.Salt2 {
		return false, nil
	}
	if st.Published {
		return true, nil
	}
	return s.unbroken(st, h, f)
}

// unbroken reports whether the checksum chain still leads through the last transaction to
// the state's position.
func (s *Shipper) unbroken(st *State, h wal.Header, f io.ReaderAt) (bool, error) {
	if st.TxnStart.Offset < wal.HeaderSize || st.TxnStart.Offset >= st.Offset {
		return false, nil
	}
	buf := s.getBuf(int(max(h.FrameSize(), smallBuf)))
	defer s.putBuf(buf)
	sc, err := wal.NewScanner(f, h, st.TxnStart, buf)
	if err != nil {
		return false, err
	}
	for sc.Pos().Offset < st.Offset {
		if _, _, ok := sc.Next(); !ok {
			return false, sc.Err()
		}
	}
	return sc.Pos() == st.pos(), nil
}

// restartedOnce is R2: the log restarted exactly once since, which raises salt 1 by one,
// and nobody wrote to the slot where the next commit of the old generation would have been.
// The header was read before the slot, so the old generation had ended by then. The
// header's sequence number proves nothing, since each connection has a count of its own.
// The last transaction must be Published: once the log was checkpointed without a ghost,
// nothing in the log shows that there was one.
func restartedOnce(st *State, h wal.Header, f io.ReaderAt, size int64) (bool, error) {
	if st.Offset == 0 || !st.Published || h.Salt1 != st.Salt1+1 || size < st.Offset {
		return false, nil
	}
	if st.SlotLen < wal.FrameHeaderSize {
		// The file ended at the slot. A log that was truncated and grew to the same
		// size again would look the same. So the last frame that was shipped must still
		// be there too.
		var b [wal.FrameHeaderSize]byte
		last := st.Offset - h.FrameSize()
		if last < wal.HeaderSize {
			return false, nil
		}
		if n, err := f.ReadAt(b[:], last); n < len(b) {
			return false, ignoreEOF(err)
		}
		fr := wal.ParseFrame(b[:])
		if fr.Sum != st.Sum || fr.Salt1 != st.Salt1 || fr.Salt2 != st.Salt2 {
			return false, nil
		}
	} else if fr := wal.ParseFrame(st.Slot[:]); fr.Salt1 == st.Salt1 && fr.Salt2 == st.Salt2 ||
		fr.Salt1 == 0 && fr.Salt2 == 0 {
		// When the state was shipped, the slot held a frame of an open transaction, of
		// the same generation. That transaction may have been committed since without
		// writing the frame again. Or, if the frame had no salts yet, an open transaction
		// of the new generation may have written the same bytes.
		return false, nil
	}
	slot, err := readSlot(f, st.Offset)
	if err != nil {
		return false, err
	}
	return string(slot) == string(st.Slot[:st.SlotLen]), nil
}

// fromCheckpoint is R3: the file is still what it was when it was all of the database. So
// everything that was committed since is in the WAL.
func (s *Shipper) fromCheckpoint(db *DB, h wal.Header, f *os.File, size int64) (*delta, error) {
	d, err := s.fromWAL(db, RuleCheckpoint, h, h.Start(), f, size)
	if err != nil {
		return nil, err
	}
	after, err := s.cfg.Stat(db.Path)
	if err != nil || after != db.State.Fingerprint {
		d.close()
		return nil, ignoreNotExist(err)
	}
	if d.ltx == nil {
		d.next.Fingerprint = after // the file is still all of the database
	}
	return d, nil
}

// fromWAL makes a delta of the frames from a position on.
func (s *Shipper) fromWAL(db *DB, rule Rule, h wal.Header, from wal.Pos, f *os.File, size int64) (*delta, error) {
	b, err := s.readBatch(f, size, h, from)
	if err != nil {
		return nil, err
	}
	defer s.release(b)
	slot, err := readSlot(f, b.end.Offset)
	if err != nil {
		return nil, err
	}
	again, err := readHeader(f, size)
	if err != nil && !errors.Is(err, wal.ErrNoHeader) {
		return nil, err
	}
	if err != nil || again != h {
		// The log restarted meanwhile. A restart writes the header first, so the frames
		// are good, but the slot may belong to the new generation.
		if rule != RuleSame || b.empty() {
			return &delta{rule: RuleNone, next: db.State, more: true}, nil
		}
		slot = unknownSlot(h)
	}
	d := &delta{rule: rule, next: db.State, txns: b.txns, more: b.more, tail: b.tail, hash: db.Pages.usable(db.State)}
	if b.empty() && rule == RuleSame {
		d.next.moveTo(h, b.end, db.State.TxnStart, slot)
		d.next.Published = db.State.Published
	} else {
		d.next.moveTo(h, b.end, b.lastTxn, slot)
	}
	if b.empty() {
		return d, nil
	}
	d.next.TXID++
	d.next.Commit = b.commit
	d.next.Fingerprint = fsid.Fingerprint{}
	d.walEnd = b.end.Offset
	if b.more || b.tail {
		if d.walEnd, err = usedEnd(f, h, size); err != nil {
			return nil, err
		}
	}
	d.backlog = d.walEnd - from.Offset
	if err := s.encodeBatch(d, b, db.State.Commit); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// openWAL opens the log beside a database; nil if there is none. Connections hold no locks
// on the WAL file, so closing a descriptor of it drops none.
func openWAL(path string) (*os.File, int64, error) {
	f, err := openRegular(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// openRegular is os.Open of a regular file, for half as much: it does not try to have the
// file polled, as os.Open does with every file, in five system calls more. This is done
// for each commit.
func openRegular(name string) (*os.File, error) {
	for {
		fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case syscall.EINTR:
		default:
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

func readHeader(f *os.File, size int64) (wal.Header, error) {
	if f == nil || size < wal.HeaderSize {
		return wal.Header{}, wal.ErrNoHeader
	}
	var b [wal.HeaderSize]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return wal.Header{}, err
	}
	return wal.ParseHeader(b[:n])
}

// readSlot reads the bytes at the place of the next frame's header.
func readSlot(f io.ReaderAt, off int64) ([]byte, error) {
	b := make([]byte, wal.FrameHeaderSize)
	n, err := f.ReadAt(b, off)
	return b[:n], ignoreEOF(err)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func isEOF(err error) bool { return err == io.EOF }

func ignoreEOF(err error) error {
	if isEOF(err) {
		return nil
	}
	return err
}

// unknownSlot is a slot that rule R2 never accepts.
func unknownSlot(h wal.Header) []byte {
	b := make([]byte, wal.FrameHeaderSize)
	binary.BigEndian.PutUint32(b[8:], h.Salt1)
	binary.BigEndian.PutUint32(b[12:], h.Salt2)
	return b
}

const smallBuf = 64 << 10

func (s *Shipper) getBuf(n int) []byte {
	if n > smallBuf {
		return make([]byte, n)
	}
	if b, ok := s.bufs.Get().(*[smallBuf]byte); ok {
		return b[:n]
	}
	return new([smallBuf]byte)[:n]
}

func (s *Shipper) putBuf(b []byte) {
	if cap(b) == smallBuf {
		s.bufs.Put((*[smallBuf]byte)(b[:smallBuf]))
	}
}
