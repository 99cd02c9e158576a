package s3

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/pierrec/lz4/v4"
	"github.com/superfly/ltx"
)

func restore(t *testing.T, client litestream.ReplicaClient, opt litestream.RestoreOptions) []byte {
	t.Helper()
	opt.OutputPath = filepath.Join(t.TempDir(), "out.db")
	if err := litestream.NewReplicaWithClient(nil, client).Restore(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(opt.OutputPath)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tenant writes a snapshot of TXID 1 and ten changes of page 2 after it.
func tenant(t *testing.T, p *Prefix) {
	t.Helper()
	mustWrite(t, p, litestream.SnapshotLevel, 1, 1, realLTX(t, 1, 1, 2, map[uint32]byte{1: 'a', 2: 'b'}))
	for i := ltx.TXID(2); i <= 11; i++ {
		mustWrite(t, p, 0, i, i, realLTX(t, i, i, 2, map[uint32]byte{2: 'b' + byte(i)}))
	}
}

func wantPages(t *testing.T, got []byte, fill ...byte) {
	t.Helper()
	var want []byte
	for _, b := range fill {
		want = append(want, bytes.Repeat([]byte{b}, 512)...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("restored %d bytes with pages that differ", len(got))
	}
}

func TestARestoreListsOnce(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	tenant(t, p)
	t.Run("to the end", func(t *testing.T) {
		before := c.Stats()
		client, err := p.RestoreClient(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		wantPages(t, restore(t, client, litestream.RestoreOptions{}), 'a', 'b'+11)
		s := c.Stats()
		if s.List-before.List != 1 || s.Get-before.Get != 11 || s.Total()-before.Total() != 12 {
			t.Errorf("%d LIST and %d GET of %d requests, want 1 and 11 of 12", s.List-before.List, s.Get-before.Get, s.Total()-before.Total())
		}
	})
	t.Run("to a TXID", func(t *testing.T) {
		before := c.Stats()
		client, err := p.RestoreClient(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		wantPages(t, restore(t, client, litestream.RestoreOptions{TXID: 5}), 'a', 'b'+5)
		if s := c.Stats(); s.List-before.List != 1 || s.Get-before.Get != 5 {
			t.Errorf("%d LIST and %d GET, want 1 and 5", s.List-before.List, s.Get-before.Get)
		}
	})
	t.Run("to a time", func(t *testing.T) {
		for _, exact := range []bool{true, false} { // not exact: the view finds out
			client, err := p.RestoreClient(t.Context(), exact)
			if err != nil {
				t.Fatal(err)
			}
			at := testTime.Add(7*time.Second + time.Millisecond)
			wantPages(t, restore(t, client, litestream.RestoreOptions{Timestamp: at}), 'a', 'b'+7)
		}
	})
	t.Run("with the plain client", func(t *testing.T) {
		wantPages(t, restore(t, p, litestream.RestoreOptions{}), 'a', 'b'+11)
	})
}

// vanishing deletes a file right before the first open, as retention may. A
// restore opens several at once.
type vanishing struct {
	*Snapshot
	once   sync.Once
	delete func()
}

func (v *vanishing) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if level == 0 {
		v.once.Do(v.delete)
	}
	return v.Snapshot.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
}

func TestARestoreThatLosesAFileToRetentionPlansAgain(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("p")
	mustWrite(t, p, litestream.SnapshotLevel, 1, 1, realLTX(t, 1, 1, 2, map[uint32]byte{1: 'a', 2: 'b'}))
	info := mustWrite(t, p, 0, 2, 2, realLTX(t, 2, 2, 2, map[uint32]byte{2: 'c'}))
	l, err := p.Listing(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	v := &vanishing{Snapshot: p.Snapshot(l), delete: func() {
		mustWrite(t, p, 1, 2, 2, realLTX(t, 2, 2, 2, map[uint32]byte{2: 'c'}))
		if err := p.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{info}); err != nil {
			t.Error(err)
		}
	}}
	wantPages(t, restore(t, v, litestream.RestoreOptions{}), 'a', 'c')
}

func TestARestoringViewDoesNotWrite(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("p")
	client, err := p.RestoreClient(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(nil))
	for _, err := range []error{err, client.DeleteAll(t.Context()), client.DeleteLTXFiles(t.Context(), nil)} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	}
}

func pack(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := lz4.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestABackupOfLitestreamV03IsRestored(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	path := filepath.Join(t.TempDir(), "v3.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	exec := func(q string) {
		t.Helper()
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	exec(`PRAGMA journal_mode=WAL`)
	exec(`CREATE TABLE t (x)`)
	exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	snapshot, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	exec(`INSERT INTO t VALUES (42)`)
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const gen = "p/generations/0123456789abcdef/"
	half := len(wal) / 2
	f.put(t, gen+"snapshots/00000000.snapshot.lz4", pack(t, snapshot))
	f.put(t, gen+"wal/00000000_00000000.wal.lz4", pack(t, wal[:half]))
	f.put(t, gen+"wal/"+litestream.FormatWALSegmentFilenameV3(0, int64(half)), pack(t, wal[half:]))
	f.put(t, gen+"wal/notes.txt", nil)
	f.put(t, "p/generations/not-a-generation/snapshots/00000000.snapshot.lz4", nil)

	view, err := p.RestoreClient(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]litestream.ReplicaClient{"the view": view, "the plain client": p} {
		for _, direct := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				before := c.Stats()
				out := filepath.Join(t.TempDir(), "out.db")
				r := litestream.NewReplicaWithClient(nil, client)
				if direct {
					err = r.RestoreV3(t.Context(), litestream.RestoreOptions{OutputPath: out})
				} else {
					err = r.Restore(t.Context(), litestream.RestoreOptions{OutputPath: out})
				}
				if err != nil {
					t.Fatal(err)
				}
				if s := c.Stats(); client == view && s.Total()-before.Total() != 3 {
					t.Errorf("%d requests, want 3 GET", s.Total()-before.Total())
				}
				restored, err := sql.Open("sqlite", out)
				if err != nil {
					t.Fatal(err)
				}
				var x int
				err = restored.QueryRow(`SELECT x FROM t`).Scan(&x)
				if err := errors.Join(err, restored.Close()); err != nil || x != 42 {
					t.Errorf("x=%d, %v", x, err)
				}
			})
		}
	}
	if _, err := p.OpenSnapshotV3(t.Context(), "0123456789abcdef", 7); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing snapshot: %v", err)
	}
	l, err := p.Listing(t.Context(), false)
	if err != nil || len(l.v3.generations) == 0 {
		t.Errorf("the listing has no backup of v0.3: %v", err)
	}
}
