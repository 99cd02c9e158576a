// Package docs_test holds the documents to what they say: their files load, and
// the names in them exist. test/interop runs their commands.
package docs_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
	"github.com/multidb-go/multidb/internal/markdown"
	"github.com/multidb-go/multidb/multidbprom"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guides are the documents for those who run it.
var guides = []string{"OPERATIONS.md", "MIGRATING.md"}

// pages are all whose links and names are checked.
var pages = append(slices.Clone(guides), "COMPARISON.md", "FAQ.md", "RELEASING.md", "../SECURITY.md")

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func blocks(t *testing.T, guide string) []markdown.Block {
	t.Helper()
	all, err := markdown.Blocks(read(t, guide))
	if err != nil {
		t.Fatalf("%s: %v", guide, err)
	}
	return all
}

func TestEveryBlockOfAGuideIsWhatItSaysItIs(t *testing.T) {
	for _, name := range []string{"S3_BUCKET", "AWS_REGION"} {
		t.Setenv(name, "some-value")
	}
	examples, loaded := read(t, "example_test.go"), 0
	for _, guide := range guides {
		for _, b := range blocks(t, guide) {
			switch b.Lang {
			case "sh": // test/interop runs it
			case "text", "ini":
			case "go":
				if !strings.Contains(examples, b.Text) {
					t.Errorf("%s:%d: example_test.go does not have it, so that nobody compiles it", guide, b.Line)
				}
			case "json":
				if !json.Valid([]byte(b.Text)) {
					t.Errorf("%s:%d: not JSON", guide, b.Line)
				}
			case "yaml":
				if b.File() == "" {
					t.Errorf("%s:%d: no # file.yaml on its first line", guide, b.Line)
				}
				if !strings.Contains(b.Text, "multi-db:") {
					continue // another program's, which test/interop runs
				}
				path := filepath.Join(t.TempDir(), "multidb.yaml")
				if err := os.WriteFile(path, []byte(b.Text), 0o600); err != nil {
					t.Fatal(err)
				}
				opts, err := config.Load(path)
				if err == nil {
					_, err = multidb.New(opts...)
				}
				if err != nil {
					t.Errorf("%s:%d: %v", guide, b.Line, err)
				}
				loaded++
			default:
				t.Errorf("%s:%d: a block of %q is checked by nobody", guide, b.Line, b.Lang)
			}
		}
	}
	if loaded == 0 {
		t.Error("no configuration was loaded")
	}
}

func TestEveryMetricInAGuideIsExported(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(multidbprom.New(nothing{}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
		if f.GetType().String() == "HISTOGRAM" {
			names[f.GetName()+"_bucket"] = true
		}
	}
	found := 0
	for _, guide := range guides {
		for _, name := range regexp.MustCompile(`\bmultidb_[a-z0-9_]+`).FindAllString(read(t, guide), -1) {
			found++
			if !names[name] {
				t.Errorf("%s: there is no metric %s", guide, name)
			}
		}
	}
	if found == 0 {
		t.Error("no metric is named")
	}
}

type nothing struct{}

func (nothing) Stats() multidb.Stats { return multidb.Stats{} }

// Nodes is that of a node: without a cluster there are no metrics of one.
func (nothing) Nodes() multidb.ClusterStatus { return multidb.ClusterStatus{Map: 1} }

func TestEveryNameOfTheLibraryExists(t *testing.T) {
	declared := ""
	for _, pattern := range []string{"../*.go", "../multidbprom/*.go", "../config/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				declared += read(t, f)
			}
		}
	}
	names := regexp.MustCompile("`((?:With|Err|Event)[A-Z][A-Za-z0-9]*)")
	for _, guide := range pages {
		for _, m := range names.FindAllStringSubmatch(read(t, guide), -1) {
			if !regexp.MustCompile(`(?m)^(func )?\s*` + m[1] + `\b`).MatchString(declared) {
				t.Errorf("%s: there is no %s", guide, m[1])
			}
		}
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	for _, guide := range pages {
		doc := read(t, guide)
		headings := markdown.Sections(doc)
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(doc, -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			switch {
			case strings.Contains(m[1], "://"):
			case path != "":
				path = filepath.Join(filepath.Dir(guide), path)
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s: %v", guide, err)
				} else if anchor != "" && !hasAnchor(markdown.Sections(read(t, path)), anchor) {
					t.Errorf("%s: %s has no heading for #%s", guide, path, anchor)
				}
			case !hasAnchor(headings, anchor):
				t.Errorf("%s: no heading for #%s", guide, anchor)
			}
		}
	}
}

func hasAnchor(sections map[string]string, anchor string) bool {
	for heading := range sections {
		s := regexp.MustCompile("[^a-z0-9 -]").ReplaceAllString(strings.ToLower(heading), "")
		if strings.ReplaceAll(s, " ", "-") == anchor {
			return true
		}
	}
	return false
}

// TestTheKeysOfTheMigrationTablesExist looks for the old keys in litestream's own
// source, and for the new ones in the list of package config.
func TestTheKeysOfTheMigrationTablesExist(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/benbjohnson/litestream").Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs := read(t, filepath.Join(strings.TrimSpace(string(out)), "cmd", "litestream", "main.go"))
	ours := read(t, "../config/doc.go")
	key := regexp.MustCompile("`([a-z0-9-]+)`")
	rows := 0
	for _, row := range markdown.Rows(markdown.Sections(read(t, "MIGRATING.md"))["The configuration, key by key"]) {
		if len(row) < 2 || row[0] == "litestream" {
			continue
		}
		rows++
		for _, m := range key.FindAllStringSubmatch(row[0], -1) {
			if !strings.Contains(theirs, `yaml:"`+m[1]+`"`) {
				t.Errorf("litestream has no key %s", m[1])
			}
		}
		for _, m := range key.FindAllStringSubmatch(row[1], -1) {
			if !slices.Contains(regexp.MustCompile(`[a-z0-9-]+`).FindAllString(ours, -1), m[1]) {
				t.Errorf("package config has no key %s", m[1])
			}
		}
	}
	if rows < 10 {
		t.Errorf("%d rows were found", rows)
	}
}

// A default of an automatic argument wins over the platform that is built: the image for arm64
// would have the binary for amd64 (docker/buildx issue 510).
func TestTheImageHasTheBinaryOfItsPlatform(t *testing.T) {
	text := read(t, "../Dockerfile")
	if m := regexp.MustCompile(`(?m)^ARG (TARGET|BUILD)\w+=.*`).FindString(text); m != "" {
		t.Errorf("the Dockerfile has %q", m)
	}
	if !regexp.MustCompile(`(?ms)^ARG TARGETPLATFORM$.*^COPY \$TARGETPLATFORM/multidb /multidb$`).MatchString(text) {
		t.Error("the binary is not that of the platform")
	}
}
