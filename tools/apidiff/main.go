// Apidiff fails if something that importers of the last release may use is gone or has
// changed so that their code no longer compiles, and the changelog does not say so.
//
//	go run -C tools ./apidiff
//
// The last release is the newest tag vX.Y.Z that is an ancestor of the commit checked
// out, but not that commit itself: on a tag, it is the release before. Before the first
// release there is nothing to compare with, and it says so.
//
// An incompatible change passes if its name stands in the changelog above the section
// of the last release. Below 1.0 a minor version may change the API, but never without
// a word about it. docs/api.txt is something else: it shows every change in a review.
package main

import (
	"errors"
	"flag"
	"fmt"
	"go/types"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/exp/apidiff"
	"golang.org/x/tools/go/packages"
)

func main() {
	log.SetFlags(0)
	repo := flag.String("repo", "..", "the repository's `directory`")
	flag.Parse()
	if err := run(*repo); err != nil {
		log.Fatal(err)
	}
}

func run(repo string) (err error) {
	tag, err := lastRelease(repo)
	if err != nil {
		return err
	}
	if tag == "" {
		fmt.Println("No release before this commit is known here (git fetch --tags), so that there is nothing to compare the public API with.")
		return nil
	}
	temp, err := os.MkdirTemp("", "multidb-apidiff-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	old := filepath.Join(temp, "old")
	if _, err := git(repo, "worktree", "add", "--detach", old, tag); err != nil {
		return err
	}
	defer func() {
		_, removeErr := git(repo, "worktree", "remove", "--force", old)
		err = errors.Join(err, removeErr)
	}()
	was, err := load(old)
	if err != nil {
		return err
	}
	now, err := load(repo)
	if err != nil {
		return err
	}
	changelog, err := os.ReadFile(filepath.Join(repo, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	said, unsaid := divide(apidiff.ModuleChanges(was, now), since(string(changelog), tag))
	for _, m := range said {
		fmt.Println("incompatible, and in the changelog:", m)
	}
	if len(unsaid) > 0 {
		return fmt.Errorf("incompatible with %s, and not in CHANGELOG.md above its section:\n%s\nKeep what importers use, or name each of these there", tag, strings.Join(unsaid, "\n"))
	}
	fmt.Printf("The public API has everything of %s", tag)
	if len(said) > 0 {
		fmt.Printf(", but for %d changes that the changelog names", len(said))
	}
	fmt.Println(".")
	return nil
}

// lastRelease returns the newest release before the commit checked out, or "".
func lastRelease(repo string) (string, error) {
	out, err := git(repo, "tag", "--list", "v[0-9]*", "--merged", "HEAD", "--no-contains", "HEAD", "--sort=-version:refname")
	if err != nil {
		return "", err
	}
	release := regexp.MustCompile(`^v\d+\.\d+\.\d+$`)
	for tag := range strings.FieldsSeq(out) {
		if release.MatchString(tag) {
			return tag, nil
		}
	}
	return "", nil
}

func git(dir string, args ...string) (string, error) {
	out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// load returns what the module in dir offers to importers.
func load(dir string) (*apidiff.Module, error) {
	pkgs, err := packages.Load(&packages.Config{
		Dir:  dir,
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedModule,
	}, "./...")
	if err != nil {
		return nil, err
	}
	if packages.PrintErrors(pkgs) > 0 {
		return nil, fmt.Errorf("%s does not load", dir)
	}
	var m apidiff.Module
	for _, p := range pkgs {
		if p.Name == "main" || slices.Contains(strings.Split(p.PkgPath, "/"), "internal") {
			continue
		}
		m.Path = p.Module.Path
		m.Packages = append(m.Packages, p.Types)
	}
	if m.Path == "" {
		return nil, fmt.Errorf("%s exports nothing", dir)
	}
	slices.SortFunc(m.Packages, func(a, b *types.Package) int { return strings.Compare(a.Path(), b.Path()) })
	return &m, nil
}

// since returns the part of a changelog above the section of a release.
func since(changelog, tag string) string {
	before, _, _ := strings.Cut(changelog, "\n## ["+strings.TrimPrefix(tag, "v")+"]")
	return before
}

// divide splits the incompatible changes into those that text names and the rest.
func divide(report apidiff.Report, text string) (said, unsaid []string) {
	words := regexp.MustCompile(`\w+`).FindAllString(text, -1)
	for _, c := range report.Changes {
		switch {
		case c.Compatible:
		case slices.Contains(words, name(c.Message)):
			said = append(said, c.Message)
		default:
			unsaid = append(unsaid, c.Message)
		}
	}
	return said, unsaid
}

// name returns the name that a change is about: Sync of "(*Manager).Sync: changed …".
func name(message string) string {
	subject, _, _ := strings.Cut(message, ": ")
	names := regexp.MustCompile(`\w+`).FindAllString(subject, -1)
	if len(names) == 0 {
		return message
	}
	return names[len(names)-1]
}
