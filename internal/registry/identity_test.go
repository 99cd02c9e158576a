package registry

import (
	"hash/maphash"
	"reflect"
	"testing"
)

// database is what a listing has.
type database struct {
	ID, Path string
	Vars     []Var
	RelPath  string
}

func TestAnIdentityIsTheDatabaseThatWasFound(t *testing.T) {
	var schemes Schemes
	for _, c := range []struct {
		db     database
		prefix string
	}{
		{database{ID: "project0/db0", Path: "/data/project0/databases/db0.db", Vars: []Var{{"project", "project0"}, {"database", "db0"}}, RelPath: "project0/databases/db0.db"}, "litestream/project0/db0/"},
		{database{ID: "project1/db0", Path: "/data/project1/databases/db0.db", Vars: []Var{{"project", "project1"}, {"database", "db0"}}, RelPath: "project1/databases/db0.db"}, "litestream/project1/db0/"},
		{database{ID: "a/s", Path: "/data/a/databases/s.db", Vars: []Var{{"project", "a"}, {"database", "s"}}, RelPath: "a/databases/s.db"}, "litestream/a/s/"},
		{database{ID: "db0", Path: "/data/db0.db", Vars: []Var{{"database", "db0"}}, RelPath: "db0.db"}, "db0"},
		{database{ID: "s", Path: "/data/s.db", Vars: []Var{{"database", "s"}}, RelPath: "s.db"}, "s"},
		{database{ID: "db0", Path: "/data/db0.db", Vars: []Var{{"database", "db0"}}, RelPath: "db0.db"}, ""},
		{database{ID: "db1", Path: "/data/db1.db", Vars: []Var{{"database", "db1"}}, RelPath: "db1.db"}, ""},
		{database{ID: "x", Path: "/data/x.db", RelPath: "elsewhere/x.db"}, "p/x"},
		{database{ID: "x/y", Path: "/data/x.db", Vars: []Var{{"tenant", "z"}}}, "p/x/y"},
		{database{ID: "x/y", Path: "/data/x.db", Vars: []Var{{"tenant", "x"}}}, "y/x"},
		{database{ID: "x", Path: "/data/x.db", Vars: []Var{{"tenant", "x"}, {"region", ""}}}, "xx"},
		{database{ID: "a/b", Path: "/data/a/b.db", RelPath: "a/b.db"}, "a/b"},
	} {
		k := Identify(&schemes, c.db.ID, c.db.Path, c.db.RelPath, c.db.Vars, c.prefix)
		if got := (database{k.ID, k.Path, VarsOf[Var](k), k.RelPath()}); !reflect.DeepEqual(got, c.db) {
			t.Errorf("%+v, want %+v", got, c.db)
		}
		if got := k.Prefix().String(); got != c.prefix {
			t.Errorf("prefix %q, want %q", got, c.prefix)
		}
	}
	if len(schemes.all) != 4 { // (project, database), (database), (database) without a prefix, none
		t.Errorf("%d common parts", len(schemes.all))
	}
}

// The same text may be an ID with different things around it.
func TestPrefixesAreEqualByTheirText(t *testing.T) {
	seed := maphash.MakeSeed()
	same := []Prefix{{"a/", "b", "/c/"}, {"a/b", "", "/c/"}, {"", "a/b/c/", ""}, {head: "a/b/c/"}}
	for _, p := range same {
		for _, q := range same {
			if !p.equal(q) || p.hash(seed) != q.hash(seed) || !p.is(q.String()) {
				t.Errorf("%q and %q are not equal", p, q)
			}
		}
		for _, q := range []Prefix{{"a/", "x", "/c/"}, {head: "a/b/c"}, {head: "a/b/c//"}, {}} {
			if p.equal(q) || q.equal(p) || p.is(q.String()) {
				t.Errorf("%q and %q are equal", p, q)
			}
		}
	}
}
