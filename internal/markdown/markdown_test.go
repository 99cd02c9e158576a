package markdown_test

import (
	"reflect"
	"testing"

	"github.com/multidb-go/multidb/internal/markdown"
)

const doc = "# Title\nintro\n## One\n```sh\n# not a heading\nls\n```\n| a | b |\n|---|---|\n| 1 | |\n## Two\n```yaml\n# x.yaml\na: 1\n```\n"

func TestBlocksAreFoundWithTheirPlace(t *testing.T) {
	got, err := markdown.Blocks(doc)
	want := []markdown.Block{{"sh", 5, "# not a heading\nls\n"}, {"yaml", 13, "# x.yaml\na: 1\n"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if got[0].File() != "" || got[1].File() != "x.yaml" {
		t.Errorf("files %q, %q", got[0].File(), got[1].File())
	}
}

func TestABlockWithoutAnEndIsAnError(t *testing.T) {
	for _, doc := range []string{"```sh\nls\n", "```sh\n```yaml\n```\n"} {
		if got, err := markdown.Blocks(doc); err == nil {
			t.Errorf("%q: %+v", doc, got)
		}
	}
}

func TestTablesAreFoundUnderTheirHeadings(t *testing.T) {
	s := markdown.Sections(doc)
	if len(s) != 3 || s["Title"] != "intro\n" {
		t.Fatalf("%q", s)
	}
	if got, want := markdown.Rows(s["One"]), [][]string{{"a", "b"}, {"1", ""}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}
