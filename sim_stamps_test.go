package multidb_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/fsid"
)

// stamps gives files time stamps of the bubble's clock, which runs far ahead of
// the file system's: ages, the rule about young stamps and the order of changes
// would mean nothing otherwise. What differs from the last look was changed now;
// the simulation looks at every file before it lets the clock go on, so "now" is
// at most one of its beats late. Two changes of one size between two ticks of the
// real clock would look like none: touch, after every write that is not the
// Manager's own, gives the file a real stamp that it never had.
type stamps struct {
	mu    sync.Mutex
	files map[string]stamped
	last  time.Time // the last real stamp that was set
	now   func() time.Time
}

type stamped struct{ real, told fsid.Fingerprint }

func newStamps() *stamps {
	return &stamps{files: map[string]stamped{}, last: time.Unix(1e9, 0), now: time.Now}
}

// stat is fsid.Stat by the bubble's clock.
func (s *stamps) stat(path string) (fsid.Fingerprint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	real, err := fsid.Stat(path)
	if err != nil {
		delete(s.files, path)
		return real, err
	}
	f := s.files[path]
	if f.real != real {
		f = stamped{real, real}
		f.told.Mtime = s.now().UnixNano() | 1 // whole seconds would say that the file system has no others
		f.told.Ctime = f.told.Mtime
		s.files[path] = f
	}
	return f.told, nil
}

// touch notes a write to files at this moment. Those that do not exist are none.
func (s *stamps) touch(t testing.TB, paths ...string) {
	for _, p := range paths {
		s.mu.Lock()
		s.last = s.last.Add(time.Microsecond)
		err := os.Chtimes(p, s.last, s.last)
		s.mu.Unlock()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		_, _ = s.stat(p)
	}
}

// renamed moves the stamps with a file.
func (s *stamps) renamed(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[from]; ok {
		if real, err := fsid.Stat(to); err == nil {
			f.told.Ctime = s.now().UnixNano() | 1 // a rename changes it, and no mtime
			s.files[to] = stamped{real, f.told}
		}
	}
	delete(s.files, from)
}

// listing is a Glob whose listings can fail, and that leaves the time stamps to
// the Manager's stat.
type listing struct {
	glob *multidb.GlobDiscoverer

	mu      sync.Mutex
	broken  bool
	scans   int
	wholeAt time.Time // when the last listing without an error began
}

var errListing = errors.New("a listing that fails")

func (l *listing) Discover(ctx context.Context) iter.Seq2[multidb.Database, error] {
	return func(yield func(multidb.Database, error) bool) {
		began := time.Now()
		l.mu.Lock()
		broken := l.broken
		l.scans++
		n := 0
		if broken {
			n = l.scans % 4 // how many it still names
		}
		l.mu.Unlock()
		whole := !broken
		for db, err := range l.glob.Discover(ctx) {
			if broken && n == 0 {
				break
			}
			n--
			whole = whole && err == nil
			db.ModTime = time.Time{}
			if !yield(db, err) {
				return
			}
		}
		if broken {
			yield(multidb.Database{}, errListing)
		}
		l.mu.Lock()
		if whole {
			l.wholeAt = began
		}
		l.mu.Unlock()
	}
}

func (l *listing) Locate(id multidb.ID) (multidb.Database, bool) { return l.glob.Locate(id) }

func (l *listing) setBroken(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = on
}

// wholeSince reports whether a whole listing began after a moment.
func (l *listing) wholeSince(at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wholeAt.After(at)
}

// told is the stamp that a file has.
func (s *stamps) told(path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[path].told.Mtime
}

// backdate gives a file, as it is now, the stamps of another moment.
func (s *stamps) backdate(path string, told int64) {
	_, _ = s.stat(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[path]; ok {
		f.told.Mtime, f.told.Ctime = told, told
		s.files[path] = f
	}
}
