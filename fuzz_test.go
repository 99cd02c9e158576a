package multidb_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

// FuzzTemplateMatch: what a template expands to is a clean key, and Match reads it back
// to values that make the same key; where each variable has a segment to itself,
// to the same values.
func FuzzTemplateMatch(f *testing.F) {
	for _, s := range [][4]string{
		{"litestream/{{project}}/{{database}}/", "p", "d", "x/p/d.db"}, {"/{{project}}//{{ database }}", "50%", "\xff", "a"},
		{"a{{database}}b{{project}}{{name}}", "ab", "ba", "x.y.db"}, {"{{path}}", "p", "d", "../x"}, {"x/{{path}}/{{project}}", "é", "..", "a//b"},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, source, project, database, rel string) {
		tpl, err := multidb.ParseTemplate(source)
		if err != nil {
			return
		}
		if tpl.String() != source {
			t.Fatalf("%q became %q", source, tpl)
		}
		db := multidb.Database{ID: "x", Path: "/data/" + rel, RelPath: rel,
			Vars: []multidb.Var{{Name: "project", Value: project}, {Name: "database", Value: database}}}
		key, err := tpl.Expand(db)
		if err == nil {
			if !utf8.ValidString(key) {
				t.Fatalf("%q is not UTF-8", key)
			}
			for _, segment := range strings.Split(key, "/") {
				if segment == "" || segment == "." || segment == ".." {
					t.Fatalf("%q expands to %q", source, key)
				}
			}
			vars, ok := tpl.Match(key)
			if !ok {
				t.Fatalf("%q expands to %q, which it does not match", source, key)
			}
			for _, v := range vars {
				want, _ := db.Var(v.Name)
				if alone(source, v.Name) && v.Value != want {
					t.Fatalf("%q: %q is %q, and read back from %q %q", source, v.Name, want, key, v.Value)
				}
			}
		}
		if vars, ok := tpl.Match(rel); ok {
			if again, err := tpl.Expand(multidb.Database{Vars: vars}); err != nil || again != rel {
				t.Fatalf("%q matches %q, and %v expands to %q, %v", source, rel, vars, again, err)
			}
		}
	})
}

// alone reports whether a variable has its segment to itself, and none has slashes.
func alone(source, name string) bool {
	return !strings.Contains(source, "path") &&
		slices.Contains(strings.Split(strings.ReplaceAll(source, " ", ""), "/"), "{{"+name+"}}")
}

// FuzzMetadata: a metadata.json that anybody may have written, at any place. A
// database that is found leads back to its place.
func FuzzMetadata(f *testing.F) {
	good, err := json.Marshal(map[string]any{"format": 1, "id": "p/d", "vars": map[string]string{"project": "p", "database": "d"}, "path": "/data/p/d.db"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("x/{{project}}/{{database}}", "x/p/d", good)
	f.Add("x/{{path}}", "x/p/d.db", []byte(`{"format":2}`))
	f.Add("{{name}}", "d", []byte(`{"vars":{"path":"/","name":""},"path":"."}`))
	f.Fuzz(func(t *testing.T, template, prefix string, data []byte) {
		tpl, err := multidb.ParseTemplate(template)
		if err != nil {
			return
		}
		for _, data := range [][]byte{data, nil} {
			db, err := multidb.TenantAt(tpl, prefix, data)
			if err != nil {
				continue
			}
			if at, err := tpl.Expand(db); err != nil || at != prefix || db.ID == "" {
				t.Fatalf("%q at %q is %+v, which expands to %q, %v", template, prefix, db, at, err)
			}
		}
		if _, err := multidb.TenantAt(nil, prefix, nil); err != nil {
			t.Fatalf("a prefix without metadata: %v", err)
		}
	})
}

// FuzzTenants: a replica's directory of any names. The listing ends, and what it
// yields leads to a directory that is there.
func FuzzTenants(f *testing.F) {
	f.Add("x/{{project}}/{{database}}", "x/p/d/ltx/0/0000000000000001-0000000000000001.ltx\nx/p/d/metadata.json", []byte(`{"format":1,"id":"p/d"}`))
	f.Add("{{path}}", "a/b/ltx/0/0000000000000001-0000000000000001.ltx\na/ltx/9/x\nltx/0/ltx/0/0000000000000001-0000000000000001.ltx", []byte(`{}`))
	f.Add("{{database}}", "generations/x\n%41/metadata.json\n%ZZ/metadata.json", []byte(`{"id":"A"}`))
	f.Fuzz(func(t *testing.T, template, names string, data []byte) {
		dir := t.TempDir()
		for i, name := range strings.Split(names, "\n") {
			if i == 10 || len(name) > 500 || !filepath.IsLocal(name) || strings.Contains(name, "\x00") {
				return
			}
			p := filepath.Join(dir, name)
			if os.MkdirAll(filepath.Dir(p), 0o755) != nil || os.WriteFile(p, data, 0o644) != nil {
				return // a name that the file system does not take, or two that clash
			}
		}
		r, err := multidb.NewFileReplica(dir, template)
		if err != nil {
			return
		}
		for db, err := range r.Tenants(t.Context()) {
			if err != nil {
				continue
			}
			prefix, err := r.Prefix(db)
			if err != nil {
				t.Fatalf("%+v: %v", db, err)
			}
			if _, err := os.Stat(filepath.Join(dir, strings.TrimPrefix(prefix, dir))); err != nil {
				t.Fatalf("%+v: %v", db, err)
			}
		}
	})
}

// FuzzFileListing: a file of any name in a level's directory is an LTX file of
// exactly that name, or none.
func FuzzFileListing(f *testing.F) {
	for _, name := range []string{"0000000000000001-0000000000000002.ltx", "0000000000000002-0000000000000001.ltx", "0000000000000001-0000000000000001.ltx.tmp", "ffffffffffffffff-ffffffffffffffff.ltx", "0000000000000001-000000000000000A.ltx"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if strings.ContainsAny(name, "/\x00") || !filepath.IsLocal(name) || name == "." {
			return
		}
		dir := t.TempDir()
		level := filepath.Join(dir, "a", "ltx", "0")
		if err := os.MkdirAll(level, 0o755); err != nil {
			t.Fatal(err)
		}
		if os.WriteFile(filepath.Join(level, name), bytes.Repeat([]byte{1}, 8), 0o644) != nil {
			return
		}
		r, err := multidb.NewFileReplica(dir, "{{database}}")
		if err != nil {
			t.Fatal(err)
		}
		db := multidb.Database{ID: "a", Path: "/a.db", Vars: []multidb.Var{{Name: "database", Value: "a"}}}
		files, err := multidb.ReplicaFiles(t.Context(), r, db, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range files {
			if ltx.FormatFilename(info.MinTXID, info.MaxTXID) != name || info.Size != 8 || info.Level != 0 {
				t.Fatalf("%q is listed as %+v", name, info)
			}
		}
	})
}
