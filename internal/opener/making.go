package opener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/localfile"
)

// making is what one opening makes of a database that is new. If the opening fails, as by the
// open hook, it goes again: its maker was told that there is no such database. A crash leaves
// the file, with what the hook has committed; then the database exists, and the hook is called
// by its next opening.
type making struct {
	begun bool
	file  fsid.ID  // the new file; zero: there is none
	dirs  []string // that did not exist before, the innermost first
}

// beginMaking notes which directories there are not yet. One that another making in progress
// has made counts as new for this one too, so that the last of them that fails removes it.
func (o *Opener) beginMaking(path string, m *making) {
	o.dirs.Lock()
	defer o.dirs.Unlock()
	var chain []string
	missing := 0 // so many of the chain
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			missing++
		}
		chain = append(chain, dir)
	}
	for i, dir := range chain {
		if i >= missing && o.newDirs[dir] == 0 {
			return
		}
		o.newDirs[dir]++
		m.dirs = append(m.dirs, dir)
	}
}

// endDirs ends what beginMaking has begun.
func (o *Opener) endDirs(m *making, opened bool) {
	o.dirs.Lock()
	defer o.dirs.Unlock()
	for _, dir := range m.dirs {
		if o.newDirs[dir]--; o.newDirs[dir] == 0 {
			delete(o.newDirs, dir)
		}
	}
	for _, dir := range m.dirs {
		if !opened {
			_ = os.Remove(dir) // it stays where somebody has something in it
		}
	}
}

// makeTries bounds how often a directory is made that another opening, which has failed,
// removes each time.
const makeTries = 16

// makeFile creates an empty file, and its directories, unless it exists.
func (o *Opener) makeFile(ctx context.Context, e *fleet.Entry, m *making) error {
	m.begun = true
	if busy := o.fleet.BeginNew(e); busy != nil {
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f, err := createFile(e.Path())
	for try := 1; errors.Is(err, fs.ErrNotExist) && try < makeTries; try++ {
		f, err = createFile(e.Path())
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil // somebody has put it there
	} else if err == nil {
		var fi fs.FileInfo
		if fi, err = f.Stat(); err == nil {
			m.file = fsid.Of(fi)
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return err
	}
	failpoint.Hit("make.file.made")
	o.fleet.NoteFile(e, fsid.OrZero(e.Path()))
	return nil
}

// createFile creates an empty file. Only one that is new is opened here, so that no lock can
// be lost.
func createFile(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
}

// undoTime bounds how long a new file is tried to be deleted.
const undoTime = 10 * time.Second

// endMaking ends the making of a database. If it was not opened, nothing that was made stays.
func (o *Opener) endMaking(e *fleet.Entry, m *making, opened bool) (err error) {
	if !opened && !m.file.IsZero() {
		ctx, cancel := context.WithTimeout(context.Background(), undoTime)
		defer cancel()
		if err = localfile.DeleteNew(ctx, e.Path(), m.file); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		failpoint.Hit("make.file.undone")
	}
	if err != nil {
		err = fmt.Errorf("the new file stays: %w", err)
	}
	o.endDirs(m, opened)
	if m.begun {
		if o.fleet.EndNew(e, opened || m.file.IsZero() || err != nil) {
			o.conductor.Removed(e)
		}
	}
	return err
}
