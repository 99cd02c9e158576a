package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/multidb-go/multidb/internal/durable"
)

func TestAReplacedFileHasTheNewContentAndNothingStaysBesideIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"a longer text", "short"} {
		if err := durable.ReplaceFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("the file has %q, %v; want %q", got, err, text)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("the directory has %v, %v", all, err)
	}
}

func TestAFileThatCannotBeReplacedLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.ReplaceFile(path, []byte("text")); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("the directory has %v, %v", all, err)
	}
	if err := durable.ReplaceFile(filepath.Join(dir, "missing", "file"), nil); !os.IsNotExist(err) {
		t.Errorf("error is %v, want that the directory is not there", err)
	}
}

func TestADirectoryThatIsNotThereCannotBeSynced(t *testing.T) {
	dir := t.TempDir()
	if err := durable.SyncDir(dir); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(dir, "missing")); !os.IsNotExist(err) {
		t.Errorf("error is %v, want that it is not there", err)
	}
}
