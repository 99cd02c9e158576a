package sqlitedb

import (
	"bytes"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustOpenFile(t testing.TB, path string) *File {
	t.Helper()
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAFileIsReadAsItStandsOnTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ein Name mit ? und % und #.db")
	db := mustOpen(t, path)
	exec(t, db, "CREATE TABLE t(v); INSERT INTO t VALUES(randomblob(300000))")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := mustOpenFile(t, path)
	if f.Size() != int64(len(want)) {
		t.Errorf("the size is %d, want %d", f.Size(), len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("it reads %d bytes, not the file's: %v", len(got), err)
	}
	at := make([]byte, 200_000)
	if n, err := f.ReadAt(at, 77_777); err != nil || !bytes.Equal(at[:n], want[77_777:277_777]) {
		t.Errorf("%d bytes from the middle: %v", n, err)
	}
	if n, err := f.ReadAt(at, f.Size()-10); err != io.EOF || n != 10 {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
	if err := os.Truncate(path, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(at, 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of a file that was cut: %v", err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
}

func TestAFileThatCannotBeOpenedIsNoFile(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	db := mustOpen(t, filepath.Join(dir, "a.db"))
	exec(t, db, "CREATE TABLE t(v)")
	if err := os.Symlink("a.db", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "missing"), filepath.Join(dir, "missing", "a.db"), link} {
		if f, err := OpenFile(path); !errors.Is(err, ErrNoFile) || f != nil {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
}

// TestClosingAFileLeavesTheLocksOfTheConnections, of this process, on it. It is
// red where File uses package os: closing any descriptor of a file drops them all.
func TestClosingAFileLeavesTheLocksOfTheConnections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	app, err := sql.Open("sqlite", path) // of the application's own
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	exec(t, app, "PRAGMA journal_mode=wal; CREATE TABLE t(v)")
	locks := func() int {
		n := 0
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		want, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			fi, err := os.Stat("/proc/self/fd/" + fd.Name())
			if err != nil || !os.SameFile(fi, want) {
				continue
			}
			if b, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name()); err == nil {
				n += strings.Count(string(b), "POSIX")
			}
		}
		return n
	}
	if locks() == 0 {
		t.Skip("this kernel does not list the locks of an open connection")
	}
	for range 3 {
		f := mustOpenFile(t, path)
		if _, err := f.ReadAt(make([]byte, 100), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if locks() == 0 {
			t.Fatal("the connection's lock is gone")
		}
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, filepath.Dir(path)) {
			t.Errorf("a descriptor of %s is left", to)
		}
	}
}

func BenchmarkOpenFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.db")
	if err := os.WriteFile(path, make([]byte, 4096), 0o644); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		f := mustOpenFile(b, path)
		if _, err := f.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
