// Package localfile deals with files on this machine: who may use them. It touches
// the paths that it is given and nothing else, and has no state and no locks.
package localfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Access is who may use a database file: its mode and owner.
type Access struct {
	Mode  fs.FileMode // the permission bits; 0: not known
	UID   int
	GID   int
	Owned bool // UID and GID are known
}

// AccessOf is what a stat says.
func AccessOf(fi fs.FileInfo) Access {
	a := Access{Mode: fi.Mode().Perm()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID, a.Owned = int(st.Uid), int(st.Gid), true
	}
	return a
}

// Give sets the mode and owner of a file. Only root may give a file to another owner:
// who may not keeps it. It never opens the mode further before the owner is right.
func (a Access) Give(path string) error {
	if a.Owned {
		if err := os.Chown(path, a.UID, a.GID); err != nil && !errors.Is(err, fs.ErrPermission) &&
			!errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) { // EINVAL: an owner that this user namespace has not
			return err
		}
	}
	if a.Mode == 0 {
		return nil // as it was made: 0644 under the usual umask
	}
	return os.Chmod(path, a.Mode.Perm())
}
