package restoreall

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAWorkDirectoryIsClearedOfWhatACrashLeftAndOfNothingElse(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, WorkName, ".multidb-restore-1", "db")
	other := filepath.Join(dir, ".multidb-restore-2", "db")
	for _, path := range []string{left, other} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w, err := openWorkDir(dir, Plan{Source: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(left)); !os.IsNotExist(err) {
		t.Errorf("what a crash left is still there: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("what is not of restore-all is gone: %v", err)
	}
	if err := w.close(false); err != nil {
		t.Fatal(err)
	}
	if _, err := openWorkDir(dir, Plan{Source: "b"}); err == nil {
		t.Error("it goes on with another source")
	}
	if w, err = openWorkDir(dir, Plan{Source: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := w.close(true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.path); !os.IsNotExist(err) {
		t.Errorf("the work directory is still there: %v", err)
	}
}
