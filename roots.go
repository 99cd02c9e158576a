package multidb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
)

// rooted is an optional interface of a Discoverer with several roots.
type rooted interface {
	roots() []string
}

func (g *GlobDiscoverer) roots() []string {
	var all []string
	for _, p := range g.patterns {
		all = append(all, p.Root())
	}
	return all
}

// rootsFile is where the identities of the roots are, in the state directory.
const rootsFile = "roots.json"

// WithMissingRoots sets whether Start accepts a discovery root that does not
// exist, such as a volume that is mounted later: its databases are found when it
// is there, until then Healthy is false, and no database is made or restored in
// it. The state directory must not lie in a root that is missing; see
// WithStateDir. Default false: Start fails with ErrRootMissing.
func WithMissingRoots(allow bool) Option {
	return func(c *config) error { c.missingRoots = allow; return nil }
}

// WithEmptiedVolumes sets what Start makes of a volume that is another one than
// the state directory remembers, or of which nothing is left. With true its
// databases were deleted or the disk replaced on purpose: they are forgotten, and
// may be made anew or restored. Use it for one start, after a look at the mounts.
// Default false: the volume counts as not mounted. Its databases fail with
// ErrMissing, none is forgotten, and none is made in its place.
func WithEmptiedVolumes(allow bool) Option {
	return func(c *config) error { c.emptiedVolumes = allow; return nil }
}

// findRoots looks at the roots before anything is made: the default state
// directory lies in the first, and would make one that is missing.
func (m *Manager) findRoots(stateDir string) error {
	var missing []error
	var found registry.Roots
	for _, d := range m.cfg.discoverers {
		var paths []string
		switch d := d.(type) {
		case rooted:
			paths = d.roots()
		case DiscovererRoot:
			paths = []string{d.Root()}
		}
		for _, path := range paths {
			if path == "" {
				continue
			}
			path, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(found, func(r *registry.Root) bool { return r.Path == path }) {
				continue
			}
			found = append(found, &registry.Root{Path: path})
			if err = standing(path); err == nil {
				continue
			}
			switch {
			case registry.Within(stateDir, path):
				err = fmt.Errorf("%w; the state directory %s lies in it: mount the volume, or create the directory if this is the first start, or set another state directory (WithStateDir; state-dir in a configuration)", err, stateDir)
			case m.cfg.missingRoots:
				continue
			default:
				err = fmt.Errorf("%w; mount the volume, or create the directory if this is the first start, or allow it to be missing (WithMissingRoots; allow-missing-roots in a configuration)", err)
			}
			missing = append(missing, err)
		}
	}
	m.mu.Lock()
	defer m.unlock()
	m.roots = found // whole: Healthy and ScanErr may be called at any time
	return errors.Join(missing...)
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

// loadRoots reads what the roots were. A file that cannot be read is told and
// counts as none: the devices that the catalog has of each database remain.
func (m *Manager) loadRoots() {
	if m.cfg.emptiedVolumes {
		return
	}
	path := filepath.Join(m.dir, rootsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	m.mu.Lock()
	if err == nil {
		err = m.roots.Recall(b)
	}
	m.unlock()
	if err != nil {
		m.emit(Event{Type: EventState, Path: path, Err: fmt.Errorf("what the discovery roots were is not known: %w", err)})
	}
}

// saveRoots replaces the file of the roots, all at once.
func (m *Manager) saveRoots() error {
	m.mu.Lock()
	b, err := m.roots.Record()
	m.unlock()
	if err != nil {
		return err
	}
	return durable.ReplaceFile(filepath.Join(m.dir, rootsFile), b)
}

// judgeRoots decides, after the listings and before anything is forgotten for
// them, whether the roots are what they were.
func (m *Manager) judgeRoots(seq uint32) {
	changed := false
	for _, r := range m.roots {
		if m.judgeRoot(r, seq) {
			changed = true
		}
	}
	if !changed {
		return
	}
	if err := m.saveRoots(); err != nil {
		m.emit(Event{Type: EventState, Path: m.dir, Err: fmt.Errorf("note the discovery roots: %w", err)})
	}
}

// judgeRoot reports whether the root has a new identity. It has where nothing
// speaks against it: it may be the one that was known, or the databases that were known
// in it are there.
func (m *Manager) judgeRoot(r *registry.Root, seq uint32) bool {
	now := fsid.OrZero(r.Path)
	if now.IsZero() {
		return false // the listing has failed, and removes nothing
	}
	m.mu.Lock()
	same, may := r.See(now)
	m.unlock()
	if same {
		return false
	}
	may = may || m.inhabited(r, seq)
	m.mu.Lock()
	defer m.unlock()
	if may {
		r.Accept(now)
	} else if r.Reject(m.cfg.now()) {
		m.events = append(m.events, Event{Type: EventScanFailed, Path: r.Path, Err: errRootAway(r.Path)})
	}
	return may
}

// inhabited reports whether at least half of the databases that were known in a
// root are in it.
func (m *Manager) inhabited(r *registry.Root, seq uint32) bool {
	m.mu.Lock()
	here, known := m.reg.Inhabitants(m.roots, r, seq)
	m.unlock()
	n := 0
	for _, path := range here {
		if !fsid.OrZero(path).IsZero() {
			n++
		}
	}
	return 2*n >= known
}

func errRootAway(path string) error {
	return fmt.Errorf("%w: another directory stands at %s, with nothing of what was there: mount the volume, or start once with WithEmptiedVolumes (allow-emptied-volumes in a configuration) if it was emptied or replaced", ErrRootMissing, path)
}

// rootStands returns ErrRootMissing where nothing may be made at a path: what is
// made below a mount point vanishes when the volume comes.
func (m *Manager) rootStands(path string) error {
	r := m.roots.Of(path)
	if r == nil {
		return nil
	}
	id, info, err := fsid.Look(r.Path)
	if err != nil || !info.IsDir() {
		return standing(r.Path)
	}
	m.mu.Lock()
	defer m.unlock()
	if !r.Stands(id) {
		return errRootAway(r.Path)
	}
	return nil
}

// volumeStands returns ErrMissing for a database that was on a volume which is not
// there, and ErrRootMissing for a new one that would be made in its place.
func (m *Manager) volumeStands(e *entry) error {
	m.mu.Lock()
	_, known := m.reg.Volume(e)
	m.mu.Unlock()
	if known && m.unmounted(e) {
		return errUnmounted(e.Path)
	}
	return m.rootStands(e.Path)
}

// rootAway reports whether the root of a path is another one than it was.
func (m *Manager) rootAway(path string) bool {
	r := m.roots.Of(path)
	if r == nil {
		return false
	}
	m.mu.Lock()
	defer m.unlock()
	_, away := r.Away()
	return away
}

// recallVolumeLocked takes the volume of a database from the catalog, where it
// has a number that another boot may have given to another volume.
func (m *Manager) recallVolumeLocked(e *entry, dev uint64) {
	if dev == 0 || m.cfg.emptiedVolumes {
		return
	}
	m.reg.RecallVolume(e, dev)
}

// confirmVolume notes that a database that the catalog had is there. If it is the
// same file, the volume is the old one, whatever its number is now.
func (m *Manager) confirmVolume(e *entry, file fsid.ID) {
	if file.IsZero() {
		file = fsid.OrZero(e.Path)
	}
	id, err := fsid.At(filepath.Dir(e.Path))
	if err != nil || file.IsZero() {
		return // the next scan tries again
	}
	m.mu.Lock()
	defer m.unlock()
	m.reg.ConfirmVolume(e, file, id.Dev)
}

// warnIfEmpty tells that nothing was found, which is more often a wrong pattern
// or volume than a fleet without databases.
func (m *Manager) warnIfEmpty() {
	m.mu.Lock()
	n, failed := m.reg.Len(), m.scanErrLocked() != nil
	m.unlock()
	if n > 0 || failed {
		return
	}
	var paths []string
	for _, r := range m.roots {
		paths = append(paths, r.Path)
	}
	m.emit(Event{Type: EventEmpty, Path: strings.Join(paths, ", "),
		Err: errors.New("no database was found; are the patterns right, and the volumes mounted?")})
}

// scanTrouble is why the last listing of a discoverer was not whole.
type scanTrouble struct {
	err     error
	since   time.Time
	partial bool // it says what it could not list; the rest is known
}

// unwell reports whether the trouble leaves it open which databases there are.
func (t scanTrouble) unwell() bool { return t.err != nil && !t.partial }

// ScanErr returns why the last listing of the databases was not whole, nil if it
// was: of every discoverer that failed, joined, and ErrRootMissing where another
// volume stands in the place of one that was known. What was not listed is not
// shipped, and so Healthy is false. A listing that says which parts it could not
// read (UnlistedError) is told by EventScanFailed alone. Safe for concurrent use.
func (m *Manager) ScanErr() error {
	m.mu.Lock()
	defer m.unlock()
	return m.scanErrLocked()
}

func (m *Manager) scanErrLocked() error { return errors.Join(m.scanErrsLocked()...) }

func (m *Manager) scanErrsLocked() (errs []error) {
	for i := range m.cfg.discoverers {
		if t := m.scanErr[i]; t.unwell() {
			errs = append(errs, t.err)
		}
	}
	for _, r := range m.roots {
		if _, away := r.Away(); away {
			errs = append(errs, errRootAway(r.Path))
		}
	}
	return errs
}

// scanErrSinceLocked is since when some listing has not been whole.
func (m *Manager) scanErrSinceLocked() time.Time {
	var since time.Time
	for _, t := range m.scanErr {
		if t.unwell() && (since.IsZero() || t.since.Before(since)) {
			since = t.since
		}
	}
	for _, r := range m.roots {
		if at, away := r.Away(); away && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	return since
}
