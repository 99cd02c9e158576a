package fsid

import (
	"errors"
	"io/fs"
	"time"
)

// Files is what stat says about a database and its WAL. A WAL that does not exist has the
// zero Fingerprint.
type Files struct{ Main, WAL Fingerprint }

// StatFiles takes the fingerprints of the database at path and of its WAL with stat, which
// is StatWith except in tests. If there is no database, the error is fs.ErrNotExist.
func StatFiles(path string, stat func(path, suffix string) (Fingerprint, error)) (Files, error) {
	var st Files
	var err error
	if st.Main, err = stat(path, ""); err != nil {
		return st, err
	}
	if st.WAL, err = stat(path, "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	return st, nil
}

// ModTime returns when either file was last written.
func (s Files) ModTime() time.Time { return time.Unix(0, max(s.Main.Mtime, s.WAL.Mtime)) }

// Racy reports whether a later write could leave the time stamps as they are.
func (s Files) Racy(now time.Time) bool { return s.Main.Racy(now) || s.WAL.Racy(now) }

// Young is Racy, but false for stamps in the future: waiting does not make them older.
func (s Files) Young(now time.Time) bool {
	return s.Racy(now) && !s.Main.Ahead(now) && !s.WAL.Ahead(now)
}
