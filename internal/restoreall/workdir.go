package restoreall

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// WorkName is the directory of a run below its target. It holds the unfinished files and
// the plan, so that what a crash left is not confused with other files.
// No tenant's path begins with a dot.
const WorkName = ".multidb-restore-all"

// Plan is what must not change when a run is continued: one directory must not
// hold databases of two moments or of two buckets.
type Plan struct {
	Source    string `json:"source"`
	Timestamp string `json:"timestamp,omitempty"` // RFC 3339; empty: the newest
	Ago       string `json:"ago,omitempty"`       // how it was given, if as how long ago
}

// workDir is a work directory, which one process at a time has.
type workDir struct {
	path string
	lock *os.File
	plan Plan // of the run that began
}

// openWorkDir takes the work directory of dir, and clears what a crash left.
func openWorkDir(dir string, p Plan) (*workDir, error) {
	w := &workDir{path: filepath.Join(dir, WorkName)}
	for {
		if err := os.MkdirAll(w.path, 0o700); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(filepath.Join(w.path, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another run has just ended and removed the directory
		} else if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("another restore-all is at work in %s", dir), f.Close())
		} else if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if same, err := isAt(f); err != nil {
			return nil, errors.Join(err, f.Close())
		} else if same {
			w.lock = f
			break
		}
		_ = f.Close() // of a directory that is gone
	}
	if err := w.begin(p); err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	return w, nil
}

// isAt reports whether the file is still the one of its name.
func isAt(f *os.File) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, there), err
}

// goOn is the plan of the run that is begun or continued with p in a work directory.
func (p Plan) goOn(work string) (Plan, error) {
	data, err := os.ReadFile(filepath.Join(work, "plan.json"))
	var before Plan
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return p, err
	case json.Unmarshal(data, &before) != nil:
		// Cut short by a crash before anything was restored.
	case p.Ago != "" && p.Ago == before.Ago && p.Source == before.Source:
		return before, nil // the same command means the same moment as the first time
	case before != p:
		return p, fmt.Errorf("an unfinished restore-all here was of %s; this one is of %s: finish it, or remove %s",
			before, p, work)
	}
	return p, nil
}

func (w *workDir) begin(p Plan) error {
	p, err := p.goOn(w.path)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(w.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lock" || e.Name() == "plan.json" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(w.path, e.Name())); err != nil {
			return err
		}
	}
	w.plan = p
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.path, "plan.json"), data, 0o600)
}

func (p Plan) String() string {
	if p.Timestamp == "" {
		return p.Source + ", the newest states"
	}
	return p.Source + " before " + p.Timestamp
}

// close releases the directory. With done it also removes it, as there is nothing left
// to continue.
func (w *workDir) close(done bool) error {
	var err error
	if done {
		err = os.RemoveAll(w.path)
	}
	return errors.Join(err, w.lock.Close())
}
