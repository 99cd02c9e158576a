// Package volume says whether what is at a path is on the file system that it was
// on: an unmounted volume must not look like databases that were deleted, and nothing
// may be made below its mount point. It looks at directories, never into databases. The
// Fleet knows on which device each database is; the roots are known here. Safe for
// concurrent use.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
)

// ErrRootMissing: a discovery root does not exist, or is another one than it was.
var ErrRootMissing = errors.New("discovery root is not there")

// rootsFile is where the identities of the roots are, in the state directory.
const rootsFile = "roots.json"

// Config says what is allowed of the volumes.
type Config struct {
	Fleet        *fleet.Fleet
	MissingRoots bool // a root may be missing when Find looks
	Emptied      bool // what the volumes were is forgotten
	Now          func() time.Time
}

// Volumes are the file systems on which the databases stand, and the roots of the
// discoverers on them.
type Volumes struct {
	cfg   Config
	fleet *fleet.Fleet
	file  string // of the roots; set by Load

	mu    sync.Mutex // guards what follows; nothing else is called under it
	roots roots      // the list is set by Find, and does not change after that
	dir   string     // the directory that was looked at last, and its device
	dev   uint64
}

// New returns Volumes without roots.
func New(cfg Config) *Volumes { return &Volumes{cfg: cfg, fleet: cfg.Fleet} }

// Emptied reports whether what the volumes were is to be forgotten.
func (v *Volumes) Emptied() bool { return v.cfg.Emptied }

// Find looks at the roots of the discoverers before anything is made: the default state
// directory lies in the first, and would make one that is missing.
func (v *Volumes) Find(paths []string, stateDir string) error {
	var missing []error
	var found roots
	for _, path := range paths {
		if path == "" {
			continue
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(found, func(r *root) bool { return r.path == path }) {
			continue
		}
		found = append(found, &root{path: path})
		if err = standing(path); err == nil {
			continue
		}
		switch {
		case within(stateDir, path):
			err = fmt.Errorf("%w; the state directory %s lies in it: mount the volume, or create the directory if this is the first start, or set another state directory (WithStateDir; state-dir in a configuration)", err, stateDir)
		case v.cfg.MissingRoots:
			continue
		default:
			err = fmt.Errorf("%w; mount the volume, or create the directory if this is the first start, or allow it to be missing (WithMissingRoots; allow-missing-roots in a configuration)", err)
		}
		missing = append(missing, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.roots = found // whole: Away may be called at any time
	return errors.Join(missing...)
}

// String is the paths of the roots.
func (v *Volumes) String() string {
	var paths []string
	for _, r := range v.all() {
		paths = append(paths, r.path)
	}
	return strings.Join(paths, ", ")
}

func (v *Volumes) all() roots {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.roots
}

// standing returns ErrRootMissing unless there is a directory.
func standing(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRootMissing, err)
	}
	return nil
}

// Load reads what the roots were, in the state directory. A file that cannot be read is
// reported and counts as none: the devices that the catalog has of each database remain.
func (v *Volumes) Load(stateDir string) {
	v.file = filepath.Join(stateDir, rootsFile)
	if v.cfg.Emptied {
		return
	}
	b, err := os.ReadFile(v.file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		v.mu.Lock()
		err = v.roots.recall(b)
		v.mu.Unlock()
	}
	if err != nil {
		v.fleet.Emit(fleet.Event{Type: fleet.EventState, Path: v.file, Err: fmt.Errorf("what the discovery roots were is not known: %w", err)})
	}
}

// save replaces the file of the roots, all at once.
func (v *Volumes) save() error {
	v.mu.Lock()
	b, err := v.roots.record()
	v.mu.Unlock()
	if err != nil {
		return err
	}
	return durable.ReplaceFile(v.file, b)
}

// Judge decides, after the listings of a scan and before anything is forgotten for them,
// whether the roots are what they were.
func (v *Volumes) Judge(scan uint32) {
	changed := false
	for _, r := range v.all() {
		if v.judge(r, scan) {
			changed = true
		}
	}
	if !changed {
		return
	}
	if err := v.save(); err != nil {
		v.fleet.Emit(fleet.Event{Type: fleet.EventState, Path: filepath.Dir(v.file), Err: fmt.Errorf("note the discovery roots: %w", err)})
	}
}

// judge reports whether the root has a new identity. It has where nothing speaks against
// it: it may be the one that was known, or at least half of the databases that were
// known in it are there: then the volume is the old one under another number, or a copy.
// One file alone may be a leftover below a mount point.
func (v *Volumes) judge(r *root, scan uint32) bool {
	now := fsid.OrZero(r.path)
	if now.IsZero() {
		return false // the listing has failed, and removes nothing
	}
	v.mu.Lock()
	same, may := r.see(now)
	all, known := v.roots, r.known
	v.mu.Unlock()
	if same {
		return false
	}
	if !may {
		here, expected := v.fleet.Inhabitants(func(path string) bool { return all.of(path) == r }, !known, scan)
		n := 0
		for _, path := range here {
			if !fsid.OrZero(path).IsZero() {
				n++
			}
		}
		may = 2*n >= expected
	}
	v.mu.Lock()
	news := false
	if may {
		r.accept(now)
	} else {
		news = r.reject(v.cfg.Now())
	}
	v.mu.Unlock()
	if news {
		v.fleet.Emit(fleet.Event{Type: fleet.EventScanFailed, Path: r.path, Err: errAway(r.path)})
	}
	return may
}

// Away returns the error of each root at whose path another directory is, and since
// when the first of them does.
func (v *Volumes) Away() (errs []error, since time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.roots {
		if !r.away {
			continue
		}
		errs = append(errs, errAway(r.path))
		if since.IsZero() || r.since.Before(since) {
			since = r.since
		}
	}
	return errs, since
}

func errAway(path string) error {
	return fmt.Errorf("%w: another directory stands at %s, with nothing of what was there: mount the volume, or start once with WithEmptiedVolumes (allow-emptied-volumes in a configuration) if it was emptied or replaced", ErrRootMissing, path)
}

// Stands returns ErrRootMissing where nothing may be made at a path, or be said to be missing:
// what is made below a mount point vanishes when the volume comes.
func (v *Volumes) Stands(path string) error {
	r := v.all().of(path)
	if r == nil {
		return nil
	}
	id, info, err := fsid.Look(r.path)
	if err != nil || !info.IsDir() {
		return standing(r.path)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !r.stands(id) {
		return errAway(r.path)
	}
	return nil
}

// rootAway reports whether the root of a path is another one than it was.
func (v *Volumes) rootAway(path string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.roots.of(path)
	return r != nil && r.away
}

// MayMake returns ErrMissing for a database that was on a volume which is not there, and
// ErrRootMissing for a new one that would be made in its place.
func (v *Volumes) MayMake(e *fleet.Entry) error {
	if _, known := v.fleet.Volume(e); known && v.Unmounted(e) {
		return ErrUnmounted(e.Path())
	}
	return v.Stands(e.Path())
}

// Unmounted reports whether what is at a database's path is not the file system that
// it was on: then its file is not gone, but out of sight.
func (v *Volumes) Unmounted(e *fleet.Entry) bool {
	dev, known := v.fleet.Volume(e)
	if !known {
		return v.rootAway(e.Path())
	}
	now, ok := fsid.DeviceOf(filepath.Dir(e.Path()))
	return ok && now != dev || v.rootAway(e.Path())
}

// ErrUnmounted is ErrMissing of a database that is on no file system that is here.
func ErrUnmounted(path string) error {
	return fmt.Errorf("%w: %s: its file system is not mounted; mount it, or start once with WithEmptiedVolumes if the databases were deleted", ship.ErrMissing, path)
}

// Explain says that the volume is not mounted where that is why a file is missing.
func (v *Volumes) Explain(e *fleet.Entry, err error) error {
	if errors.Is(err, ship.ErrMissing) && v.Unmounted(e) {
		return ErrUnmounted(e.Path())
	}
	return err
}

// Note remembers on which file system a database is. It asks once for many databases
// of one directory in a row.
func (v *Volumes) Note(e *fleet.Entry) {
	if !v.fleet.LacksVolume(e) {
		return
	}
	dir := filepath.Dir(e.Path())
	v.mu.Lock()
	dev, ok := v.dev, v.dir == dir
	v.mu.Unlock()
	if !ok {
		id, _, err := fsid.Look(dir)
		if err != nil {
			return // the next scan tries again
		}
		dev = id.Dev
		v.mu.Lock()
		v.dir, v.dev = dir, dev
		v.mu.Unlock()
	}
	v.fleet.SetVolume(e, dev)
}

// Confirm notes that a database that the catalog had is there. If it is the same file,
// the volume is the old one, whatever its number is now. file: as it was listed; zero if
// it was not looked at.
func (v *Volumes) Confirm(e *fleet.Entry, file fsid.ID) {
	if file.IsZero() {
		file = fsid.OrZero(e.Path())
	}
	id, err := fsid.At(filepath.Dir(e.Path()))
	if err != nil || file.IsZero() {
		return // the next scan tries again
	}
	v.fleet.ConfirmVolume(e, file, id.Dev)
}
