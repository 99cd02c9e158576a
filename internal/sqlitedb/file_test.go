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

// readByConnection reads the pages of a database by a connection of the driver that
// may not write, as File would have to if it did not use SQLite's file layer.
func readByConnection(path, query string) (b []byte, err error) {
	db, err := sql.Open("sqlite", "file:"+escapePath(path)+"?mode=ro&"+query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, Classify(db.Close())) }()
	rows, err := db.Query("SELECT data FROM sqlite_dbpage('main') ORDER BY pgno")
	if err != nil {
		return nil, Classify(err)
	}
	defer func() { err = errors.Join(err, Classify(rows.Close())) }()
	var page sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&page); err != nil {
			return nil, err
		}
		b = append(b, page...)
	}
	return b, Classify(rows.Err())
}

// TestAReadOnlyConnectionIsNoFile says why File calls SQLite's file layer, and what
// breaks if a connection takes its place:
//   - One that only opens for reading reads the log too, so that the file alone cannot
//     be compared with the replica, and it makes a log and an index beside the file,
//     which then looks as if somebody used it.
//   - One that takes the file for immutable has neither fault, but it refuses a file
//     with an SQLite header whose pages do not fit together. A checkpoint that has
//     not ended leaves such a file, and so does every kind of damage: then the header
//     check could not tell a damaged database from a file that is none.
func TestAReadOnlyConnectionIsNoFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	db := mustOpen(t, path)
	exec(t, db, "CREATE TABLE t(v); INSERT INTO t VALUES(randomblob(30000)); PRAGMA wal_checkpoint; INSERT INTO t VALUES(randomblob(30000))")
	byFile := func(path string) []byte {
		t.Helper()
		f := mustOpenFile(t, path)
		b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return b
	}
	main := byFile(path)
	if b, err := readByConnection(path, ""); err != nil || bytes.Equal(b, main) {
		t.Errorf("a connection for reading reads the file without its log now: %v", err)
	}
	if b, err := readByConnection(path, "immutable=1"); err != nil || !bytes.Equal(b, main) {
		t.Errorf("an immutable connection reads something else than the file: %v", err)
	}

	alone := filepath.Join(dir, "alone.db")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(alone, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	beside := func() int {
		t.Helper()
		names, err := filepath.Glob(alone + "-*")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	write(main)
	if b := byFile(alone); !bytes.Equal(b, main) || beside() != 0 {
		t.Errorf("File reads %d bytes of %d, %d files beside it", len(b), len(main), beside())
	}
	if _, err := readByConnection(alone, ""); err != nil || beside() == 0 {
		t.Errorf("a connection for reading makes no files now: %v", err)
	}

	write(main[:len(main)-4096]) // a checkpoint that has not written the last page yet
	if b := byFile(alone); !bytes.Equal(b, main[:len(main)-4096]) {
		t.Errorf("File reads %d bytes of a file that was cut", len(b))
	}
	if _, err := readByConnection(alone, "immutable=1"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an immutable connection reads a file that was cut now: %v", err)
	}
	future := bytes.Clone(main)
	future[19] = 3 // a format that this SQLite does not know
	write(future)
	if b := byFile(alone); !bytes.Equal(b, future) {
		t.Errorf("File reads %d bytes of a file of a newer format", len(b))
	}
	if _, err := readByConnection(alone, "immutable=1"); !errors.Is(err, ErrNotDatabase) {
		t.Errorf("an immutable connection can tell a newer format from no database now: %v", err)
	}
}

// BenchmarkOpenFile reads the header of a file, as discovery does for each new one,
// by File and by the connection that could take its place.
func BenchmarkOpenFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.db")
	db, err := sql.Open("sqlite", "file:"+escapePath(path))
	if err != nil {
		b.Fatal(err)
	}
	_, err = db.Exec("CREATE TABLE t(v)")
	if err := errors.Join(err, db.Close()); err != nil {
		b.Fatal(err)
	}
	b.Run("file", func(b *testing.B) {
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
	})
	b.Run("connection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readByConnection(path, "immutable=1"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
