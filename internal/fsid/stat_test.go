package fsid

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAtAndStatWithSayWhatStatSays(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("d", 250), strings.Repeat("e", 250))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "a.db"), filepath.Join(long, "a.db")} { // the second one is longer than the buffer
		if err := os.WriteFile(path+"-wal", []byte("frames"), 0o600); err != nil {
			t.Fatal(err)
		}
		id, info, err := Look(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := At(path + "-wal"); err != nil || got != id || got.IsZero() || OrZero(path+"-wal") != id {
			t.Errorf("At is %v, %v; want %v", got, err, id)
		}
		if got, err := StatWith(path, "-wal"); err != nil || got != FingerprintOf(info) || got.Ino != id.Ino || got.Size != 6 {
			t.Errorf("StatWith is %v, %v; want %v", got, err, FingerprintOf(info))
		}
		if _, err := At(path); !errors.Is(err, fs.ErrNotExist) || !OrZero(path).IsZero() {
			t.Errorf("At of a missing file: %v", err)
		}
		if _, err := StatWith(path, "-shm"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("StatWith of a missing file: %v", err)
		}
		if _, err := At(path + "-wal/x"); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("At below a file: %v, which does not name the path", err)
		}
	}
	if _, err := At(dir + "\x00x"); err == nil {
		t.Error("a path with NUL is taken for the text before it")
	}
}
