package localfile

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames a file, unless the name is taken.
func renameNoReplace(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// mountOf is which mount a path is on, if the kernel (5.8 or later) says so.
func mountOf(path string) (id uint64, ok bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, false
	}
	return st.Mnt_id, true
}

// MayWriteTo fails if no file can be made in a directory.
func MayWriteTo(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("make a file in %s: %w", dir, err)
	}
	return nil
}
