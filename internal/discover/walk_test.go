package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOpenDirectoryRefusesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	must(t, os.WriteFile(path, nil, 0o600))
	if dir, err := openDirectory(path); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v, %v", dir, err)
	}
}

func TestAFileWithSeveralNamesIsListedOnce(t *testing.T) {
	t.Run("the real path wins over a symlink", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m.db")
		must(t, os.Symlink("m.db", filepath.Join(root, "a.db")))
		must(t, os.Symlink("a.db", filepath.Join(root, "z.db")))
		wantListing(t, globOf(t, root+"/*.db"), "m")
	})
	t.Run("the real path wins in whatever pattern it is", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "real/m.db", "links/")
		must(t, os.Symlink("../real/m.db", filepath.Join(root, "links/a.db")))
		wantListing(t, globOf(t, root+"/links/*.db", root+"/real/*.db"), "m")
	})
	t.Run("a symlink to a file elsewhere has the path of the file", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "elsewhere/x", "dbs/")
		must(t, os.Symlink("../elsewhere/x", filepath.Join(root, "dbs/b.db")))
		must(t, os.Symlink("../elsewhere/x", filepath.Join(root, "dbs/a.db")))
		late := time.Now().Add(time.Hour).Truncate(time.Second)
		makeFiles(t, root, "elsewhere/x-wal")
		must(t, os.Chtimes(root+"/elsewhere/x-wal", late, late))
		db := wantListing(t, globOf(t, root+"/dbs/*.db"), "a")[0]
		if !db.ModTime.Equal(late) {
			t.Errorf("the time is %v, not that of the WAL beside the file", db.ModTime)
		}
		real, err := filepath.EvalSymlinks(root)
		must(t, err)
		if db.Path != real+"/elsewhere/x" || db.Rel != "a.db" {
			t.Errorf("got %+v", db)
		}
	})
	t.Run("the hard link that sorts first wins", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m.db")
		for _, name := range []string{"z.db", "b.db", "k.db"} {
			must(t, os.Link(filepath.Join(root, "m.db"), filepath.Join(root, name)))
		}
		wantListing(t, globOf(t, root+"/*.db"), "b")
	})
	t.Run("a real directory wins over a symlink to it", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m/dbs/x.db")
		must(t, os.Symlink("m", filepath.Join(root, "a")))
		must(t, os.Symlink("m", filepath.Join(root, "z")))
		wantListing(t, globOf(t, root+"/*/dbs/*.db"), "m/x")
	})
	t.Run("a real directory wins over a symlink with a fixed name", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m/dbs/x.db", "a/", "z/")
		must(t, os.Symlink("../m/dbs", filepath.Join(root, "a/dbs")))
		must(t, os.Symlink("../m/dbs", filepath.Join(root, "z/dbs")))
		wantListing(t, globOf(t, root+"/*/dbs/*.db"), "m/x")
	})
	t.Run("a symlink to a directory elsewhere is entered", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "disk2/dbs/x.db", "data/m/dbs/y.db")
		must(t, os.Symlink("../disk2", filepath.Join(root, "data/b")))
		must(t, os.Symlink("../disk2", filepath.Join(root, "data/a")))
		db := wantListing(t, globOf(t, root+"/data/*/dbs/*.db"), "a/x", "m/y")[0]
		if db.Path != root+"/data/a/dbs/x.db" {
			t.Errorf("the path is %q", db.Path)
		}
	})
	t.Run("by the first of two patterns", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "p/a.db")
		wantListing(t, globOf(t, root+"/{{x}}/{{y}}.db", root+"/p/{{y}}.db"), "p/a")
		wantListing(t, globOf(t, root+"/p/{{y}}.db", root+"/{{x}}/{{y}}.db"), "a")
	})
}

func TestLoopsOfSymlinksEnd(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "p/x.db")
	// Every level leads back to root under many names: 40^4 ways to the file.
	for i := range 40 {
		must(t, os.Symlink(".", filepath.Join(root, fmt.Sprintf("l%d", i))))
	}
	opened := 0
	g := globOf(t, root+"/*/*/*/*/{{file}}.db")
	g.open = func(path string) (directory, error) {
		opened++
		return openDirectory(path)
	}
	wantListing(t, g, "l0/l0/l0/p/x")
	if opened > 100 {
		t.Errorf("%d directories were read", opened)
	}
}

func TestASymlinkThatLeadsNowhereMakesTheListingPartial(t *testing.T) {
	for name, target := range map[string]string{"missing": "nowhere", "itself": "loop"} {
		for _, pattern := range []string{"*/x.db", "*.db/*", "*.db"} {
			t.Run(name+" "+pattern, func(t *testing.T) {
				root := t.TempDir()
				makeFiles(t, root, "good.db/x.db", "good/x.db", "plain.db")
				must(t, os.Symlink(target, filepath.Join(root, "loop")))
				must(t, os.Symlink(target, filepath.Join(root, "loop.db")))
				dbs, errs := listing(globOf(t, filepath.Join(root, pattern)).List(t.Context()))
				if len(dbs) == 0 {
					t.Error("the listing did not go on")
				}
				if len(errs) == 0 || !strings.Contains(errs[0].Error(), "symlink "+root+"/loop") {
					t.Errorf("got %v", errs)
				}
			})
		}
	}
}

func TestADirectoryThatCannotBeReadIsAnErrorAndTheWalkGoesOn(t *testing.T) {
	t.Run("a name that is too long", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "a/x.db", "b/x.db")
		long := strings.Repeat("n", 300)
		dbs, errs := listing(globOf(t, root+"/{{p}}/"+long+"/x.db", root+"/*/*.db").List(t.Context()))
		wantIDs(t, dbs, "a/x", "b/x")
		if len(errs) != 2 || !errors.Is(errs[0], syscall.ENAMETOOLONG) || !strings.Contains(errs[0].Error(), root) {
			t.Errorf("got %v", errs)
		}
	})
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EIO, syscall.EMFILE} {
		t.Run(errno.Error()+" when it is opened", func(t *testing.T) {
			root := t.TempDir()
			makeFiles(t, root, "a/x.db", "b/x.db", "c/x.db")
			g := globOf(t, root+"/*/*.db")
			g.open = func(path string) (directory, error) {
				if filepath.Base(path) == "b" {
					return nil, &fs.PathError{Op: "open", Path: path, Err: errno}
				}
				return openDirectory(path)
			}
			dbs, errs := listing(g.List(t.Context()))
			wantIDs(t, dbs, "a/x", "c/x")
			if len(errs) != 1 || !errors.Is(errs[0], errno) || !strings.Contains(errs[0].Error(), root+"/b") {
				t.Errorf("got %v", errs)
			}
		})
	}
	for _, call := range []string{"Readdirnames", "ReadDir", "Seek"} {
		t.Run("an error of "+call, func(t *testing.T) {
			root := t.TempDir()
			makeFiles(t, root, "a/x.db", "b/x.db", "b/y.txt", "c/x.db")
			closed := false
			g := globOf(t, root+"/*/*.db")
			g.open = func(path string) (directory, error) {
				dir, err := openDirectory(path)
				if filepath.Base(path) == "b" {
					return &brokenDirectory{dir, call, &closed}, err
				}
				return dir, err
			}
			dbs, errs := listing(g.List(t.Context()))
			dbs = slices.DeleteFunc(dbs, func(f File) bool { return f.ID == "b/x" }) // it may have been read before
			wantIDs(t, dbs, "a/x", "c/x")
			if len(errs) != 1 || !errors.Is(errs[0], syscall.EIO) {
				t.Errorf("got %v", errs)
			}
			if !closed {
				t.Error("the directory was not closed")
			}
		})
	}
}

// brokenDirectory is read name by name, as if it were large, and fails one of
// its calls with EIO.
type brokenDirectory struct {
	directory
	call   string
	closed *bool
}

func (d *brokenDirectory) fails(call string) error {
	if d.call == call {
		return syscall.EIO
	}
	return nil
}

func (d *brokenDirectory) Readdirnames(int) ([]string, error) {
	if err := d.fails("Readdirnames"); err != nil {
		return nil, err
	}
	return d.directory.Readdirnames(1)
}

func (d *brokenDirectory) ReadDir(int) ([]fs.DirEntry, error) {
	if err := d.fails("ReadDir"); err != nil {
		return nil, err
	}
	return d.directory.ReadDir(1)
}

func (d *brokenDirectory) Seek(offset int64, whence int) (int64, error) {
	if err := d.fails("Seek"); err != nil {
		return 0, err
	}
	return d.directory.Seek(offset, whence)
}

func (d *brokenDirectory) Close() error {
	*d.closed = true
	return d.directory.Close()
}

func TestAMissingRootIsAnError(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "here/x.db", "file")
	for _, missing := range []string{"/gone/*.db", "/gone/main.db", "/gone/*/*.db", "/file/*.db"} {
		t.Run(missing, func(t *testing.T) {
			dbs, errs := listing(globOf(t, root+missing, root+"/here/*.db").List(t.Context()))
			wantIDs(t, dbs, "x")
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), "discovery root: ") || !strings.Contains(errs[0].Error(), filepath.Dir(root+"/x")) {
				t.Errorf("got %v", errs)
			}
		})
	}
}

func TestARootThatGoesAwayDuringTheListingIsAnError(t *testing.T) {
	for name, replace := range map[string]bool{"gone": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			makeFiles(t, root, "a/x.db", "b/x.db")
			g := globOf(t, root+"/*/*.db")
			g.open = func(path string) (directory, error) {
				dir, err := openDirectory(path)
				if path == root { // after this, everything below is not there any more
					must(t, os.Rename(root, root+".old"))
					if replace {
						must(t, os.Mkdir(root, 0o755))
					}
				}
				return dir, err
			}
			dbs, errs := listing(g.List(t.Context()))
			wantIDs(t, dbs)
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), "discovery root: ") {
				t.Errorf("got %v", errs)
			}
		})
	}
}

func TestWhatVanishesDuringTheListingIsNoError(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a/x.db", "b/x.db", "b/y.db", "b/y.db-wal", "c/x.db", "d/x.db")
	must(t, os.Symlink("x.db", filepath.Join(root, "d/link.db")))
	g := globOf(t, root+"/*/*.db")
	g.open = func(path string) (directory, error) {
		switch filepath.Base(path) {
		case "a": // before it is opened
			must(t, os.RemoveAll(path))
		case "b": // after it was read
			dir, err := openDirectory(path)
			return &vanishing{dir, func() {
				must(t, os.Remove(path+"/x.db"))
				must(t, os.Remove(path+"/y.db-wal"))
			}}, err
		case "c": // while it is open
			dir, err := openDirectory(path)
			must(t, os.RemoveAll(path))
			return dir, err
		case "d": // while it waits
			dir, err := openDirectory(path)
			return &vanishing{dir, func() { must(t, os.Remove(path+"/link.db")) }}, err
		}
		return openDirectory(path)
	}
	wantListing(t, g, "b/y", "d/x")
}

// vanishing calls gone once the names were read.
type vanishing struct {
	directory
	gone func()
}

func (v *vanishing) ReadDir(n int) ([]fs.DirEntry, error) {
	entries, err := v.directory.ReadDir(n)
	if len(entries) > 0 {
		v.gone()
	}
	return entries, err
}

func TestNothingIsYieldedAfterTheCallerStopped(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db", "b.db")
	g := globOf(t, root+"/*.db")
	g.open = func(path string) (directory, error) {
		dir, err := openDirectory(path)
		return &cutShort{dir}, err
	}
	for range g.List(t.Context()) { // a call of yield after the stop panics
		break
	}
	dbs, errs := listing(g.List(t.Context()))
	if len(dbs) != 1 || len(errs) != 1 || !errors.Is(errs[0], syscall.EIO) {
		t.Errorf("got %v, %v", dbs, errs)
	}
}

// cutShort fails with the first entry already read.
type cutShort struct{ directory }

func (d *cutShort) ReadDir(int) ([]fs.DirEntry, error) {
	entries, err := d.directory.ReadDir(1)
	return entries, errors.Join(err, syscall.EIO)
}

func TestTheWalkNamesWhatItCouldNotList(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	makeFiles(t, root, "data/p/a.db", "data/q/b.db", "volume/real/c.db")
	for name, to := range map[string]string{
		"data/p/gone.db": "/nowhere/gone.db", "data/r": "../volume/unmounted", "data/s": root + "/volume/real", "data/p/loop.db": "loop.db",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	g := globOf(t, root+"/data/*/*.db", root+"/missing/*.db")
	g.open = func(path string) (directory, error) {
		if filepath.Base(path) == "q" || filepath.Base(path) == "s" {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EACCES}
		}
		return openDirectory(path)
	}
	dbs, errs := listing(g.List(t.Context()))
	wantIDs(t, dbs, "p/a")
	var got []string
	for _, err := range errs {
		part, ok := err.(*UnlistedError)
		if !ok {
			t.Fatalf("it may be anything: %v", err)
		}
		got = append(got, part.Paths...)
	}
	slices.Sort(got)
	want := []string{"/nowhere/gone.db", root + "/data/p/gone.db", root + "/data/p/loop.db", root + "/data/q", root + "/data/r", root + "/data/s",
		root + "/missing", root + "/volume/real", root + "/volume/unmounted"}
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}
