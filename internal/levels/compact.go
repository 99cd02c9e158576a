package levels

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// Report is what Compact or Retain did, even if it failed in the end.
type Report struct {
	Compactions  int   // files written
	Deleted      int   // files deleted, strays included
	FilesRead    int   // files compacted
	BytesRead    int64 // from the replica
	BytesWritten int64 // to the replica
}

// Add adds another report.
func (r *Report) Add(o Report) {
	r.Compactions += o.Compactions
	r.Deleted += o.Deleted
	r.FilesRead += o.FilesRead
	r.BytesRead += o.BytesRead
	r.BytesWritten += o.BytesWritten
}

// Compact merges files of each level into files of the next level where that is due. If all
// is set, it does so wherever a level has two files or more to merge; that is for a
// database that becomes cold. It makes one request for each file that it writes, and one
// for each file that it reads and that is not in the cache (see Inventory.UseCache). It
// makes no listing.
//
// A file is added to the inventory when the replica has acknowledged it. After an error,
// the compactions before it are done, and another call goes on from there. See ErrInventory
// and ErrPageSize for errors that need more than another call. ctx bounds all requests. A
// nil logger discards.
//
// Calls for different inventories may run at the same time.
func Compact(ctx context.Context, client litestream.ReplicaClient, v *Inventory, p Policy, all bool, logger *slog.Logger) (Report, error) {
	p = p.withDefaults()
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	var rep Report
	for dst := 1; dst <= p.MaxLevel; dst++ {
		for _, run := range v.dueRuns(dst-1, p, all) {
			for _, piece := range pieces(run, p.files(dst-1)) {
				one, err := compactRun(ctx, client, v, dst, piece, logger)
				rep.Add(one)
				if err != nil {
					return rep, err
				}
			}
		}
	}
	return rep, nil
}

// compactRun writes the files of a run as one file of level dst. A file of that name may
// exist already, from an earlier attempt or from another writer of the same history. It
// is accepted if it has the same content; otherwise the error is ErrForeign.
func compactRun(ctx context.Context, client litestream.ReplicaClient, v *Inventory, dst int, run []file, logger *slog.Logger) (Report, error) {
	c := &compactClient{ReplicaClient: client, v: v, shelf: v.shelf, dst: dst}
	var reached ltx.TXID
	for _, f := range run {
		if f.max > reached { // otherwise a file of the run contains all of it
			c.sources = append(c.sources, f.info(dst-1))
			reached = f.max
		}
	}

	compactor := litestream.NewCompactor(c, logger)
	// Where to begin is decided here: the level may have a gap before the run.
	before := &ltx.FileInfo{Level: dst, MaxTXID: run[0].min - 1}
	compactor.CacheGetter = func(int) (*ltx.FileInfo, bool) { return before, true }

	_, err := compactor.Compact(ctx, dst)
	if errors.Is(err, fs.ErrExist) {
		c.compare, c.opened = true, 0
		_, err = compactor.Compact(ctx, dst)
	}
	rep := Report{BytesRead: c.read.Load(), BytesWritten: c.written}
	if err == nil {
		rep.Compactions, rep.FilesRead = 1, len(c.sources)
		for _, f := range run { // no compaction reads them again
			v.shelf.drop(key{dst - 1, f.min, f.max})
		}
		return rep, nil
	}
	switch {
	case c.missing.Load():
		err = fmt.Errorf("%w: %w", ErrInventory, err)
	case errors.Is(err, ErrPageSize):
		v.BeginEpoch(c.sources[c.opened-1].MaxTXID)
	}
	return rep, fmt.Errorf("compact %d files to level %d: %w", len(c.sources), dst, err)
}
