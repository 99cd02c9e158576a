// Package orm_test holds docs/ORM.md to what is here.
package orm_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestTheDocumentNamesEveryExampleAndNoOther(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ORM.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`\(\.\./examples/orm/([^)]+)\)`).FindAllSubmatch(doc, -1) {
		named[string(m[1])] = true
		if _, err := os.Stat(string(m[1])); err != nil {
			t.Errorf("docs/ORM.md: %v", err)
		}
	}
	here, err := filepath.Glob("*/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if len(here) == 0 {
		t.Fatal("no example was found")
	}
	for _, path := range here {
		if !named[path] {
			t.Errorf("docs/ORM.md does not name %s", path)
		}
	}
}
