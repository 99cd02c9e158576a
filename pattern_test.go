package multidb

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustPattern(t *testing.T, s string) *Pattern {
	t.Helper()
	p, err := ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPatternCapturesTheValuesOfAPath(t *testing.T) {
	for _, tc := range []struct {
		name, pattern, path string
		want                string // name=value, space separated; "no" for no match
	}{
		{"named captures", "/data/{{project}}/databases/{{database}}.db", "/data/p0/databases/db0.db", "project=p0 database=db0"},
		{"plain stars by position", "/data/*/databases/*.db", "/data/p0/databases/db0.db", "project=p0 database=db0"},
		{"four plain stars", "/*/*/*/*", "/a/b/c/d", "project=a database=b branch=c tenant=d"},
		{"a star counts the captures before it", "/data/{{customer}}/*.db", "/data/c/x.db", "customer=c database=x"},
		{"a star beside a named project", "/data/{{project}}/*.db", "/data/p/x.db", "project=p database=x"},
		{"text before and after", "/d/db-{{database}}.sqlite", "/d/db-1.sqlite", "database=1"},
		{"two captures with text between take the first place", "/d/{{a}}-{{b}}.db", "/d/x-y-z.db", "a=x b=y-z"},
		{"a separator longer than a byte", "/d/{{a}}ab{{b}}", "/d/abab1", "a=ab b=1"},
		{"three captures in one segment", "/d/{{a}}.{{b}}.{{c}}", "/d/1.2.3.4", "a=1 b=2 c=3.4"},
		{"the extension twice", "/d/{{a}}.db", "/d/x.db.db", "a=x.db"},
		{"nothing captured", "/data/main.db", "/data/main.db", ""},
		{"doubled slashes and dots in the pattern", "/data//./x/../{{a}}.db", "/data/x.db", "a=x"},
		{"root", "/*", "/x", "project=x"},
		{"special characters are text", "/d/a?[b]#%'\" {c/{{a}} x", "/d/a?[b]#%'\" {c/y x", "a=y"},
		{"a question mark matches itself only", "/d/?.db", "/d/x.db", "no"},
		{"bytes that are not UTF-8", "/d/\xff/{{a}}.db", "/d/\xff/\xfe.db", "a=\xfe"},
		{"values with special characters", "/d/{{a}}.db", "/d/a ?#%'\"[*]{}\\.db", "a=a ?#%'\"[*]{}\\"},
		{"an empty value", "/d/{{a}}.db", "/d/.db", "no"},
		{"an empty value between", "/d/x{{a}}y{{b}}", "/d/xyz", "no"},
		{"an empty last value", "/d/x-{{a}}", "/d/x-", "no"},
		{"another extension", "/d/{{a}}.db", "/d/x.sqlite", "no"},
		{"too deep", "/d/{{a}}.db", "/d/x/y.db", "no"},
		{"not deep enough", "/d/{{a}}/{{b}}.db", "/d/x.db", "no"},
		{"another root", "/d/{{a}}.db", "/dd/x.db", "no"},
		{"a root that is only a prefix", "/d/{{a}}.db", "/dx.db", "no"},
		{"a hidden file", "/d/{{a}}.db", "/d/.x.db", "no"},
		{"a hidden directory", "/d/{{a}}/x.db", "/d/.a/x.db", "no"},
		{"a hidden name that the pattern spells out", "/d/.{{a}}.db", "/d/.x.db", "a=x"},
		{"a dot after text", "/d/x{{a}}", "/d/x.y", "a=.y"},
		{"a value of .", "/d/x{{a}}", "/d/x.", "no"},
		{"a value of ..", "/d/x{{a}}", "/d/x..", "no"},
		{"a directory of ..", "/d/{{a}}/x.db", "/d/../x.db", "no"},
		{"a WAL", "/d/*.db", "/d/x.db-wal", "no"},
		{"a WAL where everything matches", "/d/*", "/d/x.db-wal", "no"},
		{"NUL", "/d/*", "/d/a\x00b", "no"},
		{"a directory named like a journal", "/d/*/*.db", "/d/my-journal/x.db", "project=my-journal database=x"},
		{"a directory of litestream", "/d/.{{a}}/{{b}}.db", "/d/.x.db-litestream/y.db", "no"},
		{"a directory of multidb", "/d/.{{a}}/{{b}}.db", "/d/.multidb/y.db", "no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := mustPattern(t, tc.pattern)
			values, ok := p.Match(tc.path)
			var got []string
			for _, v := range values {
				got = append(got, v.Name+"="+v.Value)
			}
			text := strings.Join(got, " ")
			if !ok {
				text = "no"
			}
			if text != tc.want {
				t.Errorf("got %q, want %q", text, tc.want)
			}
			if p.String() != tc.pattern {
				t.Errorf("String: got %q", p.String())
			}
		})
	}
}

func TestTheRootIsTheLongestDirectoryWithoutCaptures(t *testing.T) {
	for pattern, want := range map[string]string{
		"/data/{{project}}/databases/{{database}}.db": "/data",
		"/data/a/b/{{c}}.db":                          "/data/a/b",
		"/data/a/x{{c}}/d/e.db":                       "/data/a",
		"/data/main.db":                               "/data",
		"/main.db":                                    "/",
		"/{{a}}/b.db":                                 "/",
		"/data/../x/*.db":                             "/x",
		"/../*.db":                                    "/",
	} {
		if got := mustPattern(t, pattern).Root(); got != want {
			t.Errorf("%s: got %s, want %s", pattern, got, want)
		}
	}
}

func TestTheCapturesOfAPatternAreListedInOrder(t *testing.T) {
	p := mustPattern(t, "/{{b}}/*/{{a}}.db")
	if got, want := p.Vars(), []string{"b", "database", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Vars()[0] = "changed"
	if p.Vars()[0] != "b" {
		t.Error("the caller changed the pattern")
	}
}

func TestARelativePatternIsMadeAbsoluteWhenItIsParsed(t *testing.T) {
	// A directory whose name has everything that means something in a pattern.
	dir := filepath.Join(t.TempDir(), `a*{{b}}\**`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	here := mustPattern(t, "sub/{{a}}.db")
	up := mustPattern(t, "../{{a}}.db")
	t.Chdir("/")
	if _, ok := here.Match(filepath.Join(dir, "sub", "x.db")); !ok || here.Root() != filepath.Join(dir, "sub") {
		t.Errorf("the root is %q", here.Root())
	}
	if up.Root() != filepath.Dir(dir) {
		t.Errorf("the root of .. is %q", up.Root())
	}
}

func TestAWrongPatternIsRefusedWithItsPosition(t *testing.T) {
	for _, tc := range []struct{ name, pattern, want string }{
		{"nothing", "", "byte 0: it is empty; write for example"},
		{"only the root", "/", "byte 0: it ends in a directory; add the name of the file"},
		{"a slash at the end", "/data/*/", "byte 7: it ends in a directory; add the name of the file"},
		{"a dot at the end", "/data/.", "byte 6: it ends in a directory"},
		{"two dots at the end", "/data/x/..", "byte 9: it ends in a directory"},
		{"a fifth star", "/*/*/*/*/*", "byte 9: a * has a name only up to the fourth capture; write {{name}}"},
		{"a star at the fifth capture", "/{{a}}/{{b}}/{{c}}/{{d}}/*", "byte 25: a * has a name only up to the fourth capture"},
		{"two stars", "/data/**/x.db", "byte 6: ** is not supported; write one * or {{name}} for each directory"},
		{"a name twice", "/{{a}}/{{a}}.db", "byte 7: {{a}} is captured twice; write another name"},
		{"a star that gives a name twice", "/{{database}}/*.db", "byte 14: this * would be a second {{database}}"},
		{"a name that a star has", "/*/{{project}}.db", "byte 3: {{project}} is captured twice"},
		{"captures side by side", "/d/{{a}}{{b}}", "byte 8: two captures in one segment need text between them"},
		{"a star beside a capture", "/d/*{{b}}", "byte 4: two captures in one segment need text between them"},
		{"a capture beside a star", "/d/{{b}}*", "byte 8: two captures in one segment need text between them"},
		{"the reserved name", "/d/{{path}}", "byte 3: {{path}} always exists"},
		{"a backslash", `C:\data\*.db`, "byte 2: a backslash is not supported"},
		{"NUL", "/d\x00/x", "byte 2: a path cannot have a NUL byte"},
		{".. after a capture", "/{{a}}/../x.db", "byte 7: .. after a capture is not supported"},
		{"open braces", "/d/{{a", "byte 3: {{ is not closed; write {{name}}"},
		{"empty braces", "/d/{{}}", "byte 3: no name between the braces"},
		{"single braces", "/d/{a}.db", "byte 3: a variable has two braces; write {{a}}"},
		{"only WALs", "/d/{{a}}.db-wal", "byte 3: it matches only files that belong to a database"},
		{"only our own files", "/d/.multidb{{a}}", "byte 3: it matches only files that belong to a database"},
		{"one journal", "/d/x-journal", "byte 3: it matches only files that belong to a database"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParsePattern(tc.pattern)
			wantError(t, err, ErrInvalidOption, tc.want)
		})
	}
}

func TestAnIDBecomesTheDatabaseItWouldBe(t *testing.T) {
	p := mustPattern(t, "/data/{{project}}/databases/{{database}}.db")
	db, ok := p.PathFor("project0/db0")
	if !ok {
		t.Fatal("refused")
	}
	if db.ID != "project0/db0" || db.Path != "/data/project0/databases/db0.db" || db.RelPath != "project0/databases/db0.db" ||
		!slices.Equal(db.Vars, []Var{{"project", "project0"}, {"database", "db0"}}) || !db.ModTime.IsZero() {
		t.Errorf("got %+v", db)
	}
	if db, ok := mustPattern(t, "/a/b/main.db").PathFor("main.db"); !ok || db.Path != "/a/b/main.db" {
		t.Errorf("without captures: %+v, %v", db, ok)
	}
	if db, ok := mustPattern(t, "/*/x.db").PathFor("a"); !ok || db.Path != "/a/x.db" {
		t.Errorf("below /: %+v, %v", db, ok)
	}
}

func TestAnIDThatNoFileCouldHaveIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name, pattern string
		id            ID
	}{
		{"an empty ID", "/d/{{a}}.db", ""},
		{"an empty ID where nothing is captured", "/d/main.db", ""},
		{"another file where nothing is captured", "/d/main.db", "other.db"},
		{"an empty value", "/d/{{a}}/{{b}}.db", "x/"},
		{"an empty first value", "/d/{{a}}/{{b}}.db", "/x"},
		{"too few values", "/d/{{a}}/{{b}}.db", "x"},
		{"too many values", "/d/{{a}}/{{b}}.db", "x/y/z"},
		{"a value of .", "/d/{{a}}/{{b}}.db", "./y"},
		{"a value of ..", "/d/{{a}}/{{b}}.db", "../y"},
		{"a value of .. after text", "/d/x{{a}}/{{b}}.db", "../y"},
		{"a hidden name", "/d/{{a}}.db", ".x"},
		{"NUL", "/d/{{a}}.db", "a\x00b"},
		{"a WAL", "/d/{{a}}", "x.db-wal"},
		{"our own file", "/d/.{{a}}", "multidb.db"},
		{"a value that Match would split elsewhere", "/d/{{a}}-{{b}}.db", "x-y/z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if db, ok := mustPattern(t, tc.pattern).PathFor(tc.id); ok {
				t.Errorf("became %+v", db)
			}
		})
	}
}

// Random patterns, values and names over an alphabet that makes accidents likely.
func TestPathForAndMatchAreInverses(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	word := func(letters string, most int) string {
		var b strings.Builder
		for range r.IntN(most + 1) {
			b.WriteByte(letters[r.IntN(len(letters))])
		}
		return b.String()
	}
	pathsFor, matches := 0, 0
	for range 50_000 {
		var source strings.Builder
		names := []string{"a", "b", "c", "d"}
		for range 1 + r.IntN(3) {
			source.WriteString("/" + word("xy.-", 2))
			for range r.IntN(3) {
				if len(names) > 0 {
					source.WriteString("{{" + names[0] + "}}" + word("xy.-", 2))
					names = names[1:]
				}
			}
		}
		p, err := ParsePattern(source.String())
		if err != nil {
			continue
		}
		var values []string
		for range p.Vars() {
			values = append(values, word("xy.-w", 4))
		}
		id := ID(strings.Join(values, "/"))
		if db, ok := p.PathFor(id); ok {
			pathsFor++
			back, ok := p.Match(db.Path)
			if !ok || idOf(back, db.RelPath) != id || !slices.Equal(back, db.Vars) || filepath.Clean(db.Path) != db.Path {
				t.Fatalf("seed %d: %s: %q became %q, which matches as %v, %v", seed, p, id, db.Path, back, ok)
			}
		}
		path := p.Root()
		for _, seg := range p.rest {
			name := seg[0]
			for _, text := range seg[1:] {
				name += word("xy.-w", 4) + text
			}
			path = join(path, name)
		}
		if vars, ok := p.Match(path); ok {
			matches++
			id := idOf(vars, strings.TrimPrefix(path, p.prefix))
			if db, ok := p.PathFor(id); !ok || db.Path != path {
				t.Fatalf("seed %d: %s matches %q as %q, which became %q, %v", seed, p, path, id, db.Path, ok)
			}
		}
	}
	if pathsFor < 1000 || matches < 1000 {
		t.Errorf("seed %d: only %d IDs and %d paths were tried", seed, pathsFor, matches)
	}
}

func TestFilesThatBelongToADatabaseAreKnown(t *testing.T) {
	for name, want := range map[string]bool{
		"x.db-wal": true, "x.db-shm": true, "x.db-journal": true, "x.db.tmp": true, "x.db-txid": true,
		".x.db-litestream": true, ".multidb": true, ".multidb-restore-1": true, "x.db-mj0123ABCD9": true,
		"x.db": false, "wal": false, "x.db-wal.db": false, "x.tmp.db": false, "multidb": false,
		"x-mj": false, "x-mj0123abcd9": false, "-mj012345678": false, "": false,
	} {
		if got := isSidecar(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{
		"/data/{{project}}/databases/{{database}}.db", "/data/*/databases/*.db", "a/../../*", "/**", "/{{a}}-{{b}}", "/*/*/*/*/*", "/\x00", `\`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidOption) {
				t.Fatalf("%v does not wrap ErrInvalidOption", err)
			}
			return
		}
		if !filepath.IsAbs(p.Root()) || filepath.Clean(p.Root()) != p.Root() {
			t.Fatalf("%q has the root %q", s, p.Root())
		}
		values := slices.Repeat([]string{"v"}, len(p.Vars()))
		if db, ok := p.PathFor(ID(strings.Join(values, "/"))); ok && !strings.HasPrefix(db.Path, p.Root()) {
			t.Fatalf("%q leaves its root: %q", s, db.Path)
		}
	})
}

func FuzzPatternMatch(f *testing.F) {
	f.Add("/data/{{project}}/databases/{{database}}.db", "/data/p/databases/d.db", "p/d")
	f.Add("/d/{{a}}-{{b}}", "/d/x-y-z", "x-y/z")
	f.Add("/d/{{a}}", "/d/x.db-wal", "..")
	f.Add("/*/x", "//x", "")
	f.Fuzz(func(t *testing.T, pattern, path, id string) {
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		if vars, ok := p.Match(path); ok {
			if db, ok := p.PathFor(idOf(vars, path[len(p.prefix):])); !ok || db.Path != path {
				t.Fatalf("%q matches %q, but PathFor gives %q, %v", pattern, path, db.Path, ok)
			}
		}
		if db, ok := p.PathFor(ID(id)); ok {
			if filepath.Clean(db.Path) != db.Path || strings.IndexByte(db.Path, 0) >= 0 {
				t.Fatalf("%q and %q give the path %q", pattern, id, db.Path)
			}
			if vars, ok := p.Match(db.Path); !ok || string(idOf(vars, db.RelPath)) != id {
				t.Fatalf("%q: %q became %q, which matches as %v, %v", pattern, id, db.Path, vars, ok)
			}
		}
	})
}
