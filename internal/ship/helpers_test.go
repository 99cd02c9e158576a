package ship

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/superfly/ltx"
)

// memClient is the smallest create-only replica.
type memClient struct {
	mu    sync.Mutex
	files map[[3]uint64][]byte
	// fault, if set, is asked before a write; applied says whether the write
	// takes effect although it fails.
	fault func(level int, txid ltx.TXID) (err error, applied bool)
	// damage, if set, is what becomes of a copy of a file on its way to a reader.
	damage func(b []byte) []byte
}

func newMemClient() *memClient { return &memClient{files: map[[3]uint64][]byte{}} }

func (c *memClient) Type() string                    { return "mem" }
func (c *memClient) Init(context.Context) error      { return nil }
func (c *memClient) SetLogger(*slog.Logger)          {}
func (c *memClient) DeleteAll(context.Context) error { panic("not used") }

func (c *memClient) list() []*ltx.FileInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	var a []*ltx.FileInfo
	for k, b := range c.files {
		var h ltx.Header
		if err := h.UnmarshalBinary(b); err != nil {
			panic(err)
		}
		a = append(a, &ltx.FileInfo{Level: int(k[0]), MinTXID: ltx.TXID(k[1]), MaxTXID: ltx.TXID(k[2]),
			Size: int64(len(b)), CreatedAt: time.UnixMilli(h.Timestamp)})
	}
	return a
}

func (c *memClient) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	var a []*ltx.FileInfo
	for _, f := range c.list() {
		if f.Level == level && f.MinTXID >= seek {
			a = append(a, f)
		}
	}
	return ltx.NewFileInfoSliceIterator(a), nil
}

func (c *memClient) OpenLTXFile(_ context.Context, level int, minTXID, maxTXID ltx.TXID, off, size int64) (io.ReadCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.files[[3]uint64{uint64(level), uint64(minTXID), uint64(maxTXID)}]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if c.damage != nil {
		b = c.damage(bytes.Clone(b))
	}
	b = b[off:]
	if size > 0 {
		b = b[:size]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (c *memClient) WriteLTXFile(_ context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var lost error
	if c.fault != nil {
		err, applied := c.fault(level, minTXID)
		if err != nil && !applied {
			return nil, err
		}
		lost = err
	}
	k := [3]uint64{uint64(level), uint64(minTXID), uint64(maxTXID)}
	if _, ok := c.files[k]; ok {
		return nil, fmt.Errorf("create %v: %w", k, fs.ErrExist)
	}
	c.files[k] = b
	if lost != nil {
		return nil, lost
	}
	return &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: int64(len(b)), CreatedAt: time.Now()}, nil
}

func (c *memClient) DeleteLTXFiles(_ context.Context, a []*ltx.FileInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range a {
		delete(c.files, [3]uint64{uint64(f.Level), uint64(f.MinTXID), uint64(f.MaxTXID)})
	}
	return nil
}

// restore rebuilds the database at a TXID (0: the last one) with stock
// litestream and returns the hash of its content.
func restore(t testing.TB, c litestream.ReplicaClient, txid ltx.TXID) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "restored.db")
	opt := litestream.NewRestoreOptions()
	opt.OutputPath, opt.TXID = out, txid
	opt.IntegrityCheck = litestream.IntegrityCheckFull
	if err := litestream.NewReplicaWithClient(nil, c).Restore(t.Context(), opt); err != nil {
		t.Fatalf("restore of transaction %s: %v", txid, err)
	}
	db, err := sql.Open("sqlite", out)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	h := contentHash(t, db)
	_ = os.Remove(out)
	return h
}

// contentHash hashes the schema, the user version and every row.
func contentHash(t testing.TB, db *sql.DB) string {
	t.Helper()
	ctx := context.Background()
	c, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sum := sha256.New()
	if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	defer c.ExecContext(ctx, "ROLLBACK")
	dump := func(q string) (names []string) {
		rows, err := c.QueryContext(ctx, q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		defer rows.Close()
		cols, _ := rows.Columns()
		vals, ptrs := make([]any, len(cols)), make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		for rows.Next() {
			if err := rows.Scan(ptrs...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(sum, "%v\x00", vals)
			if s, ok := vals[0].(string); ok {
				names = append(names, s)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return names
	}
	dump("PRAGMA user_version")
	dump("SELECT name, sql FROM sqlite_schema ORDER BY name")
	for _, name := range dump("SELECT name FROM sqlite_schema WHERE type='table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name") {
		dump(`SELECT * FROM "` + name + `" ORDER BY 1, 2`)
	}
	return hex.EncodeToString(sum.Sum(nil)[:12])
}

// ours opens a database as the pool does; foreign as any other program.
func ours(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sqlitedb.Open(t.Context(), path, sqlitedb.Options{BusyTimeout: 5 * time.Second, MaxConns: 4, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func foreign(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() }) // if the test has not
	return db
}

func mustExec(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, q string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func newShipper(t testing.TB) *Shipper {
	return New(Config{SpoolDir: t.TempDir(), ChunkSize: 64 << 10, Node: 1, Session: 1,
		Mine: func(node, session uint32) bool { return node == 1 && session < 1000 }})
}

// drain steps until there is nothing more and returns the rules taken.
func drain(t testing.TB, s *Shipper, db *DB) Result {
	t.Helper()
	var sum Result
	for i := 0; ; i++ {
		r, err := s.Step(t.Context(), db)
		if err != nil {
			t.Fatalf("step: %v", err)
		}
		sum = sum.Add(r)
		if !r.More {
			return sum
		}
		if i > 100000 {
			t.Fatal("the steps do not end")
		}
	}
}

// discardClient takes files in without keeping them.
type discardClient struct{ *memClient }

func (c *discardClient) WriteLTXFile(_ context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	n, err := io.Copy(io.Discard, r)
	return &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: n}, err
}

// giantList is a JSON list's inside, of 30 elements.
var giantList = strings.TrimSuffix(strings.Repeat("1,", 30), ",")
