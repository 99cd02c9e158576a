// Package durable makes names of files survive a power failure. It touches the
// paths that it is given and nothing else, and has no state and no locks: two
// writers of one path are kept apart by the callers, or the last of them wins.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// SyncDir flushes a directory to disk: the names that were made, renamed or
// removed in it before.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReplaceFile writes a small file, with mode 0600, so that a crash leaves the
// old content or the new, and the new one after ReplaceFile has returned nil.
// Such a crash may leave a file called like path with .tmp at its end.
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
