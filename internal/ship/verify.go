package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

// verifyLimit is the size in bytes up to which the last LTX file is compared with the WAL.
// A larger one causes a resync instead.
const verifyLimit = 64 << 20

// Listing is what the replica holds of a database.
type Listing struct {
	Files []*ltx.FileInfo
	// Began is Config.Boot just before the listing was made.
	Began time.Duration
	// Plan returns the files from which the newest state is restored, in order. It is
	// called only if the local file has to be compared with that state.
	Plan func() ([]*ltx.FileInfo, error)
	// TakeOver: an operator has decided that the local file counts, whoever wrote to the
	// replica last.
	TakeOver bool
	// TakeOverUnknown: the local file counts if it cannot be found out who wrote the
	// newest file of the replica, because the state was lost or is a copy.
	TakeOverUnknown bool
	// Cache: the local file is of an earlier time, and others may have served the database
	// since, even if the replica's last file is ours. What only the local file has was not
	// promised to anybody, and does not count: see verifyCache.
	Cache bool
	// Sealed, of a Cache: in the state that is known of it the file was when the database came to
	// this process. What it has more was committed since.
	Sealed bool
}

// Verify decides whether the local file may go on from what the replica holds. It is called
// before the first write of a process to a prefix, and again whenever the replica is found
// to have changed. DESIGN.md ("Who may write") has the table. On success the state is the
// replica's end. If it is not known which position in the WAL that is, the next step
// resyncs.
//
// ErrBehind and ErrFenced change nothing.
func (s *Shipper) Verify(ctx context.Context, db *DB, l Listing) error {
	db.pending = nil
	last := newest(l.Files)
	if last == nil && l.Cache && !l.TakeOver && db.State.TXID != 0 {
		return fmt.Errorf("%w: the replica has nothing of the database any more, of which it had transaction %s: another node has erased it", ErrFenced, db.State.TXID)
	} else if last == nil {
		db.State, db.EndSeen = State{}, l.Began
		return nil
	}
	found, err := readOrigin(ctx, db, last)
	if err != nil {
		return fmt.Errorf("verify against transaction %s: %w", last.MaxTXID, err)
	}
	switch known := db.State; {
	case l.Cache && !l.TakeOver && l.Sealed && known.TXID == last.MaxTXID && s.isShippedFile(known, found):
		db.State.Origin = found.Origin // nobody has gone on with it
	case l.Cache && !l.TakeOver:
		if err := s.verifyCache(ctx, db, l, last, found); err != nil {
			return err
		}
	case known.TXID == last.MaxTXID && s.isShippedFile(known, found):
		db.State.Origin = found.Origin
	case l.TakeOver, s.wroteIt(found.hdr), l.TakeOverUnknown && (known.TXID == 0 || found.Node() == s.cfg.Node || s.cfg.Copied):
		st, err := s.fromReplica(ctx, db, last)
		if err != nil {
			return fmt.Errorf("verify against transaction %s: %w", last.MaxTXID, err)
		}
		db.State, db.State.Origin = st, found.Origin
	default:
		if err := s.verifyForeign(ctx, db, l, last, found); err != nil {
			return err
		}
	}
	db.EndSeen = l.Began
	return nil
}

// verifyForeign is Verify where the replica's last file is not known to be ours.
func (s *Shipper) verifyForeign(ctx context.Context, db *DB, l Listing, last *ltx.FileInfo, found stored) error {
	fail := func(err error) error { return fmt.Errorf("verify against transaction %s: %w", last.MaxTXID, err) }
	st, err := s.fromReplica(ctx, db, last)
	if err != nil {
		return fail(err)
	}
	if st.Offset != 0 { // the log has all of it, byte for byte
		db.State, db.State.Origin = st, found.Origin
		return nil
	}
	known := db.State
	descends, err := descendsFrom(ctx, db, l.Files, known)
	if err != nil {
		return fail(err)
	}
	idle, err := s.hasNothingNew(ctx, db)
	if err != nil {
		return fail(err)
	}
	if idle && (known.TXID == 0 || descends && last.MaxTXID > known.TXID) {
		return fmt.Errorf("%w: from transaction %s to %s, written by node %s at %s; this one is node %08x/%08x", ErrBehind,
			known.TXID, last.MaxTXID, found.Origin, time.UnixMilli(found.hdr.Timestamp).UTC().Format(time.RFC3339), s.cfg.Node, s.cfg.Session)
	}
	same, err := s.equals(ctx, db, l, last, found)
	if err != nil {
		return fail(err)
	} else if same {
		return nil
	}
	// A fenced database stays fenced, so the reason must not be a file that was damaged
	// in transit.
	if _, _, err := readVerified(ctx, db, last.Level, last.MinTXID, last.MaxTXID, last.Size); err != nil {
		return fail(err)
	}
	return s.fenced(db, found, l.Files)
}

// fenced returns an ErrFenced that says who wrote what, and what the operator can do.
func (s *Shipper) fenced(db *DB, found stored, files []*ltx.FileInfo) error {
	ours := "what this one has shipped is not known"
	if st := db.State; st.TXID != 0 {
		ours = fmt.Sprintf("this one knows of transaction %s", st.TXID)
		if st.Origin != (Origin{}) {
			ours += " by " + st.Origin.String()
		}
		for _, f := range files {
			if f.Level == 0 && f.MaxTXID == st.TXID && !f.CreatedAt.IsZero() {
				ours += " at " + f.CreatedAt.UTC().Format(time.RFC3339)
			}
		}
	}
	return fmt.Errorf("%w: transaction %s was written by node %s at %s; %s (node %08x/%08x), and its file has commits that the replica lacks. "+
		"Nothing was shipped or changed. Take over (the local file becomes the newest state) or adopt (the replica wins, the local file is kept aside)",
		ErrFenced, found.hdr.MaxTXID, found.Origin, time.UnixMilli(found.hdr.Timestamp).UTC().Format(time.RFC3339),
		ours, s.cfg.Node, s.cfg.Session)
}

// wroteIt reports whether this session wrote a file, or an earlier session that is known to
// have run with this state directory and not with a copy of it. If the file's time is after
// the start of this session, a copy that is not known as one wrote it.
func (s *Shipper) wroteIt(hdr ltx.Header) bool {
	o := Origin{Writer: hdr.NodeID}
	if o.Node() == s.cfg.Node && o.Session() == s.cfg.Session {
		return true
	}
	return s.cfg.Mine(o.Node(), o.Session()) && !time.UnixMilli(hdr.Timestamp).After(s.started)
}

// isShippedFile reports whether the file is the one whose acknowledgement led to the state.
// A state that was encoded before version 3 has no Origin: then the node has to do.
func (s *Shipper) isShippedFile(st State, found stored) bool {
	if st.Origin == (Origin{}) {
		return found.Node() == s.cfg.Node
	}
	return st.Origin == found.Origin
}

// hasNothingNew reports whether it is proved that nothing was committed to the local file
// since the state, or that the file is empty.
func (s *Shipper) hasNothingNew(ctx context.Context, db *DB) (bool, error) {
	main, err := s.cfg.Stat(db.Path)
	if err != nil {
		return false, err
	}
	if main.Size == 0 {
		return true, nil
	}
	f, size, err := openWAL(db.Path)
	if err != nil {
		return false, err
	}
	if f != nil {
		defer func() { _ = f.Close() }()
	}
	d, _, err := s.proved(db, main, f, size)
	if err != nil || d == nil {
		return false, err
	}
	defer d.close()
	return d.rule != RuleNone && d.ltx == nil && !d.more && !d.tail, nil
}

// descendsFrom reports whether the replica's history may contain the state. It does not if
// the replica has a file of the state's TXID that another writer wrote.
func descendsFrom(ctx context.Context, db *DB, files []*ltx.FileInfo, st State) (bool, error) {
	for _, f := range files {
		if f.Level == 0 && f.MaxTXID == st.TXID {
			found, err := readOrigin(ctx, db, f)
			return err == nil && found.Origin == st.Origin, err
		}
	}
	return true, nil
}

// equals compares the database with the newest state of the replica, page by page: first
// the file without its log, then the whole database. If one of the two is equal, the state
// moves to the replica's end.
func (s *Shipper) equals(ctx context.Context, db *DB, l Listing, last *ltx.FileInfo, found stored) (bool, error) {
	if l.Plan == nil {
		return false, nil
	}
	main, err := s.cfg.Stat(db.Path)
	if err != nil {
		return false, err
	}
	if main.Size == 0 {
		return false, nil
	}
	plan, err := l.Plan()
	if err != nil {
		return false, nil // no state can be restored, so none is equal
	}
	pages, err := s.pagesOf(ctx, db, plan)
	if err != nil {
		return false, err
	}
	if print, err := s.fileEquals(ctx, db, pages); err != nil {
		return false, err
	} else if !print.IsZero() {
		db.State = State{TXID: last.MaxTXID, PageSize: pages.PageSize, Commit: uint32(pages.Len()),
			Ino: print.Ino, Fingerprint: print, Origin: found.Origin}
		if db.Pages = pages; pages.Len() > s.cfg.MaxPages {
			db.Pages = nil
		}
		return true, nil
	}
	before, beforePages := db.State, db.Pages
	db.State = State{TXID: last.MaxTXID, PageSize: pages.PageSize, Commit: uint32(pages.Len()), Ino: main.Ino}
	db.Pages = pages
	d, empty, err := s.resync(ctx, db)
	defer d.close()
	if err != nil || empty || !d.same {
		db.State, db.Pages = before, beforePages
		return false, err
	}
	db.State, db.State.Origin = d.next, found.Origin
	if pages.Len() > s.cfg.MaxPages {
		db.Pages = nil
	}
	return true, nil
}

// fileEquals compares the database file without its log with the pages of the replica. If
// they are equal, it returns the fingerprint of the file, with which rule R3 goes on:
// everything in the log was committed on top of that state. Without this, commits that were
// made before the replica answered would make the file look like another history.
func (s *Shipper) fileEquals(ctx context.Context, db *DB, pages *Pages) (fsid.Fingerprint, error) {
	if _, err := os.Lstat(db.Path + "-journal"); !errors.Is(err, fs.ErrNotExist) {
		return fsid.Fingerprint{}, err
	}
	print, err := s.StableFingerprint(ctx, db.Path)
	if err != nil || print.Size != int64(pages.Len())*int64(pages.PageSize) {
		return fsid.Fingerprint{}, err
	}
	f, err := sqlitedb.OpenFile(db.Path)
	if err != nil {
		return fsid.Fingerprint{}, nil // such as a symbolic link: then the whole database is compared
	}
	p := &pin{file: f, pageSize: pages.PageSize}
	err = p.each(ctx, func(pgno uint32, data []byte) error {
		if sum, _ := pages.hash(pgno); sum != sumPage(data) && pgno != ltx.LockPgno(p.pageSize) {
			return errDiffers
		}
		return nil
	})
	if err = errors.Join(err, f.Close()); errors.Is(err, errDiffers) || errors.Is(err, errWritten) {
		return fsid.Fingerprint{}, nil
	} else if err != nil {
		return fsid.Fingerprint{}, err
	}
	after, err := s.cfg.Stat(db.Path)
	if err != nil || after != print {
		return fsid.Fingerprint{}, ignoreNotExist(err)
	}
	return print, nil
}

var errDiffers = errors.New("ship: a page differs")

// pagesOf returns the page hashes of the state that these files restore.
func (s *Shipper) pagesOf(ctx context.Context, db *DB, plan []*ltx.FileInfo) (*Pages, error) {
	p := new(Pages)
	for _, f := range plan {
		if err := p.applyFile(ctx, db, f); err != nil {
			return nil, fmt.Errorf("read level %d %s: %w", f.Level, ltx.FormatFilename(f.MinTXID, f.MaxTXID), err)
		}
	}
	return p, nil
}

// applyFile updates the hashes with one more file. Memory is allocated for the pages that
// the file has, and not for the number of pages that its header claims.
func (p *Pages) applyFile(ctx context.Context, db *DB, f *ltx.FileInfo) error {
	rc, err := db.Client.OpenLTXFile(ctx, f.Level, f.MinTXID, f.MaxTXID, 0, 0)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	dec := ltx.NewDecoder(untrusted.NewLTX(rc))
	dec.SetRetainPageIndex(false)
	if err := dec.DecodeHeader(); err != nil {
		return err
	}
	hdr := dec.Header()
	var changed []pageSum
	page := make([]byte, hdr.PageSize)
	for {
		var ph ltx.PageHeader
		if err := dec.DecodePage(&ph, page); isEOF(err) {
			break
		} else if err != nil {
			return err
		}
		if ph.Pgno > hdr.Commit {
			return fmt.Errorf("page %d is beyond the end of %d pages", ph.Pgno, hdr.Commit)
		}
		changed = append(changed, pageSum{ph.Pgno, sumPage(page)})
	}
	if err := dec.Close(); err != nil {
		return err
	}
	// A file must have every page (but the lock page) past the former end of the database.
	if grown := int64(hdr.Commit) - int64(len(p.sums)); grown > int64(len(changed))+1 {
		return fmt.Errorf("it has %d pages for a database that grew by %d", len(changed), grown)
	}
	p.PageSize = hdr.PageSize
	p.advance(State{TXID: hdr.MaxTXID, Commit: hdr.Commit}, changed)
	return nil
}

// stored is what the header and the trailer of a file at the replica say.
type stored struct {
	Origin
	hdr ltx.Header
}

// OriginOf reads who wrote a file.
func OriginOf(ctx context.Context, client litestream.ReplicaClient, f *ltx.FileInfo) (Origin, error) {
	found, err := readOrigin(ctx, &DB{Client: client}, f)
	return found.Origin, err
}

// OriginIn is who wrote a file of the replica, of which the header and the checksum have
// been read.
func OriginIn(f *ltx.FileInfo, hdr ltx.Header, sum ltx.Checksum) (Origin, error) {
	found, err := checkOrigin(f, hdr, sum, nil)
	return found.Origin, err
}

// smallFile is the size in bytes up to which a file is read as a whole if only its header
// and its trailer are needed.
const smallFile = 64 << 10

// readOrigin reads who wrote a file. Of a large file it reads only the header and trailer.
func readOrigin(ctx context.Context, db *DB, f *ltx.FileInfo) (stored, error) {
	if f.Size <= smallFile {
		hdr, sum, _, err := readStored(ctx, db, f.Level, f.MinTXID, f.MaxTXID)
		return checkOrigin(f, hdr, sum, err)
	}
	part := func(off int64, n int) ([]byte, error) {
		rc, err := db.Client.OpenLTXFile(ctx, f.Level, f.MinTXID, f.MaxTXID, off, int64(n))
		if err != nil {
			return nil, err
		}
		defer func() { _ = rc.Close() }()
		b := make([]byte, n)
		_, err = io.ReadFull(rc, b)
		return b, err
	}
	var hdr ltx.Header
	var tr ltx.Trailer
	b, err := part(0, ltx.HeaderSize)
	if err == nil {
		err = hdr.UnmarshalBinary(b)
	}
	if err == nil {
		b, err = part(f.Size-ltx.TrailerSize, ltx.TrailerSize)
	}
	if err == nil {
		err = tr.UnmarshalBinary(b)
	}
	return checkOrigin(f, hdr, tr.FileChecksum, err)
}

func checkOrigin(f *ltx.FileInfo, hdr ltx.Header, sum ltx.Checksum, err error) (stored, error) {
	if err == nil && (hdr.MinTXID != f.MinTXID || hdr.MaxTXID != f.MaxTXID) {
		err = fmt.Errorf("damaged: it says that it has transactions %s to %s", hdr.MinTXID, hdr.MaxTXID)
	}
	return stored{Origin{hdr.NodeID, sum}, hdr}, err
}

// newest returns the file that ends last. Of several it returns that of the lowest level,
// whose header says most about its origin.
func newest(files []*ltx.FileInfo) *ltx.FileInfo {
	var last *ltx.FileInfo
	for _, f := range files {
		if last == nil || f.MaxTXID > last.MaxTXID || f.MaxTXID == last.MaxTXID && f.Level < last.Level {
			last = f
		}
	}
	return last
}

// fromReplica returns the state at the end of the replica's last file. If the local WAL has
// all of that file, the state has a position in the WAL.
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
	st.moveTo(m.hdr, m.end, m.start, m.slot)
	return st, nil
}

var errNoMatch = errors.New("ship: the file does not match the WAL")

// match is the range of the WAL from which an LTX file was made.
type match struct {
	hdr        wal.Header
	start, end wal.Pos
	slot       []byte
}

// matchWAL checks that the WAL still has the frames from which an LTX file was made.
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
	// want has the place of the last frame of each page in the range. It is filled while
	// the checksum chain is checked from the start of the log to the end of the range.
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
			continue // a page of a resync, or a free page that was never written
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

// unknownUnlessEnd keeps a slot only if the file ends there. Otherwise nobody knows what
// the slot held when the range was shipped: a frame that is there now may be a commit made
// since.
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
