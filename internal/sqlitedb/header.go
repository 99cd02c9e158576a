package sqlitedb

import (
	"errors"
	"os"
	"path/filepath"
)

// CheckHeader returns ErrNotDatabase for a file of this size that does not begin as a
// database does. An empty one may become a database. It reads nothing where a WAL, a
// journal or a shared-memory file beside it says that somebody uses it as a database.
func CheckHeader(path string, size int64) error {
	if size == 0 {
		return nil
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return nil
		}
	}
	b := make([]byte, min(size, int64(len(Magic))))
	if err := readStart(path, b); err != nil {
		return err
	}
	if string(b) != Magic {
		return ErrNotDatabase
	}
	return nil
}

// readStart reads through SQLite's file layer, as the application may have connections
// of its own to the file, whose locks it must not lose.
func readStart(path string, b []byte) (err error) {
	f, err := OpenFile(path)
	if err != nil {
		to, e := filepath.EvalSymlinks(path)
		if e != nil || to == path {
			return err
		}
		if f, err = OpenFile(to); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.ReadAt(b, 0)
	return err
}
