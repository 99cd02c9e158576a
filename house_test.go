package multidb_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/multidb-go/multidb"

// below has the internal packages that each internal package may import. One that is
// not named may import none. The root and its users may import all of them.
var below = map[string]string{
	"catalog":        "durable failpoint sqlitedb varint",
	"discover":       "pattern watch fsid",
	"levels":         "failpoint ltxfile untrusted varint",
	"localfile":      "durable failpoint fsid sqlitedb",
	"registry":       "fsid replicate table",
	"replicate":      "ship levels fsid localfile store store/metadata restore durable schedule sqlitedb varint wal",
	"restore":        "fsid localfile sqlitedb store store/metadata untrusted",
	"ship":           "wal fsid sqlitedb boottime ctxio failpoint ltxfile untrusted",
	"store":          "untrusted",
	"store/file":     "ctxio durable failpoint untrusted",
	"store/identity": "durable",
	"store/metadata": "fsid untrusted",
	"store/s3":       "store untrusted",
	"store/tree":     "store/metadata untrusted",
	"store/url":      "ctxio",
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
var pure = []string{"budget", "lag", "life", "notify", "registry", "schedule", "table", "varint"}

func TestImportsPointDown(t *testing.T) {
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

// within reports whether a package is at a path or below it.
func within(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }
