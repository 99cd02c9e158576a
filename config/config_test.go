package config_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
)

// env is an environment of "NAME=value".
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if k, v, _ := strings.Cut(p, "="); k == name {
				return v, true
			}
		}
		return "", false
	}
}

func setEnv(t *testing.T) {
	t.Setenv("S3_BUCKET", "backups")
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
}

// minimal is a document with extra lines under multi-db.
func minimal(extra ...string) string {
	return "multi-db:\n  patterns: [\"/data/{{project}}/{{database}}.db\"]\n  replica-template: {type: file, dir: /backup, path: \"{{project}}/{{database}}\"}\n" +
		indent(extra)
}

// withReplica is a document whose replica-template has the lines.
func withReplica(lines ...string) string {
	return "multi-db:\n  patterns: [\"/data/{{project}}/{{database}}.db\"]\n  replica-template:\n" + indent(append([]string(nil), prefixed(lines)...))
}

func prefixed(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = "  " + l
	}
	return out
}

func indent(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("  " + l + "\n")
	}
	return b.String()
}

func TestTheDocumentOfTheGuideLoadsAsItStands(t *testing.T) {
	setEnv(t)
	opts, err := config.Load("testdata/multidb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := multidb.New(opts...); err != nil {
		t.Fatal(err)
	}
	c, err := config.Read("testdata/multidb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	replica, err := c.Replica()
	if err != nil {
		t.Fatal(err)
	}
	db, ok := c.Discoverer().(multidb.DiscovererLocator).Locate("acme/main")
	if !ok || db.Path != "/data/acme/databases/main.db" {
		t.Fatalf("acme/main is at %q, %v", db.Path, ok)
	}
	prefix, err := replica.(multidb.ReplicaPrefixer).Prefix(db)
	if err != nil || strings.TrimSuffix(prefix, "/") != "s3://backups/litestream/acme/main" {
		t.Errorf("prefix %q, %v", prefix, err)
	}
	if !c.Enabled() || !slices.Equal(c.Patterns(), []string{"/data/*/databases/*.db"}) {
		t.Errorf("enabled %v, patterns %q", c.Enabled(), c.Patterns())
	}
}

func TestEachUnsetVariableIsNamedWithItsPlace(t *testing.T) {
	data, err := os.ReadFile("testdata/multidb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Parse("m.yaml", data, nil)
	want := "m.yaml:8:13: multi-db.replica-template.bucket: the variable S3_BUCKET is not set; set it, or write ${S3_BUCKET:-text} for what it is then"
	if err == nil || !strings.HasPrefix(err.Error(), want+"\n") {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	for _, name := range []string{"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		if err == nil || !strings.Contains(err.Error(), "the variable "+name+" is not set") {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
	if !errors.Is(err, multidb.ErrInvalidOption) {
		t.Error("not ErrInvalidOption")
	}
	if e, ok := errors.AsType[*config.Error](err); !ok || e.Line != 8 || e.Column != 13 || e.Key != "multi-db.replica-template.bucket" {
		t.Errorf("got %#v", e)
	}
}

func TestADisabledConfigurationSaysSo(t *testing.T) {
	c, err := config.Parse("m.yaml", []byte(minimal("enabled: false")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Enabled() {
		t.Error("enabled")
	}
	if opts, err := c.Options(); !errors.Is(err, config.ErrDisabled) || opts != nil {
		t.Errorf("Options: %v, %v", opts, err)
	}
	if r, err := c.Replica(); err != nil || r == nil {
		t.Errorf("what it has cannot be restored: %v", err)
	}
	path := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(path, []byte(minimal("enabled: false")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); !errors.Is(err, config.ErrDisabled) {
		t.Errorf("Load: %v", err)
	}
}

func TestATypeOfNoneHasNoReplica(t *testing.T) {
	c, err := config.Parse("m.yaml", []byte(withReplica("type: none")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Replica(); !errors.Is(err, multidb.ErrNoReplica) || r != nil {
		t.Errorf("Replica: %v, %v", r, err)
	}
	if opts, err := c.Options(); err != nil || len(opts) == 0 {
		t.Errorf("Options: %v, %v", opts, err)
	}
}

func TestSeveralPatternsAndAStateDirectory(t *testing.T) {
	c, err := config.Parse("m.yaml", []byte(`multi-db:
  state-dir: /var/lib/multidb
  patterns:
    - /a/{{project}}/{{database}}.db
    - /b/{{project}}/{{database}}.db
  replica-template: {type: url, url: "file:///backup/{{project}}/{{database}}"}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.StateDir() != "/var/lib/multidb" || len(c.Patterns()) != 2 {
		t.Errorf("state dir %q, patterns %q", c.StateDir(), c.Patterns())
	}
}

func TestWhatIsNoConfigurationFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	huge := filepath.Join(dir, "huge.yaml")
	write("huge.yaml", "")
	if err := os.Truncate(huge, 100<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"a directory", dir, "it is a directory"},
		{"a missing file", filepath.Join(dir, "absent"), "no such file"},
		{"100 MB", huge, "larger than 1048576 bytes"},
		{"an empty file", write("empty", ""), "the file is empty"},
		{"a file of comments", write("comments", "# nothing\n\n"), "the file is empty"},
		{"a file of separators", write("separators", "---\n---\n"), "the file is empty"},
		{"a null", write("null", "null\n"), "the file is empty"},
		{"a database", write("database", "SQLite format 3\x00\x10\x00"), "1:16: not text in UTF-8"},
		{"a list", write("list", "- a\n- b\n"), "want keys with values, not a list"},
		{"a word", write("word", "hello\n"), "want keys with values, not text"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			_, err := config.Load(c.path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), c.path+":") {
				t.Errorf("got %v; want %s: … %s", err, c.path, c.want)
			}
			if strings.Count(err.Error(), c.path) > 1 {
				t.Errorf("the path twice: %v", err)
			}
		})
	}
	if _, err := config.Load(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is %v", err)
	}
}

func TestWindowsLineEndsAndAByteOrderMarkAreNoError(t *testing.T) {
	doc := "\ufeff" + strings.ReplaceAll(minimal("max-hot-databases: 7", "scan-interval: 1m"), "\n", "\r\n")
	c, err := config.Parse("m.yaml", []byte(doc), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Discoverer().Discover(context.Background()) {
		if err != nil && strings.Contains(err.Error(), "\r") {
			t.Errorf("a line end got into the pattern: %q", err)
		}
	}
}
