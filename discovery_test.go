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

	"github.com/multidb-go/multidb/internal/discover/discovertest"
)

var makeFiles, must = discovertest.MakeFiles, discovertest.Must

func listedID(x Database) string { return string(x.ID) }

func listing(seq iter.Seq2[Database, error]) ([]Database, []error) {
	return discovertest.Collect(seq, listedID)
}

// wantListing lists and wants these IDs, sorted, and no error.
func wantListing(t *testing.T, d Discoverer, want ...string) []Database {
	t.Helper()
	return discovertest.Want(t, d.Discover(t.Context()), listedID, want...)
}

func wantIDs(t *testing.T, listed []Database, want ...string) {
	t.Helper()
	discovertest.WantIDs(t, listed, listedID, want...)
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
	const files = 1024 + 7 // more names than discover holds at once
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

// The yardstick does the same stats; Glob should stay within 1.5 times its time.
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
