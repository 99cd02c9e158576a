//go:build unix && !solaris && !aix

package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockDir takes the advisory lock on dir, which lasts until the file returned
// is closed or the process ends. The lock is of the open file, so a second one
// in the same process is refused as well. The file is never removed: that
// would let two processes lock two files of one name.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("catalog: cannot write in the state directory: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		err = writePID(f)
		if err == nil {
			return f, nil
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("catalog: %w: %s%s", ErrLocked, dir, holder(f))
	} else {
		err = fmt.Errorf("catalog: cannot lock the state directory: %s: %w", f.Name(), err)
	}
	return nil, errors.Join(err, f.Close())
}

// writePID notes who holds the lock, for the message of whoever is refused.
func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder is what writePID left, as text to end a message with.
func holder(f *os.File) string {
	b := make([]byte, 32)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "" // the message only says less
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return "" // the holder is about to write it
	}
	return fmt.Sprintf(" (held by process %d)", pid)
}
