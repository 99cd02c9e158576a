package multidb

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func testDatabase() Database {
	return Database{
		ID:      "project0/db0",
		Path:    "/data/project0/databases/db0.db",
		RelPath: "project0/databases/db0.db",
		Vars:    []Var{{"project", "project0"}, {"database", "db0"}},
	}
}

func TestATemplateExpandsTheVariablesOfADatabase(t *testing.T) {
	for _, tc := range []struct{ name, template, want string }{
		{"captured values", "litestream/{{project}}/{{database}}/", "litestream/project0/db0"},
		{"spaces inside the braces", "litestream/{{ project }}/{{  database}}", "litestream/project0/db0"},
		{"leading, doubled and trailing slashes do not count", "//a///{{project}}//{{database}}//", "a/project0/db0"},
		{"text around a variable", "v1-{{project}}.x/{{database}}", "v1-project0.x/db0"},
		{"two variables side by side", "{{project}}{{database}}", "project0db0"},
		{"name is the file name without its extension", "{{name}}", "db0"},
		{"path may have slashes", "all/{{path}}/x", "all/project0/databases/db0.db/x"},
		{"a variable used twice", "{{project}}/{{project}}", "project0/project0"},
		{"no variable at all", "one/place", "one/place"},
		{"dots inside a name", "a..b/.hidden/...", "a..b/.hidden/..."},
		{"a single brace is text", "a}b{/{{project}}", "a}b{/project0"},
		{"text that is not ASCII", "größe/{{project}}", "größe/project0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tmpl, err := ParseTemplate(tc.template)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tmpl.Expand(testDatabase())
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if tmpl.String() != tc.template {
				t.Errorf("String: got %q", tmpl.String())
			}
		})
	}
}

func TestTheVariablesOfATemplateAreListedOnceInOrder(t *testing.T) {
	tmpl, err := ParseTemplate("{{b}}/{{a}}/{{ b }}/{{path}}")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tmpl.Vars(), []string{"b", "a", "path"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	tmpl.Vars()[0] = "changed"
	if got := tmpl.Vars()[0]; got != "b" {
		t.Errorf("the caller changed the template: %q", got)
	}
}

func TestAWrongTemplateIsRefusedWithItsPosition(t *testing.T) {
	for _, tc := range []struct{ name, template, want string }{
		{"open braces at the end", "a/{{", "byte 2: {{ is not closed; write {{name}}"},
		{"open braces with a name", "a/{{project", "byte 2: {{ is not closed; write {{name}}"},
		{"closing braces alone", "a/project}}/b", "byte 9: }} without {{ before it; write {{name}}"},
		{"too many closing braces", "{{project}}}}", "byte 11: }} without {{ before it; write {{name}}"},
		{"nested braces", "a/{{b{{c}}}}", "byte 5: braces inside braces; write {{name}}"},
		{"three braces", "{{{project}}}", "byte 2: braces inside braces; write {{name}}"},
		{"nothing between the braces", "a/{{}}", "byte 2: no name between the braces; write {{name}}"},
		{"only spaces between the braces", "a/{{  }}", "byte 2: no name between the braces; write {{name}}"},
		{"a name with a hyphen", "{{my-name}}", `byte 0: "my-name" is not a name; write a letter or _, then letters, digits and _`},
		{"a name that starts with a digit", "{{1a}}", `byte 0: "1a" is not a name`},
		{"a name with a space", "{{a b}}", `byte 0: "a b" is not a name`},
		{"a name that is not ASCII", "{{é}}", `byte 0: "é" is not a name`},
		{"single braces around a name", "a/{project}/b", "byte 2: a variable has two braces; write {{project}}"},
		{"a parent directory", "a/{{b}}/../c", `byte 8: a segment may not be ".."; write the path without it`},
		{"a parent directory at the end", "a/..", `byte 2: a segment may not be ".."`},
		{"the same directory", "./a", `byte 0: a segment may not be "."`},
		{"a control character", "a\nb", "byte 1: the control character U+000A cannot be part of a replica path"},
		{"a backslash", `a\b`, "byte 1: a backslash cannot be part of a replica path"},
		{"invalid UTF-8", "ab\xff", "byte 2: invalid UTF-8 cannot be part of a replica path"},
		{"a star", "a/*/b", "byte 2: * has no value in a replica path; write the variable, {{project}} or {{database}}"},
		{"nothing", "", "byte 0: it is empty; write for example litestream/{{project}}/{{database}}"},
		{"only slashes", "//", "byte 0: it is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseTemplate(tc.template)
			wantError(t, err, ErrInvalidOption, tc.want)
		})
	}
}

func TestAnUnknownVariableNamesTheOnesThereAre(t *testing.T) {
	tmpl, err := ParseTemplate("{{project}}/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	_, err = tmpl.Expand(testDatabase())
	wantError(t, err, ErrInvalidOption, "unknown variable {{tenant}}; there are {{project}}, {{database}}, {{name}}, {{path}}")
}

func TestAValueThatCannotBePartOfAPathIsRefused(t *testing.T) {
	values := map[string]string{
		"empty":                        "",
		"the same directory":           ".",
		"the parent directory":         "..",
		"a slash":                      "a/b",
		"a backslash":                  `a\b`,
		"NUL":                          "a\x00b",
		"a line feed":                  "a\nb",
		"DEL":                          "a\x7f",
		"a control character above it": "a\u0085b",
	}
	tmpl, err := ParseTemplate("x/{{v}}")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			_, err := tmpl.Expand(Database{Vars: []Var{{"v", value}}})
			wantError(t, err, fs.ErrInvalid, "{{v}} is ")
		})
	}
}

func TestEverySegmentOfThePathVariableIsChecked(t *testing.T) {
	tmpl, err := ParseTemplate("x/{{path}}")
	if err != nil {
		t.Fatal(err)
	}
	for _, rel := range []string{"a/../b", "../a", "a/..", "./a", "/a", "a//b", "a/", "a/b\x01/c", `a/b\c`} {
		t.Run(rel, func(t *testing.T) {
			_, err := tmpl.Expand(Database{Path: "/data/x.db", RelPath: rel})
			wantError(t, err, fs.ErrInvalid, "{{path}} is ")
		})
	}
}

func TestOrdinaryNamesExpandUnchanged(t *testing.T) {
	tmpl, err := ParseTemplate("{{v}}")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"db0", "Jörg's café", "a b", "a?b#c", "[x]", `"q"`, "日本", "a+b&c=d", "...", "a\ufffdb", "{a}", "*"} {
		if got, err := tmpl.Expand(Database{Vars: []Var{{"v", v}}}); err != nil || got != v {
			t.Errorf("%q became %q, %v", v, got, err)
		}
	}
}

func TestBytesThatAreNotUTF8AreEscapedAndCanBeReadBack(t *testing.T) {
	tmpl, err := ParseTemplate("{{v}}")
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[string]string{
		"a\xffb":       "a%FFb",
		"100%":         "100%25",
		"%FF":          "%25FF",
		"\xc3":         "%C3",
		"\xc3\xa9":     "é",
		"\xed\xa0\x80": "%ED%A0%80", // a surrogate half
	} {
		if got, err := tmpl.Expand(Database{Vars: []Var{{"v", v}}}); err != nil || got != want {
			t.Errorf("%q became %q, %v; want %q", v, got, err, want)
		}
	}
}

func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{
		"litestream/{{project}}/{{database}}/", "{{", "}}", "{{{a}}}", "//.././{{path}}", "{a{a{a}", "{{ a }}%\xff",
	} {
		f.Add(s, "value", "p/q")
	}
	f.Fuzz(func(t *testing.T, s, value, path string) {
		tmpl, err := ParseTemplate(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidOption) {
				t.Fatalf("%v does not wrap ErrInvalidOption", err)
			}
			return
		}
		db := Database{Path: "/data/x.db", RelPath: path}
		for _, name := range tmpl.Vars() {
			if name != "path" {
				db.Vars = append(db.Vars, Var{name, value})
			}
		}
		got, err := tmpl.Expand(db)
		if err != nil {
			return
		}
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for segment := range strings.SplitSeq(got, "/") {
			if segment == "" || segment == "." || segment == ".." {
				t.Fatalf("%q has the segment %q", got, segment)
			}
		}
	})
}

func wantError(t *testing.T, err, is error, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %q", text)
	}
	if !errors.Is(err, is) {
		t.Errorf("%v does not wrap %v", err, is)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("got  %v\nwant … %s", err, text)
	}
}
