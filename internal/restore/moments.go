package restore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// unavailable is a state that the replica cannot restore, said in the words of who asked
// for it. It is ErrNoBackup, and what litestream calls that.
type unavailable struct {
	text  string
	cause error
}

func (u *unavailable) Error() string   { return ErrNoBackup.Error() + u.text }
func (u *unavailable) Unwrap() []error { return []error{ErrNoBackup, u.cause} }

// explain lists what there is, if a moment of the past was asked for and is not there.
func explain(ctx context.Context, client litestream.ReplicaClient, txid ltx.TXID, before time.Time, cause error) error {
	if txid == 0 && before.IsZero() {
		return Unavailable(nil, txid, before, cause)
	}
	files, err := store.Files(ctx, client, !before.IsZero())
	if err != nil {
		return fmt.Errorf("%w; and what there is could not be listed: %w", &unavailable{": " + cause.Error(), cause}, err)
	}
	return Unavailable(files, txid, before, cause)
}

// Unavailable is the error about the state after a transaction, or before a time, or the
// newest one with neither, that these files do not restore. It says which moments there are.
// cause is litestream's error, to errors.Is.
func Unavailable(files []*ltx.FileInfo, txid ltx.TXID, before time.Time, cause error) error {
	all := moments(files)
	if len(all) == 0 {
		return &unavailable{": the replica has no whole state of it", cause}
	}
	oldest, newest := all[0], all[len(all)-1]
	at, _ := slices.BinarySearchFunc(all, txid, func(f *ltx.FileInfo, txid ltx.TXID) int { return cmp.Compare(f.MaxTXID, txid) })
	var text string
	switch {
	case !before.IsZero():
		text = fmt.Sprintf(" before %s: the oldest is %s; give a time after it", showTime(before), showMoment(oldest))
	case txid == 0:
		text = ": " + cause.Error()
	case txid < oldest.MaxTXID:
		text = fmt.Sprintf(" of transaction %s: the oldest is %s", txid, showMoment(oldest))
	case txid > newest.MaxTXID:
		text = fmt.Sprintf(" of transaction %s: the newest is %s", txid, showMoment(newest))
	default: // it was merged with others
		text = fmt.Sprintf(" of transaction %s alone: the nearest are %s and %s", txid, showMoment(all[at-1]), showMoment(all[at]))
	}
	return &unavailable{text, cause}
}

// moments are the files that a restore can end with, the oldest first, one of each
// transaction.
func moments(files []*ltx.FileInfo) (all []*ltx.FileInfo) {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b *ltx.FileInfo) int {
		return cmp.Or(cmp.Compare(a.MaxTXID, b.MaxTXID), a.CreatedAt.Compare(b.CreatedAt))
	})
	for _, f := range sorted {
		n := len(all)
		if n > 0 && all[n-1].MaxTXID == f.MaxTXID {
			continue
		}
		// The newest moment before this one that it may continue.
		i := sort.Search(n, func(i int) bool { return all[i].MaxTXID >= f.MaxTXID })
		if f.MinTXID == 1 || i > 0 && all[i-1].MaxTXID >= f.MinTXID-1 {
			all = append(all, f)
		}
	}
	return all
}

func showMoment(f *ltx.FileInfo) string {
	return fmt.Sprintf("transaction %s, of %s", f.MaxTXID, showTime(f.CreatedAt))
}

// showTime is exact to the millisecond, as LTX files are.
func showTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
