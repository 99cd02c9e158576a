// Package localfile puts whole database files in their place on this machine's disk,
// and takes them out of it: nothing is ever overwritten, and a crash leaves the old
// file or the new one. It opens no database that anybody else may have open.
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

// ErrExists: something stands at the path already, or belongs to it.
var ErrExists = errors.New("output path already exists")

// TempPattern is how the directories of unfinished files are called.
const TempPattern = ".multidb-restore-*"

// Vacant makes sure that nothing stands at a path or belongs to it. A WAL left
// by a deleted database would be applied to the new one.
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

// publisher gives a finished file its name, by the first way that the file system has.
type publisher struct {
	rename func(from, to string) error // fails where to exists
	link   func(from, to string) error
}

// Publish gives a finished file its name, if nobody has taken it meanwhile. Nothing is
// ever overwritten. The file may stay at tmp, too.
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
	// An old kernel, or a file system (NFS, FUSE, FAT, SMB) that cannot do it.
	err = p.link(tmp, out)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EXDEV) {
		return err
	}
	return reserve(tmp, out)
}

// reserve takes the name with an empty file, which the finished one then replaces. A
// crash in between leaves an empty file, which is no database of anybody's: it is
// brought up to date from the replica when it is opened, or refused, never shipped.
func reserve(tmp, out string) error {
	// Only a file that is new is opened here, so that no lock can be lost.
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
		return fs.ErrExist // somebody was quick
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

// copyFile copies a file that nobody has open, with its mode and owner, to a new one
// that is on disk when it returns.
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
