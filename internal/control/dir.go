package control

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// maxPath is the length of a unix socket's path that every system allows.
const maxPath = 100

// CheckDir returns an error that wraps ErrUnsafe if anybody but this user and
// root can write to dir.
func CheckDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &os.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
		return fmt.Errorf("%w: state directory %s belongs to user %d", ErrUnsafe, dir, st.Uid)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%w: state directory %s has mode %#o; run chmod go-w on it", ErrUnsafe, dir, mode)
	}
	return nil
}

// reach returns a path of a name in dir that fits into a socket address. Call done
// after using it.
func reach(dir, name string) (path string, done func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	short := filepath.Join("/proc/self/fd", strconv.Itoa(int(f.Fd())), name)
	if _, err := os.Stat(filepath.Dir(short)); err != nil {
		_ = f.Close() // only opened for its number
		return "", nil, fmt.Errorf("the path %s is too long for a socket: give a shorter state directory", path)
	}
	return short, func() { _ = f.Close() }, nil
}
