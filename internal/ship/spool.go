package ship

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// spool holds bytes in memory up to a limit, and above it in a temporary file. The file has
// no name, so that nothing remains after a crash.
type spool struct {
	dir   string
	limit int
	mem   []byte
	f     *os.File
	n     int64
}

// Write appends.
func (s *spool) Write(b []byte) (int, error) {
	if s.f == nil && len(s.mem)+len(b) > s.limit {
		f, err := os.CreateTemp(s.dir, "spool-*")
		if errors.Is(err, fs.ErrNotExist) { // somebody has deleted the directory because it was empty
			if err = os.MkdirAll(s.dir, 0o700); err == nil {
				f, err = os.CreateTemp(s.dir, "spool-*")
			}
		}
		if err != nil {
			return 0, fmt.Errorf("spool: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil {
			_ = f.Close()
			return 0, fmt.Errorf("spool: %w", err)
		}
		if _, err := f.Write(s.mem); err != nil {
			_ = f.Close()
			return 0, fmt.Errorf("spool: %w", err)
		}
		s.f, s.mem = f, nil
	}
	if s.f == nil {
		s.mem = append(s.mem, b...)
		s.n += int64(len(b))
		return len(b), nil
	}
	n, err := s.f.Write(b)
	s.n += int64(n)
	if err != nil {
		err = fmt.Errorf("spool: %w", err)
	}
	return n, err
}

// ReadAt reads what was written.
func (s *spool) ReadAt(b []byte, off int64) (int, error) {
	if s.f != nil {
		return s.f.ReadAt(b, off)
	}
	if off >= int64(len(s.mem)) {
		return 0, io.EOF
	}
	n := copy(b, s.mem[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// reader returns a new reader of everything, from the start.
func (s *spool) reader() *io.SectionReader { return io.NewSectionReader(s, 0, s.n) }

// bytes is everything that was written, or nil if it is not in memory.
func (s *spool) bytes() []byte {
	if s.f != nil {
		return nil
	}
	return s.mem
}

// close frees the file. It has no error to return: the file was only a buffer.
func (s *spool) close() {
	if s.f != nil {
		_ = s.f.Close()
	}
	s.f, s.mem = nil, nil
}
