package ship

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/superfly/ltx"
)

// errWritten: somebody wrote to the file while openFilePin's pin read it.
var errWritten = fmt.Errorf("%w: it was written to while it was read", ErrUnsettled)

// openFilePin is openPin for a database whose log is empty and whose file nobody writes to.
// It opens no connection, which would create a log and its index beside the file and delete
// them again. It returns nil if the database is in another state or cannot be read that
// way. The caller then uses openPin, which also reports any error.
//
// The file alone is the database if there is no log, and no journal to roll back. If the
// file has the same fingerprint before and after it was read, nobody has written to it
// meanwhile: any write would have changed the fingerprint (see StableFingerprint).
func (s *Shipper) openFilePin(ctx context.Context, db *DB) (p *pin, err error) {
	first, err := s.cfg.Stat(db.Path)
	if err != nil || !alone(db.Path) {
		return nil, ignoreNotExist(err)
	}
	p = &pin{main: first}
	if p.file, err = sqlitedb.OpenFile(db.Path); err != nil {
		return nil, nil // such as a symbolic link, whose log is beside the file that it points to
	}
	s.reach(afterOpen)
	defer func() {
		if p.release == nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	if !p.shape() {
		return p, nil
	}
	print, err := s.StableFingerprint(ctx, db.Path)
	if err != nil || print != first { // it is another file, or was written to since
		return p, ignoreNotExist(err)
	}
	s.reach(beforeFileRead)
	if !alone(db.Path) || !p.shape() {
		return p, nil
	}
	if err := acquire(ctx, s.pins); err != nil {
		return p, err
	}
	p.release = func() { <-s.pins }
	return p, nil
}

// alone reports whether no file beside the database file belongs to the database's content.
func alone(path string) bool {
	if size, err := walSize(path); err != nil || size > 0 {
		return false
	}
	_, err := os.Lstat(path + "-journal")
	return errors.Is(err, fs.ErrNotExist)
}

// shape reads the page size and the number of pages from the header of the file
// (https://www.sqlite.org/fileformat.html). It returns false for a database that is not in
// WAL mode, or whose size only SQLite can find out.
func (p *pin) shape() bool {
	var h [100]byte
	if _, err := p.file.ReadAt(h[:], 0); err != nil || string(h[:16]) != sqlitedb.Magic {
		return false
	}
	be := binary.BigEndian
	p.pageSize = uint32(be.Uint16(h[16:]))
	if p.pageSize == 1 {
		p.pageSize = 65536
	}
	p.pages = be.Uint32(h[28:])
	walMode := h[18] == 2 && h[19] == 2
	sizeCounts := be.Uint32(h[24:]) == be.Uint32(h[92:])
	return walMode && sizeCounts && p.pages > 0 && ltx.IsValidPageSize(p.pageSize) &&
		int64(p.pages)*int64(p.pageSize) == p.file.Size()
}

// each calls fn for every page in order, including the lock page. The slice is valid until
// fn returns.
func (p *pin) each(ctx context.Context, fn func(pgno uint32, data []byte) error) error {
	if p.file == nil {
		return p.reader.Pages(ctx, fn)
	}
	buf := make([]byte, smallBuf) // a multiple of every page size
	for pgno, off := uint32(1), int64(0); off < p.file.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(int64(len(buf)), p.file.Size()-off)
		if _, err := p.file.ReadAt(buf[:n], off); errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.Join(errWritten, err)
		} else if err != nil {
			return err
		}
		for b := buf[:n]; len(b) > 0; b, pgno = b[p.pageSize:], pgno+1 {
			if err := fn(pgno, b[:p.pageSize]); err != nil {
				return err
			}
		}
		off += n
	}
	return nil
}
