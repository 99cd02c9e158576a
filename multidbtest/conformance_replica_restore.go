package multidbtest

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// testRestore takes a history through level 0, two compactions and retention,
// as a Manager does, and has stock litestream restore it.
func testRestore(t *replicaTest) {
	const seed, n = 20, 12
	h := newHistory(t.T, n, seed)
	t.Logf("seed %d", seed)
	c := t.client("db1")
	compactor := litestream.NewCompactor(c, slog.New(slog.DiscardHandler))

	written := 0
	ship := func(until int) {
		t.Helper()
		for written < until {
			written++
			t.write(c, 0, ltx.TXID(written), ltx.TXID(written), h.files[written])
			t.wantRestored(c, h, litestream.RestoreOptions{}, written)
		}
	}
	compact := func(level int, want string) {
		t.Helper()
		info, err := compactor.Compact(t.ctx, level)
		if err != nil {
			t.Fatalf("compact into level %d: %v", level, err)
		}
		if got := ranges([]*ltx.FileInfo{info}); got[0] != want {
			t.Errorf("level %d was given %s, want %s", level, got[0], want)
		}
		if err := compactor.VerifyLevelConsistency(t.ctx, level); err != nil {
			t.Error(err)
		}
	}

	ship(6)
	compact(1, "1-6")
	ship(9)
	compact(1, "7-9")
	compact(2, "1-9")
	ship(n)

	for txid := 1; txid <= n; txid++ {
		t.wantRestored(c, h, litestream.RestoreOptions{TXID: ltx.TXID(txid)}, txid)
	}
	// What is older than the timestamp counts, so ask just after each; only
	// level 0 has every point in time.
	for _, txid := range []int{1, 5, 9, n} {
		at := timestamp(ltx.TXID(txid)).Add(1e9)
		t.wantRestored(c, h, litestream.RestoreOptions{Timestamp: at}, txid)
	}

	// Retention: files that level 2 covers are deleted below it.
	for level := range 2 {
		var old []*ltx.FileInfo
		for _, info := range t.list(c, level, 0, false) {
			if info.MaxTXID <= 9 {
				old = append(old, info)
			}
		}
		if err := c.DeleteLTXFiles(t.ctx, old); err != nil {
			t.Fatal(err)
		}
	}
	t.wantFiles(c, 0, 0, "10-10", "11-11", "12-12")
	t.wantRestored(c, h, litestream.RestoreOptions{}, n)
	t.wantRestored(c, h, litestream.RestoreOptions{TXID: 9}, 9)
}

func (t *replicaTest) wantRestored(c litestream.ReplicaClient, h *history, opt litestream.RestoreOptions, want int) {
	t.Helper()
	opt.OutputPath = filepath.Join(t.TempDir(), "restored.db")
	opt.Parallelism = 2
	if err := litestream.NewReplicaWithClient(nil, c).Restore(t.ctx, opt); err != nil {
		t.Fatalf("restore to TXID %d: %v", want, err)
	}
	got, err := os.ReadFile(opt.OutputPath)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, h.images[want]) {
		return
	}
	for txid, image := range h.images {
		if bytes.Equal(got, image) {
			t.Fatalf("restored TXID %d, want %d", txid, want)
		}
	}
	t.Fatalf("restoring TXID %d gave %d bytes that the database never was", want, len(got))
}
