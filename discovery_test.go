package multidb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// makeFiles creates empty files below root; a name that ends in / is a directory.
func makeFiles(t testing.TB, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, nil, 0o600))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listing collects a listing.
func listing(seq iter.Seq2[Database, error]) (dbs []Database, errs []error) {
	for db, err := range seq {
		if err != nil {
			errs = append(errs, err)
		} else {
			dbs = append(dbs, db)
		}
	}
	slices.SortFunc(dbs, func(a, b Database) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return dbs, errs
}

// wantListing lists and wants these IDs, sorted, and no error.
func wantListing(t *testing.T, d Discoverer, want ...string) []Database {
	t.Helper()
	dbs, errs := listing(d.Discover(t.Context()))
	if len(errs) > 0 {
		t.Errorf("errors: %v", errs)
	}
	wantIDs(t, dbs, want...)
	return dbs
}

func wantIDs(t *testing.T, dbs []Database, want ...string) {
	t.Helper()
	got := []string{}
	for _, db := range dbs {
		got = append(got, string(db.ID))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestGlobListsTheFilesThatMatch(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "p0/databases/a.db", "p0/databases/a.db-wal", "p0/databases/b.db", "p1/databases/a.db",
		"p0/databases/notes.txt", "p0/databases/d.db/", "p0/other/x.db", "p0/databases/deep/x.db",
		"p2/databases/", "p3/", "file.db", ".hidden/databases/x.db", "p0/databases/.x.db")
	for _, pattern := range []string{"{{project}}/databases/{{database}}.db", "*/databases/*.db"} {
		t.Run(pattern, func(t *testing.T) {
			dbs := wantListing(t, Glob(filepath.Join(root, pattern)), "p0/a", "p0/b", "p1/a")
			want := Database{ID: "p0/a", Path: root + "/p0/databases/a.db", RelPath: "p0/databases/a.db"}
			got := dbs[0]
			if got.ID != want.ID || got.Path != want.Path || got.RelPath != want.RelPath ||
				!slices.Equal(got.Vars, []Var{{"project", "p0"}, {"database", "a"}}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestGlobListsASingleFile(t *testing.T) {
	root := t.TempDir()
	g := Glob(root + "/main.db")
	wantListing(t, g)
	makeFiles(t, root, "main.db", "main.db-wal", "other.db")
	wantListing(t, g, "main.db")
	makeFiles(t, root, "x/main.db", "y/main.db", "z/other.db")
	wantListing(t, Glob(root+"/*/main.db"), "x", "y")
}

func TestGlobNeverTakesASidecarForADatabase(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "x", "x-wal", "x-shm", "x-journal", "x.tmp", "x-txid", "x-mj0123ABCD9", ".x-litestream/y", ".multidb/z", ".multidb-tmp")
	must(t, os.Symlink("x-wal", filepath.Join(root, "link")))
	wantListing(t, Glob(root+"/*"), "x")
	wantListing(t, Glob(root+"/*", root+"/.{{a}}/{{b}}", root+"/.{{a}}"), "x")
}

func TestGlobSkipsWhatIsNotARegularFile(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db", "dir.db/", "real/")
	must(t, syscall.Mkfifo(filepath.Join(root, "pipe.db"), 0o600))
	must(t, os.Symlink("pipe.db", filepath.Join(root, "link.db")))
	must(t, os.Symlink("real", filepath.Join(root, "dirlink.db")))
	wantListing(t, Glob(root+"/*.db"), "a")
	for _, name := range []string{"pipe.db", "dir.db", "link.db"} {
		wantListing(t, Glob(root+"/"+name))
	}
}

func TestGlobListsNamesWithEveryKindOfByte(t *testing.T) {
	root := t.TempDir()
	names := []string{"a b", "100%", "what?", "a#b", `"q"`, "it's", "[x]", "{y}", "*", `back\slash`, "\xff\xfe", "Jörg", "new\nline", "-rf", "~"}
	for _, name := range names {
		makeFiles(t, root, name+"/"+name+".db")
	}
	var want []string
	for _, name := range names {
		want = append(want, name+"/"+name)
	}
	slices.Sort(want)
	g := Glob(root + "/{{project}}/{{database}}.db")
	for _, db := range wantListing(t, g, want...) {
		if back, ok := g.Locate(db.ID); !ok || back.Path != db.Path || !slices.Equal(back.Vars, db.Vars) {
			t.Errorf("%q is located at %q, not %q", db.ID, back.Path, db.Path)
		}
	}
}

func TestModTimeIsThatOfTheFileOrItsWAL(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a/a.db", "a/a.db-wal", "b/a.db", "b/a.db-wal", "c/a.db")
	early, late := time.Unix(1_000_000_000, 5), time.Unix(1_000_000_100, 7)
	for name, at := range map[string]time.Time{"a/a.db": early, "a/a.db-wal": late, "b/a.db": late, "b/a.db-wal": early, "c/a.db": late} {
		must(t, os.Chtimes(filepath.Join(root, name), at, at))
	}
	var static []Database
	for _, p := range []string{"a", "b", "c"} {
		static = append(static, Database{ID: ID(p), Path: filepath.Join(root, p, "a.db")})
	}
	for name, d := range map[string]Discoverer{
		"by a listing": Glob(root + "/*/*.db"), "by name": Glob(root + "/*/a.db"), "static": Static(static...),
	} {
		t.Run(name, func(t *testing.T) {
			dbs, errs := listing(d.Discover(t.Context()))
			if len(dbs) != 3 || len(errs) > 0 {
				t.Fatalf("got %v, %v", dbs, errs)
			}
			for _, db := range dbs {
				if !db.ModTime.Equal(late) {
					t.Errorf("%s: got %v, want %v", db.ID, db.ModTime, late)
				}
			}
		})
	}
}

func TestALargeDirectoryIsListedWhole(t *testing.T) {
	root := t.TempDir()
	late := time.Now().Add(time.Hour)
	const files = readChunk + 7
	for i := range files {
		makeFiles(t, root, fmt.Sprintf("%d.db", i))
		if i%10 == 0 {
			wal := filepath.Join(root, fmt.Sprintf("%d.db-wal", i))
			must(t, os.WriteFile(wal, nil, 0o600))
			must(t, os.Chtimes(wal, late, late))
		}
	}
	seen := map[ID]bool{}
	for db, err := range Glob(root + "/*.db").Discover(t.Context()) {
		must(t, err)
		if seen[db.ID] {
			t.Fatalf("%s is listed twice", db.ID)
		}
		seen[db.ID] = true
		if hasWAL := strings.HasSuffix(string(db.ID), "0"); hasWAL != time.Now().Before(db.ModTime) {
			t.Errorf("%s has the time %v", db.ID, db.ModTime)
		}
	}
	if len(seen) != files {
		t.Errorf("got %d", len(seen))
	}
}

// Closing a descriptor of a database would drop SQLite's locks on it.
func TestAListingNeverOpensADatabase(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "d/a.db", "d/a.db-wal", "d/b.db", "d/target", "d/c.db", "e/")
	must(t, os.Symlink("target", filepath.Join(root, "d/link.db")))
	must(t, os.Link(filepath.Join(root, "d/b.db"), filepath.Join(root, "d/hard.db")))
	must(t, os.Symlink("../d/c.db", filepath.Join(root, "e/c.db")))
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	must(t, err)
	defer syscall.Close(fd)
	for _, name := range []string{"d/a.db", "d/a.db-wal", "d/b.db", "d/target", "d/c.db"} {
		_, err := syscall.InotifyAddWatch(fd, filepath.Join(root, name), syscall.IN_OPEN|syscall.IN_CLOSE)
		must(t, err)
	}
	wantListing(t, Glob(root+"/*/*.db", root+"/d/a.db"), "d/a", "d/b", "d/c", "d/link")
	wantListing(t, Static(Database{ID: "a", Path: root + "/d/a.db"}, Database{ID: "l", Path: root + "/d/link.db"}), "a", "l")
	buf := make([]byte, 4096)
	if n, err := syscall.Read(fd, buf); err != syscall.EAGAIN {
		t.Errorf("a file was opened: %d bytes of events, %v", n, err)
	}
	// The watch itself works.
	_, err = os.ReadFile(filepath.Join(root, "d/target"))
	must(t, err)
	if n, err := syscall.Read(fd, buf); n <= 0 || err != nil {
		t.Errorf("inotify saw nothing: %v", err)
	}
}

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
		wantListing(t, Glob(root+"/*.db"), "m")
	})
	t.Run("the real path wins in whatever pattern it is", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "real/m.db", "links/")
		must(t, os.Symlink("../real/m.db", filepath.Join(root, "links/a.db")))
		wantListing(t, Glob(root+"/links/*.db", root+"/real/*.db"), "m")
	})
	t.Run("a symlink to a file elsewhere has the path of the file", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "elsewhere/x", "dbs/")
		must(t, os.Symlink("../elsewhere/x", filepath.Join(root, "dbs/b.db")))
		must(t, os.Symlink("../elsewhere/x", filepath.Join(root, "dbs/a.db")))
		late := time.Now().Add(time.Hour).Truncate(time.Second)
		makeFiles(t, root, "elsewhere/x-wal")
		must(t, os.Chtimes(root+"/elsewhere/x-wal", late, late))
		db := wantListing(t, Glob(root+"/dbs/*.db"), "a")[0]
		if !db.ModTime.Equal(late) {
			t.Errorf("the time is %v, not that of the WAL beside the file", db.ModTime)
		}
		real, err := filepath.EvalSymlinks(root)
		must(t, err)
		if db.Path != real+"/elsewhere/x" || db.RelPath != "a.db" {
			t.Errorf("got %+v", db)
		}
	})
	t.Run("the hard link that sorts first wins", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m.db")
		for _, name := range []string{"z.db", "b.db", "k.db"} {
			must(t, os.Link(filepath.Join(root, "m.db"), filepath.Join(root, name)))
		}
		wantListing(t, Glob(root+"/*.db"), "b")
	})
	t.Run("a real directory wins over a symlink to it", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m/dbs/x.db")
		must(t, os.Symlink("m", filepath.Join(root, "a")))
		must(t, os.Symlink("m", filepath.Join(root, "z")))
		wantListing(t, Glob(root+"/*/dbs/*.db"), "m/x")
	})
	t.Run("a real directory wins over a symlink with a fixed name", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m/dbs/x.db", "a/", "z/")
		must(t, os.Symlink("../m/dbs", filepath.Join(root, "a/dbs")))
		must(t, os.Symlink("../m/dbs", filepath.Join(root, "z/dbs")))
		wantListing(t, Glob(root+"/*/dbs/*.db"), "m/x")
	})
	t.Run("a symlink to a directory elsewhere is entered", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "disk2/dbs/x.db", "data/m/dbs/y.db")
		must(t, os.Symlink("../disk2", filepath.Join(root, "data/b")))
		must(t, os.Symlink("../disk2", filepath.Join(root, "data/a")))
		db := wantListing(t, Glob(root+"/data/*/dbs/*.db"), "a/x", "m/y")[0]
		if db.Path != root+"/data/a/dbs/x.db" {
			t.Errorf("the path is %q", db.Path)
		}
	})
	t.Run("by the first of two patterns", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "p/a.db")
		wantListing(t, Glob(root+"/{{x}}/{{y}}.db", root+"/p/{{y}}.db"), "p/a")
		wantListing(t, Glob(root+"/p/{{y}}.db", root+"/{{x}}/{{y}}.db"), "a")
	})
	t.Run("by the first of two static paths", func(t *testing.T) {
		root := t.TempDir()
		makeFiles(t, root, "m.db")
		must(t, os.Symlink("m.db", filepath.Join(root, "link.db")))
		db := wantListing(t, Static(Database{ID: "1", Path: root + "/link.db"}, Database{ID: "2", Path: root + "/m.db"}), "1")[0]
		if filepath.Base(db.Path) != "m.db" || !strings.HasSuffix(db.RelPath, "/link.db") {
			t.Errorf("got %+v", db)
		}
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
	g := Glob(root + "/*/*/*/*/{{file}}.db")
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
				dbs, errs := listing(Glob(filepath.Join(root, pattern)).Discover(t.Context()))
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
		dbs, errs := listing(Glob(root+"/{{p}}/"+long+"/x.db", root+"/*/*.db").Discover(t.Context()))
		wantIDs(t, dbs, "a/x", "b/x")
		if len(errs) != 2 || !errors.Is(errs[0], syscall.ENAMETOOLONG) || !strings.Contains(errs[0].Error(), root) {
			t.Errorf("got %v", errs)
		}
	})
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EIO, syscall.EMFILE} {
		t.Run(errno.Error()+" when it is opened", func(t *testing.T) {
			root := t.TempDir()
			makeFiles(t, root, "a/x.db", "b/x.db", "c/x.db")
			g := Glob(root + "/*/*.db")
			g.open = func(path string) (directory, error) {
				if filepath.Base(path) == "b" {
					return nil, &fs.PathError{Op: "open", Path: path, Err: errno}
				}
				return openDirectory(path)
			}
			dbs, errs := listing(g.Discover(t.Context()))
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
			g := Glob(root + "/*/*.db")
			g.open = func(path string) (directory, error) {
				dir, err := openDirectory(path)
				if filepath.Base(path) == "b" {
					return &brokenDirectory{dir, call, &closed}, err
				}
				return dir, err
			}
			dbs, errs := listing(g.Discover(t.Context()))
			dbs = slices.DeleteFunc(dbs, func(db Database) bool { return db.ID == "b/x" }) // it may have been read before
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
			dbs, errs := listing(Glob(root+missing, root+"/here/*.db").Discover(t.Context()))
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
			g := Glob(root + "/*/*.db")
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
			dbs, errs := listing(g.Discover(t.Context()))
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
	g := Glob(root + "/*/*.db")
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

func TestTheEndOfTheContextEndsTheListing(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db", "b.db", "c.db", "d.db")
	var static []Database
	for _, name := range []string{"a", "b", "c", "d"} {
		static = append(static, Database{ID: ID(name), Path: root + "/" + name + ".db"})
	}
	for name, d := range map[string]Discoverer{"glob": Glob(root+"/*.db", root+"/*.x"), "static": Static(static...)} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dbs := 0
			var errs []error
			for _, err := range d.Discover(ctx) {
				if err != nil {
					errs = append(errs, err)
					continue
				}
				if dbs++; dbs == 2 {
					cancel()
				}
			}
			if dbs != 2 || len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
				t.Errorf("got %d databases and %v", dbs, errs)
			}
		})
	}
}

func TestTheCallerCanStopAtAnyPair(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db", "b.db", "h.db", "p/c.db", "p/d.db")
	must(t, os.Symlink("nowhere", filepath.Join(root, "l.db")))
	must(t, os.Link(filepath.Join(root, "h.db"), filepath.Join(root, "i.db")))
	d := Glob(root+"/*.db", root+"/gone/*.db", root+"/*/*.db", root+"/p/{{database}}.db")
	pairs := 0
	for range d.Discover(t.Context()) {
		pairs++
	}
	if pairs < 6 {
		t.Fatalf("only %d pairs", pairs)
	}
	for stop := range pairs {
		n := 0
		for range d.Discover(t.Context()) { // a call of yield after the stop panics
			if n++; n > stop {
				break
			}
		}
	}
}

func TestNothingIsYieldedAfterTheCallerStopped(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db", "b.db")
	g := Glob(root + "/*.db")
	g.open = func(path string) (directory, error) {
		dir, err := openDirectory(path)
		return &cutShort{dir}, err
	}
	for range g.Discover(t.Context()) { // a call of yield after the stop panics
		break
	}
	dbs, errs := listing(g.Discover(t.Context()))
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

func TestTwoFilesWithOneIDAreAConflict(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a/x.db", "a/y.db", "b/x.db")
	dbs, errs := listing(Glob(root+"/a/{{n}}.db", root+"/b/{{n}}.db").Discover(t.Context()))
	wantIDs(t, dbs, "x", "y")
	if dbs[0].Path != root+"/a/x.db" {
		t.Errorf("the first pattern lost: %q", dbs[0].Path)
	}
	if len(errs) != 1 {
		t.Fatalf("got %v", errs)
	}
	wantError(t, errs[0], ErrConflict, root+"/a/x.db")
	wantError(t, errs[0], ErrConflict, root+"/b/x.db")
}

func TestAnExcludedDirectoryIsNotEntered(t *testing.T) {
	for pattern, want := range map[string]string{"/*/*.db": "a/x", "/*/x.db": "a"} {
		t.Run(pattern, func(t *testing.T) {
			base := t.TempDir()
			root := base + "/root"
			makeFiles(t, root, "a/x.db", "state/x.db", "state/sub/x.db")
			must(t, os.Symlink("state", root+"/link"))
			must(t, os.Symlink("state/sub", root+"/deep"))
			makeFiles(t, root, "b/")
			must(t, os.Symlink("../state/x.db", root+"/b/x.db"))
			must(t, os.Symlink("root", base+"/alias"))
			g := Glob(root + pattern)
			all, errs := listing(g.Discover(t.Context()))
			if len(all) != 3 || len(errs) > 0 {
				t.Errorf("without exclusion: %v, %v", all, errs)
			}
			wantListing(t, g.excluding(root+"/state"), want)
			wantListing(t, g.excluding(base+"/alias/state"), want)
			wantListing(t, Glob(base+"/alias"+pattern).excluding(root+"/state"), want)
			if again, _ := listing(g.Discover(t.Context())); len(again) != 3 {
				t.Error("the original was changed")
			}
			if again, errs := listing(g.excluding(root + "/none").Discover(t.Context())); len(again) != 3 || len(errs) > 0 {
				t.Errorf("a directory that does not exist: %v, %v", again, errs)
			}
		})
	}
}

func TestNothingIsListedIfTheExcludedDirectoryIsUnknown(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db")
	must(t, os.Symlink("loop", root+"/loop"))
	dbs, errs := listing(Glob(root + "/*.db").excluding(root + "/loop").Discover(t.Context()))
	if len(dbs) > 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "excluded directory: ") {
		t.Errorf("got %v, %v", dbs, errs)
	}
}

func TestOneGlobServesManyListingsAtOnce(t *testing.T) {
	root := t.TempDir()
	for i := range 50 {
		makeFiles(t, root, fmt.Sprintf("p%d/x.db", i))
	}
	g := Glob(root + "/*/*.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if dbs, errs := listing(g.excluding(root + "/p0").Discover(t.Context())); len(dbs) != 49 || len(errs) > 0 {
				t.Errorf("got %d databases, %v", len(dbs), errs)
			}
		})
	}
	wg.Wait()
}

func TestAWrongGlobIsReportedByValidate(t *testing.T) {
	wantError(t, Glob().validate(), ErrInvalidOption, "Glob has no pattern; write for example")
	g := Glob("/data/**", "/data/*.db", "/x/{{a")
	wantError(t, g.validate(), ErrInvalidOption, "byte 6: **")
	wantError(t, g.validate(), ErrInvalidOption, "byte 3: {{ is not closed")
	dbs, errs := listing(g.Discover(t.Context()))
	if len(dbs) > 0 || len(errs) != 1 || !errors.Is(errs[0], ErrInvalidOption) {
		t.Errorf("listed: %v, %v", dbs, errs)
	}
	must(t, Glob("/data/*.db").validate())
	if Glob().Root() != "" || Glob("/data/*.db", "/x/*").Root() != "/data" {
		t.Error("Root is not that of the first pattern")
	}
}

func TestAVariableThatAPatternDoesNotCaptureIsRefused(t *testing.T) {
	g := Glob("/a/{{project}}/{{database}}.db", "/b/{{database}}.db")
	must(t, g.CheckVars([]string{"database", "name", "path"}))
	wantError(t, g.CheckVars([]string{"project", "database"}), ErrInvalidOption,
		`pattern "/b/{{database}}.db" does not capture {{project}}; there are {{database}}, {{name}}, {{path}}`)
	s := Static(Database{ID: "1", Path: "/1", Vars: []Var{{"a", "x"}}}, Database{ID: "2", Path: "/2"})
	must(t, s.(DiscovererVars).CheckVars([]string{"name"}))
	wantError(t, s.(DiscovererVars).CheckVars([]string{"a"}), ErrInvalidOption, `database "2" has no {{a}}; there are {{name}}, {{path}}`)
}

func TestAnIDIsLocatedByTheFirstPatternThatAllowsIt(t *testing.T) {
	g := Glob("/a/{{x}}.db", "/b/{{x}}/{{y}}.db", "/c/{{x}}/{{y}}.db")
	for id, want := range map[ID]string{"1": "/a/1.db", "1/2": "/b/1/2.db"} {
		if db, ok := g.Locate(id); !ok || db.Path != want || db.ID != id {
			t.Errorf("%s: got %+v, %v", id, db, ok)
		}
	}
	for _, id := range []ID{"", "..", "1/2/3"} {
		if db, ok := g.Locate(id); ok {
			t.Errorf("%q is located at %q", id, db.Path)
		}
	}
}

func TestStaticListsTheDatabasesThatExist(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db")
	at := time.Unix(7, 0)
	vars := []Var{{"k", "v"}}
	s := Static(Database{ID: "a", Path: root + "/./a.db", Vars: vars, RelPath: "rel", ModTime: at}, Database{ID: "b", Path: root + "/b.db"})
	vars[0].Value = "changed"
	db := wantListing(t, s, "a")[0]
	if db.Path != root+"/a.db" || db.RelPath != "rel" || !db.ModTime.Equal(at) || db.Vars[0].Value != "v" {
		t.Errorf("got %+v", db)
	}
	if db, ok := s.(DiscovererLocator).Locate("b"); !ok || db.Path != root+"/b.db" {
		t.Errorf("located: %+v, %v", db, ok)
	}
	if _, ok := s.(DiscovererLocator).Locate("c"); ok {
		t.Error("c is located")
	}
	if got := s.(DiscovererRoot).Root(); got != root {
		t.Errorf("the root is %q", got)
	}
	makeFiles(t, root, "b.db")
	wantListing(t, s, "a", "b")
}

func TestAStaticDatabaseInAMissingDirectoryIsAnError(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db")
	must(t, os.Symlink("nowhere", root+"/l.db"))
	dbs, errs := listing(Static(Database{ID: "1", Path: root + "/gone/x.db"}, Database{ID: "2", Path: root + "/l.db"},
		Database{ID: "3", Path: root + "/a.db"}).Discover(t.Context()))
	wantIDs(t, dbs, "3")
	if len(errs) != 2 || !errors.Is(errs[0], fs.ErrNotExist) || !errors.Is(errs[1], fs.ErrNotExist) {
		t.Errorf("got %v", errs)
	}
}

func TestAWrongStaticListIsReportedByValidate(t *testing.T) {
	for want, dbs := range map[string][]Database{
		"has no ID":                 {{Path: "/a"}},
		`two databases have the ID`: {{ID: "a", Path: "/a"}, {ID: "a", Path: "/b"}},
		"is not absolute":           {{ID: "a", Path: "a"}},
		"belongs to a database":     {{ID: "a", Path: "/a.db-wal"}},
	} {
		t.Run(want, func(t *testing.T) {
			s := Static(dbs...)
			wantError(t, s.(validator).validate(), ErrInvalidOption, want)
			if dbs, errs := listing(s.Discover(t.Context())); len(dbs) > 0 || len(errs) != 1 {
				t.Errorf("listed: %v, %v", dbs, errs)
			}
		})
	}
	must(t, Static().(validator).validate())
}

// The yardstick does the same stats; Glob should stay within 1.5 times its time.
func BenchmarkDiscovery(b *testing.B) {
	root := b.TempDir()
	for i := range 100 {
		for j := range 100 {
			makeFiles(b, root, fmt.Sprintf("p%d/databases/db%d.db", i, j))
		}
	}
	b.Run("glob", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for _, err := range Glob(root + "/*/databases/*.db").Discover(b.Context()) {
				must(b, err)
				n++
			}
			if n != 10_000 {
				b.Fatal(n)
			}
		}
	})
	b.Run("walkdir", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			must(b, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				n++
				_, err = d.Info()
				return err
			}))
			if n != 10_000 {
				b.Fatal(n)
			}
		}
	})
}
