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

// KeptDir is the name of the directory, beside the database, in which files are set aside.
// No pattern takes what is in it for a database.
const KeptDir = ".multidb-kept"

// SetAside moves a database, with its log, into a directory on the same file system, under
// a name that says when and why. It returns the new path, which is empty if there was no
// database. Nobody may have it open. After an error some of its files may have been moved.
func SetAside(ctx context.Context, path, dir, why string, now time.Time) (kept string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// If its log is empty, the database is one file, and one rename moves it. If it cannot
	// be checkpointed, it is moved as it is.
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

// Drop deletes a file that SetAside has moved, with its log.
func Drop(kept string) error {
	for _, suffix := range []string{"-wal", "-journal", "-shm", ""} {
		if err := os.Remove(kept + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
