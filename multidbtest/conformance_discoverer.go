package multidbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/multidb-go/multidb"
)

// DiscovererOption says what TestDiscoverer may expect.
type DiscovererOption func(*discovererSuite)

// OwnDatabases is for a Discoverer that ignores the root it is given, such as one
// that queries a table of tenants: it lists databases of its own, at least two.
func OwnDatabases() DiscovererOption {
	return func(s *discovererSuite) { s.own = true }
}

// TestDiscoverer proves that a multidb.Discoverer does what multidb relies on.
//
// newDiscoverer is called once per subtest, with a directory that holds twelve
// databases, <root>/<project>/databases/<database>.db, and the files that SQLite
// keeps beside some of them. The Discoverer has to list exactly these, unless
// the option OwnDatabases is given. It may use t.Cleanup.
func TestDiscoverer(t *testing.T, newDiscoverer func(t *testing.T, root string) multidb.Discoverer, opts ...DiscovererOption) {
	suite := discovererSuite{}
	for _, opt := range opts {
		opt(&suite)
	}
	for _, test := range []struct {
		name string
		run  func(*discovererTest)
	}{
		{"it lists every database and nothing else", testListsAll},
		{"IDs are unique and paths absolute", testIdentity},
		{"two listings are the same", testStable},
		{"an ended context is the error of the listing", testListingContext},
		{"a context that ends during a listing ends it", testListingContextDuring},
		{"a caller may stop early", testStopEarly},
		{"concurrent listings are the same", testConcurrentListings},
		{"a listing may be ranged over again", testRangeAgain},
		{"what it lists it locates", testLocate},
		{"its root is an absolute path", testRoot},
		{"what it could not list it names, or lists nothing as complete", testUnlisted},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
			defer cancel()
			root := t.TempDir()
			paths := makeDatabases(t, root)
			test.run(&discovererTest{T: t, ctx: ctx, suite: &suite, root: root, paths: paths, d: newDiscoverer(t, root)})
		})
	}
}

type discovererSuite struct{ own bool }

type discovererTest struct {
	*testing.T
	ctx   context.Context
	suite *discovererSuite
	d     multidb.Discoverer
	root  string
	paths []string // of the databases under the root, sorted
}

// makeDatabases fills root and returns the databases' paths, sorted.
func makeDatabases(t *testing.T, root string) []string {
	t.Helper()
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for p := range 3 {
		dir := filepath.Join(root, fmt.Sprintf("project%d", p), "databases")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for d := range 4 {
			path := filepath.Join(dir, fmt.Sprintf("db%d.db", d))
			write(path, "SQLite format 3\x00"+strings.Repeat("\x00", 84))
			paths = append(paths, path)
			if d == 1 {
				for _, suffix := range []string{"-wal", "-shm", "-journal"} {
					write(path+suffix, "beside a database")
				}
			}
		}
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

// list returns a whole listing, sorted by ID.
func (t *discovererTest) list() []multidb.Database {
	t.Helper()
	dbs, err := discover(t.ctx, t.d)
	if err != nil {
		t.Fatalf("listing: %v", err)
	}
	if len(dbs) < 2 {
		t.Fatalf("the listing has %d databases; the suite needs two", len(dbs))
	}
	return dbs
}

func discover(ctx context.Context, d multidb.Discoverer) ([]multidb.Database, error) {
	var (
		dbs  []multidb.Database
		errs []error
	)
	for db, err := range d.Discover(ctx) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		dbs = append(dbs, db)
	}
	slices.SortFunc(dbs, func(a, b multidb.Database) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return dbs, errors.Join(errs...)
}

func testListsAll(t *discovererTest) {
	if t.suite.own {
		t.Skip("it lists databases of its own")
	}
	var got []string
	for _, db := range t.list() {
		got = append(got, db.Path)
	}
	slices.Sort(got)
	if !slices.Equal(got, t.paths) {
		t.Errorf("it lists\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(t.paths, "\n"))
	}
}

func testIdentity(t *discovererTest) {
	ids, paths := make(map[multidb.ID]string), make(map[string]multidb.ID)
	for _, db := range t.list() {
		if db.ID.IsZero() {
			t.Errorf("%s has no ID", db.Path)
		}
		if !filepath.IsAbs(db.Path) || filepath.Clean(db.Path) != db.Path {
			t.Errorf("%s: the path %q is not absolute and clean", db.ID, db.Path)
		}
		if other, taken := ids[db.ID]; taken {
			t.Errorf("%s and %s have the ID %q", db.Path, other, db.ID)
		}
		if other, taken := paths[db.Path]; taken {
			t.Errorf("%s and %s have the path %q", db.ID, other, db.Path)
		}
		ids[db.ID], paths[db.Path] = db.Path, db.ID

		names := make(map[string]bool)
		for _, v := range db.Vars {
			if v.Name == "" || names[v.Name] {
				t.Errorf("%s: a variable without a name, or twice: %v", db.ID, db.Vars)
			}
			names[v.Name] = true
		}
	}
}

func testStable(t *discovererTest) {
	if first, second := t.list(), t.list(); !reflect.DeepEqual(first, second) {
		t.Errorf("first\n%v\nthen\n%v", first, second)
	}
}

func testListingContext(t *discovererTest) {
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	if _, err := discover(ctx, t.d); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled: who sees no error takes the listing for complete", err)
	}
}

func testListingContextDuring(t *discovererTest) {
	all := len(t.list())
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	var (
		n    int
		last error
	)
	for _, err := range t.d.Discover(ctx) {
		if err == nil {
			n++
		}
		last = err
		cancel()
	}
	// What was under way may be finished.
	if n < all && !errors.Is(last, context.Canceled) {
		t.Errorf("%d of %d databases, then the error %v; want context.Canceled last", n, all, last)
	}
}

func testStopEarly(t *discovererTest) {
	all := len(t.list())
	for stop := 1; stop <= all; stop++ {
		n := 0
		for _, err := range t.d.Discover(t.ctx) { // panics if the listing goes on
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == stop {
				break
			}
		}
	}
	if n := len(t.list()); n != all {
		t.Errorf("after listings that were stopped it has %d databases, want %d", n, all)
	}
}

func testConcurrentListings(t *discovererTest) {
	want := t.list()
	var (
		listings [4][]multidb.Database
		errs     [4]error
		wg       sync.WaitGroup
	)
	for i := range listings {
		wg.Go(func() { listings[i], errs[i] = discover(t.ctx, t.d) })
	}
	wg.Wait()
	for i := range listings {
		if errs[i] != nil || !reflect.DeepEqual(listings[i], want) {
			t.Errorf("listing %d: %v, %v\nwant %v", i, listings[i], errs[i], want)
		}
	}
}

func testRangeAgain(t *discovererTest) {
	want := len(t.list())
	seq := t.d.Discover(t.ctx)
	for range 2 {
		n := 0
		for _, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != want {
			t.Errorf("ranging over it gives %d databases, want %d", n, want)
		}
	}
}

func testLocate(t *discovererTest) {
	locator, ok := t.d.(multidb.DiscovererLocator)
	if !ok {
		t.Skip("it is no multidb.DiscovererLocator")
	}
	for _, want := range t.list() {
		got, ok := locator.Locate(want.ID)
		if !ok {
			t.Errorf("it does not locate %s, which it lists", want.ID)
			continue
		}
		gotRel, _ := got.Var("path")
		wantRel, _ := want.Var("path")
		if got.ID != want.ID || got.Path != want.Path || gotRel != wantRel || !slices.Equal(got.Vars, want.Vars) {
			t.Errorf("it locates %+v, and lists %+v", got, want)
		}
	}
}

func testRoot(t *discovererTest) {
	rooted, ok := t.d.(multidb.DiscovererRoot)
	if !ok || rooted.Root() == "" {
		t.Skip("it has no root")
	}
	if root := rooted.Root(); !filepath.IsAbs(root) || filepath.Clean(root) != root {
		t.Errorf("the root %q is not absolute and clean", root)
	}
}

// testUnlisted removes two directories: one leaves a dangling symlink, like a volume
// that is not mounted, the other leaves nothing.
func testUnlisted(t *discovererTest) {
	if t.suite.own {
		t.Skip("it lists databases of its own")
	}
	before := t.list()
	away := filepath.Join(t.TempDir(), "away")
	for _, project := range []string{"project1", "project2"} {
		if err := os.Rename(filepath.Join(t.root, project, "databases"), away+project); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(away, filepath.Join(t.root, "project1", "databases")); err != nil {
		t.Fatal(err)
	}
	listed := make(map[multidb.ID]bool)
	var paths []string
	for db, err := range t.d.Discover(t.ctx) {
		var part *multidb.UnlistedError
		switch {
		case err == nil:
			listed[db.ID] = true
			continue
		case !errors.As(err, &part):
			return // the listing is not complete, of anything
		}
		if len(part.Paths) == 0 || part.Err == nil {
			t.Errorf("an UnlistedError of the paths %q, since %v; want both", part.Paths, part.Err)
		}
		for _, p := range part.Paths {
			if !filepath.IsAbs(p) || filepath.Clean(p) != p {
				t.Errorf("an UnlistedError of %q; want a path that is absolute and clean", p)
			}
		}
		paths = append(paths, part.Paths...)
	}
	locator, _ := t.d.(multidb.DiscovererLocator)
	for _, db := range before {
		names := []string{db.Path}
		if locator != nil {
			at, _ := locator.Locate(db.ID)
			names = append(names, at.Path)
		}
		covered := slices.ContainsFunc(names, func(name string) bool {
			return slices.ContainsFunc(paths, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
		})
		// The second project's are gone, as far as anybody can tell.
		if !listed[db.ID] && !covered && filepath.Dir(db.Path) != filepath.Join(t.root, "project2", "databases") {
			t.Errorf("%s is neither listed nor below one of %q: the Manager lets go of it", db.Path, paths)
		}
	}
}
