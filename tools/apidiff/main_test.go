package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes one with the module v, whose only file is api.go.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) repository {
	t.Helper()
	r := repository{t, t.TempDir()}
	for key, value := range map[string]string{
		"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_CONFIG_GLOBAL": os.DevNull,
		"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com", "GIT_CONFIG_SYSTEM": os.DevNull,
	} {
		t.Setenv(key, value)
	}
	r.git("init", "-q")
	r.write("go.mod", "module example.com/v\n\ngo 1.26\n")
	return r
}

func (r repository) git(args ...string) {
	r.t.Helper()
	if out, err := exec.Command("git", append([]string{"-C", r.dir}, args...)...).CombinedOutput(); err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

func (r repository) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits api.go and the changelog, and tags them unless the tag is "".
func (r repository) commit(api, changelog, tag string) {
	r.t.Helper()
	r.write("api.go", "package v\n\n"+api+"\n")
	r.write("CHANGELOG.md", changelog)
	r.git("add", ".")
	r.git("commit", "-q", "-m", "change")
	if tag != "" {
		r.git("tag", tag)
	}
}

func TestAnIncompatibleChangePassesOnlyIfTheChangelogNamesIt(t *testing.T) {
	r := newRepository(t)
	r.commit("func Kept() {}\nfunc Gone() {}\ntype T struct{ A int }", "## [Unreleased]\n", "")
	if err := run(r.dir); err != nil {
		t.Errorf("before the first release: %v", err)
	}
	const first = "\n## [0.1.0] - 2026-01-01\n- `Gone`, `Kept`, `T`\n"
	r.commit("func Kept() {}\nfunc Gone() {}\ntype T struct{ A int }", "## [Unreleased]\n"+first, "v0.1.0")
	if err := run(r.dir); err != nil {
		t.Errorf("the first release itself: %v", err)
	}
	r.commit("func Kept() {}\nfunc Gone() {}\nfunc New() {}\ntype T struct{ A, B int }", "## [Unreleased]\n"+first, "")
	if err := run(r.dir); err != nil {
		t.Errorf("what was only added: %v", err)
	}
	r.commit("func Kept() {}\ntype T struct{ B int }", "## [Unreleased]\n- Something else\n"+first, "")
	err := run(r.dir)
	if err == nil || !strings.Contains(err.Error(), "Gone: removed") || !strings.Contains(err.Error(), "T.A: removed") || strings.Contains(err.Error(), "Kept") {
		t.Errorf("two names are gone: %v", err)
	}
	r.commit("func Kept() {}\ntype T struct{ B int }", "## [Unreleased]\n- `Gone` is gone\n"+first, "")
	if err := run(r.dir); err == nil || strings.Contains(err.Error(), "Gone") {
		t.Errorf("one of two is in the changelog: %v", err)
	}
	const second = "## [Unreleased]\n\n## [0.2.0] - 2026-01-02\n- `Gone` and `T.A` are gone\n"
	r.commit("func Kept() {}\ntype T struct{ B int }", second+first, "v0.2.0")
	if err := run(r.dir); err != nil {
		t.Errorf("both are in the changelog: %v", err)
	}
	r.commit("func Kept() {}\ntype T struct{ B int }\nvar Later int", second+first, "")
	if err := run(r.dir); err != nil {
		t.Errorf("after the second release, which lacks them too: %v", err)
	}
}

func TestTheLastReleaseIsNeitherACandidateNorTheOneCheckedOut(t *testing.T) {
	r := newRepository(t)
	for _, tag := range []string{"v0.9.0", "v0.10.0", "v0.11.0-rc.1", "vendored", ""} {
		r.commit("const Is = `"+tag+"`", "", tag)
	}
	if tag, err := lastRelease(r.dir); tag != "v0.10.0" || err != nil {
		t.Errorf("%q, %v", tag, err)
	}
	r.commit("const Is = `release`", "", "v0.11.0")
	if tag, err := lastRelease(r.dir); tag != "v0.10.0" || err != nil {
		t.Errorf("on a release, the one before: %q, %v", tag, err)
	}
}

func TestTheNameIsWhatTheChangeIsAbout(t *testing.T) {
	for message, want := range map[string]string{
		"Gone: removed": "Gone",
		"(*Manager).Sync: changed from func() to func() error":     "Sync",
		"./config.Load: removed":                                   "Load",
		"S3Config.Bucket: removed":                                 "Bucket",
		"package github.com/multidb-go/multidb/config: removed":    "config",
		"ReplicaFactory.Client: added: interface has more methods": "Client",
	} {
		if got := name(message); got != want {
			t.Errorf("%q is about %q, want %q", message, got, want)
		}
	}
}
