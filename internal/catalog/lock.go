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
		err = writeHolder(f)
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

// writeHolder notes who holds the lock, for the message of whoever is refused, and for
// Holder: the process, and in a second line the host. A host without a name has none.
func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	host, _ := os.Hostname() // the note only says less
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"+host+"\n"), 0)
	return err
}

// Holder returns which process on which host was the last to hold the state directory. It
// does not say whether that still runs: only taking the lock would, which could make
// another process fail to start. Zero where that is not noted, the host also where an older
// version noted it. The error wraps fs.ErrNotExist if there is no state directory.
func Holder(dir string) (pid int, host string, err error) {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return 0, "", err
	}
	pid, host, err = readHolder(f)
	return pid, host, errors.Join(err, f.Close())
}

func readHolder(f *os.File) (pid int, host string, err error) {
	b := make([]byte, 512)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, "", err
	}
	first, rest, _ := strings.Cut(string(b[:n]), "\n")
	if pid, err = strconv.Atoi(first); err != nil {
		return 0, "", nil // the holder is about to write it
	}
	return pid, strings.TrimSpace(rest), nil
}

// holder is what writeHolder left, as text to end a message with.
func holder(f *os.File) string {
	pid, host, err := readHolder(f)
	if err != nil || pid == 0 {
		return "" // the message only says less
	}
	if own, err := os.Hostname(); err == nil && host != "" && host != own {
		return fmt.Sprintf(" (held by process %d on %s)", pid, host)
	}
	return fmt.Sprintf(" (held by process %d)", pid)
}
