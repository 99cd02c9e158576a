package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a Source that the test speaks for.
type fake struct {
	mu     sync.Mutex
	dirs   []string
	limit  int // watches there are
	events chan fsnotify.Event
	errs   chan error
}

func newFake(limit int) *fake {
	return &fake{limit: limit, events: make(chan fsnotify.Event), errs: make(chan error)}
}

func (s *fake) Add(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.dirs, dir) {
		return nil
	}
	if len(s.dirs) >= s.limit {
		return syscall.ENOSPC
	}
	s.dirs = append(s.dirs, dir)
	return nil
}

func (s *fake) Remove(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.dirs, dir)
	if i < 0 {
		return fsnotify.ErrNonExistentWatch
	}
	s.dirs = slices.Delete(s.dirs, i, i+1)
	return nil
}

func (s *fake) WatchList() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dirs)
}

func (s *fake) Events() <-chan fsnotify.Event { return s.events }
func (s *fake) Errors() <-chan error          { return s.errs }
func (s *fake) Close() error                  { return nil }

// recorder is a Handler that touches every name and counts what it is told.
type recorder struct {
	w       *Watcher
	told    map[string][]time.Time
	names   []string
	looks   map[string]int
	changed map[string]int64 // the stamp of a directory
	lost    []error
	limited []error
	mu      sync.Mutex    // guards changed and looks
	more    chan struct{} // one for each Name; nil if nobody waits
}

func (r *recorder) Name(path string, op Op) {
	r.names = append(r.names, fmt.Sprint(path, " ", op))
	if op == Moved {
		r.w.Forget(path)
	}
	r.w.Touch(path)
	if r.more != nil {
		r.more <- struct{}{}
	}
}

func (r *recorder) Tell(path string) { r.told[path] = append(r.told[path], time.Now()) }

func (r *recorder) Look(dir string, since Since) (Since, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks[dir]++
	stamp, ok := r.changed[dir]
	return Since{Stamp: stamp, Moved: stamp > since.Stamp && since.Stamp != 0}, ok
}

func (r *recorder) Lost(err error)    { r.lost = append(r.lost, err) }
func (r *recorder) Limited(err error) { r.limited = append(r.limited, err) }

// change says what Look sees of a directory: another stamp by so much, or at
// gone that it is not there.
func (r *recorder) change(dir string, by int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if by == gone {
		delete(r.changed, dir)
		return
	}
	r.changed[dir] += by
}

const gone = -1

// looked is how often a directory was looked at.
func (r *recorder) looked(dir string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks[dir]
}

// run starts a Watcher over sources, the next one whenever one is opened; none
// left is an error. stop joins it.
func run(t testing.TB, sources ...Source) (r *recorder, stop func()) {
	r = &recorder{told: map[string][]time.Time{}, looks: map[string]int{}, changed: map[string]int64{}}
	r.w = New(func() (Source, error) {
		if len(sources) == 0 {
			return nil, syscall.EMFILE
		}
		s := sources[0]
		sources = sources[1:]
		return s, nil
	}, r)
	return r, start(t, r.w)
}

// start runs a Watcher; stop joins it.
func start(t testing.TB, w *Watcher) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	return func() { cancel(); <-done }
}

func TestAPathWrittenWithoutEndIsToldOnceAGapAndTheLastWriteIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake(1)
		r, stop := run(t, s)
		defer stop()
		began := time.Now()
		var last time.Time
		for time.Since(began) < 10*time.Second {
			last = time.Now()
			s.events <- fsnotify.Event{Name: "/d/x.db-wal", Op: fsnotify.Write}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		told := r.told["/d/x.db-wal"]
		if n := len(told); n < 150 || n > 201 {
			t.Errorf("told %d times in ten seconds", n)
		}
		if !told[0].Equal(began) {
			t.Errorf("told first after %v", told[0].Sub(began))
		}
		if end := told[len(told)-1]; end.Before(last) || end.Sub(last) > 2*Gap {
			t.Errorf("told last %v after the last write", end.Sub(last))
		}
		if n := len(r.w.touched.again); n != 0 {
			t.Errorf("%d paths are remembered", n)
		}
	})
}

func TestAfterAnOverflowNothingIsWatchedUnderAnOldPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFake(10), newFake(10)
		r, stop := run(t, first, second)
		defer stop()
		r.w.Add("/a", false)
		first.errs <- fsnotify.ErrEventOverflow
		synctest.Wait()
		if len(r.lost) != 1 || !errors.Is(r.lost[0], fsnotify.ErrEventOverflow) {
			t.Fatalf("lost %v", r.lost)
		}
		if len(second.WatchList()) != 0 {
			t.Errorf("watched: %v", second.WatchList())
		}
		r.w.Add("/b", false)
		second.events <- fsnotify.Event{Name: "/b/x", Op: fsnotify.Create}
		synctest.Wait()
		if len(r.told["/b/x"]) != 1 {
			t.Error("the new source is not heard")
		}
	})
}

func TestWhereWatchesRunOutDirectoriesAreLookedAtAndItIsSaidOnce(t *testing.T) {
	for name, sources := range map[string][]Source{"no watch left": {newFake(1)}, "no source at all": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, s := range sources {
					f := s.(*fake)
					f.events, f.errs = make(chan fsnotify.Event), make(chan error)
				}
				r, stop := run(t, sources...)
				defer stop()
				if len(sources) > 0 {
					r.w.Add("/watched", false)
				}
				for _, dir := range []string{"/quiet", "/busy", "/gone"} {
					r.change(dir, 1)
				}
				synctest.Wait()
				r.w.Add("/quiet", false)
				r.w.Add("/busy", true)
				r.w.Add("/gone", true)
				time.Sleep(time.Second)
				synctest.Wait()
				r.change("/gone", gone)
				for range 100 {
					r.change("/busy", 1)
					time.Sleep(pollActive)
					synctest.Wait()
				}
				if n := r.looked("/busy"); n < 90 {
					t.Errorf("the busy directory was looked at %d times in 25 s", n)
				}
				if n := r.looked("/quiet"); n > 2 {
					t.Errorf("the quiet directory was looked at %d times in 25 s", n)
				}
				if r.w.Looks("/gone") {
					t.Error("a directory that is gone is looked at")
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				before := r.looked("/busy")
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := r.looked("/busy") - before; n < 119 || n > 121 {
					t.Errorf("looked at %d times in an hour without a change", n)
				}
				if len(r.limited) != 1 {
					t.Errorf("said %d times: %v", len(r.limited), r.limited)
				}
			})
		})
	}
}

func TestADirectoryThatCanBeWatchedAfterAllIsNotLookedAtAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake(0)
		r, stop := run(t, s)
		defer stop()
		r.w.Add("/d", true)
		s.mu.Lock()
		s.limit = 1
		s.mu.Unlock()
		r.w.Add("/d", false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if r.looked("/d") != 0 || len(s.WatchList()) != 1 {
			t.Errorf("looked at %d times; watched %v", r.looked("/d"), s.WatchList())
		}
	})
}

func TestForgetLeavesNothingBelowADirectoryAndItsNeighboursAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake(4)
		r, stop := run(t, s)
		defer stop()
		for _, dir := range []string{"/a", "/a/b", "/ab", "/c", "/a/polled", "/abpolled"} {
			r.change(dir, 1)
			r.w.Add(dir, false)
		}
		s.events <- fsnotify.Event{Name: "/a", Op: fsnotify.Rename}
		synctest.Wait()
		if got := fmt.Sprint(s.WatchList()); got != "[/ab /c]" {
			t.Errorf("watched: %v", got)
		}
		if r.w.Looks("/a/polled") || !r.w.Looks("/abpolled") {
			t.Error("the wrong directories are looked at")
		}
	})
}

func TestAFloodOfPathsIsForgottenAfterTheGap(t *testing.T) {
	c := newCoalescer(Gap)
	now := time.Now()
	for i := range 100_000 {
		path := fmt.Sprint(i)
		if !c.touch(path, now) {
			t.Fatal("not let through")
		}
		if i%2 == 0 && c.touch(path, now) {
			t.Fatal("let through twice")
		}
	}
	n := 0
	for _, ok := c.next(now.Add(Gap)); ok; _, ok = c.next(now.Add(Gap)) {
		n++
	}
	if n != 50_000 {
		t.Errorf("%d let through when the gap ended", n)
	}
	if _, ok := c.next(now.Add(2 * Gap)); ok || len(c.again) != 0 || cap(c.queue) > keptCapacity {
		t.Errorf("%d remembered, room for %d", len(c.again), cap(c.queue))
	}
}

// TestTheSystemTellsWhatHappens asks the kernel.
func TestTheSystemTellsWhatHappens(t *testing.T) {
	s, err := Open()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	r, stop := run(t, s)
	defer stop()
	r.more = make(chan struct{}, 100)
	r.w.Add(dir, false)
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	<-r.more
	<-r.more
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	<-r.more
	<-r.more
	if err := os.Remove(path + "2"); err != nil {
		t.Fatal(err)
	}
	<-r.more
	stop()
	want := []string{path + " 1", path + " 2", path + " 3", path + "2 1", path + "2 4"}
	if !slices.Equal(r.names, want) {
		t.Errorf("told %q, want %q", r.names, want)
	}
	r.w.Add(t.TempDir(), false) // does nothing any more
}
