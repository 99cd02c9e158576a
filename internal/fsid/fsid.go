// Package fsid has what stat says about files: which file a path leads to, whether its
// content may have changed, who may use it, and which mount it is on. It also decides how
// far the time stamps of files can be trusted.
//
// It never opens a file: closing a descriptor of a database would drop the locks
// that SQLite has on it in this process. Everything but AgeClock is a plain value
// or a function without state; AgeClock has a lock of its own.
package fsid

import (
	"os"
	"syscall"
)

// ID identifies a file, whatever its names are, by its device and inode. The zero value
// stands for no file.
type ID struct{ Dev, Ino uint64 }

// IsZero reports whether the ID is that of no file.
func (id ID) IsZero() bool { return id == ID{} }

// Of returns the ID of the file that info describes.
func Of(info os.FileInfo) ID {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return ID{uint64(st.Dev), st.Ino}
	}
	return ID{}
}

// Links returns the number of names that the file has.
func Links(info os.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Nlink) }

// Look returns which file a path leads to, and what stat says about it.
func Look(path string) (ID, os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return ID{}, nil, err
	}
	return Of(info), info, nil
}

// OrZero is At, but returns the zero ID instead of an error.
func OrZero(path string) ID {
	id, err := At(path)
	if err != nil {
		return ID{}
	}
	return id
}
