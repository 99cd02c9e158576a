package levels

import (
	"context"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// RestorePlan returns, without I/O, the files that litestream would restore from, in
// order: to txid, or to the state before timestamp, or, if both are zero, to the newest
// state. The error wraps litestream.ErrTxNotAvailable if the files cannot restore that. A
// plan with files of two epochs is refused with ErrNotRestorable.
func (v *Inventory) RestorePlan(ctx context.Context, txid ltx.TXID, timestamp time.Time) ([]*ltx.FileInfo, error) {
	infos, err := litestream.CalcRestorePlan(ctx, planClient{v: v}, txid, timestamp, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if infos[0].MinTXID != 1 {
		return nil, fmt.Errorf("%w: its files begin at %s", ErrNotRestorable, infos[0].MinTXID)
	}
	for i := 1; i < len(infos); i++ {
		if a, b := infos[i-1], infos[i]; v.epochBetween(file{max: a.MaxTXID}, file{max: b.MaxTXID}) {
			return nil, fmt.Errorf("%w: no snapshot since a new epoch began after %s", ErrNotRestorable, a.MaxTXID)
		}
	}
	return infos, nil
}

// Restorable returns nil if the newest TXID can be restored from the files of
// the inventory, and otherwise an error that wraps ErrNotRestorable and says
// what is missing. An empty prefix is not restorable. It makes no request.
func (v *Inventory) Restorable() error {
	infos, err := v.RestorePlan(context.Background(), 0, time.Time{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotRestorable, err)
	}
	if got, want := infos[len(infos)-1].MaxTXID, v.MaxTXID(); got != want {
		return fmt.Errorf("%w: its files lead to %s only, not to %s", ErrNotRestorable, got, want)
	}
	return nil
}

// planClient answers the only question that a plan asks a replica: which files it has.
// Its ReplicaClient is nil.
type planClient struct {
	litestream.ReplicaClient
	v *Inventory
}

func (c planClient) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	files := c.v.levels[level].files
	i := sort.Search(len(files), func(i int) bool { return files[i].min >= seek })
	return &fileIterator{level: level, files: files[i:]}, nil
}

// fileIterator makes a FileInfo only for the files that it is asked for.
type fileIterator struct {
	level int
	files []file
	item  *ltx.FileInfo
}

func (i *fileIterator) Next() bool {
	if len(i.files) == 0 {
		i.item = nil
		return false
	}
	i.item, i.files = i.files[0].info(i.level), i.files[1:]
	return true
}

func (i *fileIterator) Item() *ltx.FileInfo { return i.item }
func (i *fileIterator) Err() error          { return nil }
func (i *fileIterator) Close() error        { return nil }
