// Package localfile gives finished database files their name on this machine's disk, and
// moves existing ones away. Nothing is ever overwritten, and after a crash no file is lost.
// It opens no database that anybody else may have open. It has no state and no locks.
package localfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fsid"
)

// ErrExists: there is a file at the path already, or one that belongs to a database there.
var ErrExists = errors.New("output path already exists")

// TempPattern is the pattern, as of os.MkdirTemp, of the names of directories with
// unfinished files.
const TempPattern = ".multidb-restore-*"

// Vacant returns ErrExists if there is a file at a path, or a log or journal beside it.
// SQLite would apply the log of a deleted database to the new one.
func Vacant(path string) error {
	for _, suffix := range []string{"", "-wal", "-journal", "-shm"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return fmt.Errorf("%w: %s", ErrExists, path+suffix)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// publisher gives a finished file its name by the first of its functions that the file
// system supports. Tests replace them.
type publisher struct {
	rename func(from, to string) error // fails if to exists
	link   func(from, to string) error
}

// Publish gives the finished file tmp the name out, or returns ErrExists if there is a file
// already. Nothing is ever overwritten. The file may keep its old name as well.
func Publish(tmp, out string) error {
	return publisher{renameNoReplace, os.Link}.publish(tmp, out)
}

func (p publisher) publish(tmp, out string) error {
	if err := Vacant(out); err != nil {
		return err
	}
	failpoint.Hit("restore.link.before")
	err := p.name(tmp, out)
	if errors.Is(err, syscall.EXDEV) {
		err = p.copyBeside(tmp, out)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, out)
	} else if err != nil {
		return err
	}
	failpoint.Hit("restore.link.after")
	return durable.SyncDir(filepath.Dir(out))
}

// name gives a file another name on the same file system.
func (p publisher) name(tmp, out string) error {
	err := p.rename(tmp, out)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EXDEV) {
		return err
	}
	// The kernel is old, or the file system (NFS, FUSE, FAT, SMB) cannot do it.
	err = p.link(tmp, out)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EXDEV) {
		return err
	}
	return reserve(tmp, out)
}

// reserve takes the name with an empty file, which the finished file then replaces. A crash
// in between leaves the empty file. That loses nothing: it is never shipped, but restored
// from the replica when it is opened, or refused.
func reserve(tmp, out string) error {
	// O_EXCL: only a new file is opened here, so that closing it can drop no lock.
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	mine, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	now, err := os.Lstat(out)
	if err != nil {
		return err
	} else if !os.SameFile(mine, now) || now.Size() != 0 {
		return fs.ErrExist // somebody has replaced the empty file or written to it
	}
	return os.Rename(tmp, out)
}

// copyBeside copies a file to the file system of out, and gives it its name there.
func (p publisher) copyBeside(tmp, out string) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(out), TempPattern)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	beside := filepath.Join(dir, "db")
	if err := copyFile(tmp, beside); err != nil {
		return err
	}
	return p.name(beside, out)
}

// copyFile copies a file that nobody has open to a new file, with its mode and owner. The
// new file is flushed to disk when it returns.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // only read
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = fsid.AccessOf(fi).Give(dst.Name())
	}
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}
