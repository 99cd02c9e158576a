package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// replans is how often a plan is made again because a file of it was gone.
const replans = 3

// database writes the database that opt asks for to a new file at path, and flushes it. A
// backup of litestream 0.3 is left to litestream. It calls planned when it knows that there
// is something to restore.
func database(ctx context.Context, client litestream.ReplicaClient, opt Options, path string, logger *slog.Logger, planned func()) (made Made, err error) {
	if old, err := isV3(ctx, client, opt); err != nil {
		return made, err
	} else if old {
		planned()
		ropt := litestream.NewRestoreOptions()
		ropt.OutputPath, ropt.Timestamp = path, opt.Timestamp
		return made, litestream.NewReplicaWithClient(nil, client).Restore(ctx, ropt)
	}
	plan, err := planOf(ctx, client, opt.TXID, opt.Timestamp, logger)
	if err != nil {
		return made, err
	}
	planned()
	// In its directory nobody else gets at it. The mode stays if the replica knows no other.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return made, err
	}
	target := plan[len(plan)-1].MaxTXID
	for tries := 0; ; tries++ {
		made, err = write(ctx, f, client, plan)
		if !errors.Is(err, fs.ErrNotExist) || tries == replans || ctx.Err() != nil {
			break
		}
		// The retention of another process has removed it, and what has it now is listed.
		if plan, err = planOf(ctx, client, target, time.Time{}, logger); err != nil {
			break
		}
		if err = f.Truncate(0); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return made, errors.Join(err, f.Close())
}

func planOf(ctx context.Context, client litestream.ReplicaClient, txid ltx.TXID, before time.Time, logger *slog.Logger) ([]*ltx.FileInfo, error) {
	plan, err := litestream.CalcRestorePlan(ctx, client, txid, before, logger)
	if errors.Is(err, litestream.ErrTxNotAvailable) {
		return nil, explain(ctx, client, txid, before, err)
	} else if err != nil {
		return nil, fmt.Errorf("plan the restore: %w", err)
	}
	for _, info := range plan {
		if info.Size < ltx.HeaderSize {
			return nil, fmt.Errorf("%w: %s of level %d has %d bytes", untrusted.ErrDamaged, ltx.FormatFilename(info.MinTXID, info.MaxTXID), info.Level, info.Size)
		}
	}
	return plan, nil
}

// isV3 reports whether litestream is to decide between a backup of its version 0.3 and one
// in today's format: whether there is any of 0.3.
func isV3(ctx context.Context, client litestream.ReplicaClient, opt Options) (bool, error) {
	v3, ok := client.(litestream.ReplicaClientV3)
	if !ok || opt.TXID != 0 {
		return false, nil
	}
	_, updated, err := litestream.NewReplicaWithClient(nil, client).TimeBoundsV3(ctx, v3)
	if err != nil {
		return false, fmt.Errorf("look for a backup of litestream 0.3: %w", err)
	}
	return !updated.IsZero(), nil
}

// write writes the database that the files of a plan make. It reads the newest file first,
// so that each page is written once, and verifies all of every file. The result is that of
// ltx.Compactor and ltx.Decoder.DecodeDatabaseTo: of the files that have a page the newest
// counts, and the file ends where the newest says.
func write(ctx context.Context, f *os.File, client litestream.ReplicaClient, plan []*ltx.FileInfo) (made Made, err error) {
	ahead := readAhead(ctx, client, plan)
	defer ahead.stop()
	run := buffer(runBytes)
	defer putBuffer(run)
	w := &pages{f: f, has: map[uint32]uint64{}, run: run[:0]}
	for i := len(plan) - 1; i >= 0; i-- {
		r, err := ahead.next(ctx)
		if err == nil {
			err = w.apply(r, i == 0)
		}
		if err != nil {
			return made, fmt.Errorf("%s of level %d: %w", ltx.FormatFilename(plan[i].MinTXID, plan[i].MaxTXID), plan[i].Level, err)
		}
	}
	return w.made, w.end()
}

// pages writes a database file.
type pages struct {
	f     *os.File
	made  Made              // of the newest file, which says how large the database is
	next  ltx.Header        // of the last file that was applied, which follows the next one
	has   map[uint32]uint64 // bits of 64 pages each: which ones are written
	n     uint32            // how many are
	run   []byte            // pages that follow each other, and are not written yet
	begin uint32            // the first of them
}

// runBytes is about how many bytes are written at once.
const runBytes = 256 << 10

// apply writes the pages of a file that no newer one has. oldest: no other file follows.
func (w *pages) apply(file *window, oldest bool) error {
	dec, hdr, err := decode(file)
	if err != nil {
		return err
	}
	if err := w.follows(hdr, oldest); err != nil {
		return err
	}
	w.next = hdr
	size, lock := int(hdr.PageSize), ltx.LockPgno(hdr.PageSize)
	for {
		if cap(w.run)-len(w.run) < size {
			if err := w.flush(); err != nil {
				return err
			}
		}
		data := w.run[len(w.run) : len(w.run)+size]
		pgno, err := dec.page(data)
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		bits := w.has[pgno>>6]
		switch {
		case pgno == lock:
			return fmt.Errorf("%w: it has page %d, which SQLite uses for locks", untrusted.ErrDamaged, lock)
		case pgno > w.made.Header.Commit || bits>>(pgno&63)&1 != 0:
			continue
		}
		w.has[pgno>>6], w.n = bits|1<<(pgno&63), w.n+1
		if n := uint32(len(w.run) / size); n > 0 && pgno != w.begin+n {
			if err := w.flush(); err != nil {
				return err
			}
			copy(w.run[:size], data)
		}
		if len(w.run) == 0 {
			w.begin = pgno
		}
		w.run = w.run[:len(w.run)+size]
	}
	if err := w.flush(); err != nil {
		return err
	}
	sum, err := dec.end()
	if w.made.Sum == 0 {
		w.made.Sum = sum
	}
	return err
}

// follows returns an error if a file is not one that the last applied one follows.
func (w *pages) follows(hdr ltx.Header, oldest bool) error {
	switch {
	case w.made.Header.PageSize == 0:
		w.made.Header = hdr
	case hdr.PageSize != w.next.PageSize:
		return fmt.Errorf("%w: pages of %d bytes, and of %d in a later file", untrusted.ErrDamaged, hdr.PageSize, w.next.PageSize)
	case !ltx.IsContiguous(hdr.MaxTXID, w.next.MinTXID, w.next.MaxTXID):
		return fmt.Errorf("%w: transactions %s to %s come after %s", untrusted.ErrDamaged, w.next.MinTXID, w.next.MaxTXID, hdr.MaxTXID)
	}
	if oldest && !hdr.IsSnapshot() {
		return fmt.Errorf("%w: the oldest file of the plan is no snapshot", untrusted.ErrDamaged)
	}
	return nil
}

func (w *pages) flush() error {
	if len(w.run) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(w.run, int64(w.begin-1)*int64(w.made.Header.PageSize))
	w.run = w.run[:0]
	return err
}

// end makes the file as long as the newest state is, and refuses it unless each page was
// found.
func (w *pages) end() error {
	want := w.made.Header.Commit
	if want >= w.made.Header.LockPgno() {
		want-- // which no file has
	}
	if w.n != want {
		return fmt.Errorf("%w: the files have %d of %d pages", untrusted.ErrDamaged, w.n, want)
	}
	return w.f.Truncate(int64(w.made.Header.Commit) * int64(w.made.Header.PageSize))
}
