package file

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustObjects(t *testing.T, s *Store, dir string) *Objects {
	t.Helper()
	o, err := s.Objects(dir)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustCreate(t *testing.T, o *Objects, name string) {
	t.Helper()
	if err := o.Create(t.Context(), name, []byte(name)); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, o *Objects) (string, error) {
	t.Helper()
	var all []string
	for info, err := range o.List(t.Context(), "", "") {
		if err != nil {
			return "", err
		}
		all = append(all, info.Name)
	}
	return strings.Join(all, " "), nil
}

func wantNames(t *testing.T, o *Objects, want string) {
	t.Helper()
	if got, err := names(t, o); err != nil || got != want {
		t.Errorf("it lists %q, %v; want %q", got, err, want)
	}
}

func read(t *testing.T, o *Objects, name string) (string, error) {
	t.Helper()
	rc, err := o.Open(t.Context(), name, 0, 0)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(rc)
	return string(data), errors.Join(err, rc.Close())
}

func TestObjectsAreRefusedWhereTheReplicaIsAway(t *testing.T) {
	for name, leave := range map[string]func(dir string) error{
		"the directory is gone":     func(dir string) error { return os.Rename(dir, dir+".away") },
		"the volume is not mounted": func(dir string) error { return errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o700)) },
		"another replica is mounted": func(dir string) error {
			if err := os.Rename(dir, dir+".away"); err != nil {
				return err
			}
			other, err := New(dir + ".other").Objects("log")
			if err != nil {
				return err
			}
			return errors.Join(other.Create(t.Context(), "1", nil), os.Rename(dir+".other", dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "replica")
			o := mustObjects(t, New(dir), "log")
			wantNames(t, o, "") // it may still begin
			if _, err := read(t, o, "1"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("before the first object: %v", err)
			}
			mustCreate(t, o, "1")
			if err := leave(dir); err != nil {
				t.Fatal(err)
			}
			_, listErr := names(t, o)
			_, readErr := read(t, o, "1")
			for call, err := range map[string]error{
				"Create":              o.Create(t.Context(), "1", nil),
				"Create in a new one": o.Create(t.Context(), "new/1", nil),
				"Open":                readErr,
				"List":                listErr,
				"Delete":              o.Delete(t.Context(), "1"),
			} {
				if !errors.Is(err, ErrAway) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
					t.Errorf("%s: error is %v, want ErrAway", call, err)
				}
			}
			if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".away", dir)); err != nil {
				t.Fatal(err)
			}
			wantNames(t, o, "1")
			if got, err := read(t, o, "1"); err != nil || got != "1" {
				t.Errorf("back again: %q, %v", got, err)
			}
		})
	}
}

// TestADirectoryInTheWayIsNoObject: a create that it refuses must not be taken for one
// that another won.
func TestADirectoryInTheWayIsNoObject(t *testing.T) {
	o := mustObjects(t, New(t.TempDir()), "log")
	mustCreate(t, o, "a/b")
	for _, name := range []string{"a", "a/b/c"} {
		if err := o.Create(t.Context(), name, nil); err == nil || errors.Is(err, fs.ErrExist) {
			t.Errorf("create %q: error is %v", name, err)
		}
		if _, err := read(t, o, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: error is %v, want fs.ErrNotExist", name, err)
		}
	}
	wantNames(t, o, "a/b")
}

func TestWhatACrashLeftIsNoObjectAndIsSweptLater(t *testing.T) {
	dir := t.TempDir()
	o := mustObjects(t, New(dir), "log")
	mustCreate(t, o, "a/1")
	log := filepath.Join(dir, "log", "a")
	f, err := createTemp(log, "object")
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(log, "object.1000000000.1.tmp")
	if err := errors.Join(f.Close(), os.WriteFile(old, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o, "a/1")
	again := mustObjects(t, New(dir), "log")
	mustCreate(t, again, "a/2")
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is older than %v: %v", tempAge, err)
	}
	if _, err := os.Stat(f.Name()); err != nil {
		t.Errorf("what may be another's that is being written: %v", err)
	}
	wantNames(t, again, "a/1 a/2")
}

func TestADirectoryThatWasRemovedIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	o := mustObjects(t, New(dir), "log")
	mustCreate(t, o, "a/1")
	if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o, "")
	mustCreate(t, o, "a/1")
	wantNames(t, o, "a/1")
}

func TestDirectoriesThatAreRememberedAreBounded(t *testing.T) {
	o := mustObjects(t, New(t.TempDir()), "log")
	for i := range 2*maxReadyDirs + 10 {
		o.setReady(filepath.Join("dir", time.Unix(int64(i), 0).String()), true)
	}
	if n := len(o.ready); n > maxReadyDirs {
		t.Errorf("%d are remembered", n)
	}
}

func TestDirectoriesBehindLinksAreListed(t *testing.T) {
	dir := t.TempDir()
	o := mustObjects(t, New(dir), "log")
	mustCreate(t, o, "moved/1")
	mustCreate(t, o, "x")
	log := filepath.Join(dir, "log")
	if err := errors.Join(os.Rename(filepath.Join(log, "moved"), filepath.Join(log, "there")), os.Symlink("there", filepath.Join(log, "moved"))); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o, "moved/1 there/1 x")
	// One that leads out of the replica cannot be listed: leaving it out would say
	// that nothing is there.
	if err := os.Symlink(t.TempDir(), filepath.Join(log, "out")); err != nil {
		t.Fatal(err)
	}
	if got, err := names(t, o); err == nil {
		t.Errorf("it lists %q", got)
	}
}

// TestALinkThatWasMadeTwiceIsOurs is what NFS does where an answer is lost.
func TestALinkThatWasMadeTwiceIsOurs(t *testing.T) {
	dir := t.TempDir()
	temp, path, other := filepath.Join(dir, "temp"), filepath.Join(dir, "path"), filepath.Join(dir, "other")
	err := errors.Join(os.WriteFile(temp, nil, 0o600), os.WriteFile(other, nil, 0o600), os.Link(temp, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := linked(os.Link(temp, path), temp, path); err != nil {
		t.Errorf("the same file: %v", err)
	}
	if err := linked(os.Link(temp, other), temp, other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another file: %v, want fs.ErrExist", err)
	}
	if err := linked(os.Link(temp, filepath.Join(dir, "none", "x")), temp, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another error: %v", err)
	}
}

func TestCallsOnObjectsAreCounted(t *testing.T) {
	s := New(t.TempDir())
	o := mustObjects(t, s, "log")
	mustCreate(t, o, "12345")
	if err := o.Create(t.Context(), "12345", []byte("123")); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if got, err := read(t, o, "12345"); err != nil || got != "12345" {
		t.Errorf("%q, %v", got, err)
	}
	wantNames(t, o, "12345")
	if err := o.Delete(t.Context(), "12345", "none"); err != nil {
		t.Error(err)
	}
	want := Stats{Put: 2, Get: 1, List: 1, Delete: 2, BytesOut: 8, BytesIn: 5}
	if got := s.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
