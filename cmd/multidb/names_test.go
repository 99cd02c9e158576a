package main

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/restoreall"
	"github.com/superfly/ltx"
)

func TestTwoIDsNeverHaveOnePathAndNoneLeadsOut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	alphabet := []string{"a", "A", ".", "..", "/", "%", "%2E", "2E", ".db", ".db-wal", "-wal", "~", "\\", "\x00", "\x1b", "\xff", "é", " ", strings.Repeat("l", 120)}
	seen := map[string]multidb.ID{}
	dirs := map[string]multidb.ID{}
	for range 20000 {
		var b strings.Builder
		for range 1 + rnd.IntN(6) {
			b.WriteString(alphabet[rnd.IntN(len(alphabet))])
		}
		id := multidb.ID(b.String())
		out := restoreall.OutPath(string(id))
		if other, taken := seen[out]; taken && other != id {
			t.Fatalf("seed %d: %q and %q are both %q", seed, id, other, out)
		}
		seen[out] = id
		if !filepath.IsLocal(out) || filepath.Clean(out) != out || !strings.HasSuffix(out, ".db") {
			t.Fatalf("seed %d: %q goes to %q", seed, id, out)
		}
		for i, segment := range strings.Split(out, "/") {
			if len(segment) > 240 || segment[0] == '.' || strings.ContainsAny(segment, "\\\x00\x1b") {
				t.Fatalf("seed %d: %q has segment %d %q", seed, id, i, segment)
			}
		}
		for d := filepath.Dir(out); d != "."; d = filepath.Dir(d) {
			dirs[d] = id
		}
	}
	for out, id := range seen {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			if other, ok := dirs[out+suffix]; ok {
				t.Errorf("seed %d: the file %q of %q, with %q, is a directory of %q", seed, out, id, suffix, other)
			}
		}
	}
	for id, want := range map[multidb.ID]string{
		"project0/db0": "project0/db0.db", "a.b c": "a.b c.db", "é/ü": "é/ü.db",
		"../../etc/passwd": "%2E./%2E./etc/passwd.db", "a.db/b": "a%2Edb/b.db", "50%": "50%25.db", "": "%.db",
	} {
		if got := restoreall.OutPath(string(id)); got != want {
			t.Errorf("%q goes to %q, want %q", id, got, want)
		}
	}
}

func TestProgressTellsRateAndTimeLeft(t *testing.T) {
	p := &progress{what: "restored", begin: time.Unix(100, 0), bytes: func() int64 { return 30 << 20 }}
	p.total.Store(400)
	p.done.Store(100)
	if got, want := p.line(time.Unix(110, 0)), "restored: 100 of 400 (25%), 10.0/s, 3.0 MiB/s, 30s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProgressOnATerminalHasABar(t *testing.T) {
	p := &progress{what: "restored", begin: time.Unix(100, 0), tty: true}
	p.total.Store(400)
	p.done.Store(100)
	if got, want := p.line(time.Unix(110, 0)), "restored: [###---------] 100 of 400, 10.0/s, 30s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	p = &progress{what: "restoring a", begin: time.Unix(100, 0), tty: true, size: 40 << 20, bytes: func() int64 { return 50 << 20 }}
	if got, want := p.line(time.Unix(110, 0)), "restoring a: [############] 40.0 MiB of 40.0 MiB, 5.0 MiB/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheProgressOfOneRestoreCountsWhatItReads(t *testing.T) {
	file := func(level int, from, to multidb.TXID, size int64, at int64) *ltx.FileInfo {
		return &ltx.FileInfo{Level: level, MinTXID: from, MaxTXID: to, Size: size, CreatedAt: time.Unix(at, 0)}
	}
	files := []*ltx.FileInfo{file(0, 6, 6, 1, 60), file(0, 7, 7, 2, 70), file(1, 5, 6, 4, 60), file(9, 1, 4, 1000, 40)}
	for _, tc := range []struct {
		opt  multidb.RestoreOptions
		want int64
	}{{multidb.RestoreOptions{}, 1006}, {multidb.RestoreOptions{TXID: 6}, 1004}, {multidb.RestoreOptions{Timestamp: time.Unix(50, 0)}, 1000}} {
		if got := planSize(files, tc.opt); got != tc.want {
			t.Errorf("%+v: %d bytes, want %d", tc.opt, got, tc.want)
		}
	}
	p := &progress{what: "restoring a", begin: time.Unix(100, 0), size: 40 << 20, bytes: func() int64 { return 10 << 20 }}
	if got, want := p.line(time.Unix(110, 0)), "restoring a: 10.0 MiB of 40.0 MiB (25%), 1.0 MiB/s, 30s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
