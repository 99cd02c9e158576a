//go:build linux && (amd64 || arm64)

package ship

import (
	"strings"
	"syscall"
	"unsafe"
)

// StatWith takes the fingerprint of the file at path+suffix without opening it,
// as os.Stat would. It allocates nothing: every hot database is looked at every
// second. A missing file's error is fs.ErrNotExist.
func StatWith(path, suffix string) (Fingerprint, error) {
	var name [512]byte
	n := len(path) + len(suffix)
	if n >= len(name) || strings.IndexByte(path, 0) >= 0 {
		return statOS(path + suffix)
	}
	copy(name[copy(name[:], path):], suffix)
	var st syscall.Stat_t
	cwd := -0x64 // AT_FDCWD
	for {
		_, _, errno := syscall.Syscall6(sysStatAt, uintptr(cwd),
			uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&st)), 0, 0, 0)
		switch errno {
		case 0:
			return Fingerprint{
				Ino: st.Ino, Size: st.Size,
				Mtime: st.Mtim.Nano(), Ctime: ctime(&st),
			}, nil
		case syscall.EINTR:
		case syscall.ENOENT:
			return Fingerprint{}, errno
		default:
			return statOS(path + suffix) // whose error names the path
		}
	}
}
