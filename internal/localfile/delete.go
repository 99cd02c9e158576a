package localfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// ErrInUse: the file cannot be deleted, since it is used, or is not as it was.
var ErrInUse = errors.New("the local file is in use")

// deleteWait is how long Delete waits for other programs that have the database open.
const deleteWait = 100 * time.Millisecond

// Delete deletes a database file that is exactly as want says, together with its empty log.
// It refuses with ErrInUse where any other connection to it is open, also of another
// process: what that committed from then on would be in a file without a name. A crash
// leaves the file as it was, perhaps without its empty log, or nothing.
func Delete(ctx context.Context, path string, want fsid.Fingerprint) error {
	return deleteAlone(ctx, path, func() error {
		now, err := fsid.StatFiles(path, fsid.StatWith)
		if err != nil {
			return err
		}
		if now.Main != want || now.WAL.Size != 0 {
			return fmt.Errorf("%w: %s was written to", ErrInUse, path)
		}
		return nil
	})
}

// DeleteNew deletes a database that the caller has made as this file, and that nobody was
// given, whatever is in it. It refuses as Delete does, and where another file is at the path.
func DeleteNew(ctx context.Context, path string, made fsid.ID) error {
	return deleteAlone(ctx, path, func() error {
		if at, err := fsid.At(path); err != nil {
			return err
		} else if at != made {
			return fmt.Errorf("%w: another file was put at %s", ErrInUse, path)
		}
		return nil
	})
}

// deleteAlone deletes a database, if check allows it while nobody else has it open.
func deleteAlone(ctx context.Context, path string, check func() error) (err error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fsid.Links(fi) > 1 {
		return fmt.Errorf("%w: %s is a symbolic link, or has a second name, so that deleting it would free nothing", ErrInUse, path)
	}
	conn, err := sqlitedb.OpenAlone(ctx, path, deleteWait)
	if errors.Is(err, sqlitedb.ErrBusy) {
		return fmt.Errorf("%w: another program has %s open: %w", ErrInUse, path, err)
	} else if err != nil {
		return err
	}
	// It closes after the names are gone, and then finds nothing to tidy up.
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := check(); err != nil {
		return err
	}
	if _, err := os.Lstat(path + "-journal"); err == nil {
		return fmt.Errorf("%w: %s has a journal", ErrInUse, path)
	}
	failpoint.Hit("evict.delete.before")
	// The file goes last: what is left of a crash is never a log without its database.
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		failpoint.Hit("evict.delete" + suffix + ".after")
	}
	return nil
}
