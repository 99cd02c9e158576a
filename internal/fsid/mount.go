package fsid

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// SameMount reports whether a file may be renamed from one directory to the other:
// two volumes of one disk have the same device number, but no rename and no link
// leads from one to the other. Where the system does not know, it reports true.
func SameMount(a, b string) bool {
	x, y := OrZero(a), OrZero(b)
	if x.IsZero() || x.Dev != y.Dev {
		return false
	}
	m, ok := mountOf(a)
	n, ok2 := mountOf(b)
	return !ok || !ok2 || m == n // otherwise the rename itself finds out
}

// DeviceOf returns the file system of a directory, or of what is left of its path.
// It is the directories' that count: a file's own may differ, as on overlayfs.
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
