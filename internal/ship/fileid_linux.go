//go:build linux && (amd64 || arm64)

package ship

import (
	"strings"
	"syscall"
	"unsafe"
)

// FileID is which file a path leads to: its device and inode. It allocates
// nothing, as every lease of the pool asks. A missing file's error is
// fs.ErrNotExist.
func FileID(path string) (dev, ino uint64, err error) {
	var name [512]byte
	if len(path) >= len(name) || strings.IndexByte(path, 0) >= 0 {
		return fileIDOS(path)
	}
	copy(name[:], path)
	var st syscall.Stat_t
	cwd := -0x64 // AT_FDCWD
	for {
		_, _, errno := syscall.Syscall6(sysStatAt, uintptr(cwd),
			uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&st)), 0, 0, 0)
		switch errno {
		case 0:
			return st.Dev, st.Ino, nil
		case syscall.EINTR:
		case syscall.ENOENT:
			return 0, 0, errno
		default:
			return fileIDOS(path) // whose error names the path
		}
	}
}
