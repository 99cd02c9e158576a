package fsid

import (
	"os"
	"path/filepath"
	"testing"
)

func TestADirectoryIsOnItsOwnMountAndNotOnThatOfTheKernel(t *testing.T) {
	dir := t.TempDir()
	if !SameMount(dir, filepath.Dir(dir)) {
		t.Error("a directory is on another mount than its parent")
	}
	if _, err := os.Stat("/proc/self"); err == nil && SameMount(dir, "/proc") {
		t.Error("/proc is on the same mount")
	}
	if SameMount(filepath.Join(dir, "none"), dir) {
		t.Error("what is missing is on the same mount")
	}
}
