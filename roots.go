package multidb

import (
	"encoding/json"
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
)

// root is a directory below which a discoverer looks. What it was is remembered
// in the state directory: at a Start nothing else tells a volume that was emptied
// from one that is not mounted.
type root struct {
	path string

	// Guarded by Manager.mu.
	id    fsid.ID   // what it was when databases were last found in it; zero: unknown
	known bool      // id was seen in this process, not only remembered
	away  bool      // another directory stands at its path
	since time.Time // when it was first seen away
}

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

// rootsRecord is its content.
type rootsRecord struct {
	Format int                   `json:"format"`
	Roots  map[string]rootRecord `json:"roots"`
}

type rootRecord struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

const rootsFormat = 1

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
	var found []*root
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
	m.rootList = found // whole: Healthy and ScanErr may be called at any time
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

// within reports whether a path is dir or lies below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// rootOf is the innermost root of a path; nil if there is none.
func (m *Manager) rootOf(path string) *root {
	var best *root
	for _, r := range m.rootList {
		if within(path, r.path) && (best == nil || len(r.path) > len(best.path)) {
			best = r
		}
	}
	return best
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
	var rec rootsRecord
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	if err == nil && rec.Format != rootsFormat {
		err = fmt.Errorf("format %d; this version reads %d", rec.Format, rootsFormat)
	}
	if err != nil {
		m.emit(Event{Type: EventState, Path: path, Err: fmt.Errorf("what the discovery roots were is not known: %w", err)})
		return
	}
	m.mu.Lock()
	defer m.unlock()
	for _, r := range m.rootList {
		if was, ok := rec.Roots[r.path]; ok {
			r.id = fsid.ID{Dev: was.Dev, Ino: was.Ino}
		}
	}
}

// saveRoots replaces the file of the roots, all at once.
func (m *Manager) saveRoots() error {
	rec := rootsRecord{Format: rootsFormat, Roots: map[string]rootRecord{}}
	m.mu.Lock()
	for _, r := range m.rootList {
		if !r.id.IsZero() {
			rec.Roots[r.path] = rootRecord{r.id.Dev, r.id.Ino}
		}
	}
	m.unlock()
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	return durable.ReplaceFile(filepath.Join(m.dir, rootsFile), append(b, '\n'))
}

// judgeRoots decides, after the listings and before anything is forgotten for
// them, whether the roots are what they were.
func (m *Manager) judgeRoots(seq uint32) {
	changed := false
	for _, r := range m.rootList {
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
// speaks against it: no other one was known, it is the same file system in the
// life of one process, or the databases that were known are there.
func (m *Manager) judgeRoot(r *root, seq uint32) bool {
	now := fsid.OrZero(r.path)
	if now.IsZero() {
		return false // the listing has failed, and removes nothing
	}
	m.mu.Lock()
	was, known := r.id, r.known
	if now == was {
		r.away, r.known = false, true
	}
	m.unlock()
	if now == was {
		return false
	}
	same := was.IsZero() || known && now.Dev == was.Dev || m.inhabited(r, seq)
	m.mu.Lock()
	defer m.unlock()
	if same {
		r.id, r.known, r.away = now, true, false
	} else if !r.away {
		r.away, r.since = true, m.cfg.now()
		m.events = append(m.events, Event{Type: EventScanFailed, Path: r.path, Err: errRootAway(r.path)})
	}
	return same
}

// inhabited reports whether at least half of the databases that were known in a
// root are in it: then the volume is the old one under another number, or a copy.
// One file alone may be a leftover below a mount point.
func (m *Manager) inhabited(r *root, seq uint32) bool {
	m.mu.Lock()
	var here []string
	all := 0
	for e := range m.entries.All() {
		if m.rootOf(e.db.Path) == r && !e.file.IsZero() {
			if e.recall == recallNone && !r.known {
				continue // it was never seen before
			}
			all++
			if e.seen == seq {
				here = append(here, e.db.Path)
			}
		}
	}
	m.unlock()
	n := 0
	for _, path := range here {
		if !fsid.OrZero(path).IsZero() {
			n++
		}
	}
	return 2*n >= all
}

func errRootAway(path string) error {
	return fmt.Errorf("%w: another directory stands at %s, with nothing of what was there: mount the volume, or start once with WithEmptiedVolumes (allow-emptied-volumes in a configuration) if it was emptied or replaced", ErrRootMissing, path)
}

// rootStands returns ErrRootMissing where nothing may be made at a path: what is
// made below a mount point vanishes when the volume comes.
func (m *Manager) rootStands(path string) error {
	r := m.rootOf(path)
	if r == nil {
		return nil
	}
	id, info, err := fsid.Look(r.path)
	if err != nil || !info.IsDir() {
		return standing(r.path)
	}
	m.mu.Lock()
	defer m.unlock()
	if r.known && id.Dev != r.id.Dev || !r.known && !r.id.IsZero() && id != r.id {
		return errRootAway(r.path)
	}
	return nil
}

// volumeStands returns ErrMissing for a database that was on a volume which is not
// there, and ErrRootMissing for a new one that would be made in its place.
func (m *Manager) volumeStands(e *entry) error {
	m.mu.Lock()
	known := e.volume != 0
	m.mu.Unlock()
	if known && m.unmounted(e) {
		return errUnmounted(e.db.Path)
	}
	return m.rootStands(e.db.Path)
}

// rootAway reports whether the root of a path is another one than it was.
func (m *Manager) rootAway(path string) bool {
	r := m.rootOf(path)
	if r == nil {
		return false
	}
	m.mu.Lock()
	defer m.unlock()
	return r.away
}

// What an entry owes to the catalog: nothing, its volume, or that and it was found.
const (
	recallNone = iota
	recallAsked
	recallFound
)

// recallVolumeLocked takes the volume of a database from the catalog, where it
// has a number that another boot may have given to another volume.
func (m *Manager) recallVolumeLocked(e *entry, dev uint64) {
	if dev == 0 || m.cfg.emptiedVolumes {
		return
	}
	e.volume = m.volumes.recallLocked(dev)
	if e.volume != 0 {
		e.recall = recallAsked
	}
}

// confirmVolume notes that a database that the catalog had is there. If it is the
// same file, the volume is the old one, whatever its number is now.
func (m *Manager) confirmVolume(e *entry, file fsid.ID) {
	if file.IsZero() {
		file = fsid.OrZero(e.db.Path)
	}
	id, err := fsid.At(filepath.Dir(e.db.Path))
	if err != nil || file.IsZero() {
		return // the next scan tries again
	}
	m.mu.Lock()
	defer m.unlock()
	if e.recall != recallAsked {
		return
	}
	e.recall, e.away = recallFound, false
	if v := &m.volumes; file.Ino == e.file.Ino && v.recalled[e.volume-1] {
		v.devs[e.volume-1], v.recalled[e.volume-1] = id.Dev, false
	} else if v.recalled[e.volume-1] || v.devs[e.volume-1] != id.Dev {
		e.volume = v.numberLocked(id.Dev)
	}
}

// warnIfEmpty tells that nothing was found, which is more often a wrong pattern
// or volume than a fleet without databases.
func (m *Manager) warnIfEmpty() {
	m.mu.Lock()
	n, failed := m.entries.Len(), m.scanErrLocked() != nil
	m.unlock()
	if n > 0 || failed {
		return
	}
	var paths []string
	for _, r := range m.rootList {
		paths = append(paths, r.path)
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
	for _, r := range m.rootList {
		if r.away {
			errs = append(errs, errRootAway(r.path))
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
	for _, r := range m.rootList {
		if r.away && (since.IsZero() || r.since.Before(since)) {
			since = r.since
		}
	}
	return since
}
