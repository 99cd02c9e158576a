package sqlitedb

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestNoOtherPackageImportsTheDriver: its types and result codes stay in this package.
// The examples import it as an application does, under the name that it is registered
// by, and modules of their own are applications too.
func TestNoOtherPackageImportsTheDriver(t *testing.T) {
	const root = "../.."
	importers := map[string]int{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == root {
				return nil
			}
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "examples" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if name == "modernc.org/sqlite" || strings.HasPrefix(name, "modernc.org/sqlite/") {
				dir, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					return err
				}
				importers[filepath.ToSlash(dir)]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if importers["internal/sqlitedb"] == 0 || len(importers) != 1 {
		t.Errorf("packages that import the driver, with their files: %v", importers)
	}
}
