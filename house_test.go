package multidb_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/multidb-go/multidb"

// below has the internal packages that each internal package may import. One that is
// not named may import none. The root and its users may import all of them.
var below = map[string]string{
	"conduct":        "fleet localfile volume registry replicate policy schedule catalog worker lag levels life fsid ctxio ship sqlitedb trace",
	"evict":          "ctxio fleet",
	"fleet":          "registry replicate policy schedule budget disk life notify fsid ship",
	"opener":         "conduct failpoint fleet volume registry replicate pool restore store store/metadata inquiry life fsid localfile ship sqlitedb",
	"inquiry":        "ctxio",
	"tenancy":        "catalog conduct durable failpoint fleet fsid levels life localfile opener registry replicate restore ship store store/metadata",
	"survey":         "conduct fleet volume registry discover rounds fsid ctxio watch",
	"volume":         "fleet registry durable fsid ship",
	"catalog":        "durable failpoint sqlitedb varint",
	"cluster":        "ctxio durable failpoint fleetlog fleetlog/format member store",
	"drill":          "restore sqlitedb store ctxio table varint",
	"each":           "catalog conduct fleet opener store/metadata failpoint",
	"discover":       "pattern watch fsid",
	"levels":         "failpoint ltxfile untrusted varint",
	"localfile":      "durable failpoint fsid sqlitedb",
	"policy":         "levels schedule",
	"pragma":         "nearest",
	"registry":       "fsid replicate table",
	"replicate":      "ship levels policy fsid localfile store store/metadata restore durable schedule sqlitedb varint wal",
	"restore":        "ctxio fsid localfile sqlitedb store store/metadata untrusted",
	"roster":         "ctxio failpoint registry store untrusted",
	"serving":        "conduct ctxio failpoint fleet fsid opener registry replicate roster schedule ship sqlitedb store store/metadata",
	"ship":           "wal fsid sqlitedb boottime ctxio failpoint ltxfile untrusted",
	"member/bucket":  "boottime ctxio fleetlog/format member store",
	"store":          "untrusted",
	"store/file":     "store ctxio durable failpoint untrusted",
	"store/identity": "durable",
	"store/metadata": "fsid untrusted",
	"store/s3":       "store trace untrusted",
	"store/tree":     "fleetlog/format store/metadata untrusted",
	"store/url":      "store ctxio",

	"fleetlog":         "fleetlog/format untrusted",
	"fleetlog/client":  "fleetlog fleetlog/format fleetlog/journal failpoint ltxfile ship store untrusted",
	"fleetlog/format":  "untrusted varint",
	"fleetlog/owner":   "conduct fleet fleetlog fleetlog/client fleetlog/format fleetlog/journal registry ship store",
	"fleetlog/reading": "fleetlog/client store store/metadata",
	"fleetlog/journal": "fleetlog fleetlog/format store ctxio failpoint untrusted",
}

// only has the packages that may import what is heavy, or is not for production.
var only = map[string][]string{
	"modernc.org":           {"internal/sqlitedb", "examples/internal/tenant"}, // an application of its own
	"github.com/aws":        {"internal/store/s3"},
	"github.com/fsnotify":   {"internal/watch"},
	"github.com/prometheus": {"multidbprom"},
	"testing":               {"multidbtest", "internal/discover/discovertest", "examples/internal/process"},
}

// pure has the packages that decide from values alone.
var pure = []string{"budget", "disk", "fleet", "fleetlog", "fleetlog/format", "lag", "life", "notify", "pragma", "registry", "schedule", "table", "varint"}

func TestImportsPointDown(t *testing.T) {
	// The cache of go test sees only what the test itself looks at.
	if err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		from, imports := strings.TrimPrefix(f[0], module+"/"), f[1:] // the root keeps its whole path
		room, internal := strings.CutPrefix(from, "internal/")
		for _, to := range imports {
			if lower, ours := strings.CutPrefix(to, module); internal && ours {
				lower, ours = strings.CutPrefix(lower, "/internal/")
				if seen++; !ours || !slices.Contains(strings.Fields(below[room]), lower) {
					t.Errorf("internal/%s imports %s, which is not below it", room, to)
				}
			}
			for heavy, importers := range only {
				if within(to, heavy) && !slices.ContainsFunc(importers, func(p string) bool { return within(from, p) }) {
					t.Errorf("%q imports %s, which is for %q alone", from, to, importers)
				}
			}
			if internal && slices.Contains(pure, room) &&
				slices.ContainsFunc([]string{"os", "net", "syscall", "io/fs", "log", "database"}, func(p string) bool { return within(to, p) }) {
				t.Errorf("internal/%s imports %s, but does no I/O", room, to)
			}
		}
	}
	if seen < 20 { // there were 45 when this was written
		t.Errorf("only %d imports among internal packages were seen", seen)
	}
}

// TestTheWorkspaceSelectsTheVersionsOfTheRoot: go.work may not change what the root is built
// of, or developers would test something else than importers get. If it does, take the module
// that demands the newer version out of go.work, or let the root's go.mod demand it too.
func TestTheWorkspaceSelectsTheVersionsOfTheRoot(t *testing.T) {
	work, err := filepath.Abs("go.work")
	if err != nil {
		t.Fatal(err)
	}
	// The cache of go test sees only what the test itself looks at.
	for _, file := range []string{work, "go.mod", "bench/go.mod", "examples/orm/go.mod", "test/go.mod", "tools/go.mod"} {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	selected := func(work string) []string {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-test", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "./...")
		cmd.Env = append(os.Environ(), "GOWORK="+work)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list with GOWORK=%s: %v", work, err)
		}
		lines := strings.Fields(strings.ReplaceAll(string(out), " ", "@"))
		slices.Sort(lines)
		return slices.Compact(lines)
	}
	alone, joined := selected("off"), selected(work)
	if len(alone) < 20 {
		t.Fatalf("only %d modules are listed", len(alone))
	}
	for _, m := range joined {
		if !slices.Contains(alone, m) {
			t.Errorf("go.work selects %s, which go.mod by itself does not", m)
		}
	}
}

// TestTheWalksOfTheDesignGoDown: every function that docs/DESIGN.md names in its walks
// exists, and each step is in the room of the one that it belongs to, or in one
// that this may import.
func TestTheWalksOfTheDesignGoDown(t *testing.T) {
	design, err := os.ReadFile("docs/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walks, _ := strings.Cut(string(design), "## Walks")
	walks, _, _ = strings.Cut(walks, "\n## ")
	step := regexp.MustCompile("^( *)- `([a-z0-9/]+)\\.([A-Za-z]+)`")
	declared := map[string]map[string]bool{}
	var above []string // the rooms of the steps that the next one may belong to
	n := 0
	for line := range strings.Lines(walks) {
		m := step.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		n++
		depth, room, name := len(m[1])/2, m[2], m[3]
		if declared[room] == nil {
			declared[room] = functions(t, room)
		}
		if !declared[room][name] {
			t.Errorf("%s.%s does not exist", room, name)
		}
		if above = append(above[:depth], room); depth == 0 {
			continue
		}
		if from := above[depth-1]; from != room && from != "multidb" && !reaches(from, room) {
			t.Errorf("%s.%s belongs to a step in %s, which is not above it", room, name, from)
		}
	}
	if n < 55 { // there were 72 when this was written
		t.Errorf("only %d steps were seen", n)
	}
}

// TestTheLinesThatReliabilityNamesAreThere: each rule that docs/RELIABILITY.md says was
// removed once stands where it says.
func TestTheLinesThatReliabilityNamesAreThere(t *testing.T) {
	b, err := os.ReadFile("docs/RELIABILITY.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, ref := range regexp.MustCompile("`([a-z0-9/_]+\\.go)`((?:, `[A-Za-z]+`)*)").FindAllStringSubmatch(string(b), -1) {
		file := filepath.Join("internal", strings.TrimPrefix(ref[1], "internal/"))
		src, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%s: %v", ref[1], err)
			continue
		}
		for _, name := range regexp.MustCompile("[A-Za-z]+").FindAllString(ref[2], -1) {
			if n++; !regexp.MustCompile(`\b` + name + `\b`).Match(src) {
				t.Errorf("%s has no %s", ref[1], name)
			}
		}
	}
	if n < 20 { // there were 32 when this was written
		t.Errorf("only %d names were seen", n)
	}
}

// reaches reports whether a room may import another, or may import one that may.
func reaches(from, to string) bool {
	return slices.ContainsFunc(strings.Fields(below[from]), func(next string) bool { return next == to || reaches(next, to) })
}

// functions are the names of the functions and methods of a room, tests left out.
func functions(t *testing.T, room string) map[string]bool {
	t.Helper()
	dir := filepath.Join("internal", room)
	if room == "multidb" {
		dir = "."
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", dir, err)
	}
	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

// within reports whether a package is at a path or below it.
func within(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }
