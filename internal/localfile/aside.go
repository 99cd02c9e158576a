package localfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// KeptDir is where files are set aside, beside the database. No pattern takes what
// is in it for one.
const KeptDir = ".multidb-kept"

// SetAside moves a database, with its log, to a directory beside it, under a name
// that says when and why. Nobody may have it open.
func SetAside(ctx context.Context, path, dir, why string, now time.Time) (kept string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// With nothing left in its log it is one file, and one rename moves it. What
	// cannot be checkpointed is moved as it is.
	if fi, err := os.Stat(path + "-wal"); err == nil && fi.Size() > 0 {
		if conn, err := sqlitedb.OpenConn(ctx, path, time.Second); err == nil {
			_, _, _, err = conn.Checkpoint(ctx, "TRUNCATE")
			if err = errors.Join(err, conn.Close()); err != nil && ctx.Err() != nil {
				return "", err
			}
		}
	}
	base := filepath.Join(dir, filepath.Base(path)+"-"+now.UTC().Format("20060102T150405.000Z")+"-"+why)
	for n := 0; ; n++ {
		kept = base
		if n > 0 {
			kept = fmt.Sprintf("%s.%d", base, n)
		}
		if _, err := os.Lstat(kept); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
	}
	for _, suffix := range []string{"", "-wal", "-journal", "-shm"} {
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return kept, err
		}
	}
	return kept, errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(path)))
}
