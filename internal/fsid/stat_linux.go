//go:build linux && (amd64 || arm64)

package fsid

import (
	"strings"
	"syscall"
	"unsafe"
)

// At returns which file a path leads to. It allocates nothing, because every lease of the
// pool calls it. If there is no file, the error is fs.ErrNotExist.
func At(path string) (ID, error) {
	var st syscall.Stat_t
	ok, err := statAt(path, "", &st)
	if !ok {
		id, _, err := Look(path)
		return id, err
	}
	if err != nil {
		return ID{}, err
	}
	return ID{st.Dev, st.Ino}, nil
}

// StatWith takes the fingerprint of the file at path+suffix without opening it, as Stat
// does. It allocates nothing, because it is called for every hot database every second. If
// there is no file, the error is fs.ErrNotExist.
func StatWith(path, suffix string) (Fingerprint, error) {
	var st syscall.Stat_t
	ok, err := statAt(path, suffix, &st)
	if !ok {
		return Stat(path + suffix)
	}
	if err != nil {
		return Fingerprint{}, err
	}
	return Fingerprint{
		Ino: st.Ino, Size: st.Size,
		Mtime: st.Mtim.Nano(), Ctime: ctime(&st),
	}, nil
}

// statAt fills st with what stat says about path+suffix. If ok is false, the caller must use
// os.Stat: the path is too long for the buffer, or the error should name the path.
func statAt(path, suffix string, st *syscall.Stat_t) (ok bool, err error) {
	var name [512]byte
	if len(path)+len(suffix) >= len(name) || strings.IndexByte(path, 0) >= 0 {
		return false, nil
	}
	copy(name[copy(name[:], path):], suffix)
	cwd := -0x64 // AT_FDCWD
	for {
		_, _, errno := syscall.Syscall6(sysStatAt, uintptr(cwd),
			uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(st)), 0, 0, 0)
		switch errno {
		case 0:
			return true, nil
		case syscall.EINTR:
		case syscall.ENOENT:
			return true, errno
		default:
			return false, nil
		}
	}
}
