// Package durable makes the names of files survive a power failure. It touches only the
// paths that it is given, and has no state and no locks: if two goroutines write to one
// path at the same time, the last one wins.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// SyncDir flushes a directory to disk, so that names which were created, renamed or removed
// in it before survive a power failure.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReplaceFile writes a small file with mode 0600. After a crash it has the old content or
// the new one, and once ReplaceFile has returned nil, the new one. A crash may leave a file
// beside it whose name begins with that of path and ends with ".tmp".
func ReplaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}
