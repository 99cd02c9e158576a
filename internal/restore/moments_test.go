package restore

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// filesOnly is a client that only lists.
type filesOnly struct {
	litestream.ReplicaClient
	files []*ltx.FileInfo
	err   error
}

func (c filesOnly) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	return store.Level(c.files, level, seek), nil
}

func (c filesOnly) AllLTXFiles(context.Context, bool) ([]*ltx.FileInfo, error) { return c.files, c.err }

var day = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func lasting(level int, first, last ltx.TXID) *ltx.FileInfo {
	return &ltx.FileInfo{Level: level, MinTXID: first, MaxTXID: last, Size: 1000, CreatedAt: day.Add(time.Duration(last) * time.Hour)}
}

func TestAMomentThatIsNotThereIsAnsweredWithThoseThatAre(t *testing.T) {
	files := []*ltx.FileInfo{lasting(9, 1, 4), lasting(0, 5, 5), lasting(1, 6, 9), lasting(0, 12, 12)}
	for name, tc := range map[string]struct {
		files  []*ltx.FileInfo
		txid   ltx.TXID
		before time.Time
		want   string
	}{
		"a time before the first": {files, 0, day, "no backup found before 2026-01-31T12:00:00.000Z: the oldest is transaction 0000000000000004, of 2026-01-31T16:00:00.000Z; give a time after it"},
		"the very time of it":     {files, 0, day.Add(4 * time.Hour), "the oldest is transaction 0000000000000004"},
		"one before the first":    {files, 3, time.Time{}, "no backup found of transaction 0000000000000003: the oldest is transaction 0000000000000004, of 2026-01-31T16:00:00.000Z"},
		"one beyond the end":      {files, 0x99, time.Time{}, "no backup found of transaction 0000000000000099: the newest is transaction 0000000000000009, of 2026-01-31T21:00:00.000Z"},
		"one beyond a gap":        {files, 12, time.Time{}, "the newest is transaction 0000000000000009"},
		"one that was merged":     {files, 7, time.Time{}, "of transaction 0000000000000007 alone: the nearest are transaction 0000000000000005, of 2026-01-31T17:00:00.000Z and transaction 0000000000000009, of"},
		"nothing":                 {nil, 7, time.Time{}, "no backup found: the replica has no whole state of it"},
		"no beginning":            {files[1:], 5, time.Time{}, "no backup found: the replica has no whole state of it"},
		"the newest of nothing":   {nil, 0, time.Time{}, "no backup found: the replica has no whole state of it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planOf(t.Context(), filesOnly{files: tc.files}, tc.txid, tc.before, slog.New(slog.DiscardHandler))
			if !errors.Is(err, ErrNoBackup) || !errors.Is(err, litestream.ErrTxNotAvailable) {
				t.Fatalf("%v", err)
			}
			if said := err.Error(); !strings.Contains(said, tc.want) || strings.Contains(said, "not available") {
				t.Errorf("%s\nwant %s", said, tc.want)
			}
		})
	}
}

func TestAListingThatFailsHidesNotThatThereIsNoBackup(t *testing.T) {
	_, err := planOf(t.Context(), filesOnly{err: io.ErrUnexpectedEOF}, 7, time.Time{}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrNoBackup) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// TestTheMomentsAreThoseThatLitestreamRestores, so that none is proposed in vain.
func TestTheMomentsAreThoseThatLitestreamRestores(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	reached, not := 0, 0
	for range 2000 {
		var files []*ltx.FileInfo
		for range rng.IntN(12) {
			first := ltx.TXID(1 + rng.IntN(14))
			f := lasting(rng.IntN(10), first, first+ltx.TXID(rng.IntN(6)))
			if f.Level == litestream.SnapshotLevel {
				f.MinTXID = 1
			}
			files = append(files, f)
		}
		slices.SortFunc(files, func(a, b *ltx.FileInfo) int {
			return cmp.Or(cmp.Compare(a.MinTXID, b.MinTXID), cmp.Compare(a.MaxTXID, b.MaxTXID))
		})
		have := map[ltx.TXID]bool{}
		for _, f := range moments(files) {
			have[f.MaxTXID] = true
		}
		for txid := ltx.TXID(1); txid <= 20; txid++ {
			_, err := litestream.CalcRestorePlan(t.Context(), filesOnly{files: files}, txid, time.Time{}, slog.New(slog.DiscardHandler))
			if (err == nil) != have[txid] {
				t.Fatalf("seed %d: %v: transaction %s: %v, and of the moments: %v", seed, files, txid, err, have[txid])
			}
			if err == nil {
				reached++
			} else {
				not++
			}
		}
	}
	if reached < 1000 || not < 1000 {
		t.Errorf("%d are there, %d are not", reached, not)
	}
}
