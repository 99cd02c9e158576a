package localfile

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames a file. It fails if there is a file with the new name.
func renameNoReplace(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// MayWriteTo returns an error if this process may not create files in a directory.
func MayWriteTo(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("make a file in %s: %w", dir, err)
	}
	return nil
}
