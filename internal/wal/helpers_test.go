package wal

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/benbjohnson/litestream"
	_ "modernc.org/sqlite"
)

// frame is one frame as a reader returned it.
type frame struct {
	pgno, commit uint32
	page         string
}

// sqliteLog is a log that SQLite wrote: a few transactions of several pages.
func sqliteLog(t testing.TB, pageSize int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		fmt.Sprintf("PRAGMA page_size=%d", pageSize), "PRAGMA journal_mode=wal", "PRAGMA wal_autocheckpoint=0",
		"CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)",
		"INSERT INTO t(v) VALUES(randomblob(3000))",
		"INSERT INTO t(v) VALUES(randomblob(3000)), (randomblob(20))",
		"UPDATE t SET v = randomblob(10) WHERE k = 1",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	b, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resum computes all checksums of a log anew, in the given byte order.
func resum(log []byte, bigEndian bool) []byte {
	log = bytes.Clone(log)
	be := binary.BigEndian
	h := Header{PageSize: be.Uint32(log[8:])}
	be.PutUint32(log, magicLittle)
	if bigEndian {
		be.PutUint32(log, magicBig)
	}
	sum := Checksum(bigEndian, Sum{}, log[:24])
	be.PutUint32(log[24:], sum.S1)
	be.PutUint32(log[28:], sum.S2)
	for b := log[HeaderSize:]; int64(len(b)) >= h.FrameSize(); b = b[h.FrameSize():] {
		sum = Checksum(bigEndian, sum, b[:8])
		sum = Checksum(bigEndian, sum, b[FrameHeaderSize:h.FrameSize()])
		be.PutUint32(b[16:], sum.S1)
		be.PutUint32(b[20:], sum.S2)
	}
	return log
}

// scan returns the frames that this package sees in a log, read through a
// buffer of so many frames.
func scan(t testing.TB, log []byte, bufFrames int64) []frame {
	t.Helper()
	h, err := ParseHeader(log)
	if errors.Is(err, ErrNoHeader) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	s, err := NewScanner(bytes.NewReader(log), h, h.Start(), make([]byte, h.FrameSize()*bufFrames+7))
	if err != nil {
		t.Fatal(err)
	}
	var out []frame
	for {
		f, page, ok := s.Next()
		if !ok {
			break
		}
		out = append(out, frame{f.Pgno, f.Commit, string(page)})
		if got := h.Frames(s.Pos()); got != int64(len(out)) {
			t.Fatalf("%d frames were read, the position says %d", len(out), got)
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	return out
}

// litestreamScan returns the frames that litestream sees.
func litestreamScan(t testing.TB, log []byte) []frame {
	t.Helper()
	r, err := litestream.NewWALReader(bytes.NewReader(log), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil
	}
	var out []frame
	page := make([]byte, r.PageSize())
	for {
		pgno, commit, err := r.ReadFrame(context.Background(), page)
		if err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, frame{pgno, commit, string(page)})
	}
}
