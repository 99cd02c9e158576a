package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// Size is how many bytes Newest would read of the LTX files, by a listing alone: it makes
// nothing. 0: it is a backup of litestream 0.3, of which that is not known. Of opt it takes
// what state is to be restored. The error is that of Newest where there is no backup.
func Size(ctx context.Context, client litestream.ReplicaClient, opt Options) (int64, error) {
	from, err := store.RestoreClient(ctx, client, !opt.Timestamp.IsZero())
	if err != nil {
		return 0, err
	}
	logger := slog.New(slog.DiscardHandler)
	from.SetLogger(logger)
	from = untrusted.Client(from)
	if old, err := isV3(ctx, from, opt); err != nil || old {
		return 0, err
	}
	plan, err := planOf(ctx, from, opt.TXID, opt.Timestamp, logger)
	if errors.Is(err, litestream.ErrTxNotAvailable) || errors.Is(err, litestream.ErrNoSnapshots) {
		err = fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	var size int64
	for _, f := range plan {
		size += f.Size
	}
	return size, err
}
