package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/superfly/ltx"
)

// kept is a prefix that keeps in memory what is written, and nothing else.
type kept struct {
	litestream.ReplicaClient
	files [][]byte
	size  int64
}

func (k *kept) WriteLTXFile(_ context.Context, _ int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	data, err := io.ReadAll(r)
	k.files, k.size = append(k.files, data), int64(len(data))
	return &ltx.FileInfo{MinTXID: minTXID, MaxTXID: maxTXID, Size: k.size}, err
}

// commits are the files of commits, each of which appends a row or changes some in a table
// of 10,000.
func commits(b *testing.B, n int, query string) [][]byte {
	b.Helper()
	path := filepath.Join(b.TempDir(), "t.db")
	sql, err := sqlitedb.Open(b.Context(), path, sqlitedb.Options{BusyTimeout: time.Second, MaxConns: 1, Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = sql.Close() }()
	to := &kept{}
	shipper := ship.New(ship.Config{SpoolDir: b.TempDir(), Node: 1, Session: 1})
	db := ship.DB{Path: path, Fenced: true, Client: to}
	exec := func(query string) {
		b.Helper()
		if _, err := sql.ExecContext(b.Context(), query); err != nil {
			b.Fatal(err)
		}
		if _, err := shipper.Step(b.Context(), &db); err != nil {
			b.Fatal(err)
		}
	}
	exec(`PRAGMA synchronous = OFF; CREATE TABLE t(v); CREATE INDEX i ON t(v);
		WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x < 10000) INSERT INTO t SELECT hex(randomblob(20)) FROM n`)
	to.files = nil
	for range n {
		exec(query)
	}
	return to.files
}

var workloads = []struct{ name, query string }{
	{"append, indexed", "INSERT INTO t VALUES (hex(randomblob(150)))"},
	{"change one of few", "UPDATE t SET v = hex(randomblob(20)) WHERE rowid = abs(random())%20+1"},
	{"change 3 at random", "UPDATE t SET v = hex(randomblob(20)) WHERE rowid IN (abs(random())%10000, abs(random())%10000, abs(random())%10000)"},
}

// settledFiles are a Log's, as if they had come through the journal.
func settledFiles(l *Log, files [][]byte, condense bool) error {
	for i, data := range files {
		hdr, _, err := ltx.PeekHeader(bytes.NewReader(data))
		if err != nil {
			return err
		}
		f := &tailFile{min: hdr.MinTXID, max: hdr.MaxTXID, created: hdr.Timestamp, pageSize: hdr.PageSize, size: int64(len(data)), data: data}
		l.mu.Lock()
		l.addLocked("a", f)
		l.mu.Unlock()
		l.settled("a", f, journal.Place{Epoch: 1, Seq: uint64(i + 1)}, nil)
		if condense {
			l.condense("a")
		}
	}
	return nil
}

// cpu is what this process has used of it.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func newBenchLog() *Log {
	l := New(Config{Durable: func(string, ltx.TXID, error) {}})
	l.ready = true
	return l
}

// BenchmarkACommitOfATenantThatStaysHot is what a commit costs in the tail, without the
// request, at 300 commits between two unpackings.
func BenchmarkACommitOfATenantThatStaysHot(b *testing.B) {
	for _, c := range workloads {
		files := commits(b, 300, c.query)
		for _, condense := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s, merged %v", c.name, condense), func(b *testing.B) {
				b.ReportAllocs()
				var held, n int64
				began := cpu()
				for left := b.N; left > 0; left -= len(files) {
					l := newBenchLog()
					if err := settledFiles(l, files[:min(left, len(files))], condense); err != nil {
						b.Fatal(err)
					}
					held, n = l.memory, int64(l.kept)
				}
				b.ReportMetric(float64(cpu()-began)/float64(b.N), "cpu-ns/op") // others may use the machine
				b.ReportMetric(float64(held), "B-held")
				b.ReportMetric(float64(n), "files-held")
			})
		}
	}
}

// BenchmarkUnpackOf300Commits, without the requests.
func BenchmarkUnpackOf300Commits(b *testing.B) {
	for _, c := range workloads {
		files := commits(b, 300, c.query)
		for _, condense := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s, merged %v", c.name, condense), func(b *testing.B) {
				b.ReportAllocs()
				to := &kept{}
				var used time.Duration
				for b.Loop() {
					b.StopTimer()
					l := newBenchLog()
					if err := settledFiles(l, files, condense); err != nil {
						b.Fatal(err)
					}
					l.known["a"] = l.tails["a"][0].min - 1
					to.files = nil
					b.StartTimer()
					began := cpu()
					if _, err := l.Unpack(b.Context(), "a", to, true); err != nil {
						b.Fatal(err)
					}
					used += cpu() - began
				}
				b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
				if condense && len(to.files) != 1 { // unmerged they may be more than one piece
					b.Errorf("%d files were written", len(to.files))
				}
				b.ReportMetric(float64(to.size), "B-written")
			})
		}
	}
}
