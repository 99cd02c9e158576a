package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// history is what the source was at each commit, in order. Safe for concurrent
// use. It is the oracle of P1 (floors) and P2 (states) wherever there is an
// application whose commits are known; that it can tell is seen whenever a line
// that the tests name is removed.
type history struct {
	mu     sync.Mutex
	states []string
	floors map[ltx.TXID]int // what a Sync that returned this TXID promised
}

// commit notes the state that a commit led to.
func (h *history) commit(state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.states); n == 0 || h.states[n-1] != state {
		h.states = append(h.states, state)
	}
}

// at is the index of the newest commit.
func (h *history) at() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.states) - 1
}

// synced notes that a Sync called after commit number at returned a TXID.
func (h *history) synced(at int, txid ltx.TXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.floors == nil {
		h.floors = map[ltx.TXID]int{}
	}
	h.floors[txid] = max(h.floors[txid], at)
}

// listFiles is every file of a prefix, by TXID.
func listFiles(client litestream.ReplicaClient) ([]*ltx.FileInfo, error) {
	var all []*ltx.FileInfo
	for level := range litestream.SnapshotLevel + 1 {
		itr, err := client.LTXFiles(context.Background(), level, 0, false)
		if err != nil {
			return nil, err
		}
		a, err := ltx.SliceFileIterator(itr)
		if err != nil {
			return nil, err
		}
		all = append(all, a...)
	}
	slices.SortFunc(all, func(a, b *ltx.FileInfo) int { return int(a.MaxTXID) - int(b.MaxTXID) })
	return all, nil
}

// restoreFile restores one TXID (0: the newest) with litestream. The file is the caller's to remove.
func restoreFile(client litestream.ReplicaClient, dir string, txid ltx.TXID) (string, error) {
	sub, err := os.MkdirTemp(dir, "restore-*")
	if err != nil {
		return "", err
	}
	opt := litestream.NewRestoreOptions()
	opt.OutputPath, opt.TXID = filepath.Join(sub, "db"), txid
	client.SetLogger(slog.New(slog.DiscardHandler))
	err = litestream.NewReplicaWithClient(nil, client).Restore(context.Background(), opt)
	if err != nil {
		return "", errors.Join(fmt.Errorf("restore of TXID %s: %w", txid, err), os.RemoveAll(sub))
	}
	return opt.OutputPath, nil
}

// check restores every TXID at which a file of the prefix ends, by ours and by
// the stock CLI in turns, and compares it with the source's states: each was one, none is older than the one before or
// than what a Sync promised. last, unless nil, is what the newest must be. With
// a retention, older states may be gone, younger ones not. It returns how many
// were restored.
func (h *history) check(t testing.TB, r *restorer, retention time.Duration, last *string) int {
	t.Helper()
	began := time.Now()
	files, err := r.files()
	if err != nil {
		t.Errorf("list: %v", err)
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	dir := t.TempDir()
	from, restored := 0, 0
	for i, f := range files {
		if i+1 < len(files) && files[i+1].MaxTXID == f.MaxTXID {
			continue
		}
		txid := f.MaxTXID
		for promised, floor := range h.floors {
			if promised <= txid {
				from = max(from, floor)
			}
		}
		path, err := r.restore(dir, txid)
		if err != nil {
			if retention > 0 && began.Sub(f.CreatedAt) > retention && i+1 < len(files) {
				continue
			}
			if i+1 < len(files) && r.merged(t, txid) {
				continue
			}
			t.Errorf("%v; files: %s", err, listing(files))
			return restored
		}
		got, err := fileHash(t, path)
		if err != nil {
			t.Errorf("TXID %s is restored without error and cannot be read: %v", txid, err)
			return restored
		}
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
		restored++
		at := slices.Index(h.states[min(from, len(h.states)):], got)
		if at < 0 {
			t.Errorf("TXID %s of %s restores to %s, which is no state of the source after commit %d of %d (it was one at commit %d)",
				txid, files[len(files)-1].MaxTXID, got, from, len(h.states)-1, slices.Index(h.states, got))
			return restored
		}
		from += at
		if i+1 == len(files) && last != nil && got != *last {
			t.Errorf("the newest TXID %s restores to commit %d, the source is %s (commit %d)", txid, from, *last, len(h.states)-1)
		}
	}
	if len(files) == 0 && last != nil {
		t.Error("the prefix is empty")
	}
	return restored
}

func listing(files []*ltx.FileInfo) string {
	s := ""
	for _, f := range files {
		s += fmt.Sprintf(" %d:%d-%d", f.Level, f.MinTXID, f.MaxTXID)
	}
	return s
}
