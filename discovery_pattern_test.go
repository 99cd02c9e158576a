package multidb

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
