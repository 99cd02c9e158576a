package multidb

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// access is who may use a database file: its mode and owner.
type access struct {
	Mode  fs.FileMode // the permission bits; 0: not known
	UID   int
	GID   int
	Owned bool // UID and GID are known
}

// defaultMode is the mode of a restored file of which none is known: that of a file
// that SQLite makes.
const defaultMode = 0o644

func accessOf(fi fs.FileInfo) access {
	a := access{Mode: fi.Mode().Perm()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID, a.Owned = int(st.Uid), int(st.Gid), true
	}
	return a
}

// give sets the mode and owner of a file. Only root may give a file to another owner:
// who may not keeps it. It never opens the mode further before the owner is right.
func (a access) give(path string) error {
	if a.Owned {
		if err := os.Chown(path, a.UID, a.GID); err != nil && !errors.Is(err, fs.ErrPermission) &&
			!errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) { // EINVAL: an owner that this user namespace has not
			return err
		}
	}
	mode := a.Mode
	if mode == 0 {
		mode = defaultMode
	}
	return os.Chmod(path, mode)
}
