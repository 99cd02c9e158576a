package sqlitedb

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// File is a database file that SQLite's own file layer
// (https://www.sqlite.org/vfs.html) has opened for reading. The layer counts the locks
// that the connections of this process have on each file, and keeps a descriptor open
// whose closing would drop them. So a File, unlike one of package os, may be opened and
// closed at any time. Not safe for concurrent use.
//
// The driver offers the layer only as addresses of functions, which are called here
// as its translated code calls them. If a new version of the driver changes that, no
// test of this file passes. A connection could not take the place of a File:
// TestAReadOnlyConnectionIsNoFile names what would break, and BenchmarkOpenFile says
// that reading the header of a new file would take about 28 times as long and 45
// times as many bytes of Go's heap.
type File struct {
	tls  *libc.TLS
	name uintptr // what SQLite calls a filename
	file uintptr // sqlite3_file
	buf  uintptr // fileBuf bytes of SQLite's memory, which it reads into
	size int64
}

const fileBuf = 64 << 10

// OpenFile opens a database file, which must not be a symbolic link.
func OpenFile(path string) (f *File, err error) {
	f = &File{tls: libc.NewTLS()}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
			f = nil
		}
	}()
	if rc := sqlite3.Xsqlite3_initialize(f.tls); rc != sqlite3.SQLITE_OK {
		return f, fileError("start SQLite", path, rc)
	}
	layer := sqlite3.Xsqlite3_vfs_find(f.tls, 0)
	vfs := at[sqlite3.Tsqlite3_vfs](layer)
	cpath, err := libc.CString(path)
	if err != nil {
		return f, err
	}
	defer libc.Xfree(f.tls, cpath)
	none := cpath + uintptr(len(path)) // the empty string: it has no journal and no log
	f.name = sqlite3.Xsqlite3_create_filename(f.tls, cpath, none, none, 0, 0)
	file := libc.Xcalloc(f.tls, 1, libc.Tsize_t(vfs.FszOsFile))
	f.buf = libc.Xmalloc(f.tls, fileBuf)
	if f.name == 0 || file == 0 || f.buf == 0 {
		libc.Xfree(f.tls, file)
		return f, fileError("open", path, sqlite3.SQLITE_NOMEM)
	}
	open := function[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](vfs.FxOpen)
	rc := open(f.tls, layer, f.name, file, sqlite3.SQLITE_OPEN_READONLY|sqlite3.SQLITE_OPEN_MAIN_DB, 0)
	f.file = file
	if rc != sqlite3.SQLITE_OK {
		return f, fileError("open", path, rc)
	}
	// The size is at the start of the buffer, which nothing else uses yet.
	size := function[func(*libc.TLS, uintptr, uintptr) int32](f.methods().FxFileSize)
	if rc := size(f.tls, f.file, f.buf); rc != sqlite3.SQLITE_OK {
		return f, fileError("ask the size of", path, rc)
	}
	f.size = *at[int64](f.buf)
	return f, nil
}

// Size is the size of the file in bytes when it was opened.
func (f *File) Size() int64 { return f.size }

// ReadAt reads up to the size that the file had when it was opened.
func (f *File) ReadAt(b []byte, off int64) (n int, err error) {
	read := function[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](f.methods().FxRead)
	for n < len(b) {
		amount := min(int64(len(b)-n), fileBuf, f.size-off)
		if amount <= 0 {
			return n, io.EOF
		}
		if rc := read(f.tls, f.file, f.buf, int32(amount), off); rc == sqlite3.SQLITE_IOERR_SHORT_READ {
			return n, io.ErrUnexpectedEOF // it was truncated
		} else if rc != sqlite3.SQLITE_OK {
			return n, fileError("read", libc.GoString(f.name), rc)
		}
		n += copy(b[n:], unsafe.Slice(at[byte](f.buf), amount))
		off += amount
	}
	return n, nil
}

// Close ends the use of the file.
func (f *File) Close() error {
	if f.tls == nil {
		return nil
	}
	rc := int32(sqlite3.SQLITE_OK)
	if f.file != 0 {
		if m := f.methods(); m != nil {
			rc = function[func(*libc.TLS, uintptr) int32](m.FxClose)(f.tls, f.file)
		}
		libc.Xfree(f.tls, f.file)
	}
	if f.name != 0 {
		sqlite3.Xsqlite3_free_filename(f.tls, f.name)
	}
	if f.buf != 0 {
		libc.Xfree(f.tls, f.buf)
	}
	f.tls.Close()
	*f = File{}
	if rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("sqlitedb: close: SQLite's code %d", rc)
	}
	return nil
}

// methods returns nil for a file that was not opened.
func (f *File) methods() *sqlite3.Tsqlite3_io_methods {
	return at[sqlite3.Tsqlite3_io_methods](at[sqlite3.Tsqlite3_file](f.file).FpMethods)
}

func fileError(what, path string, rc int32) error {
	err := fmt.Errorf("sqlitedb: %s %s: SQLite's code %d", what, path, rc)
	if rc&0xff == sqlite3.SQLITE_CANTOPEN {
		return fmt.Errorf("%w: %w", ErrNoFile, err)
	}
	return err
}

// at returns the value at an address of SQLite's memory, which Go's collector does
// not manage.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// function returns the function whose address SQLite has stored. It is a Go function
// of the translated library.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{p})) }
