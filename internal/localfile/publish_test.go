package localfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
)

// TestAFinishedFileGetsItsNameWhateverTheFileSystemCannotDo fails the ways to give a
// file its name one by one, as NFS, FUSE, FAT and two mounts of one disk do.
func TestAFinishedFileGetsItsNameWhateverTheFileSystemCannotDo(t *testing.T) {
	for name, c := range map[string]struct {
		rename, link error // nil: it works
	}{
		"rename":                        {nil, nil},
		"an old kernel":                 {syscall.ENOSYS, nil},
		"no exclusive rename":           {syscall.EINVAL, nil},
		"nor hard links":                {syscall.EINVAL, syscall.EPERM},
		"nor any, and it says so":       {errors.ErrUnsupported, syscall.ENOTSUP},
		"two mounts":                    {syscall.EXDEV, syscall.EXDEV},
		"two mounts, and an old kernel": {syscall.ENOSYS, syscall.EXDEV},
	} {
		t.Run(name, func(t *testing.T) {
			work, dir := t.TempDir(), t.TempDir()
			across := func(from, to string) bool { return filepath.Dir(from) == work }
			fail := func(err error, do func(from, to string) error) func(from, to string) error {
				return func(from, to string) error {
					if err == nil || errors.Is(err, syscall.EXDEV) && !across(from, to) {
						return do(from, to)
					}
					return &os.LinkError{Op: "test", Old: from, New: to, Err: err}
				}
			}
			p := publisher{fail(c.rename, renameNoReplace), fail(c.link, os.Link)}
			tmp, out := filepath.Join(work, "db"), filepath.Join(dir, "x.db")
			make := func() {
				t.Helper()
				if err := os.WriteFile(tmp, []byte("new"), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			has := func(want string) {
				t.Helper()
				if b, err := os.ReadFile(out); err != nil || string(b) != want {
					t.Errorf("it has %q, %v; want %q", b, err, want)
				}
				if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
					t.Errorf("left in the directory: %v, %v", all, err)
				}
			}
			make()
			if err := p.publish(tmp, out); err != nil {
				t.Fatal(err)
			}
			has("new")
			if fi, err := os.Stat(out); err != nil || fi.Mode() != 0o640 {
				t.Errorf("mode %v, %v", fi.Mode(), err)
			}
			_ = os.Remove(tmp) // a link leaves it there
			if err := os.WriteFile(out, []byte("another's"), 0o600); err != nil {
				t.Fatal(err)
			}
			make()
			if err := p.publish(tmp, out); !errors.Is(err, ErrExists) {
				t.Errorf("over another file: %v", err)
			}
			if err := p.name(tmp, out); across(tmp, out) && c.rename != syscall.EXDEV && c.link != syscall.EXDEV && !errors.Is(err, os.ErrExist) {
				t.Errorf("over a file that came at the last moment: %v", err)
			}
			if err := p.copyBeside(tmp, out); !errors.Is(err, os.ErrExist) {
				t.Errorf("copied over a file that came at the last moment: %v", err)
			}
			has("another's")
		})
	}
}

func TestADirectoryIsOnItsOwnMountAndNotOnThatOfTheKernel(t *testing.T) {
	dir := t.TempDir()
	if !fsid.SameMount(dir, filepath.Dir(dir)) {
		t.Error("a directory is on another mount than its parent")
	}
	if _, err := os.Stat("/proc/self"); err == nil && fsid.SameMount(dir, "/proc") {
		t.Error("/proc is on the same mount")
	}
	if fsid.SameMount(filepath.Join(dir, "none"), dir) {
		t.Error("what is missing is on the same mount")
	}
}
