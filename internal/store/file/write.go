package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/failpoint"
)

// writing is one file to publish.
type writing struct {
	slot       int // of Client.ready
	path       string
	createOnly bool      // an existing file stays, and is an error
	modTime    time.Time // zero: now
	body       io.Reader
}

func (c *Client) publish(w writing) (size int64, err error) {
	return publish(c.root, c.stats, w, func() (*os.File, error) { return c.openTemp(w.slot, w.path) })
}

// publish writes a file so that it is seen whole or not at all, and is on disk
// when publish returns nil.
func publish(in *directory, stats *counters, w writing, openTemp func() (*os.File, error)) (size int64, err error) {
	stats.put.Add(1)
	defer func() {
		stats.bytesOut.Add(size)
		err = stats.count(err)
	}()

	root, err := in.enter(true)
	if err != nil {
		return 0, err
	}
	defer root.close() // a volume is not unmounted while something in it is open
	dir := filepath.Dir(w.path)
	f, err := openTemp()
	if err != nil {
		return 0, err
	}
	temp := f.Name()
	size, err = io.Copy(f, w.body)
	if err == nil && !w.modTime.IsZero() {
		// Before the fsync: a crash must not leave a file with another time.
		err = os.Chtimes(temp, w.modTime, w.modTime)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		// It is in the replica, so what is at this path gets its name there or fails.
		err = root.holds(temp, f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return size, errors.Join(err, os.Remove(temp))
	}

	failpoint.Hit("file.publish.before")
	if !w.createOnly {
		if err := os.Rename(temp, w.path); err != nil {
			return size, errors.Join(err, os.Remove(temp))
		}
		return size, durable.SyncDir(dir)
	}
	linkErr := linked(os.Link(temp, w.path), temp, w.path)
	failpoint.Hit("file.link.after")
	// Also if the file existed: the caller may recognize it as its own, from a call
	// that a crash ended before this fsync, and rely on it.
	err = errors.Join(os.Remove(temp), durable.SyncDir(dir))
	if err != nil && errors.Is(linkErr, fs.ErrExist) {
		return size, err
	}
	return size, errors.Join(linkErr, err)
}

// linked returns the error of linking temp to path. NFS may ask again where the first
// answer was lost, and be told that path exists: then it is temp.
func linked(err error, temp, path string) error {
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	ours, statErr := os.Lstat(temp)
	if statErr != nil {
		return err
	}
	if found, statErr := os.Lstat(path); statErr != nil || !os.SameFile(ours, found) {
		return err
	}
	return nil
}

// openTemp creates the temporary file for path, and the directories above it
// if they are missing.
func (c *Client) openTemp(slot int, path string) (*os.File, error) {
	dir, name := filepath.Split(path)
	for attempt := 1; ; attempt++ {
		if !c.ready[slot].Load() {
			if err := makeDirs(c.root.dir, filepath.Clean(dir)); err != nil {
				return nil, err
			}
			if err := sweepTemps(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			c.ready[slot].Store(true)
		}
		f, err := createTemp(dir, name)
		if attempt == 3 || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		// The directory was removed meanwhile, by DeleteAll or by hand.
		c.ready[slot].Store(false)
	}
}

// createTemp makes a file in dir that no listing shows and no other writer has:
// <name>.<seconds since 1970>.<random>.tmp. The time is in the name because the
// file's own is set to that of the LTX file, which may be long ago, before the file
// is published.
func createTemp(dir, name string) (*os.File, error) {
	return os.CreateTemp(dir, fmt.Sprintf("%s.%d.*%s", name, time.Now().Unix(), tempSuffix))
}

func isTemp(name string) bool { return strings.HasSuffix(name, tempSuffix) }

// tempTime returns when createTemp made a file of that name.
func tempTime(name string) (time.Time, bool) {
	parts := strings.Split(strings.TrimSuffix(name, tempSuffix), ".")
	if !isTemp(name) || len(parts) < 3 {
		return time.Time{}, false
	}
	sec, err := strconv.ParseInt(parts[len(parts)-2], 10, 64)
	return time.Unix(sec, 0), err == nil
}

// sweepTemps removes what a crash left in dir long ago: it may be as large as a
// snapshot, and a crash loop would fill the disk.
func sweepTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at, ok := tempTime(e.Name())
		if !ok || e.IsDir() || time.Since(at) < tempAge {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// makeDirs makes dir, which is below root, and fsyncs every directory from the
// one above it up to the one above root: a new directory is durable only when
// its parent is. Those that exist are synced too: whoever made them may have
// crashed before doing so.
func makeDirs(root, dir string) error {
	top := filepath.Dir(root)
	for {
		if _, err := os.Stat(top); !errors.Is(err, fs.ErrNotExist) || top == filepath.Dir(top) {
			break
		}
		top = filepath.Dir(top)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		err := durable.SyncDir(d)
		if d == top {
			if errors.Is(err, fs.ErrPermission) {
				return nil // not ours: it was there before, and may be unreadable
			}
			return err
		}
		if err != nil {
			return err
		}
	}
}

// removeEmptyDir removes dir unless there is something in it.
func removeEmptyDir(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) { // ErrExist: not empty
		return nil
	}
	return err
}
