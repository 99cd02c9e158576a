package discover

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// Entry is a file of a fixed list.
type Entry struct {
	Path    string    // absolute and clean
	ModTime time.Time // zero: that of the file or of its WAL, the later one
}

// Listed lists the files of a fixed list that exist, each once, by its real path and
// for the first entry that leads to it. Index is that of the entry; apart from it only
// Path and ModTime are set. A missing directory is an error.
func Listed(ctx context.Context, entries []Entry) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		seen := make(map[fsid.ID]struct{}, len(entries))
		for i, e := range entries {
			if err := ctx.Err(); err != nil {
				yield(File{}, err)
				return
			}
			file, info, err := lookUp(e.Path)
			if err != nil {
				if !yield(File{}, unlistedAt(err, e.Path)) {
					return
				}
				continue
			}
			if info == nil {
				continue
			}
			id := fsid.Of(info)
			if _, ok := seen[id]; ok {
				continue
			}
			seen[id] = struct{}{}
			if e.ModTime.IsZero() {
				if e.ModTime, err = laterModTime(info, file+"-wal"); err != nil {
					if !yield(File{}, unlistedAt(err, e.Path, file)) {
						return
					}
					continue
				}
			}
			if !yield(File{Path: file, Index: i, ModTime: e.ModTime}, nil) {
				return
			}
		}
	}
}

// lookUp finds the real file of a path. A missing file, or one that is no database,
// is not an error; a missing directory or a dangling symlink is.
func lookUp(path string) (file string, info fs.FileInfo, err error) {
	info, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Stat(filepath.Dir(path))
		return "", nil, err
	}
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		path, info, err = follow(path)
	}
	if err != nil || info == nil || !isDatabaseFile(path, info) {
		return "", nil, err
	}
	return path, info, nil
}
