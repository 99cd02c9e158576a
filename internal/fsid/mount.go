package fsid

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// SameMount reports whether a file can be renamed from one directory to the other. Two
// mounts may be on the same device, and then no rename and no link is possible between
// them. If the system does not say, SameMount reports true.
func SameMount(a, b string) bool {
	x, y := OrZero(a), OrZero(b)
	if x.IsZero() || x.Dev != y.Dev {
		return false
	}
	m, ok := mountOf(a)
	n, ok2 := mountOf(b)
	return !ok || !ok2 || m == n // if the mount is not known, the rename finds out
}

// DeviceOf returns the device of a directory or, if it does not exist, of the innermost
// existing directory above it. It is used instead of a file's own device, which may differ
// from the directory's, for example on overlayfs.
func DeviceOf(dir string) (dev uint64, ok bool) {
	for {
		id, err := At(dir)
		if err == nil {
			return id.Dev, true
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || up == dir {
			return 0, false
		}
		dir = up
	}
}
