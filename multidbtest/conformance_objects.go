package multidbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// ObjectsOption says what TestReplicaObjects does.
type ObjectsOption func(*objectsSuite)

// ListedObjects is how many objects the test of listings creates, at least 20. 0: 1,100,
// more than S3 lists in an answer. A slow store takes fewer.
func ListedObjects(n int) ObjectsOption { return func(s *objectsSuite) { s.listed = n } }

// TestReplicaObjects proves that a factory's multidb.ReplicaObjects, which it must
// implement, does what a fleet log counts on.
//
// newFactory is called once per subtest and may use t.Cleanup. Every subtest has a
// directory of its own, "multidbtest-<random>/a b", and deletes what it created in it.
func TestReplicaObjects(t *testing.T, newFactory func(t *testing.T) multidb.ReplicaFactory, opts ...ObjectsOption) {
	var suite objectsSuite
	for _, opt := range opts {
		opt(&suite)
	}
	if suite.listed == 0 {
		suite.listed = 1100
	}
	for _, test := range []struct {
		name string
		run  func(*objectsTest)
	}{
		{"an object is created once and left alone from then on", testObjectCreateOnly},
		{"of two that create one object exactly one wins", testObjectRace},
		{"what a lost race created can be read", testObjectRaceRead},
		{"an object is read back byte for byte, whatever its size", testObjectSizes},
		{"any range of an object can be read, to the end and behind it", testObjectRanges},
		{"what is not there is fs.ErrNotExist", testObjectMissing},
		{"a listing is in the order of bytes and starts behind after", testObjectListing},
		{"a listing goes on over many objects", testObjectListingMany},
		{"a listing that is left early ends", testObjectListingLeft},
		{"directories are apart", testObjectDirectories},
		{"deleting minds nothing missing, and a deleted name is free", testObjectDelete},
		{"names may have any character that text has", testObjectNames},
		{"a wrong name or range is refused", testObjectWrongNames},
		{"an ended context ends every call", testObjectContext},
		{"the caller's bytes are its own again", testObjectBytes},
		{"a listing says how large and how old an object is", testObjectInfo},
		{"the directory of a database leads back to it", testObjectDatabase},
		{"an object is created from a reader, once and whole or not at all", testObjectFrom},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
			defer cancel()
			factory, ok := newFactory(t).(multidb.ReplicaObjects)
			if !ok {
				t.Fatal("the factory is no multidb.ReplicaObjects")
			}
			o := &objectsTest{T: t, ctx: ctx, suite: &suite, factory: factory, dir: "multidbtest-" + strconv.FormatUint(rand.Uint64(), 36) + "/a b"}
			o.store = o.open(o.dir)
			test.run(o)
		})
	}
}

type objectsSuite struct{ listed int }

// objectsTest is one subtest: a directory, and short forms of what tests do.
type objectsTest struct {
	*testing.T
	ctx     context.Context
	suite   *objectsSuite
	factory multidb.ReplicaObjects
	dir     string
	store   multidb.ObjectStore
}

// open returns the objects of a directory, which is emptied at the end.
func (t *objectsTest) open(dir string) multidb.ObjectStore {
	t.Helper()
	s, err := t.factory.Objects(dir)
	if err != nil {
		t.Fatalf("Objects(%q): %v", dir, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), suiteTimeout)
		defer cancel()
		var names []string
		for info, err := range s.List(ctx, "", "") {
			if err != nil {
				t.Errorf("list what is to be deleted: %v", err)
				return
			}
			names = append(names, info.Name)
		}
		if err := s.Delete(ctx, names...); err != nil {
			t.Errorf("delete what was created: %v", err)
		}
	})
	return s
}

func (t *objectsTest) create(name string, data []byte) {
	t.Helper()
	if err := t.store.Create(t.ctx, name, data); err != nil {
		t.Fatalf("create %q: %v", name, err)
	}
}

func readObject(ctx context.Context, s multidb.ObjectStore, name string, offset, size int64) ([]byte, error) {
	rc, err := s.Open(ctx, name, offset, size)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(rc)
	return data, errors.Join(err, rc.Close())
}

func (t *objectsTest) wantObject(name string, want []byte) {
	t.Helper()
	t.wantRange(name, 0, 0, want)
}

func (t *objectsTest) wantRange(name string, offset, size int64, want []byte) {
	t.Helper()
	got, err := readObject(t.ctx, t.store, name, offset, size)
	if err != nil {
		t.Errorf("read %q, %d bytes at %d: %v", name, size, offset, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("read %q, %d bytes at %d: got %d bytes that are not the %d wanted", name, size, offset, len(got), len(want))
	}
}

func (t *objectsTest) names(prefix, after string) []string {
	t.Helper()
	return t.namesOf(t.store, prefix, after)
}

func (t *objectsTest) namesOf(s multidb.ObjectStore, prefix, after string) (names []string) {
	t.Helper()
	for info, err := range s.List(t.ctx, prefix, after) {
		if err != nil {
			t.Fatalf("list %q behind %q: %v", prefix, after, err)
		}
		names = append(names, info.Name)
	}
	return names
}

func (t *objectsTest) wantNames(prefix, after string, want ...string) {
	t.Helper()
	if got := t.names(prefix, after); !slices.Equal(got, want) {
		t.Errorf("list %q behind %q: %q, want %q", prefix, after, got, want)
	}
}

// objectBytes returns n bytes that differ from those of another seed.
func objectBytes(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func testObjectCreateOnly(t *objectsTest) {
	first := objectBytes(100, 1)
	t.create("log/1", first)
	second, err := t.factory.Objects(t.dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []multidb.ObjectStore{t.store, second} {
		for _, data := range [][]byte{objectBytes(100, 2), first, nil, objectBytes(1000, 1)} { // the same bytes are refused too
			if err := s.Create(t.ctx, "log/1", data); !errors.Is(err, fs.ErrExist) {
				t.Errorf("store %d, create again with %d bytes: error is %v, want fs.ErrExist", i, len(data), err)
			}
			t.wantObject("log/1", first)
		}
	}
	t.wantNames("", "", "log/1")
}

const objectRounds = 50

// race lets two stores create one object at once, and returns the winner.
func (t *objectsTest) race(name string, data [2][]byte) (winner int) {
	t.Helper()
	second, err := t.factory.Objects(t.dir)
	if err != nil {
		t.Fatal(err)
	}
	var (
		errs  [2]error
		start = make(chan struct{})
		wg    sync.WaitGroup
	)
	for i, s := range []multidb.ObjectStore{t.store, second} {
		wg.Go(func() {
			<-start
			errs[i] = s.Create(t.ctx, name, data[i])
		})
	}
	close(start)
	wg.Wait()
	for i := range errs {
		if errs[i] == nil && errors.Is(errs[1-i], fs.ErrExist) {
			return i
		}
	}
	t.Fatalf("%s: the creators got %v and %v; want one nil and one fs.ErrExist", name, errs[0], errs[1])
	return 0
}

func testObjectRace(t *objectsTest) {
	for round := range objectRounds {
		// In every other round in a directory that does not exist yet.
		name := fmt.Sprintf("%d/%08d", round/2, round)
		data := [2][]byte{objectBytes(200, 1), objectBytes(200+round%2, 2)}
		winner := t.race(name, data)
		t.wantObject(name, data[winner])
	}
}

func testObjectRaceRead(t *objectsTest) {
	for round := range 10 {
		name, data := fmt.Sprintf("%08d", round), objectBytes(64<<10, 3)
		ctx, cancel := context.WithCancel(t.ctx)
		var wg sync.WaitGroup
		wg.Go(func() { // an object is seen whole or not at all
			for ctx.Err() == nil {
				got, err := readObject(ctx, t.store, name, 0, 0)
				if err == nil && !bytes.Equal(got, data) {
					t.Errorf("%s: a reader saw %d bytes of %d", name, len(got), len(data))
				} else if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
					t.Errorf("%s: a reader got %v", name, err)
				}
			}
		})
		var errs [4]error
		var creators sync.WaitGroup
		for i := range errs {
			creators.Go(func() { // who is refused finds the object there
				errs[i] = t.store.Create(t.ctx, name, data)
				got, err := readObject(t.ctx, t.store, name, 0, 0)
				for n := 0; errors.Is(err, fs.ErrNotExist) && errors.Is(errs[i], fs.ErrExist) && n < 100; n++ {
					// versitygw refuses some before the winner's file has its name.
					got, err = readObject(t.ctx, t.store, name, 0, 0)
				}
				if err != nil || !bytes.Equal(got, data) {
					errs[i] = fmt.Errorf("after a create that ended with %v: %d bytes, %v", errs[i], len(got), err)
				}
			})
		}
		creators.Wait()
		cancel()
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d of %d creators of the same bytes won", name, won, len(errs))
		}
	}
}

func testObjectSizes(t *objectsTest) {
	for i, n := range []int{0, 1, 4096, 64<<10 + 1, 1 << 20, 20 << 20} {
		name, data := fmt.Sprintf("%d/%d", i, n), objectBytes(n, byte(i))
		t.create(name, data)
		t.wantObject(name, data)
		if n > 0 {
			t.wantRange(name, int64(n/2), 0, data[n/2:])
			t.wantRange(name, -1, 0, data[n-1:])
		}
	}
	// An empty object is there, and has no byte in any range.
	for _, offset := range []int64{0, 1, 100, -1, -100} {
		for _, size := range []int64{0, 1, 100} {
			t.wantRange("0/0", offset, size, nil)
		}
	}
	if err := t.store.Create(t.ctx, "0/0", []byte("x")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create an empty object again: error is %v, want fs.ErrExist", err)
	}
}

func testObjectRanges(t *objectsTest) {
	data := objectBytes(1000, 1)
	t.create("x", data)
	for _, offset := range []int64{0, 1, 500, 998, 999, 1000, 1001, 5000, -1, -2, -500, -999, -1000, -1001, -5000} {
		from := min(offset, 1000)
		if offset < 0 {
			from = max(0, 1000+offset)
		}
		for _, size := range []int64{0, 1, 2, 499, 500, 501, 999, 1000, 1001, 1 << 40, 1<<63 - 1} {
			to := int64(1000)
			if size > 0 && size < to-from {
				to = from + size
			}
			t.wantRange("x", offset, size, data[from:to])
		}
	}
}

func testObjectMissing(t *objectsTest) {
	t.wantNames("", "")
	t.create("a/b", []byte("x"))
	for _, name := range []string{"b", "a/c", "a", "a/b/c", "c/d/e"} {
		for _, offset := range []int64{0, 10, -10} {
			if _, err := readObject(t.ctx, t.store, name, offset, 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("read %q at %d: error is %v, want fs.ErrNotExist", name, offset, err)
			}
		}
	}
}

func testObjectListing(t *objectsTest) {
	// What stands around a slash is where an order by directories would differ, and
	// behind z where one by UTF-16 would.
	sorted := []string{"a-b/1", "a.b", "a/1", "a/10", "a/2", "a/b/c", "a/b0", "a0", "ab", "b", "z", "é", "\uffee", "\U0001f600"}
	for _, i := range rand.Perm(len(sorted)) {
		t.create(sorted[i], []byte(sorted[i]))
	}
	t.wantNames("", "", sorted...)
	for _, prefix := range []string{"", "a", "a/", "a/1", "a/b", "a/b/", "b", "b/", "c", "\U0001f600", "a-", "a/b/c/d"} {
		for _, after := range append([]string{"", "a", "a/", "a/0", "a/1/x", "a/b/", "a/b/d", "a/c", "a1", "zz", "\U0001f601"}, sorted...) {
			var want []string
			for _, name := range sorted {
				if len(name) >= len(prefix) && name[:len(prefix)] == prefix && name > after {
					want = append(want, name)
				}
			}
			t.wantNames(prefix, after, want...)
		}
	}
}

func testObjectListingMany(t *objectsTest) {
	var all []string
	for i := range t.suite.listed {
		all = append(all, fmt.Sprintf("%d/%016x", i*3/t.suite.listed, i))
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(all) && errs[w] == nil; i += len(errs) {
				errs[w] = t.store.Create(t.ctx, all[i], []byte{byte(i)})
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	want := func(prefix, after string, names []string) {
		t.Helper()
		if got := t.names(prefix, after); !slices.Equal(got, names) {
			t.Errorf("list %q behind %q: %d names, want %d in order", prefix, after, len(got), len(names))
		}
	}
	want("", "", all)
	n := len(all)
	for _, i := range []int{0, 1, n / 3, n / 2, n - 2, n - 1} {
		want("", all[i], all[i+1:])
	}
	first := slices.IndexFunc(all, func(name string) bool { return name[0] == '1' })
	last := slices.IndexFunc(all, func(name string) bool { return name[0] == '2' })
	want("1/", all[first-1], all[first:last])
	want("1/", all[first], all[first+1:last])
	if err := t.store.Delete(t.ctx, all...); err != nil {
		t.Fatalf("delete %d objects at once: %v", n, err)
	}
	t.wantNames("", "")
}

func testObjectListingLeft(t *objectsTest) {
	for i := range 5 {
		t.create(fmt.Sprintf("%d/x", i), nil)
	}
	var got []string
	for info, err := range t.store.List(t.ctx, "", "0/x") {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, info.Name); len(got) == 2 {
			break
		}
	}
	if !slices.Equal(got, []string{"1/x", "2/x"}) {
		t.Errorf("the first two names are %q", got)
	}
	// A listing can be made anew, also while another goes on.
	listing := t.store.List(t.ctx, "", "")
	n := 0
	for _, err := range listing {
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range listing {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	if n != 25 {
		t.Errorf("five listings of five objects in a listing have %d", n)
	}
}

func testObjectDirectories(t *objectsTest) {
	t.create("x/y", []byte("1"))
	for _, dir := range []string{t.dir + "2", t.dir + "/z", "multidbtest-" + strconv.FormatUint(rand.Uint64(), 36)} {
		s := t.open(dir)
		if got := t.namesOf(s, "", ""); len(got) > 0 {
			t.Errorf("%q has %q", dir, got)
		}
		if err := s.Create(t.ctx, "x/y", []byte("2")); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
		if err := s.Delete(t.ctx, "x/y"); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
	}
	t.wantObject("x/y", []byte("1"))
	t.wantNames("", "", "x/y")
	for _, dir := range []string{"", ".", "/", "/a", "a/", "a//b", "../a", "a/../b", "a\x00b", "a\rb", "a\xff"} {
		if _, err := t.factory.Objects(dir); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Objects(%q): error is %v, want fs.ErrInvalid", dir, err)
		}
	}
}

func testObjectDelete(t *objectsTest) {
	if err := t.store.Delete(t.ctx); err != nil {
		t.Errorf("delete nothing: %v", err)
	}
	if err := t.store.Delete(t.ctx, "never/there"); err != nil {
		t.Errorf("delete from what is empty: %v", err)
	}
	for _, name := range []string{"a/1", "a/2", "a/3", "b"} {
		t.create(name, []byte(name))
	}
	for range 2 {
		// "a" and "b/c" are a directory and what is below an object: no objects.
		if err := t.store.Delete(t.ctx, "a/1", "none", "a", "b/c", "a/3", "a/1"); err != nil {
			t.Errorf("delete: %v", err)
		}
		t.wantNames("", "", "a/2", "b")
	}
	if _, err := readObject(t.ctx, t.store, "a/1", 0, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read what was deleted: error is %v, want fs.ErrNotExist", err)
	}
	t.wantObject("a/2", []byte("a/2"))
	t.create("a/1", []byte("again"))
	t.wantObject("a/1", []byte("again"))
	if err := t.store.Delete(t.ctx, "a/1", "a/2"); err != nil {
		t.Errorf("delete the last of a directory: %v", err)
	}
	t.create("a/2", []byte("again"))
	t.wantNames("", "", "a/2", "b")
}

func testObjectNames(t *objectsTest) {
	names := []string{
		"a b", "a+b", "a%20b", "a%2Fb", "a&b=c", "a?b#c", `a"b'c`, "a<b>c", "a;b:c,d", "a@b$c!", "~a*(b)", "{a}[b]|^`",
		`a\b`, " a ", "é", "日本/語", "\U0001f600", "...", "..a", "-", "con", "e\u0301x",
	}
	for i, name := range names {
		t.create(name, []byte{byte(i)})
		t.create("d/"+name+"/x", []byte{byte(i), 1})
	}
	var want []string
	for i, name := range names {
		t.wantObject(name, []byte{byte(i)})
		t.wantObject("d/"+name+"/x", []byte{byte(i), 1})
		t.wantNames("d/"+name+"/", "d/"+name, "d/"+name+"/x")
		if err := t.store.Create(t.ctx, name, nil); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create %q again: error is %v, want fs.ErrExist", name, err)
		}
		want = append(want, name, "d/"+name+"/x")
	}
	slices.Sort(want)
	t.wantNames("", "", want...)
	if err := t.store.Delete(t.ctx, want...); err != nil {
		t.Error(err)
	}
	t.wantNames("", "")
}

func testObjectWrongNames(t *objectsTest) {
	for _, name := range []string{"", ".", "..", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\x00b", "a\rb", "a\nb", "\xff",
		".multidb-replica", ".multidb-check-x/a", "a/.multidb-x", "a.tmp", "a.tmp/b"} {
		_, openErr := t.store.Open(t.ctx, name, 0, 0)
		for call, err := range map[string]error{
			"Create": t.store.Create(t.ctx, name, nil),
			"Open":   openErr,
			"Delete": t.store.Delete(t.ctx, "fine", name),
		} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s of %q: error is %v, want fs.ErrInvalid", call, name, err)
			}
		}
	}
	t.create("a", []byte("x"))
	if _, err := t.store.Open(t.ctx, "a", 0, -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a negative size: error is %v, want fs.ErrInvalid", err)
	}
	for _, wrong := range []string{"\x00", "a\r", "\xff"} {
		for _, args := range [][2]string{{wrong, ""}, {"", wrong}} {
			var got error
			for _, got = range t.store.List(t.ctx, args[0], args[1]) {
			}
			if !errors.Is(got, fs.ErrInvalid) {
				t.Errorf("list %q behind %q: error is %v, want fs.ErrInvalid", args[0], args[1], got)
			}
		}
	}
	t.wantNames("", "", "a")
}

func testObjectContext(t *objectsTest) {
	t.create("a", []byte("x"))
	ctx, cancel := context.WithCancel(t.ctx)
	rc, err := t.store.Open(ctx, "a", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = rc.Close()
	_, openErr := readObject(ctx, t.store, "a", 0, 0)
	var listErr error
	n := 0
	for _, listErr = range t.store.List(ctx, "", "") {
		n++
	}
	for call, err := range map[string]error{
		"Create": t.store.Create(ctx, "b", nil),
		"Open":   openErr,
		"List":   listErr,
		"Delete": t.store.Delete(ctx, "a"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error is %v, want context.Canceled", call, err)
		}
	}
	if n != 1 {
		t.Errorf("the listing has %d pairs, want the error alone", n)
	}
	t.wantNames("", "", "a")
	t.wantObject("a", []byte("x"))
}

func testObjectBytes(t *objectsTest) {
	data := []byte("the caller's")
	t.create("a", data)
	copy(data, "overwritten!")
	t.wantObject("a", []byte("the caller's"))
	got, err := readObject(t.ctx, t.store, "a", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "overwritten!")
	t.wantObject("a", []byte("the caller's"))
}

func testObjectInfo(t *objectsTest) {
	before := time.Now()
	t.create("a/empty", nil)
	t.create("a/large", make([]byte, 100_000))
	after := time.Now()
	sizes := map[string]int64{"a/empty": 0, "a/large": 100_000}
	for info, err := range t.store.List(t.ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != sizes[info.Name] {
			t.Errorf("%s has %d bytes, want %d", info.Name, info.Size, sizes[info.Name])
		}
		// S3 tells seconds, and its clock is another.
		if info.Created.Before(before.Add(-time.Minute)) || info.Created.After(after.Add(time.Minute)) {
			t.Errorf("%s was created at %v, in a call from %v to %v", info.Name, info.Created, before, after)
		}
	}
}

func testObjectDatabase(t *objectsTest) {
	dirs := map[string]bool{}
	for i := range 3 {
		name := fmt.Sprintf("%s-%d", strings.TrimSuffix(t.dir, "/a b"), i)
		db := multidb.Database{ID: multidb.ID(name), Path: "/data/" + name + ".db", RelPath: name + ".db"}
		if v, ok := t.factory.(multidb.ReplicaVars); ok {
			for _, v := range v.Vars() {
				if v != "name" && v != "path" { // which follow from the path
					db.Vars = append(db.Vars, multidb.Var{Name: v, Value: name})
				}
			}
		}
		dir, err := t.factory.Dir(db)
		if err != nil || !fs.ValidPath(dir) || dirs[dir] {
			t.Fatalf("Dir(%q) is %q, %v; want a path with slashes, of its own", db.ID, dir, err)
		}
		dirs[dir] = true
		back, err := t.factory.DatabaseAt(dir)
		if err != nil || back.ID == "" {
			t.Fatalf("DatabaseAt(%q) is %+v, %v", dir, back, err)
		}
		if again, err := t.factory.Dir(back); err != nil || again != dir {
			t.Errorf("%q leads to %+v, and that to %q, %v", dir, back, again, err)
		}
		// An object there is one of the prefix.
		objects := t.open(dir)
		if err := objects.Create(t.ctx, "multidbtest", []byte("a")); err != nil {
			t.Fatal(err)
		}
		if err := objects.Delete(t.ctx, "multidbtest"); err != nil {
			t.Fatal(err)
		}
	}
}

// wantExists creates an object that is there. A server may refuse a large body before it has
// read it, and end the connection, which leaves open what happened: then it is asked again,
// and the same bytes may be a success.
func (t *objectsTest) wantExists(how, name string, data []byte, same bool, from func() io.Reader) {
	t.Helper()
	large := len(data) > 1<<20
	var err error
	for range 5 {
		if err = t.store.CreateFrom(t.ctx, name, from(), int64(len(data))); !large || err == nil || errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if !errors.Is(err, fs.ErrExist) && !(err == nil && same && large) {
		t.Errorf("create %q %s: error is %v, want fs.ErrExist", name, how, err)
	}
}

func testObjectFrom(t *objectsTest) {
	for i, n := range []int{0, 1, 64<<10 + 1, 20 << 20} {
		data := objectBytes(n, byte(i))
		for kind, r := range map[string]io.Reader{
			"seekable": bytes.NewReader(append(bytes.Clone(data), "more"...)), // what is behind is left
			"stream":   onlyReader{bytes.NewReader(data)},
		} {
			name := fmt.Sprintf("%s/%d", kind, n)
			if err := t.store.CreateFrom(t.ctx, name, r, int64(n)); err != nil {
				t.Fatalf("create %q from a reader: %v", name, err)
			}
			t.wantObject(name, data)
			t.wantExists("again", name, data, true, func() io.Reader { return bytes.NewReader(data) })
			t.wantExists("again from a stream", name, data, true, func() io.Reader { return onlyReader{bytes.NewReader(data)} })
			if n > 0 {
				t.wantExists("again with other bytes", name, data[1:], false, func() io.Reader { return bytes.NewReader(data[1:]) })
			}
			t.wantObject(name, data)
		}
	}
	broken := errors.New("the source is broken")
	for _, n := range []int{0, 100, 9 << 20} {
		some := objectBytes(n, 9)
		if err := t.store.CreateFrom(t.ctx, "broken", onlyReader{io.MultiReader(bytes.NewReader(some), failingReader{broken})}, int64(n+100)); !errors.Is(err, broken) {
			t.Errorf("a source that breaks after %d bytes: error is %v, want its own", n, err)
		}
		for _, short := range []io.Reader{bytes.NewReader(some), onlyReader{bytes.NewReader(some)}} {
			if err := t.store.CreateFrom(t.ctx, "broken", short, int64(n+100)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a source that ends after %d bytes: error is %v, want io.ErrUnexpectedEOF", n, err)
			}
		}
	}
	if err := t.store.CreateFrom(t.ctx, "broken", bytes.NewReader(nil), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a negative size: error is %v, want fs.ErrInvalid", err)
	}
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	if err := t.store.CreateFrom(ctx, "broken", bytes.NewReader([]byte("x")), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: error is %v", err)
	}
	t.wantNames("broken", "")
	if err := t.store.CreateFrom(t.ctx, "broken", bytes.NewReader([]byte("x")), 1); err != nil {
		t.Errorf("after those that failed: %v", err)
	}
}
