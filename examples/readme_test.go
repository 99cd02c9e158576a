// Package examples tests what the README shows.
package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/examples/internal/tenant"
)

const module = "github.com/multidb-go/multidb"

// blocks returns the README's whole Go files, in order.
func blocks(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```go\n(package .*?)^```$").FindAllSubmatch(b, -1) {
		out = append(out, string(m[1]))
	}
	return out
}

func TestTheReadmesProgramWorksPastedIntoAFreshModule(t *testing.T) {
	code := blocks(t)
	if len(code) != 1 {
		t.Fatalf("%d Go files in the README, want a program", len(code))
	}
	if n := strings.Count(code[0], "\n"); n > 50 {
		t.Errorf("the program has %d lines, want at most 50", n)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": code[0],
		"go.sum":  string(sums), // what "go get" would write
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		// Nothing but what this checkout was built with: no network.
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off", "GOSUMDB=off", "GOTOOLCHAIN=local")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("go", "mod", "init", "example.com/fresh")
	run("go", "mod", "edit", "-require", module+"@v0.0.0", "-replace", module+"="+root)
	if unformatted := run("gofmt", "-l", "."); unformatted != "" {
		t.Errorf("not formatted as gofmt does: %s", unformatted)
	}
	run("go", "build", "-ldflags=-s -w", "-o", "program", ".") // it links faster so
	for i := range 2 {                                         // it can be run again
		if out := run("./program"); out != "" {
			t.Errorf("run %d wrote %s", i+1, out)
		}
		restored, err := filepath.Glob(filepath.Join(dir, "restored-*.db"))
		if err != nil || len(restored) != i+1 {
			t.Fatalf("run %d: restored %v, %v", i+1, restored, err)
		}
		source, err := tenant.DigestedFile(t.Context(), filepath.Join(dir, "data/acme/databases/orders.db"))
		if err != nil {
			t.Fatal(err)
		}
		backup, err := tenant.DigestedFile(t.Context(), restored[i])
		if err != nil {
			t.Fatal(err)
		}
		if diff := source.Diff(backup); diff != "" || source.Rows != i+1 {
			t.Errorf("run %d: the source has %d rows; the backup: %s", i+1, source.Rows, diff)
		}
	}
}

func TestTheReadmeIsShortAndItsLinksLeadSomewhere(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > 150 {
		t.Errorf("the README has %d lines, want at most 150", n)
	}
	prose := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(string(b), "")
	links := regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(prose, -1)
	if len(links) == 0 {
		t.Error("no links found")
	}
	for _, m := range links {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Error(fmt.Errorf("a link: %w", err))
		}
	}
}
