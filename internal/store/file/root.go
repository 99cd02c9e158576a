package file

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/internal/durable"
)

const (
	// markerName is the file in a replica's directory that says which replica
	// it is. A volume that is not mounted has none, and another has another.
	markerName = ".multidb-replica"
	// maxMarker bounds it, in bytes.
	maxMarker = 4 << 10
)

// identityMarker is what the marker holds.
type identityMarker struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
}

// directory is the directory of a Store, and what is known of it. Every
// call enters it anew: what it finds in the directory it entered is the truth,
// whatever is mounted over its name meanwhile.
type directory struct {
	dir string

	mu       sync.Mutex
	known    string      // the identity; "" until the first use
	marker   os.FileInfo // of the marker when it was last read, with known in it
	blank    *blankDir   // the first time it was found without a marker; nil: not yet
	made     bool        // the directory was made by this process
	memories []Memory
}

// blankDir is a directory without a marker, which was read as an empty replica.
type blankDir struct {
	at   time.Time
	info os.FileInfo // nil: there was no directory
}

// entered is the directory as one call sees it. Close it.
type entered struct {
	dir  string
	root *os.Root // nil: there is none, and as far as is known there never was
}

func (e *entered) close() {
	if e.root != nil {
		_ = e.root.Close() // nothing was written through it
	}
}

// identify adds a memory. What it knows takes precedence over what was found so far.
func (r *directory) identify(memory Memory) error {
	id, err := memory.Recall(r.dir)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.memories = append(r.memories, memory)
	if id != "" && id != r.known {
		r.known, r.marker = id, nil
	}
	id = r.known
	r.mu.Unlock()
	return r.remember(id)
}

// remember stores the identity in every memory, unless there is none yet.
func (r *directory) remember(id string) error {
	r.mu.Lock()
	memories := r.memories
	r.mu.Unlock()
	if id == "" {
		return nil
	}
	var open []Memory
	for _, m := range memories {
		if err := m.Remember(r.dir, id); errors.Is(err, ErrMemoryClosed) {
			continue
		} else if err != nil {
			return err
		}
		open = append(open, m)
	}
	if len(open) < len(memories) {
		r.mu.Lock()
		r.memories = append(open, r.memories[len(memories):]...) // others may have come
		r.mu.Unlock()
	}
	return nil
}

// enter opens the directory and makes sure that it is the replica. With write it
// makes the directory and its marker, but only at the first use.
func (r *directory) enter(write bool) (*entered, error) {
	e, err := r.look(write)
	if errors.Is(err, ErrAway) {
		// Another process may have made it after we looked for the directory and
		// before we looked for signs of its use: then it is there now.
		return r.look(write)
	}
	return e, err
}

func (r *directory) look(write bool) (*entered, error) {
	began := time.Now()
	root, err := os.OpenRoot(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.mayBegin("it is not there", nil); err != nil {
			return nil, err
		}
		if !write {
			r.wasBlank(began, nil)
			return &entered{dir: r.dir}, nil
		}
		if err := r.make(); err != nil {
			return nil, err
		}
		root, err = os.OpenRoot(r.dir)
	}
	if err != nil {
		return nil, noSuchFile(err)
	}
	e := &entered{dir: r.dir, root: root}
	if err := r.check(root, write, began); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// make makes the directory.
func (r *directory) make() error {
	if err := makeDirs(r.dir, r.dir); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made = true
	return nil
}

// noSuchFile keeps an error about the directory from being taken for the absence of
// a file in it.
func noSuchFile(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %v", ErrAway, err)
	}
	return err
}

// check compares the marker of the directory with what is known.
func (r *directory) check(root *os.Root, write bool, began time.Time) error {
	info, err := root.Stat(markerName)
	if err == nil {
		r.mu.Lock()
		same := r.marker != nil && os.SameFile(r.marker, info) && r.marker.ModTime().Equal(info.ModTime()) && r.marker.Size() == info.Size()
		r.mu.Unlock()
		if same {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var marker identityMarker
	if err == nil {
		if marker, err = readMarker(root); err != nil {
			return noSuchFile(err)
		}
		return r.adopt(root, marker, info)
	}
	dir, err := root.Stat(".")
	if err != nil {
		return noSuchFile(err)
	}
	if err := r.mayBegin("it has no "+markerName, dir); err != nil {
		return err
	}
	if !write {
		r.wasBlank(began, dir)
		return nil
	}
	if marker, err = makeMarker(root, r.dir); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Join(r.dir, markerName), noSuchFile(err))
	}
	r.mu.Lock()
	made := r.made
	r.mu.Unlock()
	if made {
		if err := r.leaveTrace(marker); err != nil {
			return err
		}
	}
	if info, err = root.Stat(markerName); err != nil {
		return noSuchFile(err)
	}
	return r.adopt(root, marker, info)
}

// mayBegin returns nil if this may be the first use of a directory that is not
// there (dir is nil), or has no marker.
func (r *directory) mayBegin(what string, dir os.FileInfo) error {
	r.mu.Lock()
	known, blank := r.known, r.blank
	r.mu.Unlock()
	if known == "" && blank != nil && blank.info != nil && (dir == nil || !os.SameFile(blank.info, dir)) {
		return fmt.Errorf("%w: %s: it is not the directory that was read before: mount its volume, or start again if this one is right", ErrAway, r.dir)
	}
	if known == "" {
		trace, err := readMarkerFile(os.Open(r.trace()))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		return r.away(what, trace.ID)
	}
	return r.away(what, known)
}

// away is the error of a directory that is not the replica.
func (r *directory) away(what, want string) error {
	r.mu.Lock()
	memories := slices.Clone(r.memories)
	r.mu.Unlock()
	var forget []string
	if _, err := os.Lstat(r.trace()); err == nil {
		forget = append(forget, r.trace())
	}
	for _, m := range memories {
		if id, err := m.Recall(r.dir); err == nil && id != "" {
			forget = append(forget, m.Name())
		}
	}
	return fmt.Errorf("%w: %s: %s, which has been used as replica %s: mount its volume, or put the directory back; "+
		"only if its backups are to be given up: stop, delete %s, and start again", ErrAway, r.dir, what, want, cmp.Or(strings.Join(forget, " and "), "nothing"))
}

// wasBlank notes that the directory was read as an empty replica by a look that
// began at a time: another process may have made it since.
func (r *directory) wasBlank(began time.Time, info os.FileInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blank == nil && r.known == "" {
		r.blank = &blankDir{began, info}
	}
}

// adopt accepts the marker that was found or made as the replica's, or refuses it.
func (r *directory) adopt(root *os.Root, marker identityMarker, info os.FileInfo) error {
	dir, err := root.Stat(".")
	if err != nil {
		return noSuchFile(err)
	}
	r.mu.Lock()
	known, blank := r.known, r.blank
	r.mu.Unlock()
	switch {
	case known != "" && known != marker.ID:
		return r.away("it is now replica "+marker.ID, known)
	case known == "" && blank != nil && (blank.info == nil || !os.SameFile(blank.info, dir)) && marker.CreatedAt.Before(blank.at):
		return fmt.Errorf("%w: %s: it was empty when this process first used it, and is now replica %s of %s: what was looked for in it "+
			"may be there; start again, now that its volume is mounted", ErrAway, r.dir, marker.ID, marker.CreatedAt.Format(time.RFC3339))
	}
	if known == "" {
		// Before anything relies on it: the next start must know it too.
		if err := r.remember(marker.ID); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if r.known == "" {
		r.known, r.blank = marker.ID, nil
	}
	known = r.known
	if known == marker.ID {
		r.marker = info
	}
	r.mu.Unlock()
	if known != marker.ID { // learnt meanwhile
		return r.away("it is now replica "+marker.ID, known)
	}
	return r.remember(known) // a memory may have come meanwhile
}

// trace is a copy of the marker beside the directory, which exists if this program
// made the directory. It tells every program on this machine, even one without a
// memory of its own, that the directory was there.
func (r *directory) trace() string {
	return filepath.Join(filepath.Dir(r.dir), "."+filepath.Base(r.dir)+markerName)
}

func (r *directory) leaveTrace(marker identityMarker) error {
	data, err := marker.bytes()
	if err != nil {
		return err
	}
	return durable.ReplaceFile(r.trace(), data)
}

func (m identityMarker) bytes() ([]byte, error) {
	data, err := json.Marshal(m)
	return append(data, '\n'), err
}

func readMarker(root *os.Root) (identityMarker, error) {
	return readMarkerFile(root.Open(markerName))
}

// readMarkerFile reads a marker, and closes its file.
func readMarkerFile(f *os.File, err error) (m identityMarker, _ error) {
	if err != nil {
		return m, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxMarker))
	if err = errors.Join(err, f.Close()); err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil || m.ID == "" || m.Format < 1 {
		return m, fmt.Errorf("%w: %s says no identity: put back what it was (its copy may be beside the directory), or delete it "+
			"if the right volume is mounted", ErrAway, f.Name())
	}
	return m, nil
}

// makeMarker makes the marker of a directory that has none, durably. If several
// do so at once, one wins.
func makeMarker(root *os.Root, dir string) (m identityMarker, err error) {
	m = identityMarker{Format: 1, ID: rand.Text(), CreatedAt: time.Now().UTC()}
	data, err := m.bytes()
	if err != nil {
		return m, err
	}
	temp := fmt.Sprintf("%s.%d.%s%s", markerName, m.CreatedAt.Unix(), m.ID, tempSuffix)
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return m, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Link(temp, markerName)
	}
	exists := errors.Is(err, fs.ErrExist)
	if exists {
		err = nil
	}
	if err = errors.Join(err, root.Remove(temp)); err != nil {
		return m, err
	}
	if exists {
		if m, err = readMarker(root); err != nil {
			return m, err
		}
	}
	d, err := root.Open(".")
	if err != nil {
		return m, err
	}
	return m, errors.Join(d.Sync(), d.Close())
}

// rel is a path below the directory, relative to it.
func (e *entered) rel(path string) (string, error) { return filepath.Rel(e.dir, path) }

// open opens a file or directory of the replica for reading. An error wraps
// fs.ErrNotExist only if the replica, the right one, has no such file.
func (e *entered) open(path string) (*os.File, error) {
	if e.root == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	}
	rel, err := e.rel(path)
	if err != nil {
		return nil, err
	}
	f, err := e.root.Open(rel)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	// A symbolic link may lead out of the directory, which is the user's right.
	if f, err = os.Open(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		if still := e.still(); still != nil {
			if f != nil {
				_ = f.Close() // not read from
			}
			return nil, still
		}
	}
	return f, err
}

// openRoot is open for a directory.
func (e *entered) openRoot(path string) (*os.Root, error) {
	if e.root == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	}
	rel, err := e.rel(path)
	if err != nil {
		return nil, err
	}
	d, err := e.root.OpenRoot(rel)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if d, err = os.OpenRoot(path); err == nil || errors.Is(err, fs.ErrNotExist) { // see open
		if still := e.still(); still != nil {
			if d != nil {
				_ = d.Close() // not read from
			}
			return nil, still
		}
	}
	return d, err
}

// still returns nil if the replica's name leads to the directory entered.
func (e *entered) still() error {
	was, err := e.root.Stat(".")
	if err != nil {
		return noSuchFile(err)
	}
	is, err := os.Stat(e.dir)
	if err != nil {
		return noSuchFile(err)
	}
	if !os.SameFile(was, is) {
		return fmt.Errorf("%w: %s: another directory was mounted there just now", ErrAway, e.dir)
	}
	return nil
}

// holds makes sure that an open file that was reached by path is in the
// directory entered, and not in what is mounted there since.
func (e *entered) holds(path string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	rel, err := e.rel(path)
	if err != nil {
		return err
	}
	found, err := e.root.Stat(rel)
	if err != nil {
		if found, err = os.Stat(path); err == nil { // see open
			err = e.still()
		}
	}
	if err != nil {
		return noSuchFile(err)
	}
	if !os.SameFile(info, found) {
		return fmt.Errorf("%w: %s: another directory was mounted there just now", ErrAway, e.dir)
	}
	return nil
}
