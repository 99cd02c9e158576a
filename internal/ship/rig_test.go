package ship

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // litestream tells of every restore
	goleak.VerifyTestMain(m)
}

// rig is one database on its way to a replica in memory.
type rig struct {
	t      testing.TB
	path   string
	s      *Shipper
	db     *DB
	client *memClient
	app    *sql.DB // as the pool opens it
}

// newRig makes a database in WAL mode with one table, opened as the pool does.
func newRig(t testing.TB, pageSize int, pragmas ...string) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "a.db"), s: newShipper(t), client: newMemClient()}
	r.db = &DB{Path: r.path, Client: r.client}
	db := foreign(t, r.path)
	mustExec(t, db, fmt.Sprintf("PRAGMA page_size=%d", pageSize))
	for _, p := range pragmas {
		mustExec(t, db, p)
	}
	mustExec(t, db, "PRAGMA journal_mode=wal")
	mustExec(t, db, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
	r.close(db)
	r.app = ours(t, r.path)
	t.Cleanup(func() { r.closeApp() })
	return r
}

func (r *rig) close(c io.Closer) {
	r.t.Helper()
	if err := c.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) closeApp() {
	r.t.Helper()
	if r.app != nil {
		r.close(r.app)
		r.app = nil
	}
}

// exec runs statements through the application's handle, each a transaction.
func (r *rig) exec(qs ...string) {
	r.t.Helper()
	for _, q := range qs {
		mustExec(r.t, r.app, q)
	}
}

// insert commits n rows of so many bytes, one by one.
func (r *rig) insert(n, size int) {
	r.t.Helper()
	for range n {
		mustExec(r.t, r.app, "INSERT INTO t(v) VALUES(randomblob(?))", size)
	}
}

// foreign runs statements on a connection as another program has it.
func (r *rig) foreign(qs ...string) {
	r.t.Helper()
	db := foreign(r.t, r.path)
	for _, q := range qs {
		mustExec(r.t, db, q)
	}
	r.close(db)
}

// conn is one connection of the application.
func (r *rig) conn() *sql.Conn {
	r.t.Helper()
	c, err := r.app.Conn(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// ship drains and asserts the rule taken.
func (r *rig) ship(want Rule) Result {
	r.t.Helper()
	res := drain(r.t, r.s, r.db)
	if res.Rule != want {
		r.t.Fatalf("rule %v was taken, want %v", res.Rule, want)
	}
	return res
}

// same asserts that the replica restores to what the source is now.
func (r *rig) same() {
	r.t.Helper()
	if got, want := restore(r.t, r.client, 0), r.content(); got != want {
		r.t.Fatalf("transaction %s restores to %s, the source is %s", r.db.State.TXID, got, want)
	}
}

// reborn makes the shipper of the next run: nothing pending, another session.
func (r *rig) reborn() {
	cfg := r.s.cfg
	cfg.Session++
	r.s = New(cfg)
	r.db = &DB{Path: r.path, Client: r.client, State: r.db.State}
}

func (r *rig) verify() {
	r.t.Helper()
	if err := r.tryVerify(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryVerify() error { return r.s.Verify(r.t.Context(), r.db, r.listing()) }

// listing is what the replica holds, as a Manager tells it.
func (r *rig) listing() Listing {
	files := r.client.list()
	return Listing{Files: files, Began: r.s.cfg.Boot(), Plan: func() ([]*ltx.FileInfo, error) {
		return litestream.CalcRestorePlan(r.t.Context(), r.client, 0, time.Time{}, slog.New(slog.DiscardHandler))
	}}
}

// log reads the WAL file; setLog replaces its content.
func (r *rig) log() []byte {
	r.t.Helper()
	b, err := os.ReadFile(r.path + "-wal")
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *rig) setLog(b []byte) {
	r.t.Helper()
	if err := os.WriteFile(r.path+"-wal", b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// writeLog overwrites a part of the WAL file.
func (r *rig) writeLog(b []byte, off int64) {
	r.t.Helper()
	f, err := os.OpenFile(r.path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		r.t.Fatal(err)
	}
	r.close(f)
}

// copyTo copies the database and its log. No connection may be open: it closes
// a descriptor of the file.
func (r *rig) copyTo(path string) {
	r.t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(r.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// logFrame is a frame of a crafted log.
type logFrame struct {
	pgno, commit uint32
	page         []byte
}

// parseLog splits a log into its header and its valid frames.
func parseLog(t testing.TB, b []byte) (wal.Header, []logFrame) {
	t.Helper()
	h, err := wal.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	s, err := wal.NewScanner(bytes.NewReader(b), h, h.Start(), make([]byte, h.FrameSize()))
	if err != nil {
		t.Fatal(err)
	}
	var a []logFrame
	for {
		f, page, ok := s.Next()
		if !ok {
			return h, a
		}
		a = append(a, logFrame{f.Pgno, f.Commit, bytes.Clone(page)})
	}
}

// buildLog writes a log of a generation with correct checksums.
func buildLog(h wal.Header, frames []logFrame) []byte {
	be := binary.BigEndian
	b := make([]byte, wal.HeaderSize)
	be.PutUint32(b, 0x377f0682)
	if h.BigEndian {
		be.PutUint32(b, 0x377f0683)
	}
	be.PutUint32(b[4:], 3007000)
	be.PutUint32(b[8:], h.PageSize)
	be.PutUint32(b[12:], h.Seq)
	be.PutUint32(b[16:], h.Salt1)
	be.PutUint32(b[20:], h.Salt2)
	sum := wal.Checksum(h.BigEndian, wal.Sum{}, b[:24])
	be.PutUint32(b[24:], sum.S1)
	be.PutUint32(b[28:], sum.S2)
	for _, f := range frames {
		var fr []byte
		fr, sum = buildFrame(h, sum, f)
		b = append(b, fr...)
	}
	return b
}

// buildFrame writes the frame that continues a checksum chain.
func buildFrame(h wal.Header, sum wal.Sum, f logFrame) ([]byte, wal.Sum) {
	be := binary.BigEndian
	b := make([]byte, wal.FrameHeaderSize, wal.FrameHeaderSize+len(f.page))
	be.PutUint32(b, f.pgno)
	be.PutUint32(b[4:], f.commit)
	be.PutUint32(b[8:], h.Salt1)
	be.PutUint32(b[12:], h.Salt2)
	sum = wal.Checksum(h.BigEndian, sum, b[:8])
	sum = wal.Checksum(h.BigEndian, sum, f.page)
	be.PutUint32(b[16:], sum.S1)
	be.PutUint32(b[20:], sum.S2)
	return append(b, f.page...), sum
}

// file is a stored LTX file, decoded and verified.
type file struct {
	hdr   ltx.Header
	pages map[uint32][]byte
}

func (c *memClient) read(t testing.TB, level int, minTXID, maxTXID ltx.TXID) file {
	t.Helper()
	rc, err := c.OpenLTXFile(context.Background(), level, minTXID, maxTXID, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, rc)
}

func decode(t testing.TB, r io.Reader) file {
	t.Helper()
	dec := ltx.NewDecoder(r)
	if err := dec.DecodeHeader(); err != nil {
		t.Fatal(err)
	}
	f := file{dec.Header(), map[uint32][]byte{}}
	for {
		var ph ltx.PageHeader
		page := make([]byte, f.hdr.PageSize)
		if err := dec.DecodePage(&ph, page); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		f.pages[ph.Pgno] = page
	}
	if err := dec.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

// contiguous asserts I1 and I2 of the replica's level 0.
func (r *rig) contiguous() {
	r.t.Helper()
	for txid := ltx.TXID(1); txid <= r.db.State.TXID; txid++ {
		h := r.client.read(r.t, 0, txid, txid).hdr
		if h.MinTXID != txid || h.MaxTXID != txid || h.WALOffset < wal.HeaderSize || h.WALSize != 0 && h.WALSalt1 == 0 && h.WALSalt2 == 0 {
			r.t.Fatalf("transaction %s has the header %+v", txid, h)
		}
	}
}

// history remembers what the source was at shipped transactions.
type history map[ltx.TXID]string

func (h history) note(r *rig) {
	r.t.Helper()
	h[r.db.State.TXID] = r.content()
}

// replaceAt puts a copy of another rig's database in the place of this one's, once,
// at a moment.
func (r *rig) replaceAt(when moment, other *rig) {
	r.t.Helper()
	replacement := r.path + ".new"
	other.copyTo(replacement)
	r.s.onMoment = func(at moment) {
		if at == when {
			r.s.onMoment = nil
			if err := os.Rename(replacement, r.path); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// content is the hash of what the source is now.
func (r *rig) content() string {
	r.t.Helper()
	src := r.app
	if src == nil {
		src = foreign(r.t, r.path)
		defer func() { r.close(src) }()
	}
	return contentHash(r.t, src)
}

func (h history) check(r *rig) {
	r.t.Helper()
	for txid, want := range h {
		if got := restore(r.t, r.client, txid); got != want {
			r.t.Errorf("transaction %s restores to %s, the source was %s", txid, got, want)
		}
	}
}

// at sets the shipper's clock to run so far ahead.
func (r *rig) at(ahead time.Duration) {
	r.s.cfg.Now = func() time.Time { return time.Now().Add(ahead) }
}
