package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/benbjohnson/litestream/file"
	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/superfly/ltx"
)

const pageSize = 512

// history is a prefix with the files of a database that nobody needs to be able to open.
type history struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string
	client *file.ReplicaClient
	commit uint32
	txid   ltx.TXID
	level0 [][]byte
}

// newHistory makes a database that grows and shrinks in n transactions, some of which are
// merged into files of level 1.
func newHistory(t *testing.T, rng *rand.Rand, n int) *history {
	dir := t.TempDir()
	h := &history{t: t, rng: rng, dir: dir, client: file.NewReplicaClient(dir)}
	for range n {
		h.commitOnce()
	}
	for first := 0; rng.IntN(2) == 0 && first < n-1; {
		last := min(first+1+rng.IntN(5), n-1)
		var merged bytes.Buffer
		var files []io.Reader
		for _, b := range h.level0[first : last+1] {
			files = append(files, bytes.NewReader(b))
		}
		if _, _, err := ltxfile.Merge(&merged, files); err != nil {
			t.Fatal(err)
		}
		h.put(1, ltx.TXID(first+1), ltx.TXID(last+1), merged.Bytes())
		first = last + 1
	}
	return h
}

func (h *history) put(level int, first, last ltx.TXID, data []byte) {
	if _, err := h.client.WriteLTXFile(context.Background(), level, first, last, bytes.NewReader(data)); err != nil {
		h.t.Fatal(err)
	}
}

// commitOnce adds a transaction. One that grows a database which has shrunk need not have
// all of the new pages: SQLite leaves out those that are free.
func (h *history) commitOnce() {
	before := h.commit
	h.txid++
	switch h.rng.IntN(4) {
	case 0:
		h.commit = 1 + h.rng.Uint32N(before+1)
	case 1, 2:
		h.commit += 1 + h.rng.Uint32N(20)
	}
	h.commit = max(h.commit, 1)
	pages := map[uint32]bool{1: true}
	for range h.rng.IntN(12) {
		pages[1+h.rng.Uint32N(h.commit)] = true
	}
	for p := uint32(1); p <= h.commit; p++ {
		// all pages of the first file, and most of the new ones of a later
		pages[p] = pages[p] || h.txid == 1 || p > before && (p > h.most() || h.rng.IntN(4) > 0)
	}
	var b bytes.Buffer
	enc, err := ltx.NewEncoder(&b)
	if err == nil {
		err = enc.EncodeHeader(ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: pageSize,
			Commit: h.commit, MinTXID: h.txid, MaxTXID: h.txid, Timestamp: int64(h.txid)})
	}
	data := make([]byte, pageSize)
	for p := uint32(1); p <= h.commit && err == nil; p++ {
		if !pages[p] {
			continue
		}
		for i := range data {
			data[i] = byte(h.rng.Uint32()) >> (p % 8) // some compress well
		}
		err = enc.EncodePage(ltx.PageHeader{Pgno: p}, data)
	}
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.level0 = append(h.level0, b.Bytes())
	h.put(0, h.txid, h.txid, b.Bytes())
}

// most is how large the database ever was before the transaction that is made.
func (h *history) most() (most uint32) {
	for _, b := range h.level0 {
		hdr, _, err := ltx.PeekHeader(bytes.NewReader(b))
		if err != nil {
			h.t.Fatal(err)
		}
		most = max(most, hdr.Commit)
	}
	return most
}

// ours and stock restore a transaction, or the newest.
func (h *history) ours(client litestream.ReplicaClient, txid ltx.TXID) ([]byte, error) {
	out := filepath.Join(h.t.TempDir(), "ours")
	if err := Newest(context.Background(), client, Options{Output: out, TXID: txid, Unchecked: true}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

func (h *history) stock(txid ltx.TXID) ([]byte, error) {
	opt := litestream.NewRestoreOptions()
	opt.OutputPath, opt.TXID = filepath.Join(h.t.TempDir(), "stock"), txid
	if err := litestream.NewReplicaWithClient(nil, h.client).Restore(context.Background(), opt); err != nil {
		return nil, err
	}
	return os.ReadFile(opt.OutputPath)
}

// TestEachStateIsRestoredAsStockLitestreamDoes, page for page.
func TestEachStateIsRestoredAsStockLitestreamDoes(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 6 {
		h := newHistory(t, rng, 1+rng.IntN(25))
		for txid := ltx.TXID(0); txid <= h.txid; txid++ {
			want, wantErr := h.stock(txid)
			got, err := h.ours(h.client, txid)
			if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
				t.Fatalf("transaction %d of %d: %d bytes, %v; stock %d, %v (seed %d)", txid, h.txid, len(got), err, len(want), wantErr, seed)
			}
		}
	}
}

// TestADamagedFileIsRefusedWhereverItIsDamaged: also in pages that a newer file has.
func TestADamagedFileIsRefusedWhereverItIsDamaged(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	h := newHistory(t, rng, 12)
	var paths []string
	if err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for range 300 {
		path := paths[rng.IntN(len(paths))]
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(whole)
		switch rng.IntN(3) {
		case 0:
			bad = bad[:rng.IntN(len(bad))]
		default:
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		want, wantErr := h.stock(0)
		got, err := h.ours(h.client, 0)
		if wantErr != nil && err == nil || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%s: restored %d bytes, %v; stock %d, %v (seed %d)", path, len(got), err, len(want), wantErr, seed)
		}
		if err != nil {
			refused++
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Errorf("nothing was refused: this shows nothing (seed %d)", seed)
	}
}

// breaking is a client whose connections break after some bytes.
type breaking struct {
	litestream.ReplicaClient
	after int64 // bytes of each connection
	opens int
}

var errBroken = errors.New("connection reset")

func (c *breaking) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	rc, err := c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil {
		return nil, err
	}
	c.opens++
	return struct {
		io.Reader
		io.Closer
	}{&breakable{rc, c.after}, rc}, nil
}

type breakable struct {
	r    io.Reader
	left int64
}

func (b *breakable) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errBroken
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// TestARestoreGoesOnWhereAConnectionBroke, and gives up where none gives a byte.
func TestARestoreGoesOnWhereAConnectionBroke(t *testing.T) {
	var h *history // of one file, which is asked for by one goroutine
	for seed := uint64(0); h == nil || len(h.level0[0]) < 5000; seed++ {
		h = newHistory(t, rand.New(rand.NewPCG(seed, 0)), 1)
	}
	want, err := h.stock(0)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := &breaking{ReplicaClient: h.client, after: 1000}
		if got, err := h.ours(c, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("restored %d bytes of %d: %v", len(got), len(want), err)
		}
		if n := len(h.level0[0])/1000 + 1; c.opens != n {
			t.Errorf("opened %d times, want %d", c.opens, n)
		}
		c.after, c.opens = 0, 0
		began := time.Now()
		if _, err := h.ours(c, 0); !errors.Is(err, errBroken) {
			t.Errorf("without a byte: %v", err)
		}
		if took := time.Since(began); c.opens != 1+streamTries || took != 7*streamPause {
			t.Errorf("opened %d times in %v", c.opens, took)
		}
	})
}

// silent is a client that answers, and then sends nothing until its context ends.
type silent struct{ litestream.ReplicaClient }

func (c silent) OpenLTXFile(ctx context.Context, _ int, _, _ ltx.TXID, _, _ int64) (io.ReadCloser, error) {
	return io.NopCloser(waiting{ctx}), nil
}

type waiting struct{ ctx context.Context }

func (w waiting) Read([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

// TestAReplicaThatSendsNothingEndsTheRestore.
func TestAReplicaThatSendsNothingEndsTheRestore(t *testing.T) {
	h := newHistory(t, rand.New(rand.NewPCG(1, 2)), 3)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := h.ours(silent{h.client}, 0)
		if took := time.Since(began); !errors.Is(err, context.Canceled) || took != (1+streamTries)*streamPatience+7*streamPause {
			t.Errorf("%v, after %v", err, took)
		}
	})
}

// vanishing is a client of which a file is gone once.
type vanishing struct {
	litestream.ReplicaClient
	gone atomic.Bool // files are read ahead, several at once
}

func (c *vanishing) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if minTXID == 1 && c.gone.CompareAndSwap(false, true) {
		return nil, fs.ErrNotExist
	}
	return c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
}

// TestAFileThatIsGoneMeanwhileIsPlannedAnew.
func TestAFileThatIsGoneMeanwhileIsPlannedAnew(t *testing.T) {
	h := newHistory(t, rand.New(rand.NewPCG(5, 6)), 20)
	want, err := h.stock(0)
	if err != nil {
		t.Fatal(err)
	}
	c := &vanishing{ReplicaClient: h.client}
	if got, err := h.ours(c, 0); err != nil || !c.gone.Load() || !bytes.Equal(got, want) {
		t.Errorf("restored %d bytes of %d: %v", len(got), len(want), err)
	}
}

// BenchmarkRestore compares with stock litestream, without the check and the flush.
func BenchmarkRestore(b *testing.B) {
	dir := b.TempDir()
	client := file.NewReplicaClient(dir)
	const pages = 256
	data := make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 1))
	for txid := ltx.TXID(1); txid <= 8; txid++ {
		var buf bytes.Buffer
		enc, err := ltx.NewEncoder(&buf)
		if err != nil {
			b.Fatal(err)
		}
		if err := enc.EncodeHeader(ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 4096,
			Commit: pages, MinTXID: txid, MaxTXID: txid, Timestamp: 1}); err != nil {
			b.Fatal(err)
		}
		for p := uint32(1); p <= pages; p++ {
			if txid > 1 && p%16 != uint32(txid) {
				continue
			}
			for i := range data {
				data[i] = byte(rng.Uint32N(64))
			}
			if err := enc.EncodePage(ltx.PageHeader{Pgno: p}, data); err != nil {
				b.Fatal(err)
			}
		}
		if err := enc.Close(); err != nil {
			b.Fatal(err)
		}
		if _, err := client.WriteLTXFile(b.Context(), 0, txid, txid, &buf); err != nil {
			b.Fatal(err)
		}
	}
	for name, restore := range map[string]func(out string) error{
		"ours": func(out string) error {
			return Newest(b.Context(), client, Options{Output: out, Unchecked: true})
		},
		"stock": func(out string) error {
			opt := litestream.NewRestoreOptions()
			opt.OutputPath = out
			return litestream.NewReplicaWithClient(nil, client).Restore(b.Context(), opt)
		},
	} {
		b.Run(name, func(b *testing.B) {
			out := b.TempDir()
			b.SetBytes(pages * 4096)
			for i := 0; b.Loop(); i++ {
				path := filepath.Join(out, fmt.Sprint(i))
				if err := restore(path); err != nil {
					b.Fatal(err)
				}
				if err := os.Remove(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
