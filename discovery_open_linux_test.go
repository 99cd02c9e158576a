package multidb

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Closing a descriptor of a database would drop SQLite's locks on it.
func TestAListingNeverOpensADatabase(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "d/a.db", "d/a.db-wal", "d/b.db", "d/target", "d/c.db", "e/")
	must(t, os.Symlink("target", filepath.Join(root, "d/link.db")))
	must(t, os.Link(filepath.Join(root, "d/b.db"), filepath.Join(root, "d/hard.db")))
	must(t, os.Symlink("../d/c.db", filepath.Join(root, "e/c.db")))
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	must(t, err)
	defer syscall.Close(fd)
	for _, name := range []string{"d/a.db", "d/a.db-wal", "d/b.db", "d/target", "d/c.db"} {
		_, err := syscall.InotifyAddWatch(fd, filepath.Join(root, name), syscall.IN_OPEN|syscall.IN_CLOSE)
		must(t, err)
	}
	wantListing(t, Glob(root+"/*/*.db", root+"/d/a.db"), "d/a", "d/b", "d/c", "d/link")
	wantListing(t, Static(Database{ID: "a", Path: root + "/d/a.db"}, Database{ID: "l", Path: root + "/d/link.db"}), "a", "l")
	buf := make([]byte, 4096)
	if n, err := syscall.Read(fd, buf); err != syscall.EAGAIN {
		t.Errorf("a file was opened: %d bytes of events, %v", n, err)
	}
	// The watch itself works.
	_, err = os.ReadFile(filepath.Join(root, "d/target"))
	must(t, err)
	if n, err := syscall.Read(fd, buf); n <= 0 || err != nil {
		t.Errorf("inotify saw nothing: %v", err)
	}
}
