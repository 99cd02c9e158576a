package multidb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/pattern"
)

var (
	_ Discoverer        = (*static)(nil)
	_ DiscovererVars    = (*static)(nil)
	_ DiscovererRoot    = (*static)(nil)
	_ DiscovererLocator = (*static)(nil)
	_ validator         = (*static)(nil)
)

// Static returns a Discoverer of a fixed list. IDs must be unique and not
// empty, paths absolute; New reports what is wrong. As with Glob, a database
// whose file does not exist is not listed but can be created, a missing
// directory is an error, and two paths of one file are listed once, by the
// first. A zero ModTime is filled in from the file and its WAL.
func Static(dbs ...Database) Discoverer {
	s := &static{}
	byID := make(map[ID]bool, len(dbs))
	for _, db := range dbs {
		var err error
		switch {
		case db.ID.IsZero():
			err = fmt.Errorf("%w: Static: the database at %q has no ID", ErrInvalidOption, db.Path)
		case byID[db.ID]:
			err = fmt.Errorf("%w: Static: two databases have the ID %q", ErrInvalidOption, db.ID)
		case !filepath.IsAbs(db.Path) || strings.IndexByte(db.Path, 0) >= 0:
			err = fmt.Errorf("%w: Static: database %q: the path %q is not absolute; write it from the root", ErrInvalidOption, db.ID, db.Path)
		case pattern.IsSidecar(filepath.Base(db.Path)):
			err = fmt.Errorf("%w: Static: database %q: the path %q is a file that belongs to a database; write the path of the database itself", ErrInvalidOption, db.ID, db.Path)
		}
		s.err = errors.Join(s.err, err)
		byID[db.ID] = true
		db.Path = filepath.Clean(db.Path)
		db.Vars = slices.Clone(db.Vars)
		s.dbs = append(s.dbs, db)
	}
	return s
}

type static struct {
	dbs []Database
	err error
}

func (s *static) validate() error { return s.err }

func (s *static) Discover(ctx context.Context) iter.Seq2[Database, error] {
	return func(yield func(Database, error) bool) {
		if s.err != nil {
			yield(Database{}, s.err)
			return
		}
		seen := make(map[fsid.ID]struct{}, len(s.dbs))
		for _, db := range s.dbs {
			if err := ctx.Err(); err != nil {
				yield(Database{}, err)
				return
			}
			file, info, err := lookUp(db.Path)
			if err != nil {
				if !yield(Database{}, unlistedAt(err, db.Path)) {
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
			if db.ModTime.IsZero() {
				if db.ModTime, err = laterModTime(info, file+"-wal"); err != nil {
					if !yield(Database{}, unlistedAt(err, db.Path, file)) {
						return
					}
					continue
				}
			}
			if db.RelPath == "" {
				// {{path}} stays what the caller wrote, symlink or not.
				db.RelPath = strings.TrimPrefix(db.Path, "/")
			}
			db.Path = file
			db.Vars = slices.Clone(db.Vars)
			if !yield(db, nil) {
				return
			}
		}
	}
}

func (s *static) CheckVars(names []string) error {
	for _, db := range s.dbs {
		have := varNames(db.Vars)
		if missing := pattern.Missing(names, have); len(missing) > 0 {
			return fmt.Errorf("%w: Static: database %q has no %s; there are %s",
				ErrInvalidOption, db.ID, strings.Join(missing, ", "), pattern.List(have))
		}
	}
	return nil
}

func (s *static) Root() string {
	if len(s.dbs) == 0 {
		return ""
	}
	return filepath.Dir(s.dbs[0].Path)
}

func (s *static) Locate(id ID) (Database, bool) {
	for _, db := range s.dbs {
		if db.ID == id {
			db.Vars = slices.Clone(db.Vars)
			return db, true
		}
	}
	return Database{}, false
}

// lookUp finds the real file of a path. No file, or one that is no database, is
// no error; a missing directory or a symlink that leads nowhere is.
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
