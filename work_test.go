package multidb

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

func TestAColdDatabaseKeepsAllThatARunNeeds(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	some := func() int64 { return rng.Int64() >> rng.IntN(63) * int64(rng.IntN(3)-1) }
	stamp := func() (p fsid.Fingerprint) {
		if rng.IntN(3) > 0 {
			p = fsid.Fingerprint{Ino: rng.Uint64(), Size: some(), Mtime: some(), Ctime: some()}
		}
		return p
	}
	moment := func() time.Time {
		if rng.IntN(3) == 0 {
			return time.Time{}
		}
		return time.Unix(0, some())
	}
	for range 10_000 {
		var w work
		w.state = ship.State{TXID: ltx.TXID(rng.Uint64N(1 << 20)), PageSize: 4096, Commit: rng.Uint32(), Ino: rng.Uint64(), Print: stamp()}
		if rng.IntN(2) == 0 {
			w.state.Salt1, w.state.Salt2, w.state.Offset = rng.Uint32(), rng.Uint32(), some()
			w.state.Sum.S1, w.state.Sum.S2 = rng.Uint32(), rng.Uint32()
			if w.state.Known = rng.IntN(2) == 0; !w.state.Known {
				w.state.Back.Offset, w.state.Back.Sum.S1, w.state.Back.Sum.S2 = some(), rng.Uint32(), rng.Uint32()
			}
			w.state.SlotLen = uint8(rng.IntN(25))
			for i := range w.state.Slot {
				w.state.Slot[i] = byte(rng.Uint32())
			}
		}
		w.stat = fsid.Files{Main: w.state.Print, WAL: stamp()}
		if rng.IntN(2) == 0 {
			w.stat.Main = stamp()
		}
		w.clean, w.verified = rng.IntN(2) == 0, rng.IntN(2) == 0
		if w.modTime = w.stat.ModTime(); rng.IntN(2) == 0 {
			w.modTime = moment()
		}
		if w.young = rng.IntN(2) == 0; rng.IntN(2) == 0 {
			w.told = w.modTime
		}
		if w.retained = moment(); rng.IntN(2) == 0 {
			w.own = some()
		}
		if rng.IntN(2) == 0 {
			w.files = []byte("inventory")
		}
		var got work
		packed := w.pack()
		if err := got.unpack(packed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !got.modTime.Equal(w.modTime) || !got.retained.Equal(w.retained) || !got.told.Equal(w.told) {
			t.Fatalf("seed %d: times %v %v, want %v %v", seed, got.modTime, got.retained, w.modTime, w.retained)
		}
		got.modTime, got.retained, got.told = w.modTime, w.retained, w.told
		if !reflect.DeepEqual(got, w) {
			t.Fatalf("seed %d: %+v, want %+v", seed, got, w)
		}
		if err := got.unpack(packed[:rng.IntN(8)+1]); err == nil || !reflect.DeepEqual(got, work{}) {
			t.Fatalf("seed %d: half of it is taken for something: %v %+v", seed, err, got)
		}
	}
}

func TestAnEntryIsTheDatabaseThatWasFound(t *testing.T) {
	var mores []*knownMore
	for _, c := range []struct {
		db     Database
		prefix string
	}{
		{Database{ID: "project0/db0", Path: "/data/project0/databases/db0.db", Vars: []Var{{"project", "project0"}, {"database", "db0"}}, RelPath: "project0/databases/db0.db"}, "litestream/project0/db0/"},
		{Database{ID: "project1/db0", Path: "/data/project1/databases/db0.db", Vars: []Var{{"project", "project1"}, {"database", "db0"}}, RelPath: "project1/databases/db0.db"}, "litestream/project1/db0/"},
		{Database{ID: "a/s", Path: "/data/a/databases/s.db", Vars: []Var{{"project", "a"}, {"database", "s"}}, RelPath: "a/databases/s.db"}, "litestream/a/s/"},
		{Database{ID: "db0", Path: "/data/db0.db", Vars: []Var{{"database", "db0"}}, RelPath: "db0.db"}, "db0"},
		{Database{ID: "s", Path: "/data/s.db", Vars: []Var{{"database", "s"}}, RelPath: "s.db"}, "s"},
		{Database{ID: "db0", Path: "/data/db0.db", Vars: []Var{{"database", "db0"}}, RelPath: "db0.db"}, ""},
		{Database{ID: "db1", Path: "/data/db1.db", Vars: []Var{{"database", "db1"}}, RelPath: "db1.db"}, ""},
		{Database{ID: "x", Path: "/data/x.db", RelPath: "elsewhere/x.db"}, "p/x"},
		{Database{ID: "x/y", Path: "/data/x.db", Vars: []Var{{"tenant", "z"}}}, "p/x/y"},
		{Database{ID: "x/y", Path: "/data/x.db", Vars: []Var{{"tenant", "x"}}}, "y/x"},
		{Database{ID: "x", Path: "/data/x.db", Vars: []Var{{"tenant", "x"}, {"region", ""}}}, "xx"},
		{Database{ID: "a/b", Path: "/data/a/b.db", RelPath: "a/b.db"}, "a/b"},
	} {
		k := keep(c.db, c.prefix, &mores)
		if got := k.database(); !reflect.DeepEqual(got, c.db) {
			t.Errorf("%+v, want %+v", got, c.db)
		}
		if got := k.prefix().String(); got != c.prefix {
			t.Errorf("prefix %q, want %q", got, c.prefix)
		}
	}
	if len(mores) != 4 { // (project, database), (database), (database) without a prefix, none
		t.Errorf("%d common parts", len(mores))
	}
}

// The same text may be an ID with different things around it.
func TestPrefixesAreEqualByTheirText(t *testing.T) {
	seed := maphash.MakeSeed()
	same := []prefix{{"a/", "b", "/c/"}, {"a/b", "", "/c/"}, {"", "a/b/c/", ""}, {head: "a/b/c/"}}
	for _, p := range same {
		for _, q := range same {
			if !p.equal(q) || p.hash(seed) != q.hash(seed) || !p.is(q.String()) {
				t.Errorf("%q and %q are not equal", p, q)
			}
		}
		for _, q := range []prefix{{"a/", "x", "/c/"}, {head: "a/b/c"}, {head: "a/b/c//"}, {}} {
			if p.equal(q) || q.equal(p) || p.is(q.String()) {
				t.Errorf("%q and %q are equal", p, q)
			}
		}
	}
}

// The bytes of an entry are paid 100,000 times.
func TestAnEntryIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n > 208 {
		t.Errorf("an entry has %d bytes, more than its size class of 208", n)
	}
}

// TestARemovedEntryStillKnowsThatItHadAFile: an Acquire of it that is under way
// would otherwise make an empty one in its place. Nobody finds it by the file.
func TestARemovedEntryStillKnowsThatItHadAFile(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := started(t, WithDiscoverer(Glob(filepath.Join(root, "{{database}}.db"))), WithWatch(false), WithScanInterval(time.Hour))
	e, err := m.hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer m.letGo(e)
	file := e.file
	m.mu.Lock()
	known := m.files.Get(file) == e
	m.removeLocked(e)
	found := m.files.Get(file)
	m.unlock()
	if !known || found != nil {
		t.Errorf("found by its file: %v before, %v after", known, found)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := m.ensureFile(t.Context(), e); !errors.Is(err, ErrMissing) {
		t.Errorf("an Acquire under way: %v", err)
	}
}

// started is a Manager that is closed when the test ends.
func started(t *testing.T, opts ...Option) *Manager {
	t.Helper()
	m, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}
