package fsid

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Access is who may use a file: its mode and owner.
type Access struct {
	Mode  fs.FileMode // the permission bits; 0: not known
	UID   int
	GID   int
	Owned bool // UID and GID are known
}

// AccessOf returns who may use the file that info describes.
func AccessOf(info fs.FileInfo) Access {
	a := Access{Mode: info.Mode().Perm()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID, a.Owned = int(st.Uid), int(st.Gid), true
	}
	return a
}

// Give sets the mode and owner of a file. Only root may give a file to another owner; for
// any other user the owner stays. The owner is set first, so that nobody gets access by the
// new mode to a file of the old owner.
func (a Access) Give(path string) error {
	if a.Owned {
		if err := os.Chown(path, a.UID, a.GID); err != nil && !errors.Is(err, fs.ErrPermission) &&
			!errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) { // EINVAL: this user namespace does not have the owner
			return err
		}
	}
	if a.Mode == 0 {
		return nil // it keeps the mode with which it was created: 0644 under the usual umask
	}
	return os.Chmod(path, a.Mode.Perm())
}
